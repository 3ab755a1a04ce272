"""The case of each image, and what is counted, against loops and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

from otx_xai.audit.certainty import Case, accuracy, by_chance, cases, certainty, class_results, confusions, count_cases
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.audit.independent import answers
from otx_xai.audit.statistics import wilson

nan = math.nan


@pytest.mark.parametrize(
    ("scores", "given", "case"),
    [
        ([0.7, 0.2, 0.1], 0, Case.RIGHT_SURE),
        ([0.69, 0.2, 0.11], 0, Case.RIGHT_UNSURE),
        ([0.3, 0.14, 0.13], 0, Case.RIGHT_UNSURE),  # close, and the second is too low
        ([0.43, 0.39, 0.18], 0, Case.TORN),
        ([0.3, 0.57, 0.13], 0, Case.TORN),  # the notebook's retrievers: wrong, and torn
        ([0.3, 0.57, 0.13], 2, Case.WRONG),  # torn between two that are both wrong
        ([0.1, 0.9, 0.0], 0, Case.WRONG),
        ([0.1, 0.9, 0.0], -1, Case.UNLABELLED),
        ([0.5, 0.5, 0.0], -1, Case.TORN),
        ([nan, nan, nan], 0, Case.WRONG),
        ([nan, nan, nan], -1, Case.UNLABELLED),
        ([1.0], 0, Case.RIGHT_SURE),
    ],
)
def test_each_image_has_one_case(scores: list[float], given: int, case: Case) -> None:
    assert cases(classified([scores], [given])).tolist() == [case.value]


@pytest.mark.parametrize(
    ("scores", "given", "case"),
    [
        ([0.9, 0.8, 0.1], [0, 1], Case.RIGHT_SURE),
        ([0.9, 0.6, 0.1], [0, 1], Case.RIGHT_UNSURE),
        ([0.9, 0.8, 0.35], [0, 1], Case.RIGHT_UNSURE),
        ([0.9, 0.4, 0.1], [0, 1], Case.WRONG),
        ([0.9, 0.8, 0.6], [0, 1], Case.WRONG),
        ([0.9, nan, 0.1], [0], Case.WRONG),
        ([0.9, 0.8, 0.6], [], Case.UNLABELLED),
    ],
)
def test_independent_classes_are_right_all_together(scores: list[float], given: list[int], case: Case) -> None:
    evidence = classified([scores], [given], multilabel=True)
    assert cases(evidence).tolist() == [case.value]
    assert accuracy(evidence).n == (case is not Case.UNLABELLED)


def _random(count: int = 500, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes - 1, count)  # the last class has no image
    logits = rng.normal(0, 2, (count, classes)) + 2.5 * np.eye(classes)[given]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return scores.astype(np.float32), given


def test_findings_count_what_a_loop_counts() -> None:
    scores, given = _random(classes=12)
    scores[:50] = (scores[:50] + 0.1) / 2.2  # flat ones
    evidence = classified(scores, given)
    found = {one.kind: one for one in certainty(evidence)}
    sure = [i for i in range(500) if scores[i].argmax() != given[i] and scores[i].max() >= 0.7]
    ordered = np.sort(scores, axis=1)[:, ::-1]
    torn = [
        i
        for i in range(500)
        if ordered[i, 0] <= 2 * ordered[i, 1] and ordered[i, 1] >= 0.15 and given[i] in np.argsort(-scores[i])[:2]
    ]
    unsure = [i for i in range(500) if scores[i].argmax() == given[i] and ordered[i, 0] < 0.4 and i not in torn]
    for kind, rows in (
        (FindingKind.CONFIDENT_ERROR, sure),
        (FindingKind.AMBIGUOUS, torn),
        (FindingKind.UNCERTAIN, unsure),
    ):
        assert found[kind].effect.value == pytest.approx(len(rows) / 500)
        assert (found[kind].effect.low, found[kind].effect.high) == wilson(len(rows), 500)
        assert set(found[kind].images) <= {f"{row}.png" for row in rows}
        assert found[kind].state is FindingState.MEASURED
    first = found[FindingKind.CONFIDENT_ERROR]
    assert first.images[0] == f"{max(sure, key=lambda i: scores[i].max())}.png"
    low, high = wilson(len(sure), 500)
    assert first.statement == (
        f"{len(sure)} of 500 images are wrong and sure of it "
        f"({len(sure) / 5:.1f} %, 95 % interval {100 * low:.1f}-{100 * high:.1f} %)."
    )
    assert sum(count_cases(cases(evidence)).values()) == 500


def test_tables_of_classes_are_those_of_scikit_learn() -> None:
    scores, given = _random()
    evidence = classified(scores, given)
    predicted = scores.argmax(axis=1)
    results = class_results(evidence)
    of_all = {"labels": range(5), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose([one.recall.value for one in results], recall_score(given, predicted, **of_all))
    np.testing.assert_allclose([one.precision.value for one in results], precision_score(given, predicted, **of_all))
    assert math.isnan(results[4].recall.value)
    assert accuracy(evidence).value == pytest.approx(accuracy_score(given, predicted))
    matrix = confusion_matrix(given, predicted, labels=range(5))
    pairs = confusions(evidence)
    assert {(pair.given, pair.predicted): len(pair.images) for pair in pairs} == {
        (i, j): matrix[i, j] for i in range(5) for j in range(5) if i != j and matrix[i, j]
    }
    assert [len(pair.images) for pair in pairs] == sorted([len(pair.images) for pair in pairs], reverse=True)
    for pair in pairs:
        assert pair.share.n == (given == pair.given).sum()
        assert (given[pair.images] == pair.given).all()
        assert (predicted[pair.images] == pair.predicted).all()
        assert (np.diff(scores[pair.images, pair.predicted]) <= 0).all()


def test_tables_of_independent_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((300, 4)) < 0.4
    truth[:, 0] |= ~truth.any(axis=1)
    scores = np.clip(truth * 0.5 + rng.random((300, 4)) * 0.5, 0, 1).astype(np.float32)
    scores[:20] = 1 - scores[:20]
    evidence = classified(scores, [np.flatnonzero(row) for row in truth], multilabel=True)
    results = class_results(evidence)
    np.testing.assert_allclose([one.recall.value for one in results], recall_score(truth, scores >= 0.5, average=None))
    np.testing.assert_allclose(
        [one.precision.value for one in results], precision_score(truth, scores >= 0.5, average=None)
    )
    assert accuracy(evidence).value == pytest.approx(accuracy_score(truth, scores >= 0.5))
    found = {one.subject: one for one in certainty(evidence)}
    for target, label in enumerate(evidence.labels):
        wrong = (truth[:, target] & (scores[:, target] <= 0.3)) | (~truth[:, target] & (scores[:, target] >= 0.7))
        assert found[label].effect.value == pytest.approx(wrong.mean())
        assert results[target].confident_errors == wrong.sum()
        assert set(found[label].images) <= {f"{row}.png" for row in np.flatnonzero(wrong)}
        assert f"about '{label}'" in found[label].statement


def test_answers_come_in_chunks_that_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((50, 6)).astype(np.float32)
    given = [rng.permutation(6)[: rng.integers(0, 4)] for _ in range(50)]
    monkeypatch.setattr("otx_xai.audit.independent._CHUNK", 40)
    parts = list(answers(classified(scores, given, multilabel=True)))
    assert len(parts) > 3
    rows = np.concatenate([part.images for part in parts])
    assert rows.tolist() == [row for row in range(50) if len(given[row])]
    np.testing.assert_array_equal(np.concatenate([part.scores for part in parts]), scores[rows])
    truth = np.array([[target in given[row] for target in range(6)] for row in rows])
    np.testing.assert_array_equal(np.concatenate([part.given for part in parts]), truth)


def test_a_good_model_is_not_accused() -> None:
    given = np.arange(100) % 4
    evidence = classified(np.where(np.eye(4)[given] > 0, 0.94, 0.02), given)
    assert certainty(evidence) == []
    assert confusions(evidence) == []
    assert count_cases(cases(evidence)) == {
        "right_sure": 100,
        "right_unsure": 0,
        "wrong": 0,
        "torn": 0,
        "unlabelled": 0,
    }


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(
    ("scores", "given"),
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.ones((4, 1)), np.zeros(4, int)),
        (np.full((4, 3), nan), [0, 1, 2, -1]),
        (np.full((4, 3), 1 / 3), None),
        (np.eye(3)[[0, 1, 2]], [1, 2, 0]),
        (np.eye(3)[[0, 1, 2]], [7, 2, 0]),  # an annotation that is none of the model's classes
    ],
)
def test_nothing_is_said_of_nothing(scores: np.ndarray, given: list[int] | None, multilabel: bool) -> None:
    evidence = classified(scores, given, multilabel=multilabel)
    assert len(cases(evidence)) == len(scores)
    assert len(class_results(evidence)) == evidence.best.shape[1]
    assert accuracy(evidence).n == (0 if given is None else sum(one >= 0 for one in given))
    confusions(evidence)
    kinds = {one.kind for one in certainty(evidence)}
    if given is None:
        assert kinds == (set() if multilabel else {FindingKind.AMBIGUOUS})
        assert set(cases(evidence).tolist()) == ({"unlabelled"} if multilabel else {"torn"})


def test_detectors_have_no_cases() -> None:
    evidence = detected(boxes([(0, 0, (1, 1, 9, 9), 0.9)]), None, 2)
    assert cases(evidence).tolist() == ["unlabelled"] * 2
    assert certainty(evidence) == confusions(evidence) == class_results(evidence) == []


def test_a_model_that_agrees_by_chance_is_told() -> None:
    given = np.arange(60) % 3
    right, turned = np.eye(3)[given], np.eye(3)[(given + 1) % 3]
    constant = np.tile(np.eye(3)[0], (60, 1))
    assert by_chance(classified(right, given)) == ""
    assert by_chance(classified(turned, given)).startswith("The model is right in 0.0 %")
    assert "where chance is right in 33.3%" in by_chance(classified(constant, given))
    assert by_chance(classified(turned[:19], given[:19])) == ""  # too few to say so
    assert by_chance(classified(turned, np.zeros(60, int))) == ""  # one class: nothing to mix up
    assert by_chance(classified(turned)) == ""
    assert by_chance(classified(turned, given, multilabel=True)) == ""
