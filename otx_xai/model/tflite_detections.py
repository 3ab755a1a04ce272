"""TensorFlow Lite's own post-processing of detections, which OpenVINO does not read, written as operations that it has.

SSD and EfficientDet end in the custom operation ``TFLite_Detection_PostProcess`` (`detection_postprocess.cc` of
TensorFlow Lite): offsets from anchors become boxes (Liu et al., SSD, ECCV 2016), of which non-maximum suppression
leaves some.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from openvino.frontend import ConversionExtension, NodeContext

from otx_xai.errors import ModelError
from otx_xai.openvino_core import core

OPERATION = "TFLite_Detection_PostProcess"
OPTIONS = (
    *("max_detections", "max_classes_per_detection", "detections_per_class", "num_classes", "use_regular_nms"),
    *("nms_iou_threshold", "nms_score_threshold", "y_scale", "x_scale", "h_scale", "w_scale"),
)
"""What is read of its options, all of them numbers."""
_PER_CLASS = 100
"""Boxes of a class that its slower suppression leaves, where the file does not say."""


@cache
def read_detections_of_tflite() -> None:
    """Let the process's Core read the operation; further calls do nothing."""
    core().add_extension(ConversionExtension(OPERATION, _converted))


def _converted(node: NodeContext) -> list[ov.Output]:
    """Return boxes ``(1, N, 4)`` as y1, x1, y2, x2, classes and scores ``(1, N)``, and their number ``(1,)``.

    Rows are those that suppression leaves, best first, without the zeros that TensorFlow Lite appends.
    """
    if node.get_input_size() != 3:
        raise ModelError(f"{OPERATION} has {node.get_input_size()} inputs; expected boxes, scores and anchors.")
    if _told(node, "max_classes_per_detection", 1) != 1:
        raise ModelError(
            f"{OPERATION} gives several classes a box (max_classes_per_detection "
            f"{_told(node, 'max_classes_per_detection', 1)}), which is not read; export the model with 1."
        )
    offsets, scores, anchors = (_real(node.get_input(index)) for index in range(3))
    boxes = _boxes(node, offsets, anchors)
    background = int(scores.get_partial_shape()[2].get_length()) - int(_told(node, "num_classes", 0))
    known = ops.slice(scores, _list(background), _list(2**31 - 1), _list(1), _list(2)).output(0)
    select = _of_every_class if _told(node, "use_regular_nms", False) else _of_best_classes
    rows, labels, kept = select(node, boxes, known)
    count = ops.convert(ops.shape_of(rows, output_type="i32"), "f32")
    chosen = ops.gather(boxes, rows, np.int64(1))
    return [output.output(0) for output in (chosen, ops.convert(labels, "f32"), kept, count)]


def _boxes(node: NodeContext, offsets: ov.Output, anchors: ov.Output) -> ov.Output:
    """Return ``(1, A, 4)`` as y1, x1, y2, x2 from offsets and anchors: centres and sizes, y before x."""
    scales = np.array([_told(node, f"{side}_scale", 1.0) for side in "yxhw"], np.float32)
    numbers = ops.divide(offsets, scales)
    centres, sizes = _half(anchors, 0, 1), _half(anchors, 2, 1)
    middle = ops.add(ops.multiply(_half(numbers.output(0), 0, 2), sizes), centres)
    half = ops.multiply(ops.multiply(ops.exp(_half(numbers.output(0), 2, 2)), sizes), np.float32(0.5))
    return ops.concat([ops.subtract(middle, half), ops.add(middle, half)], 2).output(0)


def _of_best_classes(node: NodeContext, boxes: ov.Output, scores: ov.Output) -> tuple[ov.Node, ov.Node, ov.Node]:
    """Suppress boxes whatever their classes are: of each only its best class counts."""
    best = ops.reduce_max(scores, np.array([2]), keep_dims=False)
    labels = ops.squeeze(ops.topk(scores, np.int64(1), 2, "max", "value").output(1), np.array([2]))
    rows = _column(_suppressed(node, boxes, ops.unsqueeze(best, np.array([1])), "max_detections"), 2)
    return rows, ops.gather(labels, rows, np.int64(1)), ops.gather(best, rows, np.int64(1))


def _of_every_class(node: NodeContext, boxes: ov.Output, scores: ov.Output) -> tuple[ov.Node, ov.Node, ov.Node]:
    """Suppress boxes class by class, and keep the best ones of all."""
    turned = ops.transpose(scores, np.array([0, 2, 1]))
    left = _suppressed(node, boxes, turned, "detections_per_class", _PER_CLASS)
    first = ops.slice(left, _list(0), _list(_most(node, "max_detections")), _list(1), _list(0))
    rows, labels = _column(first, 2), _column(first, 1)
    classes = np.int64(scores.get_partial_shape()[2].get_length())
    flat = ops.reshape(scores, np.array([1, -1]), False)
    kept = ops.gather(flat, ops.add(ops.multiply(rows, classes), labels), np.int64(1))
    return rows, ops.unsqueeze(labels, np.array([0])), kept


def _suppressed(node: NodeContext, boxes: ov.Output, scores: ov.Node, most: str, usual: int = 0) -> ov.Node:
    """Return image, class and row of the boxes that are left, ``(N, 3)``, best first."""
    suppression = ops.non_max_suppression(
        boxes,
        scores,
        np.int64(_most(node, most, usual)),
        np.float32(_told(node, "nms_iou_threshold", 0.5)),
        np.float32(_told(node, "nms_score_threshold", 0.0)),
        box_encoding="corner",
        sort_result_descending=True,
    )
    return ops.convert(suppression.output(0), "i64")


def _most(node: NodeContext, name: str, usual: int = 0) -> int:
    """Return how many boxes are left at most; over none, OpenVINO's compiler ends the process."""
    most = int(_told(node, name, usual))
    if most < 1:
        raise ModelError(f"{OPERATION} leaves {most} boxes at most ({name}); expected 1 or more.")
    return most


def _told(node: NodeContext, name: str, usual: float) -> Any:
    """Return what the file says by a name, else what is usual."""
    return node.get_attribute(name) if node.has_attribute(name) else usual


def _real(output: ov.Output) -> ov.Output:
    return ops.convert(output, "f32").output(0) if not output.get_element_type().is_real() else output


def _half(output: ov.Output, begin: int, axis: int) -> ov.Output:
    """Return two of four columns. Of a slice of 8-bit anchors the CPU plugin would make zeros."""
    return ops.gather(output, np.array([begin, begin + 1]), np.int64(axis)).output(0)


def _column(numbers: ov.Node, index: int) -> ov.Node:
    return ops.gather(numbers, np.int64(index), np.int64(1))


def _list(value: int) -> np.ndarray[Any, Any]:
    return np.array([value], np.int64)
