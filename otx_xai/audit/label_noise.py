"""How many labels are wrong, so that it is not mistaken for scores that are too sure or not sure enough.

The labels are taken as drawn from the scores at one temperature (Guo et al. 2017, arXiv 1706.04599), and a part of them
as replaced by any other class (symmetric noise, Natarajan et al. 2013). Both numbers are fitted together by maximum
likelihood: a temperature explains errors where the model is unsure, and noise those where it is sure. The likelihood
ratio tells whether noise is needed at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from otx_xai.audit.findings import Effect
from otx_xai.records import Doubles

_LEAST_SCORE = 1e-7
_SHARPNESS = np.geomspace(0.25, 6, 21)
"""One over the temperature."""
_RATES = np.geomspace(1e-4, 0.9, 101)
_MOST = 20_000
"""Labels that the fit takes at most."""


@dataclass(frozen=True)
class LabelNoise:
    """How many labels are wrong.

    Args:
        rate: part of the labels, with the 95 % interval of the likelihood; NaN without labels.
        p_value: probability of labels like these with no more wrong ones than a given rate.
    """

    rate: Effect
    p_value: float


def label_noise(own: Doubles, others: Doubles, classes: int, least: float) -> LabelNoise:
    """Fit the rate of wrong labels.

    Args:
        own: score of the class that each label names, ``(n,)`` in [0, 1].
        others: scores of other classes, ``(n, m)``; 0 where there is none. What they and ``own`` leave of 1 is spread
            over the classes that are left.
        classes: number of them, at least 2; with fewer there is no noise.
        least: rate that is no finding, above 0.

    Returns:
        The rate, and the test that it is above ``least``. Of many labels every so many are taken.
    """
    count = len(own)
    if not count or classes < 2:
        return LabelNoise(Effect(math.nan, math.nan, math.nan, count), 1.0)
    step = 1 + (count - 1) // _MOST
    rates = np.unique(np.append(_RATES, least))
    coarse = _likelihoods(own[::step], others[::step], classes, _SHARPNESS, rates)
    best = int(coarse.max(axis=1).argmax())
    around = _SHARPNESS[max(best - 1, 0)], _SHARPNESS[min(best + 1, len(_SHARPNESS) - 1)]
    fine = _likelihoods(own[::step], others[::step], classes, np.geomspace(*around, 17), rates)
    likelihood = np.maximum(coarse.max(axis=0), fine.max(axis=0))  # the best over temperatures
    top = int(likelihood.argmax())
    ratio = 2 * (likelihood[top] - likelihood[np.searchsorted(rates, least)])
    p_value = float(stats.chi2.sf(ratio, 1) / 2) if rates[top] > least else 1.0
    return LabelNoise(Effect(float(rates[top]), *_interval(rates, likelihood), count), p_value)


def _likelihoods(own: Doubles, others: Doubles, classes: int, sharpness: Doubles, rates: Doubles) -> Doubles:
    """Return the logarithm of the likelihood of the labels, ``(temperatures, rates)``."""
    found = np.empty((len(sharpness), len(rates)))
    for row, one in enumerate(sharpness.tolist()):
        right = _given(own, others, classes, one)
        wrong = (1 - right) / (classes - 1)
        for column, rate in enumerate(rates.tolist()):
            found[row, column] = np.log(right + rate * (wrong - right)).sum()
    return found


def _interval(rates: Doubles, likelihood: Doubles) -> tuple[float, float]:
    """Return where the likelihood has fallen by as much as 95 % allow, between the rates that were tried."""
    fall = 2 * (likelihood.max() - likelihood) / stats.chi2.ppf(0.95, 1)
    top = int(fall.argmin())
    logs = np.log(rates)
    below, above = fall[: top + 1], fall[top:]
    low = 0.0 if below.max() < 1 else float(np.exp(np.interp(-1, -below, logs[: top + 1])))
    high = float(np.exp(np.interp(1, above, logs[top:])))
    return low, high


def _given(own: Doubles, others: Doubles, classes: int, sharpness: float) -> Doubles:
    """Return the probability of each label's class at a temperature, ``(n,)``."""
    left = classes - 1 - (others > 0).sum(axis=1)
    rest = np.maximum(1 - own - others.sum(axis=1), 0) / np.maximum(left, 1)
    mine = np.maximum(own, _LEAST_SCORE) ** sharpness
    theirs = np.where(others > 0, np.maximum(others, _LEAST_SCORE) ** sharpness, 0).sum(axis=1)
    theirs += np.maximum(left, 0) * np.maximum(rest, _LEAST_SCORE / classes) ** sharpness
    return np.asarray(np.clip(mine / (mine + theirs), _LEAST_SCORE, 1 - _LEAST_SCORE))
