"""Proposals of every convention of outputs agree with what detections make of them."""

from __future__ import annotations

import numpy as np
from doors import read_detections, read_proposals

from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import InputGeometry

SIZE = (40, 60)
RANDOM = np.random.default_rng(0)


def raw(shape: tuple[int, ...]) -> np.ndarray:
    """An output whose boxes lie inside, with scores in [0, 1]."""
    output = RANDOM.uniform(0.02, 0.98, shape).astype(np.float32)
    if output.ndim == 3:
        boxes = output[:, :4] if shape[1] < shape[2] else output[:, :, :4].transpose(0, 2, 1)
        boxes[:, :2], boxes[:, 2:] = boxes[:, :2] * 10 + 20, boxes[:, 2:] * 10 + 3
    else:
        output[:, 5:] /= output[:, 5:].sum(axis=1, keepdims=True)  # a soft-max
    return output


def test_raw_outputs_give_the_boxes_and_classes_of_detections() -> None:
    for output, objectness in (
        (raw((1, 5 + 3, 2, 3)), True),
        (raw((1, 4 + 3, 12)), False),
        (raw((1, 12, 5 + 3)), True),
    ):
        outputs = {"output0": output}
        found = read_proposals(outputs, SIZE, 3, threshold=0.3)
        best = read_detections(outputs, SIZE, InputGeometry(SIZE), num_classes=3, threshold=0.05, iou_threshold=1)
        assert 0 < len(found) < 12
        assert (found.objectness >= 0.3).all()
        alike = overlaps(found.boxes, best.boxes) > 0.6  # detections are clipped
        same = found.classes.argmax(axis=1)[:, None] == best.labels
        assert (alike & same).any(axis=1).all()
        if not objectness:
            np.testing.assert_array_equal(found.objectness, found.classes.max(axis=1))


def test_labelled_boxes_have_one_class() -> None:
    outputs = {
        "boxes": np.array([[[1, 2, 11, 12, 0.9], [5, 5, 20, 20, 0.04], [8, 8, 30, 30, 0.5]]], np.float32),
        "labels": np.array([[2, 0, 1]]),
        "saliency_map": np.zeros((1, 3, 4, 4), np.float32),
    }
    found = read_proposals(outputs, SIZE, 3)
    np.testing.assert_array_equal(found.boxes, [[1, 2, 11, 12], [8, 8, 30, 30]])
    np.testing.assert_array_equal(found.classes, [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(found.objectness, [0.9, 0.5])
