"""The statistics of an audit: intervals, paired tests, and the correction for their number.

- Interval of a share: Wilson, *Probable Inference, the Law of Succession, and Statistical Inference* (1927).
- Interval of a mean: bias-corrected and accelerated bootstrap (BCa), Efron, *Better Bootstrap Confidence Intervals*
  (1987).
- Number of tests: Benjamini and Hochberg, *Controlling the False Discovery Rate* (1995).

All intervals are of 95 %. Nothing here warns: what cannot be told is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from otx_xai.audit.findings import Effect, Finding, FindingKind, Unit
from otx_xai.records import BoolArray, Doubles

TESTS = "tests"
"""Entry of :attr:`Finding.check`: number of tests of its kind, those that made no finding too."""

_Z = 1.959963984540054
_RESAMPLES = 2000
_MANY = 1000


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, without correction for continuity).

    Args:
        successes: how many of ``n``.
        n: at least 0.

    Returns:
        Its ends in [0, 1]; NaN where ``n`` is 0.
    """
    if n <= 0:
        return math.nan, math.nan
    part, spread = successes / n, _Z**2 / n
    middle = (part + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(part * (1 - part) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def share(successes: int | BoolArray, n: int | None = None) -> Effect:
    """Return a share with its Wilson interval.

    Args:
        successes: how many; or a mask, which is counted.
        n: of how many; by default the length of the mask.

    Returns:
        The share; NaN where it is of nothing.

    Raises:
        ValueError: a number of successes without ``n``.
    """
    if isinstance(successes, np.ndarray):
        n = successes.size if n is None else n
        successes = int(np.count_nonzero(successes))
    if n is None:
        raise ValueError("share() got a number of successes and no n; expected both, or a mask.")
    return Effect(successes / n if n else math.nan, *wilson(int(successes), n), n)


def difference(successes: int, n: int, other_successes: int, other_n: int) -> Effect:
    """Return by how much one share exceeds another, independent one, with Newcombe's interval (1998, method 10).

    Args:
        successes: how many of ``n``.
        n: its cases, which the effect counts.
        other_successes: how many of ``other_n``.
        other_n: cases of the other one.

    Returns:
        The difference in [-1, 1]; NaN where one of them is of nothing.
    """
    if not n or not other_n:
        return Effect(math.nan, math.nan, math.nan, n)
    first, second = successes / n, other_successes / other_n
    (low, high), (other_low, other_high) = wilson(successes, n), wilson(other_successes, other_n)
    below = math.hypot(first - low, other_high - second)
    above = math.hypot(high - first, second - other_low)
    return Effect(first - second, first - second - below, first - second + above, n)


def mean_effect(values: ArrayLike, unit: Unit = Unit.SHARE) -> Effect:
    """Return a mean with its interval: BCa bootstrap with a fixed seed, Student's t of more than 1000 values.

    Args:
        values: one number a case; those that are not finite are left out.
        unit: what they count.

    Returns:
        The mean; NaN without values. Fewer than three values have no interval, equal ones have one without width.
    """
    counted = _finite(values)
    n = len(counted)
    if n == 0:
        return Effect(math.nan, math.nan, math.nan, 0, unit)
    mean = float(counted.mean())
    if n < 3:
        return Effect(mean, math.nan, math.nan, n, unit)
    if np.ptp(counted) <= 1e-12 * max(1.0, abs(mean)):
        return Effect(mean, mean, mean, n, unit)
    return Effect(mean, *_interval_of_mean(counted), n, unit)


def _interval_of_mean(values: Doubles) -> tuple[float, float]:
    if len(values) <= _MANY:
        made = stats.bootstrap(
            (values,), np.mean, n_resamples=_RESAMPLES, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        if math.isfinite(made.low) and math.isfinite(made.high):
            return float(made.low), float(made.high)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def paired(
    differences: ArrayLike,
    unit: Unit = Unit.LOG_ODDS,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> tuple[Effect, float]:
    """Return the mean of paired differences, and whether they are about 0 (Wilcoxon's signed ranks, 1945).

    Args:
        differences: one number a pair, what was done minus its control; those that are not finite are left out.
        unit: what they count.
        alternative: what is claimed of them.

    Returns:
        The mean, see :func:`mean_effect`, and the p-value; 1 where all are 0 or there are none.
    """
    counted = _finite(differences)
    effect = mean_effect(counted, unit)
    if not np.any(counted):
        return effect, 1.0
    return effect, float(stats.wilcoxon(counted, alternative=alternative).pvalue)


def corrected(findings: Sequence[Finding], rate: float = 0.05) -> list[Finding]:
    """Drop the findings that may be chance, given how many tests were made (Benjamini and Hochberg 1995).

    A question that tests many subjects returns those alone that matter, and says of how many tests they are in
    ``check["tests"]``; the tests without a finding count as failed ones.

    Args:
        findings: of all questions of one run.
        rate: part of the findings that may be false.

    Returns:
        Those that survive, and those without a p-value, in their order.
    """
    tested = [one for one in findings if one.p_value is not None]
    p_values = np.array([1.0 if math.isnan(one.p_value or 0.0) else one.p_value for one in tested], np.float64)
    unseen = _tests(tested) - len(tested)
    adjusted = stats.false_discovery_control(np.concatenate([p_values, np.ones(unseen)])) if tested else p_values
    fails = {id(one) for one, p_value in zip(tested, adjusted[: len(tested)], strict=True) if p_value > rate}
    return [one for one in findings if id(one) not in fails]


def _tests(findings: Sequence[Finding]) -> int:
    """Return the number of tests behind findings, kind by kind."""
    kinds: dict[FindingKind, list[int]] = {}
    for one in findings:
        kinds.setdefault(one.kind, []).append(int(one.check.get(TESTS, 1)))
    return sum(max(len(numbers), *numbers) for numbers in kinds.values())


def _finite(values: ArrayLike) -> Doubles:
    counted = np.asarray(values, np.float64).ravel()
    return counted[np.isfinite(counted)]
