"""What the compiler gets wrong is written so that it gets it right."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from otx_xai.graph.compiler_faults import split_before_gathers
from otx_xai.openvino_core import core

ROWS, WIDTH = 10, 7
INDICES = np.array([[[3, 1, 4, 0], [9, 2, 6, 5]]], np.int64)


def gathered(begin: int, rows: int | None = ROWS) -> ov.Model:
    """Elements of four columns, the first of which is ``begin``."""
    value = ops.parameter([1, -1 if rows is None else rows, WIDTH], np.float32)
    bounds = (ops.constant(np.array([number], np.int64)) for number in (begin, begin + 4, 1, 2))
    result = ops.gather_elements(ops.slice(value, *bounds), ops.constant(INDICES), 1)
    return ov.Model([ops.result(result)], [value])


@pytest.mark.parametrize("rows", [ROWS, None])
@pytest.mark.parametrize("begin", [0, 2])
def test_slices_in_front_of_gathered_elements(begin: int, rows: int | None) -> None:
    model = gathered(begin, rows)
    split_before_gathers(model)
    value = np.arange(ROWS * WIDTH, dtype=np.float32).reshape(1, ROWS, WIDTH)
    expected = np.take_along_axis(value[..., begin : begin + 4], INDICES, 1)
    np.testing.assert_array_equal(core().compile_model(model, "CPU")(value)[0], expected)


def test_other_slices_stay() -> None:
    model = gathered(2)
    split_before_gathers(model)
    assert "VariadicSplit" not in {node.get_type_name() for node in model.get_ops()}
