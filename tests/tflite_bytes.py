"""TensorFlow Lite files whose bytes are laid out here: no package that writes them is needed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CELLS, SIDE, CLASSES = 4, 64, 2
"""Cells a side, pixels a side, and classes without the background of the detector."""

_CONV, _LOGISTIC, _RESHAPE, _CUSTOM, _MEAN = 3, 14, 22, 32, 40  # of BuiltinOperator
_CONV_OPTIONS, _RESHAPE_OPTIONS, _REDUCER_OPTIONS = 1, 17, 27  # of BuiltinOptions
_FLOAT, _INT = 0, 2  # of TensorType


def flatbuffer(identifier: bytes, value: dict[int, Any]) -> bytes:
    """Bytes of a buffer: dicts become tables (field → value), lists vectors, texts and bytes themselves."""
    data = bytearray(4) + identifier

    def pad() -> None:
        data.extend(bytes(-len(data) % 4))

    def write(item: Any) -> int:
        """Append an item and return where it begins."""
        if isinstance(item, dict):
            return write_table(item)
        pad()
        if isinstance(item, str | bytes):
            raw = item.encode() if isinstance(item, str) else item
            place = len(data)
            data.extend(struct.pack("<I", len(raw)) + raw + b"\0")
            return place
        if item and isinstance(item[0], int | float):
            place, letter = len(data), "f" if isinstance(item[0], float) else "i"
            data.extend(struct.pack(f"<I{len(item)}{letter}", len(item), *item))
            return place
        place = len(data)
        data.extend(struct.pack("<I", len(item)) + bytes(4 * len(item)))
        for index, inner in enumerate(item):
            point(place + 4 + 4 * index, write(inner))
        return place

    def write_table(fields: dict[int, Any]) -> int:
        pad()
        vtable, count = len(data), max(fields, default=-1) + 1
        data.extend(struct.pack("<HH", 4 + 2 * count, 4 + 4 * count))
        data.extend(b"".join(struct.pack("<H", 4 + 4 * i if i in fields else 0) for i in range(count)))
        pad()
        place = len(data)
        data.extend(struct.pack("<i", place - vtable) + bytes(4 * count))
        for index, item in fields.items():
            if isinstance(item, int):
                struct.pack_into("<I", data, place + 4 + 4 * index, item)
            else:
                point(place + 4 + 4 * index, write(item))
        return place

    def point(place: int, target: int) -> None:
        struct.pack_into("<I", data, place, target - place)

    point(0, write(value))
    return bytes(data)


def flexbuffer(values: Mapping[str, bool | int | float]) -> bytes:
    """Bytes of a map of numbers, as FlexBuffers has it, all of them four bytes wide."""
    data, places = bytearray(), []
    for key in sorted(values):
        places.append(len(data))
        data.extend(key.encode() + b"\0")
    data.extend(bytes(-len(data) % 4) + struct.pack("<I", len(values)))
    keys = len(data)
    for place in places:
        data.extend(struct.pack("<I", len(data) - place))
    data.extend(struct.pack("<I", len(data) - keys) + struct.pack("<II", 4, len(values)))
    own = len(data)
    for key in sorted(values):
        data.extend(struct.pack("<f" if isinstance(values[key], float) else "<i", values[key]))
    kinds = {bool: 26, int: 1, float: 3}
    data.extend(bytes(kinds[type(values[key])] << 2 | 2 for key in sorted(values)))
    data.extend(bytes(-len(data) % 4))
    return bytes(data + struct.pack("<IBB", len(data) - own, 9 << 2 | 2, 4))


class _Graph:
    """Tensors, buffers and operations in the order of their making."""

    def __init__(self) -> None:
        self.buffers: list[dict[int, Any]] = [{}]
        self.tensors: list[dict[int, Any]] = []
        self.operators: list[dict[int, Any]] = []

    def tensor(self, name: str, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        kind = _INT if values is not None and values.dtype == np.int32 else _FLOAT
        if values is not None:
            self.buffers.append({0: values.tobytes()})
        self.tensors.append({0: list(shape), 1: kind, 2: len(self.buffers) - 1 if values is not None else 0, 3: name})
        return len(self.tensors) - 1

    def operation(self, code: int, inputs: list[int], outputs: list[int], more: dict[int, Any] | None = None) -> None:
        self.operators.append({0: code, 1: inputs, 2: outputs} | (more or {}))

    def cells(self, image: int, name: str, weights: np.ndarray, bias: np.ndarray) -> int:
        """A convolution of cells ``(C, 16, 16, 3)``: ``(1, 4, 4, C)``."""
        inputs = [image, self.tensor(f"{name}/w", weights.shape, weights), self.tensor(f"{name}/b", bias.shape, bias)]
        maps = self.tensor(f"{name}/maps", (1, CELLS, CELLS, len(bias)))
        side = SIDE // CELLS
        self.operation(0, inputs, [maps], {3: _CONV_OPTIONS, 4: {0: 1, 1: side, 2: side, 4: 1, 5: 1}})
        return maps

    def head(self, image: int, name: str, weights: np.ndarray, bias: np.ndarray) -> int:
        """A convolution of cells whose outputs become rows ``(1, P, C)``."""
        channels, places = len(bias), CELLS * CELLS
        maps = self.cells(image, name, weights, bias)
        shape = self.tensor(f"{name}/shape", (3,), np.array([1, places, channels], np.int32))
        rows = self.tensor(name, (1, places, channels))
        self.operation(1, [maps, shape], [rows], {3: _RESHAPE_OPTIONS, 4: {0: [1, places, channels]}})
        return rows


def write_detector(path: Path, heads: Mapping[str, np.ndarray], options: Mapping[str, bool | int | float]) -> Path:
    """Write a detector of an image ``(1, 64, 64, 3)`` with TensorFlow Lite's post-processing of detections.

    Args:
        path: of the file.
        heads: ``boxes`` ``(4, 16, 16, 3)`` and ``classes`` ``(1 + K, 16, 16, 3)``, ``*_bias`` of each, and ``anchors``
            ``(16, 4)``.
        options: of the operation, beside those that it cannot do without.
    """
    graph = _Graph()
    image = graph.tensor("image", (1, SIDE, SIDE, 3))
    boxes = graph.head(image, "boxes", heads["boxes"], heads["boxes_bias"])
    logits = graph.head(image, "logits", heads["classes"], heads["classes_bias"])
    scores = graph.tensor("scores", (1, CELLS * CELLS, len(heads["classes"])))
    graph.operation(2, [logits], [scores])
    anchors = graph.tensor("anchors", heads["anchors"].shape, heads["anchors"])
    needed = {"max_detections": 16, "max_classes_per_detection": 1, "num_classes": len(heads["classes"]) - 1}
    needed |= {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0, "use_regular_nms": False}
    needed |= {"nms_score_threshold": 0.3, "nms_iou_threshold": 0.5} | dict(options)
    name, most = "TFLite_Detection_PostProcess", int(needed["max_detections"])
    shapes = ((1, most, 4), (1, most), (1, most), (1,))
    found = [graph.tensor(f"{name}:{i}" if i else name, shape) for i, shape in enumerate(shapes)]
    graph.operation(3, [boxes, scores, anchors], found, {5: flexbuffer(needed)})
    codes = [{0: code, 3: code} for code in (_CONV, _RESHAPE, _LOGISTIC)] + [{0: _CUSTOM, 1: name, 3: _CUSTOM}]
    subgraph = {0: graph.tensors, 1: [image], 2: found, 3: graph.operators, 4: "main"}
    path.write_bytes(flatbuffer(b"TFL3", {0: 3, 1: codes, 2: [subgraph], 3: "detector", 4: graph.buffers}))
    return path


def write_classifier(path: Path, weights: np.ndarray, bias: np.ndarray) -> Path:
    """Write a classifier of an image ``(1, 64, 64, 3)``: a convolution of cells, and the mean over them.

    Args:
        path: of the file.
        weights: ``float32`` ``(K, 16, 16, 3)``.
        bias: ``float32`` ``(K,)``.
    """
    graph = _Graph()
    image = graph.tensor("image", (1, SIDE, SIDE, 3))
    maps = graph.cells(image, "cells", weights, bias)
    axes = graph.tensor("axes", (2,), np.array([1, 2], np.int32))
    logits = graph.tensor("logits", (1, len(bias)))
    graph.operation(1, [maps, axes], [logits], {3: _REDUCER_OPTIONS, 4: {0: 0}})
    codes = [{0: code, 3: code} for code in (_CONV, _MEAN)]
    subgraph = {0: graph.tensors, 1: [image], 2: [logits], 3: graph.operators, 4: "main"}
    path.write_bytes(flatbuffer(b"TFL3", {0: 3, 1: codes, 2: [subgraph], 3: "classifier", 4: graph.buffers}))
    return path
