from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.model.zero_input import graph_zero


def model(*steps: tuple[str, object]) -> ov.Model:
    """A network that begins with these operations by constants, and goes on with a convolution."""
    image = ops.parameter([1, 3, 8, 8], np.float32)
    value = ops.convert(image, "f32")
    for kind, numbers in steps:
        constant = ops.constant(np.array(numbers, np.float32).reshape(1, -1, 1, 1))
        value = getattr(ops, kind)(value, constant)
    weights = np.ones((2, 3, 1, 1), np.float32)
    result = ops.convolution(value, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([ops.result(ops.add(result, ops.constant(np.float32(7))))], [image])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], (0, 0, 0)),
        ([("subtract", [124, 116, 104]), ("divide", [58, 57, 57])], (124, 116, 104)),
        ([("multiply", [2 / 255]), ("add", [-1])], (127.5, 127.5, 127.5)),
        ([("divide", [255]), ("subtract", [0.5, 0.4, 0.2]), ("divide", [0.2])], (127.5, 102, 51)),
        ([("multiply", [0, 1, 1])], (0, 0, 0)),
    ],
)
def test_the_value_that_normalisation_turns_into_zero(steps: list[tuple[str, object]], expected: tuple[float, ...]):
    assert graph_zero(model(*steps), 3) == pytest.approx(expected, abs=1e-3)
