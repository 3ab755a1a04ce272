"""Compare what a run predicts with what the package of a model says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from explaining import Run, explain
from record import Answer, Box, Stored, pictures_of
from table import Result

EXACT, RESIZED = 1e-3, 0.05
"""How far scores may be off: of pictures that only need cropping or padding, and of those that filters resize."""

OVERLAP, SHARE = {EXACT: 0.95, RESIZED: 0.8}, 0.95
"""How well a box must lie, and how many of them: a score next to a threshold may fall to either side."""

THRESHOLD, PREDICTED = 0.5, 0.3
"""From which a box counts as found, and a class as predicted, where nobody says anything."""


def judge(model: Stored, root: Path, runs: Path) -> Result:
    """Explain a model and say how it fared."""
    pictures = pictures_of(model.name, root)
    run = explain(root / model.checkpoint, pictures, runs / model.name, *model.options)
    recognised = run.code == 0 and len(run.lines) == len(model.answers)
    return result_of(model, run, _faults(model, run, model.answers) if recognised else [])


def result_of(model: Stored, run: Run, faults: list[str]) -> Result:
    """Say how a model fared.

    Args:
        model: what was explained.
        run: what came of it.
        faults: where it answers otherwise than the package.
    """
    recognised = run.code == 0 and len(run.lines) == len(model.answers)
    differs = ""
    if recognised and faults and model.plain and not _faults(model, run, model.answers | model.plain):
        differs, faults = _difference(model), []
    faults = faults if recognised else [run.error]
    flat = run.flat_maps() if recognised else []
    words = "; ".join(faults[:2] + [f"no map: {', '.join(flat[:3])}"] * bool(flat))
    return Result(
        name=model.name,
        package=model.package,
        how=model.how,
        kind=model.kind,
        recognised=recognised,
        right=recognised and not faults,
        maps=recognised and not flat,
        method=", ".join(sorted({line["method"].split(":")[0] for line in run.lines})),
        options=model.options,
        warned=bool(run.warnings),
        seconds=run.seconds,
        words=words,
        differs=differs,
    )


def _difference(model: Stored) -> str:
    """Say by how much plain OpenVINO differs from torch, with the very file: that is none of our doing."""
    pairs = [(model.answers[name], plain) for name, plain in model.plain.items()]
    if model.kind == "classifier":
        return f"{max(np.abs(np.subtract(right.scores, plain.scores)).max() for right, plain in pairs):.4f}"
    shares = [_share_without(right.boxes, plain.boxes, EXACT) for right, plain in pairs]
    return f"{max(shares):.0%} of its boxes"


def _faults(model: Stored, run: Run, answers: dict[str, Answer]) -> list[str]:
    """Return what is wrong, picture by picture; the first picture of a model needs no filter."""
    lines = {line["name"]: line["predictions"] for line in run.lines}
    compare = _wrong_scores if model.kind == "classifier" else _wrong_boxes
    faults = []
    for number, (name, answer) in enumerate(answers.items()):
        fault = compare(lines[name], answer, RESIZED if number else EXACT)
        faults += [f"{name}: {fault}"] if fault else []
    return faults


def _wrong_scores(predictions: list[dict[str, Any]], answer: Answer, tolerance: float) -> str:
    found = {prediction["target"]: prediction["score"] for prediction in predictions}
    off = {target: score for target, score in found.items() if abs(score - answer.scores[target]) > tolerance}
    best = int(np.argmax(answer.scores))
    expected = {k: v for k, v in enumerate(answer.scores) if v > PREDICTED + tolerance or k == best}
    if off or (expected.keys() - found.keys() and not _even(answer.scores, tolerance)):
        return f"scores {_rounded(found)}, expected {_rounded(expected)}"
    return ""


def _even(scores: Sequence[float], tolerance: float) -> bool:
    """Whether two classes are equally good, so that either may be the best one."""
    second, first = sorted(scores)[-2:]
    return first - second < 2 * tolerance and first < PREDICTED


def _wrong_boxes(predictions: list[dict[str, Any]], answer: Answer, tolerance: float) -> str:
    found = [(*prediction["box"], prediction["score"], prediction["target"]) for prediction in predictions]
    boxes = [box for box in answer.boxes if _has_area(box)]
    sure = [box for box in boxes if box[4] > THRESHOLD + tolerance]
    if not sure:
        return "no box is expected: this test says nothing"
    strange = _share_without(found, boxes, tolerance)
    missed = _share_without(sure, found, tolerance)
    if not found or strange > 1 - SHARE or missed > 1 - SHARE:
        return (
            f"{len(found)} boxes, {strange:.0%} of them wrong; {missed:.0%} of {len(sure)} expected are missing; "
            f"best {_first(found)}, expected {_first(boxes)}"
        )
    return ""


def _has_area(box: Box) -> bool:
    """Whether a box covers anything: networks with random weights find some that do not, which nobody shows."""
    return box[2] - box[0] > 0.05 and box[3] - box[1] > 0.05


def _share_without(boxes: Sequence[Box], others: Sequence[Box], tolerance: float) -> float:
    """Return the share of boxes that have no like among others."""
    if not boxes or not others:
        return float(bool(boxes))
    first, second = np.array(boxes, np.float64), np.array(others, np.float64)
    alike = _overlaps(first[:, :4], second[:, :4]) > OVERLAP[tolerance]
    alike &= first[:, None, 5] == second[:, 5]
    alike &= np.abs(first[:, None, 4] - second[:, 4]) <= max(tolerance, 2 * EXACT)
    return float(1 - alike.any(axis=1).mean())


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return intersection over union, counting a tenth of a pixel of rounding in favour of narrow boxes."""
    sides = np.minimum(first[:, None, 2:], second[:, 2:]) - np.maximum(first[:, None, :2], second[:, :2])
    shared = np.maximum(sides + 0.02, 0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 0.02).prod(1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1] - shared))


def _rounded(scores: dict[int, float]) -> dict[int, float]:
    return {target: round(score, 4) for target, score in scores.items()}


def _first(boxes: Sequence[Box]) -> str:
    if not boxes:
        return "none"
    *sides, score, label = max(boxes, key=lambda box: box[4])
    return f"{[round(side) for side in sides]} {score:.3f} of class {label}"
