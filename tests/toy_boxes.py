"""Detectors of a few operations whose right answer is known, in the formats that exporters give.

The image is 64 × 64 and has 16 cells of 16 × 16 pixels. Class 0 (red) and class 1 (green) of a cell score near
1 where the cell has their colour, and near 0 elsewhere; the box of a cell is the cell itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from otx_xai.graph.view import View
from otx_xai.model.formats.box_format import DetectorOutputs, Found
from otx_xai.model.formats.box_reading import read_detections
from otx_xai.model.formats.choice import describe_ports, find_format
from otx_xai.openvino_core import core
from otx_xai.records import Detections, InputGeometry

SIZE = (64, 64)
GEOMETRY = InputGeometry(SIZE)
RED, GREEN = (16, 0, 32, 16), (32, 32, 48, 48)
CELLS, CLASSES = 16, 2
I64 = np.int64

Output = tuple[str, str, list[int]]
"""Name, element type, shape; -1 is any size."""

BOXES: Output = ("boxes", "f32", [1, -1, 5])
LABELS: Output = ("labels", "i64", [1, -1])
MASKS: Output = ("masks", "f32", [1, -1, 28, 28])


def picture() -> np.ndarray:
    """The image ``(1, 3, 64, 64)`` with one red and one green cell on grey."""
    image = np.full((64, 64, 3), 40, np.float32)
    for (left, top, right, bottom), colour in ((RED, (255, 0, 0)), (GREEN, (0, 255, 0))):
        image[top:bottom, left:right] = colour
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


class Cells:
    """The heads of the toy detector, and ways to put them together.

    Args:
        batch: length of the batch axis; -1 leaves it open.
    """

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.image = ops.parameter([batch, 3, *SIZE], np.float32, name="images")
        self.image.output(0).get_tensor().set_names({"images"})
        weights = np.zeros((CLASSES, 3, 16, 16), np.float32)
        weights[0, 0], weights[0, 1:] = 1, -0.5
        weights[1, 1], weights[1, [0, 2]] = 1, -0.5
        colour = self.layer(CLASSES, weights=weights / 256 / 255 * 16)
        self.logits = self.rows(ops.subtract(colour, np.float32(8)), CLASSES)
        """Raw class scores ``(N, 16, 2)``, about ±8."""
        y, x = np.mgrid[:4, :4].reshape(2, CELLS).astype(np.float32) * 16
        self.corners = ops.add(self.rows(self.layer(4), 4), np.stack([x, y, x + 16, y + 16], 1)[None])
        """Boxes ``(N, 16, 4)`` xyxy in pixels."""

    def layer(self, channels: int, *, stride: int = 16, weights: np.ndarray | None = None) -> ov.Node:
        """A convolution ``(N, channels, h, w)`` of the image, of zeros by default."""
        if weights is None:
            weights = np.zeros((channels, 3, stride, stride), np.float32)
        return ops.convolution(self.image, weights, [stride] * 2, [0, 0], [0, 0], [1, 1])

    def rows(self, maps: ov.Node, channels: int) -> ov.Node:
        """Maps ``(N, C, h, w)`` as rows ``(N, h·w, C)``."""
        flat = ops.reshape(maps, np.array([self.batch, channels, CELLS]), False)
        return ops.transpose(flat, np.array([0, 2, 1]))

    @property
    def scores(self) -> ov.Node:
        """Class scores after a sigmoid."""
        return ops.sigmoid(self.logits)

    def centres(self, scale: float = 1.0) -> ov.Node:
        """Boxes as centre and size, ``(N, 16, 4)``, divided by ``scale``."""
        low, high = (ops.gather(self.corners, np.array(pair), I64(2)) for pair in ([0, 1], [2, 3]))
        centre = ops.divide(ops.add(low, high), np.float32(2 * scale))
        return ops.concat([centre, ops.divide(ops.subtract(high, low), np.float32(scale))], 2)

    def best(self, count: int = 5) -> tuple[ov.Node, ov.Output, ov.Node]:
        """Boxes ``(1, n, 4)``, scores ``(1, n)`` and classes ``(1, n)`` of the best pairs of place and class."""
        flat = ops.reshape(self.scores, np.array([self.batch, CELLS * CLASSES]), False)
        top = ops.topk(flat, I64(count), 1, "max", "value", "i64")
        place, label = ops.divide(top.output(1), I64(CLASSES)), ops.mod(top.output(1), I64(CLASSES))
        index = ops.broadcast(ops.unsqueeze(place, I64(2)), np.array([1, count, 4]))
        return ops.gather_elements(self.corners, index, 1), top.output(0), label

    def model(self, **outputs: Any) -> ov.Model:
        """The model with these outputs by name."""
        results = []
        for name, node in outputs.items():
            output = node if isinstance(node, ov.Output) else node.output(0)
            output.get_tensor().set_names({name})
            results.append(ops.result(output, name))
        return ov.Model(results, [self.image])


def model_of(*outputs: Output) -> ov.Model:
    """Outputs of these shapes; what computes them does not matter."""
    parameters, results = [], []
    for name, element_type, shape in outputs:
        parameter = ops.parameter(shape, getattr(ov.Type, element_type))
        output = ops.logical_not(parameter) if element_type == "boolean" else ops.abs(parameter)
        if name:
            output.output(0).get_tensor().set_names({name})
        parameters.append(parameter)
        results.append(ops.result(output))
    return ov.Model(results, parameters)


def labelled_arrays(count: int = 3) -> dict[str, np.ndarray]:
    """What a detector with boxes and labels gives for one image: up to three, not in the order of their scores."""
    boxes = np.array([[10, 20, 30, 40, 0.6], [50, 60, 70, 80, 0.9], [5, 5, 9, 9, 0.2]], np.float32)[:count]
    return {"boxes": boxes[None], "labels": np.array([[2, 0, 1]])[:, :count]}


def column(value: ov.Node | ov.Output) -> ov.Node:
    """Give ``(1, n)`` an axis of columns, as ``float32``."""
    return ops.unsqueeze(ops.convert(value, "f32"), I64(2))


def described(model: ov.Model, **known: Any) -> DetectorOutputs:
    """What formats are told apart by."""
    given: dict[str, Any] = {"size": SIZE, "num_names": None, **known}
    return describe_ports(model, View(model), **given)


def run(model: ov.Model, image: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The outputs of one image by name."""
    results = core().compile_model(model, "CPU")(picture() if image is None else image)
    names = [min(output.get_names(), default=str(i)) for i, output in enumerate(model.outputs)]
    return {name: np.array(results[i]) for i, name in enumerate(names)}


def detect(model: ov.Model, name: str | None = None, threshold: float = 0.5, **known: Any) -> tuple[Found, Detections]:
    """The format of a model, and what it finds in the picture."""
    found = find_format(described(model, **known), name)
    assert found is not None
    return found, read_detections(run(model), found, SIZE, GEOMETRY, threshold=threshold)


def assert_red_and_green(found: Detections, tolerance: float = 0.01) -> None:
    """The red and the green cell are found, and nothing else."""
    boxes: Mapping[int, np.ndarray] = dict(zip(found.labels.tolist(), found.boxes, strict=True))
    assert sorted(found.labels.tolist()) == [0, 1]
    np.testing.assert_allclose(boxes[0], RED, atol=tolerance)
    np.testing.assert_allclose(boxes[1], GREEN, atol=tolerance)
    assert (found.scores > 0.99).all()
