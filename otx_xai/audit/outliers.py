"""Which images are unlike all others, in the space of the model's pooled features.

The features are turned onto their principal axes, which a sample tells; what lies off these axes is kept as one
distance more, so that an image in a direction that no other has is not overlooked. How unlike an image is, is its mean
distance to the nearest images of the sample (Ramaswamy et al. 2000; Sun et al., *Out-of-Distribution Detection with
Deep Nearest Neighbors*, arXiv 2204.06507), as a robust score: the logarithm of the distance, minus its median, over
1.48 times its median absolute deviation. The sample has as many images of rare predicted classes as of frequent
ones, or a rare class would be called unlike.
"""

from __future__ import annotations

import numpy as np

from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Finding, FindingKind, FindingState, said
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples, falling
from otx_xai.counting import are, counted
from otx_xai.records import Doubles, FloatArray, IntArray

FAR = 6.0
"""Robust score from which an image is an outlier."""
LEAST = 30
"""Images with features from which there are outliers."""

_SAMPLE = 3000
_AXES = 50
_NEIGHBOURS = 5
_CHUNK = 4096
_DEVIATION = 1.4826
"""Standard deviation of normal numbers, in median absolute deviations."""


def outlier_scores(evidence: Evidence) -> FloatArray:
    """Return how unlike all others each image is.

    Args:
        evidence: of any model. Features may be a memory map; some thousand rows are read at a time.

    Returns:
        ``float32`` ``(N,)``: robust scores, about 0 for most images. NaN where the model shows no features, where those
        of an image are not finite, and everywhere if fewer than 30 images have any or more than half are the same.
    """
    scores = np.full(len(evidence), np.nan, np.float32)
    usable = _finite_rows(evidence)
    if len(usable) < LEAST:
        return scores
    sample = _sample(evidence, usable)
    basis = _Basis(evidence.features[sample].astype(np.float64))
    reference = basis.turned(evidence.features[sample])
    distances = np.empty(len(usable))
    for at in range(0, len(usable), _CHUNK):
        rows = usable[at : at + _CHUNK]
        distances[at : at + _CHUNK] = _distances(basis.turned(evidence.features[rows]), reference, rows, sample)
    median = float(np.median(distances))
    if median <= 0:
        return scores
    logs = np.log(np.maximum(distances, 1e-6 * median))
    deviation = _DEVIATION * float(np.median(np.abs(logs - np.log(median))))
    scores[usable] = (logs - np.log(median)) / max(deviation, 0.02)
    return scores


def outlier_findings(evidence: Evidence, scores: FloatArray) -> list[Finding]:
    """Count the images that are unlike all others.

    Args:
        evidence: of any model.
        scores: of its images, see :func:`outlier_scores`.

    Returns:
        At most one finding ``outlier``, measured.
    """
    known = np.isfinite(scores)
    far = known & (np.nan_to_num(scores) >= FAR)
    number = int(far.sum())
    if not number:
        return []
    effect = share(number, int(known.sum()))
    return [
        Finding(
            FindingKind.OUTLIER,
            "all images",
            f"{number} of {counted(effect.n, 'image')} {are(number)} unlike all others to the model ({said(effect)}).",
            effect,
            FindingState.MEASURED,
            number / len(evidence),
            examples(evidence, falling(scores, far)),
            "Look whether these images belong to the task: broken files, other sensors, drawings, empty scenes.",
        )
    ]


class _Basis:
    """Principal axes of a sample of features."""

    def __init__(self, sample: Doubles) -> None:
        self.mean = sample.mean(axis=0)
        centred = sample - self.mean
        # the smaller of both products of the sample with itself has the same axes
        if len(centred) < centred.shape[1]:
            values, vectors = np.linalg.eigh(centred @ centred.T)
            kept = values > 1e-9 * max(values[-1], 1e-300)
            axes = centred.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        else:
            _, axes = np.linalg.eigh(centred.T @ centred)
        self.axes = axes[:, ::-1][:, :_AXES]

    def turned(self, features: np.ndarray) -> Doubles:
        """Return features along the axes, and last their distance from them."""
        centred = features.astype(np.float64) - self.mean
        along = centred @ self.axes
        off = np.square(centred).sum(axis=1) - np.square(along).sum(axis=1)
        return np.concatenate([along, np.sqrt(np.maximum(off, 0))[:, None]], axis=1)


def _finite_rows(evidence: Evidence) -> IntArray:
    if not evidence.features.shape[1]:
        return np.zeros(0, np.int64)
    parts = [
        at + np.flatnonzero(np.isfinite(evidence.features[at : at + _CHUNK]).all(axis=1))
        for at in range(0, len(evidence), _CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _sample(evidence: Evidence, usable: IntArray) -> IntArray:
    """Choose images at random, of each predicted class about as many as of any other; sorted."""
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(usable)
    classes = evidence.predicted[shuffled]
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], classes[order], side="left")
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - starts
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:_SAMPLE]])


def _distances(points: Doubles, reference: Doubles, rows: IntArray, sample: IntArray) -> Doubles:
    """Return the mean distance of points to the nearest of the sample, themselves left out."""
    squares = np.square(points).sum(axis=1)[:, None] + np.square(reference).sum(axis=1) - 2 * points @ reference.T
    place = np.minimum(np.searchsorted(sample, rows), len(sample) - 1)
    own = np.flatnonzero(sample[place] == rows)
    squares[own, place[own]] = np.inf
    nearest = np.partition(squares, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
    return np.asarray(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
