import math

import numpy as np
import pytest

from otx_xai.errors import LabelError
from otx_xai.postprocess import predict, sigmoid, softmax
from otx_xai.postprocess.scores import are_alike
from otx_xai.records import Prediction


def test_softmax_is_the_definition():
    logits = np.random.default_rng(0).normal(0, 5, (3, 11)).astype(np.float32)
    expected = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits.tolist()]
    found = softmax(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sigmoid_is_the_definition():
    logits = np.random.default_rng(0).normal(0, 5, (3, 11)).astype(np.float32)
    found = sigmoid(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()], rtol=1e-5)


def test_large_logits_do_not_overflow():
    logits = np.array([-1e30, -1000, 0, 1000, 1e30], np.float32)
    np.testing.assert_array_equal(sigmoid(logits), [0, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(softmax(logits), [0, 0, 0, 0, 1])
    np.testing.assert_allclose(softmax(np.full(4, 1e30, np.float32)), 0.25)


def test_one_class():
    np.testing.assert_array_equal(softmax(np.array([3], np.float32)), [1])
    assert predict(np.array([0.1], np.float32), ["only"], 0.5) == (Prediction(0, "only", pytest.approx(0.1)),)


def test_predict_orders_by_score_then_class():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.9], np.float32)
    assert [p.target for p in predict(scores, list("abcde"), 0.5)] == [1, 4, 0, 2]
    assert predict(scores, list("abcde"), 0.6)[1] == Prediction(4, "e", pytest.approx(0.9))


def test_predict_gives_the_best_where_none_reaches_the_threshold():
    assert [p.target for p in predict(np.array([0.1, 0.2, 0.2], np.float32), list("abc"), 0.5)] == [1]
    assert [p.target for p in predict(np.zeros(3, np.float32), list("abc"), 0.0)] == [0, 1, 2]


def test_predictions_are_plain_python():
    (prediction,) = predict(np.array([0.1, 0.7], np.float32), ["a", "b"], 0.5)
    assert type(prediction.target) is int
    assert type(prediction.score) is float


def test_predict_compares_with_a_slow_loop():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, 20_000).astype(np.float32) / 50
    labels = [str(i) for i in range(20_000)]
    expected = sorted((i for i in range(20_000) if scores[i] >= np.float32(0.9)), key=lambda i: (-scores[i], i))
    assert [p.target for p in predict(scores, labels, float(np.float32(0.9)))] == expected


def test_predict_refuses_wrong_labels_and_nan():
    with pytest.raises(LabelError, match="3 scores, and there are 2 labels"):
        predict(np.zeros(3, np.float32), ["a", "b"], 0.5)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        predict(np.array([np.nan, 1], np.float32), ["a", "b"], 0.5)


@pytest.mark.parametrize(
    ("scores", "alike"),
    [([0, 0, 0], True), ([1, 1], True), ([0.3], False), ([0.3, 0.3 + 3e-8], True), ([1e-9, 2e-9], False)],
)
def test_scores_that_are_alike(scores: list[float], alike: bool):
    assert are_alike(np.array(scores, np.float32)) is alike
