"""The rate of wrong labels: fitted beside a temperature, so that neither is taken for the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from otx_xai.audit.label_noise import label_noise


def drawn(seed: int, rate: float, power: float = 1.0, count: int = 3000, classes: int = 10, kept: int | None = None):
    """Labels that are drawn from probabilities, a part of them replaced; scores are the probabilities to a power."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (count, classes))
    logits[np.arange(count), rng.integers(0, classes, count)] += rng.gamma(8, 1.2, count)
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    flipped = rng.random(count) < rate
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, flipped.sum())) % classes
    scores = truth**power / (truth**power).sum(axis=1, keepdims=True)
    own = scores[np.arange(count), labels]
    scores[np.arange(count), labels] = 0
    return own, -np.sort(-scores, axis=1)[:, : kept or classes], classes


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kept", [None, 4])
def test_the_rate_is_found_whatever_the_temperature(power: float, kept: int | None) -> None:
    covered = 0
    for seed in range(8):
        found = label_noise(*drawn(seed, 0.02, power, kept=kept), 0.002)
        covered += found.rate.low <= 0.02 <= found.rate.high
        assert found.p_value < (1e-8 if power < 2 else 1e-2)  # sharpened scores lose their tails
        assert 0.009 < found.rate.value < 0.035
    assert covered >= 6


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_right_labels_are_not_accused_whatever_the_temperature(power: float) -> None:
    p_values = [label_noise(*drawn(seed, 0.0, power), 0.002).p_value for seed in range(15)]
    assert min(p_values) > 0.001
    assert np.median(p_values) == 1


def test_the_fit_is_that_of_an_optimiser() -> None:
    own, others, classes = drawn(1, 0.05, 1.7)

    def loss(numbers: np.ndarray) -> float:
        sharpness, rate = np.exp(numbers[0]), 1 / (1 + np.exp(-numbers[1]))
        theirs = np.where(others > 0, others, 1e-300) ** sharpness
        right = own**sharpness / (own**sharpness + theirs.sum(axis=1))
        return -np.log((1 - rate) * right + rate * (1 - right) / (classes - 1)).sum()

    best = optimize.minimize(loss, np.array([0.0, -3.0]), method="Nelder-Mead")
    assert label_noise(own, others, classes, 0.002).rate.value == pytest.approx(1 / (1 + np.exp(-best.x[1])), rel=0.08)


def test_of_many_labels_some_are_taken() -> None:
    found = label_noise(*drawn(0, 0.03, count=50_000), 0.002)
    assert found.rate.n == 50_000
    assert found.rate.low < 0.03 < found.rate.high


def test_nothing_is_said_of_nothing() -> None:
    for own, others, classes in ((np.zeros(0), np.zeros((0, 3)), 3), (np.ones(5), np.zeros((5, 0)), 1)):
        found = label_noise(own, others, classes, 0.002)
        assert math.isnan(found.rate.value)
        assert found.p_value == 1
    sure = label_noise(np.ones(50), np.zeros((50, 2)), 3, 0.002)
    assert sure.p_value == 1
    assert sure.rate.low == 0
