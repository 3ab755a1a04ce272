from __future__ import annotations

import numpy as np
import pytest
from doors import read_detections
from reference import fastestdet_boxes
from toy_boxes import labelled_arrays

from otx_xai.errors import ModelError
from otx_xai.postprocess.detections import (
    Detections,
    boxes_on_image,
    boxes_on_input,
    pasted_mask,
)
from otx_xai.postprocess.geometry import fit
from otx_xai.records import InputGeometry, ResizeType

PLAIN = InputGeometry((100, 200))


@pytest.mark.parametrize("resize_type", ResizeType)
@pytest.mark.parametrize("image_size", [(120, 300), (310, 140)])
def test_boxes_land_where_the_network_saw_them(resize_type: ResizeType, image_size: tuple[int, int]) -> None:
    """A white rectangle is fitted into the input, found there by its pixels, and mapped back."""
    geometry = InputGeometry((160, 224), resize_type)
    height, width = image_size
    box = np.array([0.4 * width, 0.45 * height, 0.62 * width, 0.58 * height]).round()
    image = np.zeros((height, width, 3), np.uint8)
    image[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
    rows, columns = np.nonzero(fit(image, geometry)[:, :, 0] > 127)
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.8]], np.float32)
    found = read_detections({"boxes": seen[None], "labels": np.array([[4]])}, image_size, geometry)
    scale = max(height / 160, width / 224, 1)
    np.testing.assert_allclose(found.boxes[0], box, atol=1.01 * scale)
    assert found.labels.tolist() == [4]


@pytest.mark.parametrize("resize_type", ResizeType)
def test_mapping_onto_the_input_is_the_inverse(resize_type: ResizeType) -> None:
    geometry = InputGeometry((64, 96), resize_type)
    boxes = np.random.default_rng(0).uniform(0, 60, (20, 4)).astype(np.float32)
    there = boxes_on_input(boxes_on_image(boxes, (50, 131), geometry), (50, 131), geometry)
    np.testing.assert_allclose(there, boxes, atol=1e-3)


def test_boxes_and_labels_best_first() -> None:
    found = read_detections(labelled_arrays(), (200, 400), PLAIN, threshold=0.5)
    np.testing.assert_allclose(found.boxes, [[100, 120, 140, 160], [20, 40, 60, 80]])
    assert found.labels.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.6])
    assert (found.boxes.dtype, found.labels.dtype, found.scores.dtype) == (np.float32, np.int64, np.float32)
    assert found.masks is None
    assert len(found) == 2


def test_names_do_not_matter() -> None:
    named = labelled_arrays()
    renamed = {"labels": named["boxes"], "boxes": named["labels"], "saliency_map": np.zeros((1, 3, 4, 4), np.float32)}
    assert read_detections(renamed, (100, 200), PLAIN).labels.tolist() == [0, 2]


def test_no_batch_and_scores_of_their_own() -> None:
    boxes = labelled_arrays()["boxes"][0]
    given = {"boxes": boxes[:, :4], "scores": boxes[:, 4], "labels": np.array([2, 0, 1], np.int32)}
    found = read_detections(given, (100, 200), PLAIN, threshold=0.1)
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.2])
    assert found.labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize("count", [1, 4, 5])
def test_as_many_boxes_as_columns(count: int) -> None:
    boxes = np.tile(np.array([[10, 20, 30, 40]], np.float32), (count, 1)) + np.arange(count, dtype=np.float32)[:, None]
    scores = np.linspace(0.9, 0.6, count, dtype=np.float32)
    given = {"a": scores[None], "b": boxes[None], "c": np.arange(count)[None]}
    found = read_detections(given, (100, 200), PLAIN)
    np.testing.assert_allclose(found.boxes, boxes)
    np.testing.assert_allclose(found.scores, scores)


def test_nothing_is_found() -> None:
    found = read_detections(labelled_arrays(), (100, 200), PLAIN, threshold=0.95)
    assert found.boxes.shape == (0, 4)
    empty = {"boxes": np.zeros((1, 0, 5), np.float32), "labels": np.zeros((1, 0), np.int64)}
    assert len(read_detections(empty, (100, 200), PLAIN)) == 0


def test_first_label_means_nothing() -> None:
    found = read_detections(labelled_arrays(), (100, 200), PLAIN, threshold=0.1, first_label=1)
    assert found.labels.tolist() == [1, 0]


def test_boxes_are_clipped_and_padding_is_dropped() -> None:
    geometry = InputGeometry((100, 200), ResizeType.FIT_TO_WINDOW)
    boxes = np.array([[[-10, -5, 30, 120, 0.9], [150, 10, 190, 40, 0.8]]], np.float32)
    found = read_detections({"boxes": boxes, "labels": np.array([[0, 1]])}, (100, 100), geometry)
    np.testing.assert_allclose(found.boxes, [[0, 0, 30, 100]])


def test_detection_output() -> None:
    rows = np.zeros((1, 1, 4, 7), np.float32)
    rows[0, 0, 0] = [0, 3, 0.7, 0.1, 0.2, 0.5, 0.6]
    rows[0, 0, 1] = [-1, 0, 0, 0, 0, 0, 0]
    rows[0, 0, 2] = [0, 1, 0.9, 0, 0, 1, 1]
    found = read_detections({"detection_out": rows}, (100, 200), PLAIN)
    np.testing.assert_allclose(found.boxes, [[20, 20, 100, 60]])
    assert found.labels.tolist() == [3]


def test_fastestdet_as_its_authors_decode_it() -> None:
    """Against the authors' loop: place by place."""
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(8, 5, 7)).astype(np.float32)
    raw[0] = rng.uniform(size=(5, 7))
    raw[5:] = rng.dirichlet(np.ones(3), (5, 7)).transpose(2, 0, 1)
    expected = fastestdet_boxes(raw, (300, 400), threshold=0.4)
    geometry = InputGeometry((160, 224))
    found = read_detections({"758": raw[None]}, (300, 400), geometry, num_classes=3, threshold=0.4, iou_threshold=1.0)
    np.testing.assert_allclose(found.scores, [item[0] for item in expected], rtol=1e-5)
    assert found.labels.tolist() == [item[1] for item in expected]
    np.testing.assert_allclose(found.boxes, [item[2] for item in expected], rtol=1e-4, atol=1e-3)


def test_maps_of_something_else_are_no_raw_outputs() -> None:
    """Logits, features and a soft-max over all channels have the shape [1,5+K,h,w], too."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(1, 21, 8, 8)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for output, reason in (
        (logits, "objectness is from -"),
        (np.abs(logits) * 3, "objectness is from .* expected 0 to 1"),
        (softmax, "class scores add up to 0.*expected 1, by a soft-max over the last 16 channels"),
        (logits.reshape(1, 21, 64), "class scores is from -"),
    ):
        classes = 17 if output.ndim == 3 else 16
        with pytest.raises(ModelError, match=rf"{reason}.*postprocess_fn"):
            read_detections({"o": output}, (100, 200), PLAIN, num_classes=classes)


def test_yolo_with_and_without_objectness() -> None:
    rng = np.random.default_rng(2)
    boxes, classes, obj = rng.uniform(20, 60, (30, 4)), rng.uniform(size=(30, 3)), rng.uniform(size=(30, 1))
    boxes, classes, obj = (value.astype(np.float32) for value in (boxes, classes, obj))
    newer = read_detections({"o": np.concatenate([boxes, obj * classes], 1).T[None]}, (100, 200), PLAIN, num_classes=3)
    product = np.concatenate([boxes, obj, classes], 1)[None]
    older = read_detections({"o": product}, (100, 200), PLAIN, num_classes=3)
    np.testing.assert_allclose(older.boxes, newer.boxes, rtol=1e-5)
    np.testing.assert_allclose(older.scores, newer.scores, rtol=1e-5)
    assert newer.labels.tolist() == older.labels.tolist()


def test_masks_inside_boxes() -> None:
    masks = np.zeros((1, 3, 28, 28), np.float32)
    masks[0, 1, :, :14] = 1  # the left half of the second box
    found = read_detections({**labelled_arrays(), "masks": masks}, (200, 400), PLAIN)
    assert found.masks_fill_boxes
    pasted = pasted_mask(found, 0, (200, 400), PLAIN)
    assert pasted.shape == (200, 400)
    rows, columns = np.nonzero(pasted > 0.5)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (100, 120, 120, 160)


@pytest.mark.parametrize("resize_type", ResizeType)
def test_masks_over_the_input(resize_type: ResizeType) -> None:
    geometry = InputGeometry((160, 224), resize_type)
    image = np.zeros((120, 300, 3), np.uint8)
    image[40:80, 110:180] = 255
    mask = fit(image, geometry)[None, None, :, :, 0].astype(np.float32) / 255
    given = {"boxes": np.array([[[1, 1, 150, 150, 0.9]]], np.float32), "labels": np.array([[0]]), "masks": mask}
    found = read_detections(given, (120, 300), geometry)
    assert not found.masks_fill_boxes
    rows, columns = np.nonzero(pasted_mask(found, 0, (120, 300), geometry) > 0.5)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [110, 40, 180, 80], atol=2
    )


def test_no_masks_to_paste() -> None:
    found = Detections(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="have no masks"):
        pasted_mask(found, 0, (10, 10), PLAIN)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": np.zeros((1, 85, 9), np.float32)}, "may be read in [0-9] ways"),
        ({"a": np.zeros((1, 9, 4), np.float32), "b": np.zeros((1, 9), np.int64)}, "are of no known format"),
        ({"a": np.zeros(9, np.float32), "b": np.zeros(9, np.float32)}, "are of no known format"),
    ],
)
def test_unknown_outputs(given: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(ModelError, match=rf"{told}: a \[.*--format"):
        read_detections(given, (100, 200), PLAIN)
