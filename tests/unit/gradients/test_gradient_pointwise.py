"""Rules of element-wise operations against torch autograd and central differences."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from gradient_cases import Case, N, check
from openvino import opset13 as ops

IMAGE = ((N, 3, 5, 2),)


def scalar(value: float) -> ov.Node:
    return ops.constant(np.float32(value))


def fake_quantised(x: ov.Output) -> ov.Node:
    low, high = scalar(-1), scalar(1)
    return ops.fake_quantize(x, low, high, low, high, 256)


SLOPES = np.array([0.1, -0.3, 0.7], np.float32)

UNARY = {
    "Abs": Case(ops.abs, torch.abs, IMAGE),
    "Clamp": Case(lambda x: ops.clamp(x, -0.5, 1.0), lambda x: x.clamp(-0.5, 1.0), IMAGE),
    "Convert": Case(lambda x: ops.convert(ops.convert(x, "f64"), "f32"), lambda x: x * 1, IMAGE),
    "ConvertLike": Case(lambda x: ops.convert_like(x, scalar(1)), lambda x: x * 1, IMAGE),
    "Cos": Case(ops.cos, torch.cos, IMAGE),
    "Elu": Case(lambda x: ops.elu(x, 0.7), lambda x: F.elu(x, 0.7), IMAGE),
    "Erf": Case(ops.erf, torch.erf, IMAGE),
    "Exp": Case(ops.exp, torch.exp, IMAGE),
    "Gelu of erf": Case(lambda x: ops.gelu(x, "erf"), F.gelu, IMAGE),
    "Gelu of tanh": Case(lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), IMAGE),
    "HSigmoid": Case(ops.hsigmoid, F.hardsigmoid, IMAGE, -5, 5),
    "HSwish": Case(ops.hswish, F.hardswish, IMAGE, -5, 5),
    "HardSigmoid": Case(
        lambda x: ops.hard_sigmoid(x, scalar(0.3), scalar(0.6)), lambda x: (x * 0.3 + 0.6).clamp(0, 1), IMAGE, -4, 4
    ),
    "Log": Case(ops.log, torch.log, IMAGE, 0.2),
    "Mish": Case(ops.mish, F.mish, IMAGE),
    "Negative": Case(ops.negative, torch.neg, IMAGE),
    "PRelu, one slope": Case(lambda x: ops.prelu(x, scalar(0.1)), lambda x: F.leaky_relu(x, 0.1), IMAGE),
    "PRelu, a slope a channel": Case(
        lambda x: ops.prelu(x, ops.constant(SLOPES)), lambda x: F.prelu(x, torch.tensor(SLOPES).double()), IMAGE
    ),
    "Relu": Case(ops.relu, F.relu, IMAGE),
    "Selu": Case(lambda x: ops.selu(x, scalar(1.6732632423543772), scalar(1.0507009873554805)), F.selu, IMAGE),
    "Sigmoid": Case(ops.sigmoid, torch.sigmoid, IMAGE),
    "Sin": Case(ops.sin, torch.sin, IMAGE),
    "SoftPlus": Case(ops.softplus, F.softplus, IMAGE),
    "SoftSign": Case(ops.softsign, F.softsign, IMAGE),
    "Sqrt": Case(ops.sqrt, torch.sqrt, IMAGE, 0.2),
    "Swish": Case(ops.swish, F.silu, IMAGE),
    "Swish with beta": Case(lambda x: ops.swish(x, scalar(1.7)), lambda x: x * torch.sigmoid(1.7 * x), IMAGE),
    "Tanh": Case(ops.tanh, torch.tanh, IMAGE),
}

ROW = np.array([0.5, -1.5], np.float32)
SAME = ((N, 3, 5, 2), (N, 3, 5, 2))
GATE = ((N, 3, 5, 2), (N, 3, 1, 1))
OUTER = ((N, 1, 5, 2), (N, 3, 1, 2))
LOWER = ((N, 3, 5, 2), (5, 1))
HIGHER = ((5, 2), (N, 3, 1, 1))
ALONE = ((1, 3, 5, 2), (N, 3, 1, 2))


def arithmetic() -> dict[str, Case]:
    kinds = {
        "Add": (ops.add, torch.add),
        "Subtract": (ops.subtract, torch.sub),
        "Multiply": (ops.multiply, torch.mul),
        "Maximum": (ops.maximum, torch.maximum),
        "Minimum": (ops.minimum, torch.minimum),
        "SquaredDifference": (ops.squared_difference, lambda a, b: (a - b) ** 2),
    }
    positive = {
        "Divide": (ops.divide, torch.div),
        "Power": (ops.power, torch.pow),
        "Mod": (ops.mod, torch.fmod),
        "FloorMod": (ops.floor_mod, torch.remainder),
    }
    shapes = {"same": SAME, "gate": GATE, "outer": OUTER, "lower": LOWER, "higher": HIGHER, "alone": ALONE}
    plain = {
        f"{k} {s}": Case(*kinds[k], shapes[s], open_sizes=s != "alone")
        for k in kinds
        for s in (shapes if k in ("Add", "Multiply") else ("same", "gate", "lower"))
    }
    return plain | {
        f"{k} {s}": Case(*positive[k], shapes[s], 0.3, 2.1, tolerance=1e-4)
        for k in positive
        for s in ("same", "gate", "lower")
    }


def chosen(x: ov.Output, y: ov.Output) -> ov.Node:
    return ops.select(ops.greater(x, scalar(0.2)), x, y)


MORE = {
    "Power 2": Case(lambda x: ops.power(x, scalar(2)), lambda x: x**2, IMAGE),
    "Power 1": Case(lambda x: ops.power(x, scalar(1)), lambda x: x * 1, IMAGE),
    "Power 0.5": Case(lambda x: ops.power(x, scalar(0.5)), lambda x: x**0.5, IMAGE, 0.3),
    "Power -1": Case(lambda x: ops.power(x, scalar(-1)), lambda x: 1 / x, IMAGE, 0.3),
    "Power of negative numbers": Case(lambda x: ops.power(x, scalar(3)), lambda x: x**3, IMAGE),
    "Multiply by a row": Case(
        lambda x: ops.multiply(ops.constant(ROW), x),
        lambda x: x * torch.tensor(ROW).double(),
        IMAGE,
    ),
    "Divide a row": Case(
        lambda x: ops.divide(ops.constant(ROW), x),
        lambda x: torch.tensor(ROW).double() / x,
        IMAGE,
        0.3,
    ),
    "Select same": Case(chosen, lambda x, y: torch.where(x > 0.2, x, y), SAME),
    "Select gate": Case(chosen, lambda x, y: torch.where(x > 0.2, x, y), GATE),
    "Select lower": Case(chosen, lambda x, y: torch.where(x > 0.2, x, y), LOWER),
    "a tensor used twice": Case(
        lambda x: ops.multiply(ops.sigmoid(x), ops.add(x, ops.exp(x))), lambda x: x.sigmoid() * (x + x.exp()), IMAGE
    ),
}

CASES = UNARY | arithmetic() | MORE


@pytest.mark.parametrize("name", CASES)
def test_pointwise_gradient(name: str) -> None:
    check(CASES[name])


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Quantise, and let gradients through as if nothing was done."""
    steps = torch.round((x.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1
    return x + (steps - x).detach()


def test_quantisers_are_passed_straight_through_also_beyond_their_limits() -> None:
    check(Case(fake_quantised, rounded, IMAGE, smooth=False))
