"""Inputs beside the image whose value is known where an image fills the network's input: they become constants."""

from __future__ import annotations

import logging

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.view import dimensions
from otx_xai.records import FloatArray, Size, parse_numbers

logger = logging.getLogger("otx_xai")

_WIDTH_HEIGHT = ("orig_target_sizes",)
"""Of RT-DETR and D-FINE as their authors export them: the size that boxes are brought to."""
_HEIGHT_WIDTH = ("im_shape", "image_shape")
"""Of PaddleDetection, and of the YOLOv3 of the ONNX model zoo."""
_ONES = ("scale_factor", "pixel_mask")
"""Of PaddleDetection, and of DETR as Hugging Face exports it: nothing is scaled, and no pixel is padding."""

_IMAGE_AXES = 4
_CHANNELS = (1, 3)


def fix_other_inputs(model: ov.Model, given: object = None) -> None:
    """Put constants in the place of inputs beside the image that are known by name, so that boxes are pixels of it.

    Sizes are those of the network's input. Nothing is changed where another input is left, or the size is open.

    Args:
        model: it is changed.
        given: the size that the user gives to an input that leaves it open, as ``--input.size`` spells it.
    """
    images = [port for port in model.inputs if len(dimensions(port) or ()) == _IMAGE_AXES]
    others = [port for port in model.inputs if port not in images]
    if len(images) != 1 or not others:
        return
    size = _size(images[0]) or _told(given)
    values = [value for port in others if (value := _value(port, size)) is not None]
    if len(values) < len(others):
        return
    for port, value in zip(others, values, strict=True):
        parameter = port.get_node()
        kind = port.get_element_type()
        parameter.output(0).replace(ops.convert(ops.constant(value), kind).output(0))
        model.remove_parameter(parameter)
        shown = "1" if (value == 1).all() else ",".join(f"{number:g}" for number in value[0])
        logger.info("The input %s is fixed to %s.", port.get_any_name(), shown)


def _size(image: ov.Output) -> Size | None:
    """Return height and width; ``None`` where they are open."""
    _, second, third, fourth = (dimensions(image) or [None] * _IMAGE_AXES)[:_IMAGE_AXES]
    is_last = fourth in _CHANNELS and second not in _CHANNELS
    height, width = (second, third) if is_last else (third, fourth)
    return None if height is None or width is None else (height, width)


def _told(given: object) -> Size | None:
    numbers = None if given is None else parse_numbers(given)
    return (int(numbers[0]), int(numbers[-1])) if numbers else None


def _value(port: ov.Output, size: Size | None) -> FloatArray | None:
    """What is known of an input; ``None``: nothing."""
    names = port.get_names()
    shape = dimensions(port) or ()
    if names & {*_ONES} and len(shape) > 1 and shape[0] in (None, 1):
        sides = (2,) if len(shape) == 2 else size
        own = shape[1:] if None not in shape[1:] else sides
        return None if own is None else np.ones((1, *own), np.float32)
    if size is None or len(shape) != 2 or shape[0] not in (None, 1):
        return None
    if names & {*_WIDTH_HEIGHT}:
        return np.array([size[::-1]], np.float32)
    return np.array([size], np.float32) if names & {*_HEIGHT_WIDTH} else None
