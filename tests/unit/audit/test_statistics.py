"""Intervals and tests against scipy and slow loops, and what they say of nothing at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, said
from otx_xai.audit.statistics import corrected, difference, mean_effect, paired, share, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (1, 3), (41, 1000), (99_999, 100_000)])
def test_wilson_is_that_of_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert share(successes, n) == Effect(successes / n, *wilson(successes, n), n)


def test_a_share_of_a_mask_counts_it_and_one_of_nothing_is_nan() -> None:
    assert share(np.array([True, False, False, True])) == share(2, 4)
    nothing = share(np.zeros(0, np.bool_))
    assert nothing.n == 0
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert nothing.size == 0
    with pytest.raises(ValueError, match="no n"):
        share(3)


def test_a_difference_has_the_interval_of_newcombe() -> None:
    """The first example of his paper: 56 of 70 and 48 of 80."""
    effect = difference(56, 70, 48, 80)
    assert (effect.value, effect.n) == (pytest.approx(0.2), 70)
    assert (effect.low, effect.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert math.isnan(difference(0, 0, 1, 2).value)


def test_wilson_covers_the_truth_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(60, 0.1, 2000).tolist()
    covered = np.mean([low <= 0.1 <= high for low, high in (wilson(k, 60) for k in hits)])
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize("n", [3, 20, 1000, 5000])
def test_the_interval_of_a_mean_is_about_that_of_students_t(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    effect = mean_effect(values, Unit.LOG_ODDS)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert effect.value == pytest.approx(values.mean())
    assert effect.low < effect.value < effect.high
    if n > 3:
        assert (effect.low, effect.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    assert effect == mean_effect(values, Unit.LOG_ODDS)  # the same each time


def test_the_interval_of_skewed_values_leans_to_their_tail() -> None:
    effect = mean_effect(np.random.default_rng(0).exponential(1, 40))
    assert effect.high - effect.value > 1.1 * (effect.value - effect.low)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [np.nan, np.inf], [2.0] * 5, [0.0] * 2000])
def test_means_of_few_or_equal_values_do_not_warn(values: list[float]) -> None:
    effect = mean_effect(values)
    finite = [value for value in values if math.isfinite(value)]
    assert effect.n == len(finite)
    assert math.isnan(effect.value) if not finite else effect.value == np.mean(finite)
    assert (effect.low, effect.high) == (effect.value, effect.value) if len(finite) > 2 else math.isnan(effect.low)


def test_paired_differences_are_tested_by_signed_ranks() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 30)
    effect, p_value = paired([*values, np.nan])
    assert (effect.unit, effect.n) == (Unit.LOG_ODDS, 30)
    assert p_value == stats.wilcoxon(values).pvalue
    assert paired(values, alternative="less")[1] > 0.9
    assert paired(-values)[1] == pytest.approx(p_value)


@pytest.mark.parametrize("values", [[], [0.0], [0.0] * 60, [np.nan]])
def test_no_difference_is_no_evidence(values: list[float]) -> None:
    assert paired(values)[1] == 1


def _finding(p_value: float | None, kind: FindingKind = FindingKind.SLICE, tests: int = 1) -> Finding:
    return Finding(kind, "a", "A.", share(1, 2), FindingState.MEASURED, 0.1, p_value=p_value, check={"tests": tests})


def test_corrected_is_the_textbook_procedure() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005, 0.5, 0.02]
    findings = [_finding(p_value) for p_value in p_values]
    ordered = sorted(p_values)
    last = max(rank for rank, p_value in enumerate(ordered, 1) if p_value <= 0.05 * rank / len(ordered))
    expected = [p_value for p_value in p_values if p_value <= ordered[last - 1]]
    assert [one.p_value for one in corrected(findings)] == expected


def test_findings_without_a_test_stay_and_those_of_many_tests_are_harder_to_keep() -> None:
    counted = _finding(None)
    assert corrected([]) == []
    assert corrected([counted, _finding(0.04)]) == [counted, _finding(0.04)]
    assert corrected([counted, _finding(0.04, tests=2)]) == [counted]
    assert corrected([_finding(0.001, tests=49)])
    assert not corrected([_finding(0.001, tests=51)])
    assert corrected([_finding(math.nan)]) == []


def test_of_tests_of_pure_chance_few_survive() -> None:
    rng = np.random.default_rng(0)
    kept = [len(corrected([_finding(p) for p in rng.random(100).tolist()])) > 0 for _ in range(200)]
    assert np.mean(kept) < 0.09


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (Effect(0.041, 0.0301, 0.0549, 1000), "4.1 %, 95 % interval 3.0-5.5 %"),
        (Effect(-1.2, -1.5, 0.25, 9, Unit.LOG_ODDS), "-1.20, 95 % interval -1.50 to 0.25"),
        (Effect(0.5, math.nan, math.nan, 2), "50.0 %"),
    ],
)
def test_effects_in_words(effect: Effect, words: str) -> None:
    assert said(effect) == words
