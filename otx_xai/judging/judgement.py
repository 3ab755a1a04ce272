"""What a run of judging found: tables for people, ``judge.json`` for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otx_xai.counting import counted
from otx_xai.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, DataError
from otx_xai.judging.sanity import Sanity
from otx_xai.metrics import Estimate, Scores, differences, estimates, table
from otx_xai.metrics.summaries import COLUMNS, lined_up

JUDGEMENT, PLOT = "judge.json", "judge.png"


@dataclass(frozen=True)
class JudgedMethod:
    """One row of the table.

    Args:
        name: of the method or the control.
        kind: ``white box``, ``black box``, ``embedded`` (the model's own maps) or ``control``.
        is_default: ``explain_mode`` auto takes it.
    """

    name: str
    kind: str
    is_default: bool = False

    @property
    def is_control(self) -> bool:
        """Whether it knows nothing of the image, or nothing of the model."""
        return self.kind == "control"


@dataclass(frozen=True)
class Counts:
    """What became of the images.

    Args:
        found: number of images of the data.
        chosen: number of them that were to be judged.
        judged: number of them that were.
        failures: name → why an image could not be judged.
        without_target: names of images in which there was nothing to judge: no box, no class in the annotations.
    """

    found: int
    chosen: int
    judged: int
    failures: Mapping[str, str] = field(default_factory=dict)
    without_target: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Judgement:
    """How good the maps of several methods are, on the same images.

    Args:
        work_dir: where :data:`JUDGEMENT` and :data:`PLOT` are.
        methods: the rows of the table, controls last.
        scores: name of a row → its scores, one an image in the order of the images; empty where nothing was judged.
        counts: what became of the images.
        not_judged: methods that do not explain the model, name → why not.
        baselines: means of what the judged classes or boxes score in the ``image``, ``blurred`` and ``zero``.
        about: what the figures rest on: settings, model, versions.
        seconds: time it took.
        sanity: what changes where weights or classes do; ``None`` where that was not asked for.
        interrupted: whether it was stopped before the last image.
    """

    work_dir: Path
    methods: tuple[JudgedMethod, ...]
    scores: Mapping[str, Scores]
    counts: Counts
    not_judged: Mapping[str, str]
    baselines: Mapping[str, float]
    about: Mapping[str, Any]
    seconds: float
    sanity: Sanity | None = None
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """What ``otx`` ends with; see :mod:`otx_xai.errors`."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.counts.judged:
            return DataError.exit_code
        return EXIT_PARTIAL if self.counts.failures else 0

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return tables and a few lines of plain text."""
        counts = self.counts
        head = (
            f"Judged {counts.judged} of {counted(counts.chosen, 'image')} in {self.seconds:.1f} s, in {self.work_dir}"
        )
        parts = [head, *self._tables(), *self._notes()]
        return "\n".join(parts)

    def _tables(self) -> list[str]:
        if not self.counts.judged:
            return []
        whole, blurred, zero = (self.baselines[name] for name in ("image", "blurred", "zero"))
        parts = [
            "",
            table(self.scores),
            "",
            "More than a control, image by image:",
            _differences_table(self.scores, self.methods),
            "",
            f"What is judged scores {whole:.3f} in the images, {blurred:.3f} in blurred ones, {zero:.3f} in flat ones.",
        ]
        return parts if self.sanity is None else [*parts, "", *self.sanity.lines()]

    def _notes(self) -> list[str]:
        counts, lines = self.counts, []
        lines += [f"{name} is not judged: {why.split('. ')[0].rstrip('.')}." for name, why in self.not_judged.items()]
        if counts.without_target:
            lines.append(f"{counted(len(counts.without_target), 'image')} with nothing to judge: see {JUDGEMENT}.")
        if counts.failures:
            lines.append(f"{counted(len(counts.failures), 'image')} failed; {JUDGEMENT} says why.")
        if self.interrupted:
            lines.append("Interrupted: the figures are those of the images that were judged before.")
        return lines

    def content(self) -> dict[str, Any]:
        """Return what :data:`JUDGEMENT` holds, in the terms of JSON: numbers are finite or ``None``."""
        counts = self.counts
        status = "interrupted" if self.interrupted else "complete"
        content = {
            "status": status,
            **self.about,
            "images": {
                "found": counts.found,
                "chosen": counts.chosen,
                "judged": counts.judged,
                "failures": [{"name": name, "error": error} for name, error in counts.failures.items()],
                "without_target": list(counts.without_target),
            },
            "baselines": dict(self.baselines),
            "methods": [self._entry(method) for method in self.methods if method.name in self.scores],
            "not_judged": [{"method": name, "reason": why} for name, why in self.not_judged.items()],
            "sanity": None if self.sanity is None else self.sanity.content(),
            "seconds": round(self.seconds, 3),
        }
        finite: dict[str, Any] = _finite(content)
        return finite

    def _entry(self, method: JudgedMethod) -> dict[str, Any]:
        own = self.scores[method.name]
        others = {name: scores for name, scores in self.scores.items() if name != method.name}
        return {
            "name": method.name,
            "kind": method.kind,
            "default": method.is_default,
            "metrics": {name: _numbers(found) for name, found in estimates(own).items()},
            "differences": {
                name: {metric: _numbers(found) for metric, found in differences(own, scores).items()}
                for name, scores in others.items()
            },
        }


def _differences_table(scores: Mapping[str, Scores], methods: Sequence[JudgedMethod]) -> str:
    controls = [method.name for method in methods if method.is_control]
    rows = {
        f"{method.name} - {control}": differences(scores[method.name], scores[control])
        for method in methods
        if not method.is_control
        for control in controls
    }
    columns = [name for name in COLUMNS if any(row[name].count for row in rows.values() if name in row)]
    cells = [["", *(COLUMNS[name] for name in columns)]]
    cells += [[title, *(_signed(row[name]) for name in columns)] for title, row in rows.items()]
    return "\n".join("  ".join(line).rstrip() for line in lined_up(cells))


def _signed(found: Estimate) -> str:
    if not found.count:
        return "-"
    return f"{found.mean:+.3f}" if found.count < 2 else f"{found.mean:+.3f} ±{found.error:.3f}"


def _numbers(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "standard_error": found.error, "images": found.count}


def _finite(value: Any) -> Any:
    """Return a value in which every number that is not finite is ``None``."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
