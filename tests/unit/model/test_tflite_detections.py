"""TensorFlow Lite's post-processing of detections: as a slow loop does it, and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_bytes import CELLS, CLASSES, SIDE, write_detector
from toy_boxes import GREEN, RED, picture

from otx_xai import Explainer
from otx_xai.errors import ModelError
from otx_xai.model.model_files import read_model
from otx_xai.openvino_core import core

Options = dict[str, bool | int | float]
PLACES = CELLS * CELLS


def anchors() -> np.ndarray:
    """Centre and size of each cell, y before x, in 0 to 1."""
    y, x = np.mgrid[:CELLS, :CELLS].reshape(2, -1)
    size = np.full(PLACES, 1 / CELLS)
    return np.stack([(y + 0.5) / CELLS, (x + 0.5) / CELLS, size, size], axis=1).astype(np.float32)


def random_heads(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"boxes": (4, 16, 16, 3), "boxes_bias": (4,), "classes": (4, 16, 16, 3), "classes_bias": (4,)}
    heads = {name: random.normal(0, 0.08, shape).astype(np.float32) for name, shape in shapes.items()}
    return {**heads, "boxes": heads["boxes"] * 5, "anchors": anchors()}


def colour_heads() -> dict[str, np.ndarray]:
    """Red and green cells score near 1; the box of a cell is its own, an eighth of a cell lower and twice as wide."""
    classes = np.zeros((1 + CLASSES, 16, 16, 3), np.float32)
    classes[1, ..., 0], classes[1, ..., 1:] = 1, -0.5
    classes[2, ..., 1], classes[2, ..., [0, 2]] = 1, -0.5
    return {
        "boxes": np.zeros((4, 16, 16, 3), np.float32),
        "boxes_bias": np.array([10 / 8, 0, 0, 5 * np.log(2)], np.float32),
        "classes": classes / 16,
        "classes_bias": np.full(1 + CLASSES, -8, np.float32),
        "anchors": anchors(),
    }


def slow_detections(heads: dict[str, np.ndarray], image: np.ndarray, options: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Box, class and score of each detection, by loops over rows as TensorFlow Lite's code has them."""
    boxes, scores = [], []
    for place in range(PLACES):
        y, x = (16 * part for part in divmod(place, CELLS))
        patch = image[0, y : y + 16, x : x + 16].astype(np.float64)
        dy, dx, dh, dw = ((heads["boxes"] * patch).sum((1, 2, 3)) + heads["boxes_bias"]) / np.array([10, 10, 5, 5])
        centre_y, centre_x, height, width = heads["anchors"][place].astype(np.float64)
        middle = (centre_y + dy * height, centre_x + dx * width)
        half = (np.exp(dh) * height / 2, np.exp(dw) * width / 2)
        boxes.append((middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]))
        scores.append(1 / (1 + np.exp(-(heads["classes"] * patch).sum((1, 2, 3)) - heads["classes_bias"])))
    ranked = [(scores[place][1:].max(), place, int(scores[place][1:].argmax())) for place in range(PLACES)]
    if not options.get("use_regular_nms"):
        left = suppressed(ranked, boxes, options, 16)
    else:
        classes = range(len(heads["classes"]) - 1)
        each = ([(scores[place][1 + label], place, label) for place in range(PLACES)] for label in classes)
        left = [row for rows in each for row in suppressed(rows, boxes, options, options["detections_per_class"])]
    best = sorted(left, reverse=True)[:16]
    return [(boxes[place], label, score) for score, place, label in best]


def suppressed(rows: list[Any], boxes: list[Any], options: dict[str, Any], most: int) -> list[Any]:
    kept: list[Any] = []
    for row in sorted(rows, reverse=True):
        alike = any(overlap(boxes[row[1]], boxes[other[1]]) > options["nms_iou_threshold"] for other in kept)
        if row[0] >= options["nms_score_threshold"] and not alike and len(kept) < most:
            kept.append(row)
    return kept


def overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    sides = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(shared / (sum(areas) - shared))


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("score", [0.2, 0.6])
def test_as_a_slow_loop_does_it(tmp_path: Path, regular: bool, score: float) -> None:
    options: Options = {"use_regular_nms": regular, "nms_score_threshold": score, "nms_iou_threshold": 0.15}
    options["detections_per_class"] = 5
    heads = random_heads(seed=3)
    model = read_model(write_detector(tmp_path / "ssd.tflite", heads, options))
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.random.default_rng(4).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    boxes, labels, scores, count = (np.asarray(array) for array in compiled(image).values())
    expected = slow_detections(heads, image, options)
    assert len({box for box, _, _ in expected}) > 1
    assert count.tolist() == [len(expected)]
    np.testing.assert_array_equal(labels[0], [label for _, label, _ in expected])
    np.testing.assert_allclose(boxes[0], [box for box, _, _ in expected], atol=1e-5)
    np.testing.assert_allclose(scores[0], [score for _, _, score in expected], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_detections": 0}, r"leaves 0 boxes at most \(max_detections\)"),
        ({"max_detections": -3}, r"leaves -3 boxes at most \(max_detections\)"),
        ({"use_regular_nms": True, "detections_per_class": 0}, r"leaves 0 boxes at most \(detections_per_class\)"),
        ({"use_regular_nms": True, "max_detections": 0}, r"leaves 0 boxes at most \(max_detections\)"),
    ],
)
def test_what_leaves_no_box_is_refused(tmp_path: Path, options: Options, words: str) -> None:
    """OpenVINO's compiler would divide by their number."""
    file = write_detector(tmp_path / "ssd.tflite", random_heads(seed=3), {"detections_per_class": 5} | options)
    with pytest.raises(ModelError, match=words):
        read_model(file)


@pytest.mark.parametrize("targets", ["predicted", "boxes"])
def test_explained_without_an_option(tmp_path: Path, targets: str) -> None:
    file = write_detector(tmp_path / "ssd.tflite", colour_heads(), {})
    explain = Explainer(file)
    explanation = explain(picture()[0].transpose(1, 2, 0).astype(np.uint8), targets=targets)
    assert explanation.targets == ([0, 1] if targets == "predicted" else ["box_0", "box_1"])
    assert [prediction.target for prediction in explanation.predictions] == [0, 1]
    for prediction, saliency, cell in zip(explanation.predictions, explanation.maps, (RED, GREEN), strict=True):
        left, top, right, bottom = cell
        assert prediction.score > 0.9
        np.testing.assert_allclose(prediction.box, [left - 8, top + 2, right + 8, bottom + 2], atol=1e-3)
        y, x = (
            (index + 0.5) * SIDE / size
            for index, size in zip(np.unravel_index(saliency.argmax(), saliency.shape), saliency.shape, strict=True)
        )
        assert left <= x <= right
        assert top <= y <= bottom


def test_several_classes_a_box_are_refused(tmp_path: Path) -> None:
    file = write_detector(tmp_path / "ssd.tflite", colour_heads(), {"max_classes_per_detection": 2})
    with pytest.raises(ModelError, match=r"several classes a box \(max_classes_per_detection 2\).*export.* with 1"):
        read_model(file)
