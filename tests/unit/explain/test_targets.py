from __future__ import annotations

import logging

import numpy as np
import pytest

from otx_xai.errors import TargetError
from otx_xai.explain.targets import Wanted, choose, resolve_targets, resolve_wanted


def chosen_of(*arguments, **options):
    choice = choose(*arguments, **options)
    assert choice.detections is None
    return choice.predictions, choice.targets, choice.maps


LABELS = ("cat", "African elephant, Loxodonta africana", "hot_dog", "hot tea", "Größe", "dog")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (2, (2,)),
        (np.int64(2), (2,)),
        ("2", (2,)),
        ([5, 0, 2], (5, 0, 2)),
        (np.array([5, 0]), (5, 0)),
        (np.array([[5], [0]]), (5, 0)),
        (np.array(4), (4,)),
        (["5", "cat"], (5, 0)),
        (("dog", 0, "dog", 5), (5, 0)),
        ((i for i in (3, 1)), (3, 1)),
        (range(2), (0, 1)),
        ("dog,cat", (5, 0)),
        (" dog , 1 ", (5, 1)),
        ("[5, 0]", (5, 0)),
        ("African elephant, Loxodonta africana", (1,)),
        ("african_elephant, loxodonta africana", (1,)),
        (["African elephant, Loxodonta africana", "cat"], (1, 0)),
        ("HOT DOG", (2,)),
        ("hot_tea", (3,)),
        ("hot  tea ", (3,)),
        ("GRÖSSE", (4,)),
        (np.array(["dog", "cat"]), (5, 0)),
        (-1, (0, 1, 2, 3, 4, 5)),
        ("-1", (0, 1, 2, 3, 4, 5)),
        ([-1], (0, 1, 2, 3, 4, 5)),
        (np.array([-1]), (0, 1, 2, 3, 4, 5)),
        ([], ()),
        ("", ()),
        (np.array([], np.int64), ()),
        (None, None),
        ("predicted", None),
        (" Predicted ", None),
        (["predicted"], None),
    ],
)
def test_words_of_users(targets: object, expected: tuple[int, ...] | None):
    assert resolve_targets(targets, LABELS) == expected


def test_a_number_is_an_index_and_a_text_first_a_name():
    digits = ("1", "2", "0")
    assert resolve_targets(1, digits) == (1,)
    assert resolve_targets("1", digits) == (0,)
    assert resolve_targets([np.int32(2), "0"], digits) == (2,)


def test_a_class_may_be_called_predicted():
    assert resolve_targets("predicted", ("observed", "predicted")) == (1,)


def test_of_two_classes_of_one_name_the_first_is_explained_and_the_log_says_so(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "otx_xai"):
        assert resolve_wanted("crane", ("crane", "stork", "crane"), 0.3, has_boxes=True) == Wanted((0,), 0.3)
    assert len(caplog.records) == 1, "once is enough"
    assert "[0, 2]" in caplog.text


@pytest.mark.parametrize(
    ("targets", "word"),
    [
        ("cat,predicted", "'predicted' means the classes that an image shows"),
        (["boxes", 0], "'boxes' means each box by itself"),
        ([0, -1], "'-1' means all classes"),
        ("predicted, boxes", "'predicted' means"),
    ],
)
def test_words_for_all_of_something_stand_alone(targets: object, word: str):
    with pytest.raises(TargetError, match=rf"{word}.*, and must stand alone"):
        resolve_wanted(targets, LABELS, 0.3, has_boxes=True)


def test_boxes_are_expected_of_models_that_find_them():
    for boxes in ("boxes", ["Boxes"]):
        assert resolve_wanted(boxes, LABELS, 0.3, has_boxes=True) == Wanted(None, 0.3, per_box=True)
        with pytest.raises(TargetError, match="a classifier has none"):
            resolve_wanted(boxes, LABELS, 0.3, has_boxes=False)
    assert resolve_wanted("boxes", ("tins", "boxes"), 0.3, has_boxes=False) == Wanted((1,), 0.3)
    with pytest.raises(TargetError, match=r"by itself, -1 \(all classes\), 'predicted' or 'boxes'\."):
        resolve_wanted("zebra", LABELS, 0.3, has_boxes=True)
    with pytest.raises(TargetError, match=r"by itself, -1 \(all classes\) or 'predicted'\."):
        resolve_wanted("zebra", LABELS, 0.3, has_boxes=False)


@pytest.mark.parametrize("target", [6, "6", -2, "-2", [0, 6], np.int64(99)])
def test_an_index_that_is_no_class(target: object):
    with pytest.raises(TargetError, match=r"no class of the model, which has 6\. Expected an index from 0 to 5"):
        resolve_targets(target, LABELS)


@pytest.mark.parametrize("target", ["hot dgo", ["cat", "hotdog"]])
def test_an_unknown_name_is_answered_with_close_ones(target: object):
    with pytest.raises(TargetError, match="Close names: 'hot_dog'"):
        resolve_targets(target, LABELS)


@pytest.mark.parametrize("target", ["zebra", 1.5, True, None, "½"])
def test_an_unknown_name_without_close_ones_is_answered_with_the_first(target: object):
    with pytest.raises(TargetError, match="The class names begin with: 'cat'"):
        resolve_targets([target], LABELS)


@pytest.mark.parametrize(
    ("indices", "threshold", "exclusive", "expected"),
    [
        ((2, 0), 0.3, True, (2, 0)),
        ((3, 2, 1, 0), 0.3, True, None),
        ((0, 1, 2, 3), 0.3, True, None),
        (None, 0.3, True, 3),
        (None, 1.0, True, 1),
        (None, 0.6, True, 1),
        (None, 0.2, True, None),
        (None, 0.0, True, None),
        (None, 0.6, False, None),
    ],
)
def test_the_share_of_the_graph(indices: tuple[int, ...] | None, threshold: float, exclusive: bool, expected: object):
    assert Wanted(indices, threshold).classes(4, exclusive=exclusive) == expected


SCORES = np.array([0.1, 0.6, 0.0, 0.3], np.float32)
ALL_MAPS = np.arange(4 * 6, dtype=np.float32).reshape(4, 2, 3) * np.array([[[1]], [[2]], [[3]], [[4]]])


def names(chosen: tuple) -> list[int]:
    return [prediction.target for prediction in chosen]


def test_choose_predicted_of_all_maps():
    maps = ALL_MAPS / ALL_MAPS.max() * 255
    predictions, targets, chosen = chosen_of(
        {"saliency_scores": SCORES, "saliency_map": maps}, "abcd", Wanted(None, 0.3), scaled=True
    )
    assert names(predictions) == names(targets) == [1, 3]
    assert [prediction.label for prediction in targets] == ["b", "d"]
    np.testing.assert_allclose(chosen, maps[[1, 3]] / 255)
    assert chosen.dtype == np.float32


def test_choose_given_of_all_maps():
    outputs = {"saliency_scores": SCORES, "saliency_map": ALL_MAPS}
    _, targets, chosen = chosen_of(outputs, "abcd", Wanted((3, 2, 1, 0), 0.3), scaled=False)
    assert names(targets) == [3, 2, 1, 0]
    assert [target.score for target in targets] == pytest.approx([0.3, 0.0, 0.6, 0.1])
    assert chosen.min(axis=(1, 2)).tolist() == [0] * 4
    assert chosen.max(axis=(1, 2)).tolist() == [1] * 4


def test_choose_given_of_given_maps():
    outputs = {"saliency_scores": SCORES, "saliency_map": ALL_MAPS[[3, 0]]}
    _, targets, chosen = chosen_of(outputs, "abcd", Wanted((3, 0), 0.3), scaled=True)
    assert names(targets) == [3, 0]
    np.testing.assert_allclose(chosen, ALL_MAPS[[3, 0]] / 255, rtol=1e-6)


def test_choose_predicted_of_the_best():
    outputs = {
        "saliency_scores": SCORES,
        "saliency_map": ALL_MAPS[[1, 3, 0]],
        "saliency_targets": np.array([1, 3, 0], np.int32),
    }
    predictions, targets, chosen = chosen_of(outputs, "abcd", Wanted(None, 0.3), scaled=True)
    assert names(predictions) == names(targets) == [1, 3]
    np.testing.assert_allclose(chosen, ALL_MAPS[[1, 3]] / 255, rtol=1e-6)


def test_equal_scores_of_which_the_graph_took_other_ones():
    outputs = {
        "saliency_scores": np.full(4, 0.25, np.float32),
        "saliency_map": ALL_MAPS[[2]],
        "saliency_targets": np.array([2], np.int32),
    }
    _, targets, chosen = chosen_of(outputs, "abcd", Wanted(None, 0.6), scaled=True)
    assert names(targets) == [2]
    assert len(chosen) == 1


def test_choose_the_map_of_the_image():
    outputs = {"saliency_scores": SCORES, "saliency_map": ALL_MAPS[1]}
    predictions, targets, chosen = chosen_of(outputs, "abcd", Wanted((0, 1), 0.3), scaled=False)
    assert names(predictions) == [1, 3]
    assert names(targets) == [-1]
    assert chosen.shape == (1, 2, 3)


def test_maps_of_targets_without_a_score_are_told_in_one_line():
    labels = [f"c{i}" for i in range(40)]
    outputs = {"saliency_scores": np.zeros(40, np.float32), "saliency_map": np.tile(ALL_MAPS[:1], (40, 1, 1))}
    outputs["saliency_scores"][[7, 8, 9]] = [1, 2e-6, 1e-7]
    assert choose(outputs, labels, Wanted((7, 8), 0.3), scaled=False).warnings == ()
    single = choose(outputs | {"saliency_map": ALL_MAPS[:2]}, labels, Wanted((7, 9), 0.3), scaled=False)
    assert single.warnings == (
        "class 'c9': the score of the target is 1e-07 in the image: the map explains next to nothing",
    )
    everything = choose(outputs, labels, Wanted(tuple(range(40)), 0.3), scaled=False)
    assert everything.warnings == (
        "class 'c0'; class 'c1'; class 'c2'; class 'c3'; class 'c4' and 33 more: the scores of the targets are at most "
        "1e-07 in the image: the maps explain next to nothing",
    )


def test_constant_maps_are_told_in_one_line():
    maps = ALL_MAPS * np.array([[[0]], [[1]], [[0]], [[1]]])
    outputs = {"saliency_scores": SCORES + np.float32(0.1), "saliency_map": maps}
    assert choose(outputs, "abcd", Wanted((2, 1, 0), 0.3), scaled=False).warnings == (
        "class 'c'; class 'a': the maps are constant, and say nothing about any place",
    )


def test_choose_nothing():
    outputs = {"saliency_scores": SCORES, "saliency_map": ALL_MAPS}
    _, targets, chosen = chosen_of(outputs, "abcd", Wanted((), 0.3), scaled=False)
    assert targets == ()
    assert chosen.shape == (0, 2, 3)


@pytest.mark.parametrize(("scores", "warned"), [([0.25] * 4, True), ([0.25, 0.25, 0.25, 0.2501], False)])
def test_a_model_that_scores_all_classes_alike_is_told(scores: list[float], warned: bool):
    outputs = {"saliency_scores": np.array(scores, np.float32), "saliency_map": ALL_MAPS}
    warnings = choose(outputs, "abcd", Wanted((1,), 0.3), scaled=False).warnings
    assert [text.startswith("all 4 classes have the same score, 0.25:") for text in warnings] == [True] * warned
