"""Rank correlation and structural similarity against literal formulas."""

from __future__ import annotations

import numpy as np
import pytest

from otx_xai.metrics import rank_correlation, structural_similarity


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.random((17, 23), np.float32)
    return first, (0.6 * first + 0.4 * rng.random((17, 23), np.float32)).astype(np.float32)


def literal_rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of ranks, each the number of lower values and half of the equal ones."""
    ranks = [(one[:, None] > one).sum(1) + (one[:, None] == one).sum(1) / 2 for one in (first.ravel(), second.ravel())]
    return float(np.corrcoef(*ranks)[0, 1])


def literal_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, window by window."""
    line = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11].astype(float), y[i : i + 11, j : j + 11].astype(float)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            top = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
            found.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(found))


def test_rank_correlation_is_spearmans(maps):
    first, second = maps
    assert rank_correlation(first, second) == pytest.approx(literal_rank_correlation(first, second), abs=1e-9)
    coarse = np.round(first * 4), np.round(second * 4)  # many places of equal value
    assert rank_correlation(*coarse) == pytest.approx(literal_rank_correlation(*coarse), abs=1e-9)


def test_only_the_order_counts(maps):
    first, second = maps
    assert rank_correlation(first, first**3) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert rank_correlation(np.exp(first), second) == pytest.approx(rank_correlation(first, second))


def test_a_constant_map_orders_nothing(maps):
    assert np.isnan(rank_correlation(maps[0], np.zeros_like(maps[0])))


def test_structural_similarity_is_that_of_the_paper(maps):
    first, second = maps
    assert structural_similarity(first, second) == pytest.approx(literal_ssim(first, second), abs=1e-6)
    assert structural_similarity(first, first) == pytest.approx(1)
    assert structural_similarity(first, second) == pytest.approx(structural_similarity(second, first))


def test_maps_smaller_than_a_window_have_a_similarity(maps):
    first, second = (one[:4, :5] for one in maps)
    assert structural_similarity(first, first) == pytest.approx(1)
    assert structural_similarity(first, second) < 1
