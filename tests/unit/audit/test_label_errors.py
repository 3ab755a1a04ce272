"""Wrong labels: confident learning against a loop over the paper's definition, planted flips, and clean labels."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected

from otx_xai.audit.evidence_table import NO_CLASS
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.audit.label_errors import ALL_LABELS, label_errors, label_findings


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def good_model(seed: int, count: int = 2000, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are true probabilities, and labels drawn by them: about 97 % are right."""
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, classes, count)
    scores = softmax(rng.normal(0, 1, (count, classes)) + rng.gamma(8, 1.2, (count, 1)) * np.eye(classes)[seen])
    labels = (scores.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return scores, labels


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_candidates_are_those_of_the_confident_joint(classes: int) -> None:
    scores, given = good_model(0, 400, classes)
    scores = scores.astype(np.float32)
    rng = np.random.default_rng(1)
    given[:30] = rng.integers(0, classes, 30)
    means = [scores[given == k, k].astype(float).mean() for k in range(classes)]
    joint = np.zeros((classes, classes))
    off = {}
    for row, one in enumerate(scores.astype(float)):
        reached = [k for k in range(classes) if one[k] >= means[k]]
        if reached:
            seen = max(reached, key=lambda k: one[k])
            joint[given[row], seen] += 1
            if seen != given[row] and one[seen] > one[given[row]]:
                off[row] = seen
    errors = label_errors(classified(scores, given))
    sure = errors.is_candidate
    assert dict(zip(errors.image[sure].tolist(), errors.suggested[sure].tolist(), strict=True)) == off
    assert (np.diff(sure.astype(int)) <= 0).all()
    assert set(errors.image.tolist()) == {*off, *np.flatnonzero(scores.argmax(axis=1) != given).tolist()}
    assert (errors.given == given[errors.image]).all()
    margin = scores[errors.image, errors.suggested] - scores[errors.image, errors.given]
    np.testing.assert_allclose(errors.confidence, margin, atol=1e-6)
    assert (np.diff(errors.confidence[sure]) <= 0).all()
    assert (np.diff(errors.confidence[~sure]) <= 0).all()
    expected = [sum(given[row] == k for row in off) / joint[k].sum() for k in range(classes)]
    np.testing.assert_allclose(errors.noise, expected)


@pytest.mark.parametrize("seed", range(5))
def test_planted_flips_come_first(seed: int) -> None:
    """Two per cent are flipped: nine of ten are among the first three per cent, and the estimate is near."""
    scores, given = good_model(seed)
    rng = np.random.default_rng(seed + 100)
    flipped = rng.choice(len(given), 40, replace=False)
    given[flipped] = (scores[flipped].argmax(axis=1) + rng.integers(1, 8, 40)) % 8
    evidence = classified(scores, given)
    errors = label_errors(evidence)
    assert len(set(errors.image[:60].tolist()) & set(flipped.tolist())) >= 36
    found = label_findings(evidence, errors)
    assert (found[0].kind, found[0].subject, found[0].state) == (
        FindingKind.LABEL_ERROR,
        ALL_LABELS,
        FindingState.SUSPECTED,
    )
    assert found[0].effect.low < 0.02 < found[0].effect.high
    assert 0.012 < found[0].effect.value < 0.03
    assert found[0].p_value is not None
    assert found[0].p_value < 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_right_labels_of_a_good_model_are_not_accused(seed: int) -> None:
    scores, given = good_model(seed)
    evidence = classified(scores, given)
    assert label_findings(evidence, label_errors(evidence)) == []


def test_a_misunderstood_class_is_named() -> None:
    scores, given = good_model(0)
    rows = np.flatnonzero(given == 2)[:40]
    given[rows] = 5
    evidence = classified(scores, given)
    found = label_findings(evidence, label_errors(evidence))
    assert [one.subject for one in found] == [ALL_LABELS, "f for c"]
    assert "labelled 'f' may be 'c'" in found[1].statement
    assert found[1].check["tests"] >= 1


def test_answers_about_independent_classes_are_checked_one_by_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1500, 4)) < 0.4
    truth[:, 3] |= ~truth.any(axis=1)
    scores = softmax(np.stack([rng.normal(-6, 1.5, truth.size), np.zeros(truth.size)], axis=1))[:, 1]
    scores = np.where(truth, scores.reshape(truth.shape), 1 - scores.reshape(truth.shape)).astype(np.float32)
    clean = classified(scores, [np.flatnonzero(row) for row in truth], multilabel=True)
    assert label_findings(clean, label_errors(clean)) == []
    given = truth.copy()
    given[np.flatnonzero(truth[:, 0])[:50], 0] = False
    given[np.flatnonzero(~truth[:, 1])[:50], 1] = True
    planted = {(int(row), int(target)) for row, target in np.argwhere(given != truth) if given[row].any()}
    evidence = classified(scores, [np.flatnonzero(row) for row in given], multilabel=True)
    errors = label_errors(evidence)
    target = np.maximum(errors.given, errors.suggested).tolist()
    named = list(zip(errors.image.tolist(), target, strict=True))
    assert len(set(named[: len(planted)]) & planted) >= 0.9 * len(planted)
    assert ((errors.given == NO_CLASS) != (errors.suggested == NO_CLASS)).all()
    found = label_findings(evidence, errors)
    assert [one.subject for one in found] == [ALL_LABELS, "a missing", "b absent"]
    assert "may lack the label 'a'" in found[1].statement
    assert "may not show what their label 'b' says" in found[2].statement


@pytest.mark.parametrize(
    ("scores", "given", "multilabel"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), False),
        (np.zeros((0, 3)), np.zeros(0, int), True),
        (np.eye(3), None, False),
        (np.eye(3), None, True),
        (np.ones((9, 1)), np.zeros(9, int), False),
        (np.full((9, 3), np.nan), np.zeros(9, int), False),
        (np.full((9, 3), np.nan), np.zeros(9, int), True),
        (np.eye(3)[[1, 2, 0]], [0, 1, 2], False),
        (np.eye(3)[[1, 2, 0]], [0, 1, 2], True),
        (np.eye(3), [9, 9, 9], False),
        (np.eye(3)[np.arange(60) % 3], (np.arange(60) + 1) % 3, False),  # all wrong: not the labels
        (np.eye(3)[np.arange(60) % 3], (np.arange(60) + 1) % 3, True),
    ],
)
def test_nothing_is_said_of_too_little(scores: np.ndarray, given: list[int] | None, multilabel: bool) -> None:
    evidence = classified(scores, given, multilabel=multilabel)
    errors = label_errors(evidence)
    assert len(errors.noise) == scores.shape[1]
    assert label_findings(evidence, errors) == []


def test_several_given_classes_are_all_right_and_detectors_have_no_labels() -> None:
    evidence = classified([[0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0.9, 0.1]], [[0, 1], [0], [1]])
    assert len(label_errors(evidence)) == 0
    assert len(label_errors(detected(boxes([]), boxes([]), 3))) == 0
