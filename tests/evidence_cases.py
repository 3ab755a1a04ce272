"""Evidence of an audit that is made of a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from otx_xai.audit.evidence_table import NO_CLASS, BoxTable, Evidence, MapTable, no_maps
from otx_xai.records import InputGeometry, Task


def classified(scores: Any, given: Any = None, *, multilabel: bool = False, kept: int = 10, **more: Any) -> Evidence:
    """Return the evidence of a classifier with these scores ``(N, K)``, annotated with ``given`` ``(N,)`` or lists."""
    scores = np.asarray(scores, np.float32)
    count, classes = scores.shape
    rows = [[] if given is None else np.atleast_1d(given[row]).astype(int).tolist() for row in range(count)]
    width = max([1, *map(len, rows)])
    table = np.array([[*row, *[NO_CLASS] * (width - len(row))] for row in rows], np.int64).reshape(count, width)
    known = (table >= 0) & (table < classes)
    given_scores = np.where(known, np.take_along_axis(scores, np.where(known, table, 0), axis=1), np.nan)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : classes if multilabel else kept]
    fields: dict[str, Any] = {
        "task": Task.CLASSIFICATION,
        "labels": tuple("abcdefghijklmnopqrstuvwxyz"[:classes]) if classes <= 26 else tuple(map(str, range(classes))),
        "multilabel": multilabel,
        "geometry": InputGeometry((56, 56)),
        "grid": None,
        "names": [f"{number}.png" for number in range(count)],
        "sizes": np.full((count, 2), 56),
        "best": best,
        "best_scores": np.take_along_axis(scores, best, axis=1),
        "given": table,
        "given_scores": given_scores.astype(np.float32),
        "features": np.zeros((count, 0), np.float16),
    }
    return Evidence(**(fields | more))


def detected(
    found: BoxTable, objects: BoxTable | None, count: int, labels: Sequence[str] = "ab", **more: Any
) -> Evidence:
    """Return the evidence of a detector in ``count`` images of 100 x 100 pixels."""
    fields: dict[str, Any] = {
        "task": Task.DETECTION,
        "labels": tuple(labels),
        "sizes": np.full((count, 2), 100),
        "best": np.zeros((count, 0), np.int64),
        "best_scores": np.zeros((count, 0), np.float32),
        "objects": objects,
        "found": found,
    }
    return classified(np.zeros((count, 1)), **(fields | more))


def boxes(rows: Sequence[tuple[int, int, Sequence[float], float]]) -> BoxTable:
    """Return a table of ``(image, class, xyxy, score)``."""
    ordered = sorted(rows, key=lambda row: row[0])
    image, target, xyxy, score = zip(*ordered, strict=True) if ordered else ((), (), (), ())
    return BoxTable(
        np.array(image, np.int64),
        np.array(target, np.int64),
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.array(score, np.float32),
    )


def mapped(rows: Sequence[tuple[int, int, Any]], box: Sequence[int] | None = None) -> MapTable:
    """Return a table of ``(image, class, map)`` of values in [0, 1], which are scaled to 0-255."""
    if not rows:
        return no_maps((1, 1))
    order = sorted(range(len(rows)), key=lambda number: rows[number][0])
    image, target, maps = zip(*(rows[number] for number in order), strict=True)
    grids = np.round(np.asarray(maps, np.float64) * 255).astype(np.uint8)
    where = np.full(len(rows), -1, np.int64) if box is None else np.asarray(box, np.int64)[order]
    ranges = np.tile(np.array([0, 1], np.float32), (len(rows), 1))
    return MapTable(np.array(image, np.int64), np.array(target, np.int64), where, grids, ranges)
