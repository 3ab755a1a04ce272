"""Why an image is wrong: the maps of the class that was predicted and of the one that is annotated, laid side by side.

Of each map the best fifth of the cells over the image is taken. Where the two fifths share less than a fifth of their
cells (what two independent choices share on average), the model looked at another object; where they share more than
half, it looked at the same thing and took it for a look-alike. Where boxes are annotated and next to nothing of the
predicted class's fifth lies on any of them, it looked at the background. This is a suspicion: what a map shows is not
yet what a score depends on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.cells import inside, seen_each
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Finding, FindingKind, FindingState, said
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.records import BoolArray, FloatArray, IntArray, UInt8Array

BEST = 0.2
"""Part of the cells over the image that counts as what a map shows."""
APART = 0.2
"""Below this the fifths of two classes lie on different things."""
TOGETHER = 0.5
"""Above this they lie on the same."""
OFF = 0.1
"""Below this part of a fifth on annotated boxes it lies off every object."""
LEAST = 5
"""Images of one cause from which it is a finding."""

UNCLEAR = "unclear"
"""Cause of an error whose maps speak for none, or that has no two maps."""

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class ErrorCauses:
    """What the maps of wrong images say, a row an image.

    Args:
        image: ``int64`` ``(E,)``, rising.
        overlap: part of the best fifth that the predicted and the annotated class share, ``float32`` ``(E,)`` in
            [0, 1]; NaN where one of them has no map, or one that is flat.
        on_object: part of the predicted class's best fifth that lies on an annotated box of any class, in [0, 1]; NaN
            where no box is annotated or there is no map.
        cause: ``other_object``, ``look_alike``, ``background_focus`` or ``unclear``, ``(E,)``.
    """

    image: IntArray
    overlap: FloatArray
    on_object: FloatArray
    cause: NDArray[np.str_]


def best_cells(grids: UInt8Array, seen: FloatArray) -> BoolArray:
    """Choose the best fifth of the cells of maps, of those that lie over the image.

    Args:
        grids: ``uint8`` ``(M, h, w)``.
        seen: part of each cell that lies over the image, ``(M, h, w)``; at least half must.

    Returns:
        ``(M, h, w)``: a fifth of those cells, at least one; fewer where a map is at its smallest value elsewhere, none
        where it is flat. Of equal cells the first.
    """
    flat = (len(grids), grids.shape[1] * grids.shape[2])
    counts = (seen >= 0.5).reshape(flat)
    values = np.where(counts, grids.reshape(flat).astype(np.int16), -1)
    least = np.where(counts, values, 256).min(axis=1, initial=256)
    number = np.maximum(1, np.round(BEST * counts.sum(axis=1)))
    ranks = np.empty(flat, np.int64)
    np.put_along_axis(ranks, np.argsort(-values, axis=1, kind="stable"), np.arange(flat[1])[None], axis=1)
    chosen: BoolArray = (ranks < number[:, None]) & (values > least[:, None])
    return chosen.reshape(grids.shape)


def shared_cells(first: BoolArray, second: BoolArray) -> FloatArray:
    """Return which part of the smaller of two choices of cells the other has too.

    Args:
        first: ``(M, h, w)``.
        second: of the same shape.

    Returns:
        ``float32`` ``(M,)`` in [0, 1]; NaN where one of them is empty.
    """
    axes = (1, 2)
    smaller = np.minimum(first.sum(axis=axes), second.sum(axis=axes))
    both = (first & second).sum(axis=axes)
    return np.where(smaller > 0, both / np.maximum(smaller, 1), np.nan).astype(np.float32)


def error_causes(evidence: Evidence) -> ErrorCauses:
    """Compare the maps of the predicted and of the annotated class of each wrong image.

    Args:
        evidence: of a classifier. Without annotations, without errors, or of a detector the table is empty.

    Returns:
        A row a wrong image; of several annotated classes the first one's map counts.
    """
    image = np.flatnonzero(evidence.is_labelled & ~evidence.is_right & (evidence.predicted != NO_CLASS))
    overlap, on_object = np.full((2, len(image)), np.nan, np.float32)
    given_rows = evidence.maps.rows(evidence.given[:, 0]) if len(evidence) else np.zeros(0, np.int64)
    predicted_rows = evidence.maps.rows(evidence.predicted)
    for first in range(0, len(image), _CHUNK):
        part = slice(first, first + _CHUNK)
        rows = image[part]
        predicted = _chosen(evidence, rows, predicted_rows[rows])
        given = _chosen(evidence, rows, given_rows[rows])
        overlap[part] = shared_cells(predicted, given)
        on_object[part] = _on_object(evidence, rows, predicted)
    words = np.select(
        [on_object < OFF, overlap < APART, overlap > TOGETHER],
        [str(kind) for kind in (FindingKind.BACKGROUND_FOCUS, FindingKind.OTHER_OBJECT, FindingKind.LOOK_ALIKE)],
        UNCLEAR,
    )
    return ErrorCauses(image, overlap, on_object, words.astype(np.str_))


def cause_findings(evidence: Evidence, causes: ErrorCauses) -> list[Finding]:
    """Tell of causes that at least five wrong images share, over all and for each pair of classes.

    Returns:
        Findings ``other_object``, ``look_alike`` and ``background_focus``, all suspected. A pair of classes is named
        where five of its errors have the cause, and most of those whose maps say anything.
    """
    found = []
    for kind in (FindingKind.OTHER_OBJECT, FindingKind.LOOK_ALIKE, FindingKind.BACKGROUND_FOCUS):
        ours = causes.cause == str(kind)
        told = np.isfinite(causes.on_object) if kind is FindingKind.BACKGROUND_FOCUS else np.isfinite(causes.overlap)
        if ours.sum() >= LEAST:
            found.append(_finding(evidence, causes, kind, ours, told, ""))
        pairs = np.stack([evidence.given[causes.image, 0], evidence.predicted[causes.image]], axis=1)
        different, number = np.unique(pairs[ours], axis=0, return_counts=True)
        for given, predicted in different[number >= LEAST].tolist():
            of_pair = (pairs == (given, predicted)).all(axis=1)
            if (ours & of_pair).sum() > (told & of_pair).sum() / 2:
                name = f"{_name(evidence, given)} as {_name(evidence, predicted)}"
                found.append(_finding(evidence, causes, kind, ours & of_pair, told & of_pair, name))
    return found


_SAID = {
    FindingKind.OTHER_OBJECT: (
        "looked at another place for the predicted class than for the annotated one",
        "Look whether these images show two objects: if so, they may need two labels or a crop.",
    ),
    FindingKind.LOOK_ALIKE: (
        "looked at the same place for both classes and took it for a look-alike",
        "Add training images that tell these classes apart, or ask whether people can.",
    ),
    FindingKind.BACKGROUND_FOCUS: (
        "looked off every annotated object",
        "Look what these images share off the object, and add images without it.",
    ),
}


def _finding(
    evidence: Evidence, causes: ErrorCauses, kind: FindingKind, chosen: BoolArray, among: BoolArray, pair: str
) -> Finding:
    rows, effect = causes.image[chosen], share(int(chosen.sum()), int(among.sum()))
    words, suggestion = _SAID[kind]
    of = f" of {pair}" if pair else ""
    score = evidence.best_scores[rows, 0]
    return Finding(
        kind,
        pair or "all errors",
        f"In {len(rows)} of {counted(effect.n, 'error')}{of} the model {words} ({said(effect)}).",
        effect,
        FindingState.SUSPECTED,
        len(rows) / len(evidence),
        examples(evidence, rows[np.argsort(-score, kind="stable")]),
        suggestion,
    )


def _name(evidence: Evidence, target: int) -> str:
    return evidence.labels[target] if 0 <= target < len(evidence.labels) else str(target)


def _chosen(evidence: Evidence, images: IntArray, rows: IntArray) -> BoolArray:
    """Return the best cells of rows of maps; none where there is no row."""
    table = evidence.maps
    cells = (table.grids.shape[1], table.grids.shape[2])
    chosen = np.zeros((len(rows), *cells), np.bool_)
    there = np.flatnonzero(rows >= 0)
    over = seen_each(evidence.sizes[images[there]], evidence.geometry, evidence.grid, cells)
    chosen[there] = best_cells(table.grids[rows[there]], over)
    return chosen


def _on_object(evidence: Evidence, images: IntArray, chosen: BoolArray) -> FloatArray:
    """Return which part of chosen cells lies on annotated boxes; NaN where there are no boxes or no cells."""
    parts = np.full(len(images), np.nan, np.float32)
    if evidence.objects is None:
        return parts
    cells = (chosen.shape[1], chosen.shape[2])
    for number, image in enumerate(images.tolist()):
        boxes = evidence.objects.xyxy[evidence.objects.of(image)]
        if len(boxes) and chosen[number].any():
            height, width = evidence.sizes[image].tolist()
            on_boxes = inside(boxes, (height, width), evidence.geometry, evidence.grid, cells)
            parts[number] = on_boxes[chosen[number]].mean()
    return parts
