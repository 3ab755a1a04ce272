"""Whether scores are probabilities: the expected calibration error and its reliability table.

Predictions are sorted into bins by their score; in each the mean score is compared with the part that is right (Naeini
et al. 2015; Guo et al. 2017, arXiv 1706.04599). Bins have equal widths, as is usual, or equal numbers (Nixon et al.
2019, arXiv 1904.01685), where no bin rests on a handful. Where scores are true probabilities the error is above 0 by
chance alone; how much is reckoned by drawing from the scores themselves (consistency resampling, Bröcker and Smith
2007), and a finding is what stands out of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, said
from otx_xai.audit.independent import answers
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.records import BoolArray, Doubles, FloatArray, IntArray

BINS = 15
MATERIAL = 0.05
"""Calibration error from which it is a finding."""

_DRAWS = 1000
_MANY = 5000
"""Predictions from which the answers of a bin are as good as normal."""
_MOST = 4_000_000
"""Answers about independent classes that are judged at most."""
_UNIT = Unit.PROBABILITY


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said how surely, and whether it is so.

    Args:
        image: rows of the images, ``int64`` ``(P,)``.
        score: ``float32`` ``(P,)`` in [0, 1].
        right: ``(P,)``.
    """

    image: IntArray
    score: FloatArray
    right: BoolArray

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class Bin:
    """Predictions of similar scores.

    Args:
        low: smallest score that falls into it.
        high: largest.
        score: mean score of its predictions.
        right: part of them that is right, with its Wilson interval.
    """

    low: float
    high: float
    score: float
    right: Effect


@dataclass(frozen=True)
class Calibration:
    """How far scores are from probabilities.

    Args:
        error: expected calibration error over bins of equal width, in [0, 1], with a bootstrap interval, which
            starts at 0 where chance alone would do; NaN without predictions.
        by_chance: 95 % of the errors over bins of equal width are below this where scores are true probabilities.
        over: mean score minus the part that is right: above 0 where the model is too sure of itself.
        bins: those of equal width that are not empty, in their order.
        p_value: probability of such an error if scores are true probabilities.
    """

    error: Effect
    by_chance: float
    over: float
    bins: tuple[Bin, ...]
    p_value: float


def predictions(evidence: Evidence) -> Predictions:
    """Return what can be judged: the best class of each annotated image, or each answer about independent classes.

    Of independent classes the score is that of "yes", and right is whether the class is annotated; of many images
    every so many are taken. Scores that are NaN are left out, and detectors have none.
    """
    if evidence.multilabel:
        step = 1 + len(evidence) * len(evidence.labels) // _MOST
        parts = [
            (some.images[::step][rows], some.scores[::step][rows, columns], some.given[::step][rows, columns])
            for some in answers(evidence)
            for rows, columns in [np.nonzero(np.isfinite(some.scores[::step]))]
        ]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else list(np.zeros((3, 0)))
        return Predictions(columns[0].astype(np.int64), columns[1].astype(np.float32), columns[2].astype(np.bool_))
    score = evidence.best_scores[:, 0] if evidence.best.shape[1] else np.full(len(evidence), np.nan, np.float32)
    rows = np.flatnonzero(evidence.is_labelled & np.isfinite(score))
    return Predictions(rows, score[rows], evidence.is_right[rows])


def calibration(made: Predictions, bins: int = BINS) -> Calibration:
    """Compare scores with the part that is right.

    Args:
        made: what a model said.
        bins: how many bins scores are sorted into.

    Returns:
        The errors with their intervals. Without predictions all is NaN, there are no bins, and the p-value is 1.
    """
    count = len(made)
    if not count:
        nothing = Effect(math.nan, math.nan, math.nan, 0, Unit.PROBABILITY)
        return Calibration(nothing, math.nan, math.nan, (), 1.0)
    score, right = made.score.astype(np.float64), made.right.astype(np.float64)
    which = _bin_of(score, bins)
    by_chance = _errors_by_chance(score, which, bins)
    error, limit = _effect(score, right, which, bins), float(np.quantile(by_chance, 0.95))
    return Calibration(
        replace(error, low=0.0) if error.value <= limit else error,
        limit,
        float((score - right).mean()),
        _table(score, made.right, which, bins),
        float((1 + (by_chance >= error.value).sum()) / (1 + len(by_chance))),
    )


def calibration_findings(evidence: Evidence, made: Predictions, found: Calibration) -> list[Finding]:
    """Say whether scores are off by at least 0.05, and more than chance makes of true probabilities.

    Returns:
        At most one finding ``calibration``, measured, with the p-value of true probabilities.
    """
    if not (found.error.value >= MATERIAL and found.error.value > found.by_chance):
        return []
    sure = "too sure" if found.over > 0 else "not sure enough"
    statement = (
        f"The model is {sure} of itself: over {counted(len(made), 'prediction')} its scores differ from the part that "
        f"is right by {said(found.error)} on average, and true probabilities would by up to {found.by_chance:.2f}."
    )
    off = np.abs(made.score - made.right) * ((made.score > made.right) == (found.over > 0))
    return [
        Finding(
            FindingKind.CALIBRATION,
            "all scores",
            statement,
            found.error,
            FindingState.MEASURED,
            len(np.unique(made.image)) / len(evidence),
            examples(evidence, made.image[np.argsort(-off, kind="stable")]),
            "Divide the logits by one temperature that is fitted on validation images before scores are used as odds.",
            {"over": found.over, "by_chance": found.by_chance},
            found.p_value,
        )
    ]


def _bin_of(score: Doubles, bins: int) -> IntArray:
    """Return the bin of each score; edges belong to the lower bin, as in most code, and 0 to the first."""
    return np.clip(np.ceil(score * bins).astype(np.int64) - 1, 0, bins - 1)


def _error(score: Doubles, right: Doubles, which: IntArray, bins: int) -> float:
    return float(np.abs(np.bincount(which, score - right, minlength=bins)).sum() / len(score))


def _errors_by_chance(score: Doubles, which: IntArray, bins: int) -> Doubles:
    """Return errors where answers are drawn by the scores, ``(draws,)``."""
    rng = np.random.default_rng(0)
    if len(score) > _MANY:
        spread = np.sqrt(np.bincount(which, score * (1 - score), minlength=bins))
        gaps = rng.normal(0, 1, (_DRAWS, bins)) * spread
        return np.asarray(np.abs(gaps).sum(axis=1) / len(score))
    drawn = (rng.random(len(score)) < score for _ in range(_DRAWS))
    return np.array([_error(score, right.astype(np.float64), which, bins) for right in drawn])


def _effect(score: Doubles, right: Doubles, which: IntArray, bins: int) -> Effect:
    """Return an error with its interval: bins are filled anew by the bootstrap, which adds the noise that they have.

    A mean of absolute values is above the true one by chance, and drawing again doubles this; so the interval is that
    of the basic bootstrap, mirrored at the estimate, and cut off at 0.
    """
    count, error = len(score), _error(score, right, which, bins)
    number = np.bincount(which, minlength=bins)
    gap = np.bincount(which, score - right, minlength=bins)
    square = np.bincount(which, np.square(score - right), minlength=bins)
    rng = np.random.default_rng(1)
    mean = gap / np.maximum(number, 1)
    within = np.maximum(square / np.maximum(number, 1) - np.square(mean), 0)
    drawn = rng.multinomial(count, number / count, _DRAWS)
    gaps = drawn * mean + np.sqrt(drawn * within) * rng.normal(0, 1, (_DRAWS, bins))
    low, high = np.quantile(np.abs(gaps).sum(axis=1) / count, [0.025, 0.975])
    return Effect(error, float(np.clip(2 * error - high, 0, error)), float(max(error, 2 * error - low)), count, _UNIT)


def _table(score: Doubles, right: BoolArray, which: IntArray, bins: int) -> tuple[Bin, ...]:
    found = []
    for number in np.unique(which).tolist():
        ours: NDArray[np.bool_] = which == number
        effect = share(right[ours])
        found.append(Bin(number / bins, (number + 1) / bins, float(score[ours].mean()), effect))
    return tuple(found)
