"""What is wrong with the boxes of a detector, error by error (TIDE, Bolya et al. 2020, arXiv 2008.08115).

Boxes are matched with annotated ones of their class as COCO does: the best score first, each with the free box that it
overlaps most, by an intersection over union (IoU) of at least 0.5. A box without a match is, in this order:

- ``badly_placed``: it overlaps an object of its class by 0.1 to 0.5;
- ``wrong_class``: it overlaps an object of another class by at least 0.5;
- ``duplicate``: it overlaps an object of its class by at least 0.5, which a better box has already found;
- ``background_box``: it overlaps every object by at most 0.1;
- ``wrong_class_and_place``: all others.

An object without a match is ``missed``, unless a badly placed box or one of a wrong class stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples
from otx_xai.counting import are, counted
from otx_xai.options import Word
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import BoolArray, FloatArray, IntArray

FOUND = 0.5
"""IoU from which a box finds an object."""
NEAR = 0.1
"""IoU up to which a box has nothing to do with an object."""
ALL_BOXES = "all boxes"
"""Subject of findings about boxes of all classes."""
NONE = -1
"""Stands for a row of boxes where there is none."""


class BoxCase(Word):
    """What became of a box that was found, or of an annotated one."""

    RIGHT = "right"
    BADLY_PLACED = "badly_placed"
    WRONG_CLASS = "wrong_class"
    DUPLICATE = "duplicate"
    BACKGROUND_BOX = "background_box"
    WRONG_CLASS_AND_PLACE = "wrong_class_and_place"
    MISSED = "missed"
    UNSURE = "unsure"
    """Its score is below the threshold, so it does not count."""


@dataclass(frozen=True, eq=False)
class BoxErrors:
    """The case of each box, in the order of the evidence's tables.

    Args:
        of_found: word of :class:`BoxCase` for each box that was found, ``(B,)``.
        partner: row of the annotated box that each stands for or overlaps most, ``int64`` ``(B,)``; -1 where none is.
        of_object: word for each annotated box, ``(O,)``: ``right``, ``badly_placed``, ``wrong_class`` or ``missed``.
    """

    of_found: NDArray[np.str_]
    partner: IntArray
    of_object: NDArray[np.str_]


@dataclass(frozen=True)
class BoxResult:
    """How well the objects of one class are found.

    Args:
        target: the class.
        recall: part of its annotated boxes that are found; NaN where it has none.
        precision: part of its found boxes that are right; NaN where there are none.
    """

    target: int
    recall: Effect
    precision: Effect


def box_errors(evidence: Evidence, threshold: float = 0.5) -> BoxErrors:
    """Tell what is wrong with each box.

    Args:
        evidence: of a detector, with annotated boxes; both tables of the result are empty without either.
        threshold: score from which a box counts; one that is NaN does not.

    Returns:
        The case of each box.
    """
    found, objects = evidence.found, evidence.objects
    if found is None or objects is None:
        return BoxErrors(np.zeros(0, np.str_), np.zeros(0, np.int64), np.zeros(0, np.str_))
    of_found = np.full(len(found), str(BoxCase.UNSURE), "<U32")
    of_object = np.full(len(objects), str(BoxCase.MISSED), "<U32")
    partner = np.full(len(found), NONE, np.int64)
    sure = found.score >= threshold
    for image in np.unique(found.image[sure]).tolist():
        at, there = found.of(image), objects.of(image)
        rows = np.arange(at.start, at.stop)[sure[at]]
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        iou = overlaps(found.xyxy[rows], objects.xyxy[there])
        same = found.target[rows, None] == objects.target[there]
        words, partners, claimed = _cases(iou, same)
        of_found[rows] = words
        partner[rows] = np.where(partners == NONE, NONE, partners + there.start)
        for word, own in claimed.items():
            of_object[there.start + own] = word
    return BoxErrors(of_found, partner, of_object)


def box_results(evidence: Evidence, errors: BoxErrors) -> list[BoxResult]:
    """Return recall and precision of each class, with Wilson intervals; none without boxes."""
    found, objects = evidence.found, evidence.objects
    if found is None or objects is None:
        return []
    counts, right = errors.of_found != str(BoxCase.UNSURE), errors.of_found == str(BoxCase.RIGHT)
    number = len(evidence.labels)
    tallies = [
        np.bincount(targets[(targets >= 0) & (targets < number)], minlength=number).tolist()
        for targets in (
            found.target[right],
            objects.target,
            found.target[counts],
        )
    ]
    return [
        BoxResult(target, share(hit, of), share(hit, said_so))
        for target, (hit, of, said_so) in enumerate(zip(*tallies, strict=True))
    ]


def right_images(evidence: Evidence, errors: BoxErrors) -> BoolArray:
    """Return in which images each object is found and each box is right, ``(N,)``; false of all without annotations."""
    right = np.full(len(evidence), evidence.found is not None and evidence.objects is not None)
    if evidence.found is not None and evidence.objects is not None:
        fine = [str(BoxCase.RIGHT), str(BoxCase.UNSURE)]
        right[evidence.found.image[~np.isin(errors.of_found, fine)]] = False
        right[evidence.objects.image[errors.of_object != str(BoxCase.RIGHT)]] = False
    return right


def box_findings(evidence: Evidence, errors: BoxErrors) -> list[Finding]:
    """Count the errors of each kind, over all classes.

    Returns:
        Findings ``missed``, ``badly_placed``, ``duplicate``, ``background_box``, and ``look_alike`` of boxes of a wrong
        class; all measured, for what occurs.
    """
    found, objects = evidence.found, evidence.objects
    if found is None or objects is None:
        return []
    findings = []
    counts = int((errors.of_found != str(BoxCase.UNSURE)).sum())
    for case, kind in _KINDS.items():
        table, words, among = (
            (objects, errors.of_object, len(objects)) if case is BoxCase.MISSED else (found, errors.of_found, counts)
        )
        chosen = words == str(case)
        if chosen.any():
            findings.append(_finding(evidence, kind, table, chosen, among))
    return findings


_KINDS = {
    BoxCase.MISSED: FindingKind.MISSED,
    BoxCase.BADLY_PLACED: FindingKind.BADLY_PLACED,
    BoxCase.WRONG_CLASS: FindingKind.LOOK_ALIKE,
    BoxCase.DUPLICATE: FindingKind.DUPLICATE,
    BoxCase.BACKGROUND_BOX: FindingKind.BACKGROUND_BOX,
}

_SAID = {
    FindingKind.MISSED: (
        "annotated box",
        "found by no box",
        "Look whether these objects are small, cut off or covered, and add training images of such.",
    ),
    FindingKind.BADLY_PLACED: (
        "box",
        "near an object of the class and overlap it by less than half",
        "Look whether the annotated boxes are drawn tightly and by one rule.",
    ),
    FindingKind.LOOK_ALIKE: (
        "box",
        "well placed on an object of another class",
        "Add training images that tell these classes apart, or ask whether people can.",
    ),
    FindingKind.DUPLICATE: (
        "box",
        "on an object that a better box has found",
        "Lower the IoU threshold of the suppression of boxes.",
    ),
    FindingKind.BACKGROUND_BOX: (
        "box",
        "where no object is annotated",
        "Look whether there is an object that nobody annotated; else add training images of this background.",
    ),
}


def _finding(evidence: Evidence, kind: FindingKind, table: BoxTable, chosen: BoolArray, among: int) -> Finding:
    rows = np.flatnonzero(chosen)
    images, number = np.unique(table.image[rows], return_counts=True)
    worst = np.zeros(len(images))
    np.maximum.at(worst, np.searchsorted(images, table.image[rows]), table.score[rows])
    order = images[np.lexsort((-number, -worst))]
    effect = share(len(rows), among)
    noun, words, suggestion = _SAID[kind]
    plural = f"{noun}es"
    return Finding(
        kind,
        ALL_BOXES,
        f"{len(rows)} of {counted(among, noun, plural)} {are(len(rows))} {words} ({said(effect)}).",
        effect,
        FindingState.MEASURED,
        len(images) / len(evidence),
        examples(evidence, order),
        suggestion,
    )


def _cases(iou: FloatArray, same: BoolArray) -> tuple[NDArray[np.str_], IntArray, dict[str, IntArray]]:
    """Return the case of each box of an image, its partner, and which objects each case stands for.

    Args:
        iou: of boxes, best first, with objects, ``(b, o)``.
        same: whether they are of one class, ``(b, o)``.
    """
    count = len(iou)
    if not iou.shape[1]:
        return np.full(count, str(BoxCase.BACKGROUND_BOX), "<U32"), np.full(count, NONE, np.int64), {}
    own, other = np.where(same, iou, -1), np.where(same, -1, iou)
    match = _matched(own)
    ranges = (own.max(axis=1) >= NEAR) & (own.max(axis=1) < FOUND)
    conditions = [match != NONE, ranges, other.max(axis=1) >= FOUND, own.max(axis=1) >= FOUND, iou.max(axis=1) <= NEAR]
    cases = (
        BoxCase.RIGHT,
        BoxCase.BADLY_PLACED,
        BoxCase.WRONG_CLASS,
        BoxCase.DUPLICATE,
        BoxCase.BACKGROUND_BOX,
    )
    words = np.select(conditions, [str(case) for case in cases], str(BoxCase.WRONG_CLASS_AND_PLACE)).astype("<U32")
    partners = np.select(
        conditions, [match, own.argmax(axis=1), other.argmax(axis=1), own.argmax(axis=1), NONE], iou.argmax(axis=1)
    ).astype(np.int64)
    claimed = {
        str(case): np.setdiff1d(partners[words == str(case)], match).astype(np.int64)
        for case in (BoxCase.WRONG_CLASS, BoxCase.BADLY_PLACED)
    }
    return words, partners, claimed | {str(BoxCase.RIGHT): match[match != NONE]}


def _matched(own: FloatArray) -> IntArray:
    """Match boxes, best first, each with the free object that it overlaps most; -1 where none is left."""
    match = np.full(len(own), NONE, np.int64)
    free = np.ones(own.shape[1], np.bool_)
    for row, line in enumerate(own):
        best = int(np.where(free, line, -1).argmax())
        if free[best] and line[best] >= FOUND:
            match[row], free[best] = best, False
    return match
