"""Independent classes: each is a question of its own, with yes or no for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.records import BoolArray, FloatArray, IntArray

_CHUNK = 4_000_000
"""Numbers of a table that are held at once."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Some annotated images, each with an answer for each of ``K`` classes.

    Args:
        images: their rows, ``int64`` ``(n,)``.
        given: which classes are annotated, ``(n, K)``.
        scores: ``float32`` ``(n, K)``; NaN where the evidence keeps none.
    """

    images: IntArray
    given: BoolArray
    scores: FloatArray


def answers(evidence: Evidence) -> Iterator[Answers]:
    """Yield the annotated images of evidence in their order, some at a time, so that memory does not grow with them."""
    count = len(evidence.labels)
    images = np.flatnonzero(evidence.is_labelled)
    step = max(1, _CHUNK // max(1, count))
    for first in range(0, len(images), step):
        rows = images[first : first + step]
        given, scores = np.zeros((len(rows), count + 1), np.bool_), np.full((len(rows), count + 1), np.nan, np.float32)
        given_classes = _within(evidence.given[rows], count)
        np.put_along_axis(given, given_classes, True, axis=1)
        np.put_along_axis(scores, given_classes, evidence.given_scores[rows], axis=1)
        np.put_along_axis(scores, _within(evidence.best[rows], count), evidence.best_scores[rows], axis=1)
        yield Answers(rows, given[:, :count], scores[:, :count])


def _within(classes: IntArray, count: int) -> IntArray:
    """Return classes; what is none of the model's goes into a column more, which nobody reads."""
    return np.where((classes == NO_CLASS) | (classes >= count), count, classes)
