"""What is kept is what was used last, and is made once."""

from __future__ import annotations

from otx_xai.explain.recent import Recent


def test_the_least_recently_used_is_forgotten() -> None:
    made: list[str] = []

    def of(name: str) -> str:
        made.append(name)
        return name.upper()

    kept: Recent[str, str] = Recent(2)
    assert [kept.get(name, lambda name=name: of(name)) for name in "abacab"] == list("ABACAB")  # type: ignore[misc]
    assert made == list("abcb")
    assert len(kept) == 2
