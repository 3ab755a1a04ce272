"""Which input a network takes for nothing: what its own first operations turn into zero."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.graph.input_layout import image_input
from otx_xai.graph.traits import COPIES

_SHIFTS = frozenset({"Add", "Subtract"})
_SCALES = frozenset({"Divide", "Multiply"})


def graph_zero(model: ov.Model, channels: int) -> tuple[float, ...]:
    """Read off the graph which value of each channel becomes 0 by the normalisation inside it.

    Args:
        model: as it was read.
        channels: number of channels of its input.

    Returns:
        A value for each channel on the scale of the model's input: its mean, where it subtracts one; zeros where the
        graph does not begin with a normalisation.
    """
    factor, offset = np.ones(channels), np.zeros(channels)
    port = image_input(model).output(0)
    while len(readers := [target.get_node() for target in port.get_target_inputs()]) == 1:
        node = readers[0]
        kind = node.get_type_name()
        if kind not in COPIES | {"Transpose"}:
            number = _per_channel(node, port, channels)
            if number is None:
                break
            if kind in _SCALES:
                scale = number if kind == "Multiply" else 1 / number
                factor, offset = factor * scale, offset * scale
            else:
                offset = offset + (number if kind == "Add" else -number)
        port = node.output(0)
    return tuple(float(value) for value in -offset / factor)


def _per_channel(node: ov.Node, value: ov.Output, channels: int) -> NDArray[np.float64] | None:
    """Return the numbers that an operation adds, subtracts or scales by, one a channel; ``None`` for any other."""
    if node.get_type_name() not in _SHIFTS | _SCALES:
        return None
    if node.input_value(0).get_node() != value.get_node():
        if node.get_type_name() not in ("Add", "Multiply"):  # a number minus the image is no normalisation
            return None
        constant = node.input_value(0).get_node()
    else:
        constant = node.input_value(1).get_node()
    while constant.get_type_name() == "Convert":
        constant = constant.input_value(0).get_node()
    if constant.get_type_name() != "Constant" or np.asarray(constant.data).size not in (1, channels):
        return None
    numbers = np.broadcast_to(np.asarray(constant.data, np.float64).reshape(-1), channels)
    return None if node.get_type_name() in _SCALES and not numbers.all() else numbers
