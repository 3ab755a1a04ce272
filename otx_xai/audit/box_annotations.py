"""Which annotated boxes are wrong: overlooked, badly placed or of a wrong class.

After ObjectLab (Tkachenko, Thyagarajan and Mueller 2023, arXiv 2309.00832), which asks of each pair of boxes how alike
they are, and only listens to sure predictions. Sure is a score that reaches what the right boxes of its class have on
average, as confident learning takes it (Northcutt, Jiang and Chuang 2021), and 0.7 at most: many detectors never score
as high.

- *overlooked*: a sure box where nothing is annotated, by an intersection over union (IoU) of at most 0.1;
- *badly placed*: an annotated box and a sure one of its class that belong to each other (each overlaps no box of the
  class more than the other) and overlap by less than half;
- *swapped*: a sure box of another class on an annotated one (an IoU of at least 0.5) on which no box of its own class
  lies.

What is overlooked or swapped may also be an error of the detector; so their number is compared with what the scores, as
probabilities, let be expected, and nothing is said of fewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from otx_xai.audit.box_errors import FOUND, NEAR, NONE
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Finding, FindingKind, FindingState, said
from otx_xai.audit.label_errors import FALSE_ALARM, LEAST, LEAST_DOUBT
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.options import Word
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import BoolArray, Doubles, FloatArray, IntArray

SURE = 0.7
"""Score from which any box speaks against an annotation."""
UNSURE = 0.3
"""Score from which a box speaks for one, and below which none speaks against one."""
RARE = 0.01
"""Part of badly placed boxes that any detector leaves."""


class AnnotationError(Word):
    """What may be wrong with an annotation."""

    OVERLOOKED = "overlooked"
    BADLY_PLACED = "badly_placed"
    SWAPPED = "swapped"


@dataclass(frozen=True, eq=False)
class AnnotationErrors:
    """Annotated boxes that may be wrong, a row each, the likeliest first.

    Args:
        image: ``int64`` ``(R,)``.
        error: word of :class:`AnnotationError`, ``(R,)``.
        found: row of the box that speaks against the annotation, ``int64`` ``(R,)``.
        object: row of the annotated box; -1 where it is overlooked.
        given: annotated class; :data:`NO_CLASS` where it is overlooked.
        suggested: class of the box that was found.
        confidence: its score; times the IoU where it is swapped, times 1 - IoU where it is badly placed; ``float32``.
        expected: how many rows of each error would be there if all annotations were right, error → number; of badly
            placed boxes a hundredth of those that belong to an annotated one.
        annotated: number of annotated boxes.
    """

    image: IntArray
    error: NDArray[np.str_]
    found: IntArray
    object: IntArray
    given: IntArray
    suggested: IntArray
    confidence: FloatArray
    expected: dict[str, float]
    annotated: int

    def __len__(self) -> int:
        return len(self.image)


def annotation_errors(evidence: Evidence) -> AnnotationErrors:
    """Find the annotated boxes that sure predictions speak against.

    Args:
        evidence: of a detector, with annotated boxes; there are no errors without either. Boxes with a score that is
            NaN are left out.

    Returns:
        The errors, the likeliest first.
    """
    found, objects = evidence.found, evidence.objects
    rows: list[tuple[float, ...]] = []
    expected = dict.fromkeys(map(str, AnnotationError), 0.0)
    if found is not None and objects is not None:
        counts, sure = found.score >= UNSURE, found.score >= _sureness(evidence)[found.target]
        for image in np.unique(found.image[counts]).tolist():
            at = np.arange(found.of(image).start, found.of(image).stop)
            at, there = at[counts[at]], np.arange(objects.of(image).start, objects.of(image).stop)
            iou = overlaps(found.xyxy[at], objects.xyxy[there])
            same = found.target[at, None] == objects.target[there]
            for name, own, other, confidence in _errors(iou, same, found.score[at], sure[at]):
                rows.append((image, _ORDER.index(name), at[own], there[other] if other != NONE else NONE, confidence))
            for name, number in _expected(iou, same, found.score[at], sure[at]).items():
                expected[name] += number
    table = np.array(rows, np.float64).reshape(-1, 5)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    image, name, own, other = table[:, :4].astype(np.int64).T
    classes_given = np.append(objects.target, NO_CLASS) if objects is not None else np.array([NO_CLASS])
    return AnnotationErrors(
        image,
        np.array(_ORDER, np.str_)[name],
        own,
        other,
        classes_given[other],
        found.target[own] if found is not None else own,
        table[:, 4].astype(np.float32),
        expected,
        len(objects) if objects is not None else 0,
    )


def annotation_findings(evidence: Evidence, errors: AnnotationErrors) -> list[Finding]:
    """Tell of wrong annotations where there are more than the errors of a right detector would be (Poisson).

    Returns:
        Findings ``label_error``, suspected, of at least five boxes each. None of right annotations and a good detector,
        and none where there are more errors than right boxes: then the detector is wrong.
    """
    findings = []
    for name, (subject, words, suggestion) in _SAID.items():
        rows = np.flatnonzero(errors.error == name)
        p_value = float(stats.poisson.sf(len(rows) - 1, errors.expected[name]))
        if len(rows) < LEAST or p_value > FALSE_ALARM or 2 * len(rows) > errors.annotated:
            continue
        among = errors.annotated + (len(rows) if name == str(AnnotationError.OVERLOOKED) else 0)
        effect, images = share(len(rows), among), np.unique(errors.image[rows])
        findings.append(
            Finding(
                FindingKind.LABEL_ERROR,
                subject,
                f"{counted(len(rows), 'object')} of {among} {words} ({said(effect)}): a sure box of the model says so, "
                f"where its own doubt lets {errors.expected[name]:.1f} be expected.",
                effect,
                FindingState.SUSPECTED,
                len(images) / len(evidence),
                examples(evidence, errors.image[rows]),
                suggestion,
                p_value=p_value,
            )
        )
    return findings


_ORDER = tuple(map(str, AnnotationError))

_SAID = {
    str(AnnotationError.OVERLOOKED): (
        "overlooked boxes",
        "may lack a box",
        "Review these images and annotate what is there: to the model each such object is background.",
    ),
    str(AnnotationError.BADLY_PLACED): (
        "badly placed boxes",
        "may be annotated in a wrong place",
        "Review these boxes beside those of the model, and draw them anew where they are off.",
    ),
    str(AnnotationError.SWAPPED): (
        "swapped classes",
        "may be of another class than annotated",
        "Review the classes of these boxes: two names may have been swapped.",
    ),
}


def _sureness(evidence: Evidence) -> Doubles:
    """Return the score from which a box of each class is sure, ``(K,)``."""
    found, objects, count = evidence.found, evidence.objects, len(evidence.labels)
    total, number = np.zeros((2, count))
    if found is not None and objects is not None:
        for image in np.unique(found.image).tolist():
            at, there = found.of(image), objects.of(image)
            iou = overlaps(found.xyxy[at], objects.xyxy[there])
            on = np.where(found.target[at, None] == objects.target[there], iou, 0) >= FOUND
            score = np.where(on, np.nan_to_num(found.score[at])[:, None], 0).max(axis=0, initial=0)
            hits = score >= UNSURE
            np.add.at(total, objects.target[there][hits], score[hits])
            np.add.at(number, objects.target[there][hits], 1)
    sure: Doubles = np.where(number > 0, np.minimum(total / np.maximum(number, 1), SURE), SURE)
    return sure


def _errors(iou: FloatArray, same: BoolArray, score: FloatArray, sure: BoolArray) -> list[tuple[str, int, int, float]]:
    """Return the errors of one image: name, row of the found box, of the annotated one, confidence."""
    found = [(str(AnnotationError.OVERLOOKED), row, NONE, float(score[row])) for row in _alone(iou, sure)]
    own = np.where(same, iou, 0)
    for row, other in _pairs(own, sure):
        if own[row, other] < FOUND:
            confidence = float(score[row] * (1 - own[row, other]))
            found.append((str(AnnotationError.BADLY_PLACED), row, other, confidence))
    for row, other in _swapped(iou, same, score, sure):
        found.append((str(AnnotationError.SWAPPED), row, other, float(score[row] * iou[row, other])))
    return found


def _expected(iou: FloatArray, same: BoolArray, score: FloatArray, sure: BoolArray) -> dict[str, float]:
    """Return how many errors of each name the doubt of sure boxes lets be expected in one image."""
    doubt = np.where(sure, np.maximum(1 - score, LEAST_DOUBT), 0)
    on_object = iou.max(axis=1, initial=0) >= FOUND
    pairs = len(_pairs(np.where(same, iou, 0), sure))
    return {
        str(AnnotationError.OVERLOOKED): float(doubt.sum()),
        str(AnnotationError.BADLY_PLACED): RARE * pairs,
        str(AnnotationError.SWAPPED): float(doubt[on_object].sum()),
    }


def _alone(iou: FloatArray, sure: BoolArray) -> list[int]:
    """Return sure boxes where nothing is annotated."""
    most: FloatArray = iou.max(axis=1, initial=0)
    rows: list[int] = np.flatnonzero(sure & (most <= NEAR)).tolist()
    return rows


def _pairs(own: FloatArray, sure: BoolArray) -> list[tuple[int, int]]:
    """Return pairs of a sure box and an annotated one of its class that overlap no other more."""
    if not own.size:
        return []
    other, row = own.argmax(axis=1), own.argmax(axis=0)
    mutual = (row[other] == np.arange(len(own))) & (own.max(axis=1) > NEAR) & sure
    return [(int(one), int(other[one])) for one in np.flatnonzero(mutual)]


def _swapped(iou: FloatArray, same: BoolArray, score: FloatArray, sure: BoolArray) -> list[tuple[int, int]]:
    """Return pairs of a sure box and the annotated one of another class that it lies on, if none of its class does."""
    if not iou.size:
        return []
    confirmed = (same & (iou >= FOUND)).any(axis=0)
    on = (~same) & (iou >= FOUND) & ~confirmed & sure[:, None]
    best = np.where(on, iou * score[:, None], 0)
    columns = np.flatnonzero(best.max(axis=0) > 0)
    return [(int(best[:, column].argmax()), int(column)) for column in columns]
