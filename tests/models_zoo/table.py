"""The table of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADS = ("model", "from", "exported as", "recognised", "right", "maps", "method", "options", "warned", "seconds")


@dataclass(frozen=True)
class Result:
    """How one model fared.

    Args:
        name: of the model.
        package: that it comes from.
        how: it was exported.
        kind: classifier or detector.
        recognised: it was explained, with its number of classes right.
        right: scores or boxes are those of the package.
        maps: there is a map that is not constant for everything that was explained.
        method: that made the maps.
        options: that no file tells.
        warned: something in the log warns that the answer may be wrong.
        seconds: of the whole command.
        words: what went wrong.
        differs: by how much plain OpenVINO differs from the package, where we answer as the former does with this file.
    """

    name: str
    package: str
    how: str
    kind: str
    recognised: bool
    right: bool
    maps: bool
    method: str
    options: tuple[str, ...]
    warned: bool
    seconds: float
    words: str = ""
    differs: str = ""

    @property
    def good(self) -> bool:
        """It worked at the first try."""
        return self.recognised and self.right and self.maps

    @property
    def silent(self) -> bool:
        """It gave a wrong answer, and nothing warned of it."""
        return self.recognised and not self.right and not self.warned


def rate(results: Sequence[Result]) -> float:
    """Return the share that worked at the first try."""
    return sum(result.good for result in results) / max(len(results), 1)


def markdown(results: Sequence[Result]) -> str:
    """Write the results as tables, and what went wrong below."""
    parts = []
    for kind in ("classifier", "detector"):
        some = [result for result in results if result.kind == kind]
        good = sum(result.good for result in some)
        parts += [f"## {len(some)} {kind}s, {good} at the first try", "", _row(HEADS), _row(["---"] * len(HEADS))]
        parts += [_row(_cells(result)) for result in some] + [""]
    failures = [f"- {result.name}: {result.words}" for result in results if not result.good]
    silent = [result.name for result in results if result.silent]
    parts += [
        f"First-try rate over all {len(results)}: {100 * rate(results):.1f} %.",
        f"Wrong without a warning: {', '.join(silent) or 'none'}.",
        "",
        *failures,
    ]
    return "\n".join(parts) + "\n"


def _cells(result: Result) -> list[str]:
    marks = ["yes" if mark else "**no**" for mark in (result.recognised, result.right, result.maps)]
    if result.differs:
        marks[1] = f"yes: the file differs from torch by {result.differs}"
    options = " ".join(result.options) or "none"
    warned = "yes" if result.warned else ""
    return [result.name, result.package, result.how, *marks, result.method, options, warned, f"{result.seconds:.1f}"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
