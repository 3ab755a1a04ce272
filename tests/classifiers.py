"""Small classifiers built from OpenVINO operations, that see colours: what they look at is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops

CELL = 8
"""Pixels a side that one place of the features sees."""

COLOURS = {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (30, 30, 230)}


def colour_classifier(
    shape: Sequence[int] = (1, 3, 64, 96),
    classes: int = 4,
    *,
    model_info: dict[str, object] | None = None,
    strength: float = 0.2,
) -> ov.Model:
    """Scores of an NCHW image in 0-255: class 0 is for red, 1 for green, 2 for blue, the others see mixtures."""
    image = ops.parameter(list(shape), np.float32, name="image")
    image.output(0).set_names({"image"})
    features = ops.relu(_excess(image))
    features.set_friendly_name("features")
    return _with_info(_named(_linear(_pool(features), classes, strength), image), model_info)


def save_colour_classifier(path: Path, labels: str) -> Path:
    """Write a colour classifier with the names of its four classes, a space between two."""
    info: dict[str, object] = {"task_type": "classification", "labels": labels}
    ov.save_model(colour_classifier(model_info=info), path, compress_to_fp16=False)
    return path


def tensorflow_classifier(shape: Sequence[int] = (1, 224, 224, 3), classes: int = 1001) -> ov.Model:
    """As MobileNetV3 comes out of TensorFlow: NHWC input, convolutions in the head, soft-max inside, no model_info."""
    image = ops.parameter(list(shape), np.float32, name="input")
    image.output(0).set_names({"input"})
    x = _excess(ops.transpose(image, np.array([0, 3, 1, 2])))
    x.set_friendly_name("MobilenetV3/Conv_1/Conv2D")
    pooled = ops.avg_pool(ops.hswish(x), [1, 1], [0, 0], [0, 0], [side // CELL for side in shape[1:3]], True)
    first = ops.hswish(_convolution(pooled, np.eye(3)[:, :, None, None] / 30))
    weights = _weights(classes, 1.0)[:, :, None, None]
    logits = ops.squeeze(_convolution(first, weights), np.array([2, 3]))
    return _named(ops.softmax(logits, 1), image, "MobilenetV3/Predictions/Softmax")


def coloured_image(size: tuple[int, int], colour: str = "red", centre: tuple[float, float] = (0.3, 0.7)) -> np.ndarray:
    """RGB noise ``(H, W, 3)`` with a disc of one colour; ``centre`` is a part of height and width."""
    image = np.random.default_rng(3).integers(90, 130, (*size, 3), np.uint8)
    y, x = round(centre[0] * size[0]), round(centre[1] * size[1])
    return cv2.circle(image, (x, y), max(3, min(size) // 8), COLOURS[colour], -1)


def _excess(image: ov.Node) -> ov.Node:
    """How much each colour exceeds the others, in squares of ``CELL`` pixels."""
    mix = 1.5 * np.eye(3) - 0.5
    return _convolution(image, np.tile(mix[:, :, None, None], (1, 1, CELL, CELL)) / CELL**2, CELL)


def _convolution(x: ov.Node, weights: np.ndarray, stride: int = 1) -> ov.Node:
    return ops.convolution(x, weights.astype(np.float32), [stride] * 2, [0, 0], [0, 0], [1, 1])


def _pool(x: ov.Node) -> ov.Node:
    return ops.reduce_mean(x, np.array([2, 3]), keep_dims=False)


def _weights(classes: int, strength: float) -> np.ndarray:
    weights = np.random.default_rng(5).normal(0, 0.2, (classes, 3))
    weights[: min(3, classes)] = np.eye(3)[: min(3, classes)] * 1.5 - 0.5
    return strength * weights


def _linear(x: ov.Node, classes: int, strength: float) -> ov.Node:
    return ops.matmul(x, _weights(classes, strength).astype(np.float32), False, True)


def _named(result: ov.Node, image: ov.Node, name: str = "logits") -> ov.Model:
    result.output(0).set_names({name})
    return ov.Model([result], [image], "classifier")


def _with_info(model: ov.Model, model_info: dict[str, object] | None) -> ov.Model:
    for key, value in (model_info or {}).items():
        model.set_rt_info(value, ["model_info", key])
    return model
