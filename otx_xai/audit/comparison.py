"""What changed from one audit to another: findings that came, went, grew or shrank, and figures that moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otx_xai.errors import DataError
from otx_xai.storage.json_text import parse_json

AUDIT = "audit.json"
SCHEMA = 1


@dataclass(frozen=True)
class Change:
    """What became of one finding.

    Args:
        word: ``came``, ``went``, ``grew`` or ``shrank``: of the same finding, where the intervals do not overlap.
        kind: of the finding.
        subject: of the finding.
        old: value of its effect before; NaN where there was none.
        new: value of its effect now; NaN where there is none.
        statement: of the newer one that there is.
        state: likewise.
    """

    word: str
    kind: str
    subject: str
    old: float
    new: float
    statement: str
    state: str


@dataclass(frozen=True)
class Comparison:
    """Two audits, side by side.

    Args:
        changes: of findings, those that came first.
        same: number of findings that both have, with intervals that overlap.
        figures: label → value before and now; NaN where an audit has none.
    """

    changes: tuple[Change, ...]
    same: int
    figures: Mapping[str, tuple[float, float]]

    @property
    def is_worse(self) -> bool:
        """Whether a verified finding came or grew."""
        return any(change.state == "verified" and change.word in ("came", "grew") for change in self.changes)

    def summary(self) -> str:
        """Return a few lines of plain text."""
        lines = [f"{label}: {_shown(old)} → {_shown(new)}" for label, (old, new) in self.figures.items()]
        for change in self.changes:
            moved = f" ({_shown(change.old)} → {_shown(change.new)})" if change.word in ("grew", "shrank") else ""
            lines.append(f"{change.word}: {change.state} {change.kind}, {change.subject}{moved}. {change.statement}")
        if not self.changes:
            lines.append("No finding came, went, grew or shrank.")
        lines.append(f"{self.same} findings are the same.")
        return "\n".join(lines)

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        return {
            "schema": SCHEMA,
            "changes": [
                {**vars(change), "old": _plain(change.old), "new": _plain(change.new)} for change in self.changes
            ],
            "same": self.same,
            "figures": {label: [_plain(old), _plain(new)] for label, (old, new) in self.figures.items()},
            "worse": self.is_worse,
        }


def read_audit(path: str | Path) -> dict[str, Any]:
    """Read what an audit wrote: its ``audit.json``, the folder of it, or the work directory.

    Raises:
        DataError: there is none, or it is of another version.
    """
    given = Path(path).expanduser()
    places = [given, given / AUDIT, given / "audit" / AUDIT]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(f"{str(path)!r} holds no audit; expected {AUDIT}, or the folder of it. Run `otx audit` first.")
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}. Expected the {AUDIT} of an audit.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(f"{file} is no audit of this version; expected schema {SCHEMA}. Run the audit again.")
    return content


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two audits, preferably of the same data.

    Findings are the same where kind and subject are. One that is refuted counts as none. It grew or shrank where the
    intervals of its effect do not overlap, or where it became or ceased to be verified.

    Args:
        old: content of ``audit.json``.
        new: likewise.
    """
    before, after = _standing(old), _standing(new)
    changes = [_change("came", None, after[key]) for key in after if key not in before]
    both = [(before[key], after[key]) for key in after if key in before]
    words = [_moved(one, other) for one, other in both]
    changes += [_change(word, *pair) for word, pair in zip(words, both, strict=True) if word]
    changes += [_change("went", before[key], None) for key in before if key not in after]
    figures = {figure["label"]: (_value(figure), math.nan) for figure in old.get("figures", [])}
    for figure in new.get("figures", []):
        figures[figure["label"]] = (figures.get(figure["label"], (math.nan, math.nan))[0], _value(figure))
    return Comparison(tuple(changes), words.count(""), figures)


def _standing(audit: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = audit.get("findings", [])
    return {(one["kind"], one["subject"]): one for one in found if one["state"] != "refuted"}


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if (old["state"] == "verified") != (new["state"] == "verified"):
        return "grew" if new["state"] == "verified" else "shrank"
    sizes = []
    for one in (old, new):
        low, high = one["effect"]["interval"]
        if low is None or high is None:
            return ""
        sizes.append((min(abs(low), abs(high)) if low * high > 0 else 0.0, max(abs(low), abs(high))))
    (old_low, old_high), (new_low, new_high) = sizes
    return "grew" if new_low > old_high else "shrank" if new_high < old_low else ""


def _change(word: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Change:
    newest = new or old
    assert newest is not None
    before, now = (math.nan if one is None else _value(one) for one in (old, new))
    return Change(word, newest["kind"], newest["subject"], before, now, newest["statement"], newest["state"])


def _value(entry: Mapping[str, Any]) -> float:
    value = entry["effect"]["value"]
    return math.nan if value is None else float(value)


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _shown(number: float) -> str:
    return f"{number:.3f}" if math.isfinite(number) else "-"
