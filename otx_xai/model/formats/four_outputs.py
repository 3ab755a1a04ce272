"""Number of boxes, boxes, scores and classes in four outputs, as TensorRT, TFLite and TensorFlow give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from otx_xai.graph.class_indices import count_of_classes
from otx_xai.graph.columns import Piece, origin_of
from otx_xai.graph.spans import span_of
from otx_xai.graph.view import constant_value, kind
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match, OutputPort
from otx_xai.postprocess.box_coding import CORNERS, BoxCoding, decoded
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size

_YXYX_SHARES = BoxCoding("yxyx", shares=True)
_LITTLE = 2.0
"""Shares of the image are below, pixels above."""

_COUNTS = ("num", "count")
_CLASSES = ("class", "label")
_SCORES = ("score", "conf", "prob")
_TFLITE = ("tflite_detection_postprocess", "statefulpartitionedcall")
_TFLITE_ORDERS = (
    {":0": "boxes", ":1": "labels", ":2": "scores", ":3": "count"},
    {":3": "boxes", ":2": "labels", ":1": "scores", ":0": "count"},
)
"""What the numbers in the names of TFLite's outputs mean: of its own post-processing, and of TensorFlow 2."""


@dataclass(frozen=True)
class Counted:
    """Outputs of the same detections.

    Args:
        count: their number, one element.
        boxes: ``(1, N, 4)``.
        rest: two outputs ``(1, N)``: scores and classes, in any order.
    """

    count: OutputPort
    boxes: OutputPort
    rest: tuple[OutputPort, OutputPort]


def find_counted(ports: Sequence[OutputPort]) -> Counted | None:
    """Return the outputs of counted boxes; ``None`` where they are others."""
    boxes = [port for port in ports if not port.is_integer and port.may_have((1, None, 4))]
    if len(boxes) > 1:
        boxes = [port for port in boxes if port.is_called("box") and not port.is_called("raw")]
    if len(boxes) != 1:
        return None
    single = [port for port in ports if _is_single(port)]
    if len(single) > 1:
        single = [port for port in single if port.is_called(*_COUNTS)]
    rest = [port for port in ports if port not in single and port.may_have(boxes[0].shape[:2])]
    if len(rest) > 2:
        rest = [port for port in rest if port.is_called(*_CLASSES, *_SCORES)]
    if len(single) != 1 or len(rest) != 2 or all(port.is_integer for port in rest):
        return None
    return Counted(single[0], boxes[0], (rest[0], rest[1]))


def _is_single(port: OutputPort) -> bool:
    """Whether an output may hold a number an image."""
    known = [size for size in port.shape if size is not None]
    named = port.is_called(*_COUNTS)
    return len(port.shape) <= 2 and prod(known) == 1 and (named or None not in port.shape[1:])


# --- which is which ---------------------------------------------------------------------------------------------------


def _match(outputs: DetectorOutputs, coding: BoxCoding) -> Match | None:
    counted = find_counted(outputs.ports)
    if counted is None:
        return None
    pair = _scores_and_classes(outputs, counted)
    if pair is None:
        return None
    scores, classes = pair
    told = _coding(outputs, counted, classes)
    if told not in (None, coding):
        return None
    origin = origin_of(outputs.view, outputs.output(classes))
    what = "corners in pixels" if coding == CORNERS else "corners from 0 to 1, y first"
    return Match(
        f"{counted.count} counts the boxes of {counted.boxes}: {what}, with the scores {scores} and classes {classes}",
        {"count": counted.count.name, "boxes": counted.boxes.name, "scores": scores.name, "labels": classes.name},
        num_classes=_classes(origin),
        first_label=_first(outputs, origin),
        details={"coding": coding},
        sure=told is not None,
    )


def _scores_and_classes(outputs: DetectorOutputs, counted: Counted) -> tuple[OutputPort, OutputPort] | None:
    """Tell scores from classes by the graph, else by their names."""
    first, second = counted.rest
    indices = [origin_of(outputs.view, outputs.output(port)).is_index for port in counted.rest]
    if indices[0] != indices[1]:
        return (second, first) if indices[0] else (first, second)
    if first.is_called(*_CLASSES) != second.is_called(*_CLASSES):
        return (second, first) if first.is_called(*_CLASSES) else (first, second)
    if first.is_called(*_SCORES) != second.is_called(*_SCORES):
        return (first, second) if first.is_called(*_SCORES) else (second, first)
    return _by_number(counted)


def _by_number(counted: Counted) -> tuple[OutputPort, OutputPort] | None:
    """Tell scores from classes by the numbers that TFLite gives its outputs, which their shapes must agree with."""
    first, second = counted.rest
    if not all(port.is_called(*_TFLITE) for port in (counted.count, counted.boxes, first, second)):
        return None
    for order in _TFLITE_ORDERS:
        if (_role(counted.boxes, order), _role(counted.count, order)) != ("boxes", "count"):
            continue
        roles = {_role(port, order): port for port in counted.rest}
        if {"scores", "labels"} <= roles.keys():
            return roles["scores"], roles["labels"]
    return None


def _role(port: OutputPort, order: dict[str, str]) -> str:
    """Return what the number at the end of a name means; no number is the first."""
    ends = {name[-2:] if name[-2:-1] == ":" else ":0" for name in port.names}
    return next((order[end] for end in sorted(ends) if end in order), "")


def _coding(outputs: DetectorOutputs, counted: Counted, classes: OutputPort) -> BoxCoding | None:
    """Tell how boxes are written by the numbers that they are computed with, else by names and types."""
    origin = origin_of(outputs.view, outputs.output(counted.boxes))
    least, most = span_of(outputs.view, origin)
    if max(abs(least), abs(most)) > _LITTLE:
        return CORNERS
    if any(port.is_called(*_TFLITE) for port in (counted.boxes, counted.count)):
        return _YXYX_SHARES
    if classes.is_integer and counted.count.is_integer:
        return CORNERS
    if counted.boxes.is_called("detection_boxes"):
        return _YXYX_SHARES
    return None


def _classes(origin: Piece) -> int | None:
    """Return how many classes their indices are among, as far as the graph tells."""
    if not origin.is_index:
        return None
    rounded = next((node.output(0) for node in origin.passed if kind(node) in ("Mod", "FloorMod")), origin.leaf)
    return count_of_classes(rounded)


def _first(outputs: DetectorOutputs, origin: Piece) -> int:
    """Return 1 where the graph adds 1 to the indices of classes."""
    for node in origin.passed:
        if kind(node) == "Add":
            values = [constant_value(value) for value in node.input_values() if not outputs.view.is_data(value)]
            return int(any(value is not None and value.size == 1 and value.reshape(-1)[0] == 1 for value in values))
    return 0


# --- reading ----------------------------------------------------------------------------------------------------------


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    boxes = np.asarray(outputs[match.roles["boxes"]], np.float32).reshape(-1, 4)
    count = int(np.asarray(outputs[match.roles["count"]]).reshape(-1)[0])
    scores: FloatArray = np.asarray(outputs[match.roles["scores"]], np.float32).reshape(-1)
    labels: IntArray = np.rint(outputs[match.roles["labels"]]).reshape(-1).astype(np.int64)
    return Candidates(
        decoded(boxes[:count], match.details["coding"], size),
        labels[:count],
        scores[:count],
        origins=(ScoreOrigin(match.roles["scores"], np.arange(len(scores[:count]))),),
    )


def _format(name: str, coding: BoxCoding, corners: str) -> BoxFormat:
    meaning = f"number of boxes [1,1] or [1], boxes [1,N,4] with {corners}, scores [1,N] and classes [1,N]"
    return BoxFormat(name, meaning, lambda outputs: _match(outputs, coding), _decode)


PIXELS = _format("four_outputs", CORNERS, "x1, y1, x2, y2 in pixels of the network's input")
SHARES = _format("four_outputs_shares", _YXYX_SHARES, "y1, x1, y2, x2 in 0 to 1")
FORMATS = (PIXELS, SHARES)
