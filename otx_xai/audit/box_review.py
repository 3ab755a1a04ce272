"""Which annotated boxes a person should look at first.

:mod:`otx_xai.audit.box_annotations` counts what sure boxes speak against, so that findings are few and right. Who
reviews annotations looks at a list from its beginning instead, and wants what is wrong among the first rows, also where
the model is unsure of everything. So all boxes speak here, as ObjectLab has it (Tkachenko, Thyagarajan and Mueller
2023, arXiv 2309.00832), and only the order counts:

- a place has one row: where a model doubts between classes, it finds several boxes in one place;
- *overlooked* boxes are in the order of their scores;
- *badly placed* are annotated boxes that no box overlaps by half, of whatever class, beside a box that does not lie on
  another object. Their scores are multiplied by how rare so small an overlap is among all annotated boxes: a model that
  places its boxes well is believed sooner.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from otx_xai.audit.box_annotations import UNSURE, AnnotationError, AnnotationErrors
from otx_xai.audit.box_errors import FOUND, NEAR, NONE
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import Doubles, FloatArray, IntArray


def annotations_to_review(evidence: Evidence, errors: AnnotationErrors) -> AnnotationErrors:
    """Put what may be wrong with annotated boxes in the order in which a person should look at it.

    Args:
        evidence: of a detector.
        errors: what sure boxes speak against; what they say of classes stays.

    Returns:
        Errors, also those that only unsure boxes (with scores from 0.3) speak for, the likeliest first.
    """
    found, objects = evidence.found, evidence.objects
    if found is None or objects is None:
        return errors
    rows: list[tuple[int, int, float]] = []
    best = np.zeros(len(objects))
    for image in np.unique(found.image[found.score >= UNSURE]).tolist():
        at = np.arange(found.of(image).start, found.of(image).stop)
        at = at[found.score[at] >= UNSURE]
        at = at[np.argsort(-found.score[at], kind="stable")]
        there = objects.of(image)
        iou = overlaps(found.xyxy[at], objects.xyxy[there])
        best[there] = iou.max(axis=0, initial=0)
        for row in _places(overlaps(found.xyxy[at], found.xyxy[at])):
            other, overlap = _beside(iou, row)
            if overlap < FOUND and (overlap <= NEAR or best[there][other] < FOUND):
                rows.append((int(at[row]), NONE if overlap <= NEAR else there.start + other, overlap))
    return _ordered(evidence, errors, rows, best)


def _places(iou: FloatArray) -> list[int]:
    """Return the best box of each place, of boxes in the order of their scores, ``(b, b)``."""
    kept: list[int] = []
    for row, line in enumerate(iou):
        if not kept or line[kept].max() < FOUND:
            kept.append(row)
    return kept


def _beside(iou: FloatArray, row: int) -> tuple[int, float]:
    """Return the annotated box that a box overlaps most, and by how much."""
    if not iou.shape[1]:
        return NONE, 0.0
    other = int(iou[row].argmax())
    return other, float(iou[row, other])


def _ordered(
    evidence: Evidence, errors: AnnotationErrors, rows: list[tuple[int, int, float]], best: Doubles
) -> AnnotationErrors:
    """Order rows of found boxes, of annotated ones and overlaps, with the classes in doubt among them."""
    assert evidence.found is not None
    assert evidence.objects is not None
    found, objects = evidence.found, evidence.objects
    table = np.array(rows, np.float64).reshape(-1, 3)
    own, other = table[:, :2].astype(np.int64).T
    misplaced = other != NONE
    usual = np.sort(best[best > NEAR])
    rare = 1 - np.searchsorted(usual, table[:, 2]) / max(1, len(usual))
    confidence = found.score[own] * np.where(misplaced, rare, 1)
    words = np.where(misplaced, str(AnnotationError.BADLY_PLACED), str(AnnotationError.OVERLOOKED))
    swapped = errors.error == str(AnnotationError.SWAPPED)

    def joined(mine: IntArray, told: IntArray) -> IntArray:
        return np.concatenate([mine, told[swapped]])

    confidence = np.concatenate([confidence, errors.confidence[swapped]]).astype(np.float32)
    order = np.argsort(-confidence, kind="stable")
    return replace(
        errors,
        image=joined(found.image[own], errors.image)[order],
        error=np.concatenate([words, errors.error[swapped]])[order],
        found=joined(own, errors.found)[order],
        object=joined(other, errors.object)[order],
        given=joined(np.append(objects.target, NO_CLASS)[other], errors.given)[order],
        suggested=joined(found.target[own], errors.suggested)[order],
        confidence=confidence[order],
    )
