"""Calibration against torchmetrics and loops; true probabilities are not accused, and sharpened ones are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected

from otx_xai.audit.calibration import Predictions, calibration, calibration_findings, predictions
from otx_xai.audit.findings import FindingKind, FindingState, Unit
from otx_xai.audit.statistics import wilson


def drawn(count: int, seed: int = 0, classes: int = 4, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are true probabilities, and labels that are drawn by them; a power sharpens the scores afterwards."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(classes, 0.4), count)
    given = (scores.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    sharp = scores**power
    return sharp / sharp.sum(axis=1, keepdims=True), given


@pytest.mark.parametrize("power", [1.0, 3.0])
@pytest.mark.parametrize("bins", [5, 15])
def test_the_error_is_that_of_torchmetrics(power: float, bins: int) -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    scores, given = drawn(700, power=power)
    scores = np.minimum(scores, 0.999).astype(np.float32)
    expected = multiclass_calibration_error(torch.tensor(scores), torch.tensor(given), num_classes=4, n_bins=bins)
    found = calibration(predictions(classified(scores, given)), bins)
    assert found.error.value == pytest.approx(float(expected), abs=1e-6)
    assert (found.error.n, found.error.unit) == (700, Unit.PROBABILITY)
    assert found.error.low <= found.error.value <= found.error.high


def test_the_error_of_independent_classes_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    rng = np.random.default_rng(0)
    scores = rng.random((300, 5)).astype(np.float32)
    truth = rng.random((300, 5)) < scores**2
    truth[:, 0] |= ~truth.any(axis=1)
    evidence = classified(scores, [np.flatnonzero(row) for row in truth], multilabel=True)
    made = predictions(evidence)
    assert len(made) == 1500
    expected = binary_calibration_error(
        torch.tensor(scores.ravel()), torch.tensor(truth.ravel().astype(int)), n_bins=15
    )
    found = calibration(made)
    assert found.error.value == pytest.approx(float(expected), abs=1e-6)
    assert [one.kind for one in calibration_findings(evidence, made, found)] == [FindingKind.CALIBRATION]


def test_the_table_and_bins_of_equal_mass_are_those_of_loops() -> None:
    scores, given = drawn(600)
    made = predictions(classified(scores, given))
    found = calibration(made, 10)
    for one in found.bins:
        ours = [i for i in range(600) if one.low < made.score[i] <= one.high]
        assert one.score == pytest.approx(np.mean(made.score[ours]), rel=1e-6)
        hits = int(made.right[ours].sum())
        assert (one.right.value, one.right.n) == (pytest.approx(hits / len(ours)), len(ours))
        assert (one.right.low, one.right.high) == wilson(hits, len(ours))
    assert sum(one.right.n for one in found.bins) == 600
    assert sum(one.right.n * abs(one.right.value - one.score) for one in found.bins) / 600 == pytest.approx(
        found.error.value, abs=1e-6
    )


@pytest.mark.parametrize("count", [300, 8000])
def test_true_probabilities_are_not_accused_and_chance_is_told(count: int) -> None:
    alarms, below = 0, 0
    for seed in range(20):
        scores, given = drawn(count, seed)
        evidence = classified(scores, given)
        made = predictions(evidence)
        found = calibration(made)
        below += found.error.value <= found.by_chance
        alarms += len(calibration_findings(evidence, made, found)) and (found.p_value < 0.01)
        assert found.error.low < 0.06
        assert found.error.low == 0 or found.error.value > found.by_chance
    assert alarms <= 1
    assert below >= 17


@pytest.mark.parametrize("count", [400, 8000])
def test_the_interval_covers_the_true_error_and_sharpened_scores_are_found(count: int) -> None:
    sharp, given = drawn(50_000, 7, power=3)
    truth = calibration(predictions(classified(sharp, given))).error.value
    covered = 0
    for seed in range(10):
        scores, given = drawn(count, seed, power=3)
        evidence = classified(scores, given)
        made = predictions(evidence)
        found = calibration(made)
        covered += found.error.low <= truth <= found.error.high
        (finding,) = calibration_findings(evidence, made, found)
        assert finding.state is FindingState.MEASURED
        assert finding.statement.startswith("The model is too sure of itself: over ")
        assert finding.p_value == pytest.approx(1 / 1001)
    assert covered >= 8


def test_a_modest_model_is_told_so() -> None:
    scores, given = drawn(4000, power=0.4)
    evidence = classified(scores, given)
    made = predictions(evidence)
    (finding,) = calibration_findings(evidence, made, calibration(made))
    assert "not sure enough" in finding.statement


def test_nothing_is_said_of_nothing() -> None:
    for evidence in (
        classified(np.zeros((0, 3)), np.zeros(0, int)),
        classified(np.eye(3)),
        classified(np.full((4, 3), np.nan), [0, 1, 2, 0]),
        classified(np.full((4, 3), np.nan), [0, 1, 2, 0], multilabel=True),
        classified(np.eye(3), multilabel=True),
        detected(boxes([]), None, 2),
    ):
        made = predictions(evidence)
        found = calibration(made)
        assert math.isnan(found.error.value)
        assert (found.bins, found.p_value) == ((), 1)
        assert calibration_findings(evidence, made, found) == []


def test_one_class_and_scores_at_the_edges() -> None:
    found = calibration(Predictions(np.arange(4), np.float32([0, 1, 1, 1]), np.array([False, True, True, True])))
    assert found.error.value == 0
    assert [one.right.n for one in found.bins] == [1, 3]
    wrong = calibration(predictions(classified(np.ones((9, 1)), np.full(9, 3))))
    assert wrong.error.value == 1
