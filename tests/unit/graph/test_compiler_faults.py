"""What the compiler gets wrong is written so that it gets it right."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from otx_xai.gradients.gradient import add_gradient
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


def quantised(value: ov.Output) -> ov.Output:
    bounds = (ops.constant(np.float32(bound)) for bound in (-1, 1, -1, 1))
    return ops.fake_quantize(value, *bounds, 255).output(0)


@pytest.mark.parametrize("is_computed", [False, True])
def test_the_way_back_of_a_quantised_graph_has_factors_of_its_own(is_computed: bool) -> None:
    """``exp(c · h)`` of a part of ``h``: the way back multiplies by ``c`` again, and pads."""
    random = np.random.default_rng(0)
    factor = random.uniform(0.5, 1.5, (1, ROWS, 2)).astype(np.float32)
    value = ops.parameter([1, ROWS, WIDTH], np.float32)
    weights = random.choice([-1.0, 1.0], (WIDTH, WIDTH)).astype(np.float32)
    product = ops.matmul(quantised(value.output(0)), quantised(ops.constant(weights).output(0)), False, False)
    bias = random.normal(size=(1, 1, WIDTH)).astype(np.float32)
    hidden = ops.add(product, ops.constant(bias))
    part = ops.slice(hidden, *(np.array([bound]) for bound in (0, 2, 1, 2)))
    constant = ops.add(ops.constant(factor - 1), ops.constant(np.float32(1))) if is_computed else ops.constant(factor)
    result = ops.exp(ops.multiply(part, constant))
    model = add_gradient(ov.Model([ops.result(result)], [value]), result.output(0), [hidden.output(0)])
    image = random.choice([-1.0, 0.0, 1.0], (1, ROWS, WIDTH)).astype(np.float32)
    found = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
    expected = np.exp((image @ weights + bias)[..., :2] * factor)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    np.testing.assert_allclose(found[1][..., :2], expected * factor, rtol=1e-4)
    assert not found[1][..., 2:].any()
