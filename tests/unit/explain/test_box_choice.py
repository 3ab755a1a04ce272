from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai import Engine
from otx_xai.errors import ImageError, LabelError, ModelError
from otx_xai.explain import Explainer
from otx_xai.explain.box_choice import choose_boxes, find_boxes
from otx_xai.explain.explanation import map_keys
from otx_xai.explain.targets import Wanted
from otx_xai.model.formats.box_format import Found, Match
from otx_xai.model.formats.labelled import FORMAT as LABELLED
from otx_xai.records import Detections, ExplainConfig, InputGeometry, ModelFacts, ResizeType, Task

LABELS = ("cat", "dog", "cow")
FORMAT = Found(LABELLED, Match("", {"boxes": "boxes", "labels": "labels"}))
INFO = ModelFacts(Task.DETECTION, LABELS, InputGeometry((100, 200)))
MAPS = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4) * 10


def outputs(rows: list[list[float]], labels: list[int]) -> dict[str, np.ndarray]:
    boxes = np.array(rows, np.float32).reshape(1, -1, 5)
    return {"boxes": boxes, "labels": np.array([labels], np.int64), "saliency_map": MAPS}


def detections(labels: list[int], scores: list[float]) -> Detections:
    boxes = np.tile(np.float32([[0, 0, 10, 20]]), (len(labels), 1))
    return Detections(boxes, np.array(labels, np.int64), np.array(scores, np.float32))


def test_boxes_land_on_the_image_whatever_the_resize() -> None:
    found = find_boxes(outputs([[20, 10, 60, 50, 0.9]], [1]), (50, 50), INFO, FORMAT)
    np.testing.assert_allclose(found.boxes, [[5, 5, 15, 25]], atol=1e-4)
    letterbox = replace(INFO, geometry=InputGeometry((100, 200), ResizeType.FIT_TO_WINDOW_LETTERBOX))
    found = find_boxes(outputs([[70, 10, 90, 50, 0.9]], [1]), (50, 50), letterbox, FORMAT)
    np.testing.assert_allclose(found.boxes, [[10, 5, 20, 25]], atol=1e-4)


def test_the_threshold_of_the_model_counts() -> None:
    given = outputs([[20, 10, 60, 50, 0.6], [20, 10, 60, 50, 0.4]], [1, 2])
    assert find_boxes(given, (100, 200), INFO, FORMAT).labels.tolist() == [1]
    assert find_boxes(given, (100, 200), replace(INFO, confidence_threshold=0.3), FORMAT).labels.tolist() == [1, 2]


def test_labels_beyond_the_classes_are_told() -> None:
    with pytest.raises(LabelError, match=r"box of label 3, and there are 3 classes.*--labels"):
        find_boxes(outputs([[20, 10, 60, 50, 0.6]], [3]), (100, 200), INFO, FORMAT)
    assert find_boxes(
        outputs([[20, 10, 60, 50, 0.6]], [3]), (100, 200), replace(INFO, first_label=1), FORMAT
    ).labels == [2]


def test_boxes_that_are_not_finite_fail_the_image() -> None:
    with pytest.raises(ImageError, match="boxes and scores are NaN"):
        find_boxes(outputs([[20, np.nan, 60, 50, 0.6]], [1]), (100, 200), INFO, FORMAT)


def test_predicted_classes_are_those_of_the_boxes() -> None:
    found = detections([2, 0, 2, 1], [0.9, 0.8, 0.7, 0.5])
    choice = choose_boxes({"saliency_map": MAPS}, found, LABELS, Wanted(None, 0.6), scaled=True)
    assert [(p.label, round(p.score, 2)) for p in choice.predictions] == [
        ("cow", 0.9),
        ("cat", 0.8),
        ("cow", 0.7),
        ("dog", 0.5),
    ]
    assert choice.predictions[0].box == (0, 0, 10, 20)
    assert [(target.label, round(target.score, 2)) for target in choice.targets] == [("cow", 0.9), ("cat", 0.8)]
    np.testing.assert_array_equal(choice.maps, MAPS[0, [2, 0]] / np.float32(255))
    best = choose_boxes({"saliency_map": MAPS}, found, LABELS, Wanted(None, 0.95), scaled=True)
    assert [target.target for target in best.targets] == [2]


def test_an_image_without_boxes_has_no_targets() -> None:
    choice = choose_boxes({"saliency_map": MAPS}, detections([], []), LABELS, Wanted(None, 0.3), scaled=False)
    assert (choice.predictions, choice.targets, choice.maps.shape) == ((), (), (0, 2, 4))


@pytest.mark.parametrize("given", ["all", "wanted"])
def test_wanted_classes_without_a_box_have_score_zero(given: str) -> None:
    maps = MAPS if given == "all" else MAPS[:, [1, 0]]
    choice = choose_boxes({"saliency_map": maps}, detections([0], [0.9]), LABELS, Wanted((1, 0), 0.3), scaled=True)
    assert [(target.label, round(target.score, 2)) for target in choice.targets] == [("dog", 0.0), ("cat", 0.9)]
    np.testing.assert_array_equal(choice.maps, MAPS[0, [1, 0]] / np.float32(255))


@pytest.mark.parametrize(
    ("indices", "warnings"),
    [
        ((0,), ()),
        (
            (1, 0),
            ("class 'dog': no box of the class reaches the confidence threshold: the map explains next to nothing",),
        ),
        (
            (0, 1, 2),
            (
                "class 'dog'; class 'cow': no box of these classes reaches the confidence threshold: "
                "the maps explain next to nothing",
            ),
        ),
    ],
)
def test_a_bright_map_of_a_class_without_a_box_is_no_silent_picture(
    indices: tuple[int, ...], warnings: tuple[str, ...]
) -> None:
    found = detections([0], [0.9])
    choice = choose_boxes({"saliency_map": MAPS}, found, LABELS, Wanted(indices, 0.3), scaled=False)
    assert choice.maps.max(axis=(1, 2)).tolist() == [1] * len(indices)
    assert choice.warnings == warnings
    whole = choose_boxes({"saliency_map": MAPS[:, 0]}, found, LABELS, Wanted(indices, 0.3), scaled=False)
    assert whole.warnings == ()


def test_all_classes_in_another_order() -> None:
    choice = choose_boxes({"saliency_map": MAPS}, detections([0], [0.9]), LABELS, Wanted((2, 1, 0), 0.3), scaled=True)
    np.testing.assert_array_equal(choice.maps, MAPS[0, [2, 1, 0]] / np.float32(255))


def test_maps_of_an_unused_first_label_are_left_out() -> None:
    maps = np.concatenate([np.zeros_like(MAPS[:, :1]), MAPS], axis=1)
    choice = choose_boxes(
        {"saliency_map": maps}, detections([1], [0.9]), LABELS, Wanted(None, 0.3), first_label=1, scaled=True
    )
    np.testing.assert_array_equal(choice.maps, MAPS[0, [1]] / np.float32(255))


def test_one_map_an_image() -> None:
    choice = choose_boxes({"saliency_map": MAPS[:, 0]}, detections([1], [0.9]), LABELS, Wanted(None, 0.3), scaled=False)
    assert [target.target for target in choice.targets] == [-1]
    assert (choice.maps.shape, choice.maps.min(), choice.maps.max()) == ((1, 2, 4), 0, 1)


def test_maps_of_another_shape_are_told() -> None:
    with pytest.raises(ModelError, match=r"saliency_map is \[3, 2, 4\] for one image"):
        choose_boxes({"saliency_map": MAPS[0]}, detections([1], [0.9]), LABELS, Wanted(None, 0.3), scaled=False)


def constant_detector(rows: list[list[float]]) -> ov.Model:
    """Find the same boxes in every image: a cat, and for the rest dogs."""
    image = ops.parameter([1, 3, 32, 32], np.float32)
    image.set_layout(ov.Layout("NCHW"))
    zero = ops.multiply(ops.reduce_sum(image, np.array([0, 1, 2, 3])), ops.constant(np.float32(0)))
    boxes, found = ops.add(ops.constant(np.float32([rows])), zero), ops.constant(np.array([[0, 1, 1]], np.int64))
    boxes.output(0).get_tensor().set_names({"boxes"})
    return ov.Model([ops.result(boxes), ops.result(found)], [image])


@pytest.mark.parametrize("equal", [False, True])
def test_boxes_of_a_chosen_class_keep_their_numbers(equal: bool) -> None:
    """In the keys of maps and in warnings: of the boxes of three, the second and the third are dogs."""
    model = constant_detector([[2, 2, 20, 20, 0.9], [4, 8, 24, 30, 0.8], [4, 8, 24, 30, 0.8 if equal else 0.7]])
    explainer = Explainer(model, explain_method="drise", labels=LABELS)
    explanation = explainer(np.full((32, 32, 3), 128, np.uint8), targets="dog", num_masks=8)
    second, third = explanation.predictions[1:]
    assert (second == replace(third, number=1)) is equal
    assert explanation.targets == ["box_1", "box_2"]
    assert [text.partition(":")[0] for text in explanation.warnings] == ["class 'dog', box 1", "class 'dog', box 2"]


@pytest.mark.parametrize(("targets", "numbers"), [("boxes", [0, 1, 2]), ("predicted", [0])])
def test_a_black_box_explains_every_box_that_is_listed(targets: str, numbers: list[int], tmp_path: Path) -> None:
    ov.save_model(
        constant_detector([[2, 2, 20, 20, 0.9], [4, 8, 24, 30, 0.26], [4, 8, 24, 30, 0.25]]), tmp_path / "m.xml"
    )
    cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 32, 3), 128, np.uint8))
    run = Engine(work_dir=tmp_path / "out").explain(
        tmp_path / "m.xml",
        data_root=tmp_path / "a.png",
        labels=LABELS,
        explain_method="drise",
        num_masks=8,
        targets=targets,
        explain_config=ExplainConfig(confidence_threshold=0.25),
    )
    (explanation,) = run.explanations
    assert len(explanation.predictions) == 3
    assert explanation.targets == [f"box_{number}" for number in numbers]


def test_every_box_that_is_listed_has_a_map() -> None:
    """The threshold of predicted classes, 0.3 by default, has no say in it."""
    found = detections([2, 0, 2], [0.9, 0.26, 0.25])
    wanted = Wanted(None, 0.3, per_box=True)
    choice = choose_boxes({"saliency_map": MAPS}, found, LABELS, wanted, placed=((2, 4), INFO.geometry), scaled=True)
    assert choice.targets == choice.predictions
    assert [target.number for target in choice.targets] == [0, 1, 2]
    assert len(choice.maps) == 3


def test_keys_of_maps() -> None:
    found = detections([2, 0], [0.9, 0.8])
    per_box = choose_boxes(
        {"saliency_map": MAPS},
        found,
        LABELS,
        Wanted(None, 0.3, per_box=True),
        placed=((2, 4), INFO.geometry),
        scaled=True,
    )
    assert map_keys(per_box.targets) == ["box_0", "box_1"]
    by_class = choose_boxes({"saliency_map": MAPS}, found, LABELS, Wanted((1, 2), 0.3), scaled=True)
    assert map_keys(by_class.targets) == [1, 2]
    whole = choose_boxes({"saliency_map": MAPS[:, 0]}, found, LABELS, Wanted(None, 0.3), scaled=True)
    assert map_keys(whole.targets) == ["per_image_map"]
