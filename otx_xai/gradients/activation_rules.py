"""Rules of operations on one operand, element by element: the gradient times a slope.

Slopes are written with the output where that tells them: the input need not be kept then, and OpenVINO can fuse the
activation with the layer before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    Term,
    add,
    both,
    call,
    choose,
    div,
    greater,
    mul,
    number,
    sub,
)
from otx_xai.gradients.step import Gradients, Rule, Step, rank
from otx_xai.graph.surgery import reshape
from otx_xai.graph.view import constant_value, dimensions


def _sloped(slope: Callable[[Step], ov.Output]) -> Rule:
    return Rule(lambda step: {0: mul(step.up, slope(step))}, inputs=(0,), pointwise=True)


def _passed(step: Step) -> Gradients:
    return {0: step.up}


def _converted(step: Step) -> Gradients:
    before, after = step.x.get_element_type(), step.y.get_element_type()
    return {0: step.up if before == after else ops.convert(step.up, before).output(0)}


def _negative(step: Step) -> Gradients:
    return {0: call(ops.negative, step.up)}


def _relu(step: Step) -> Gradients:
    return {0: choose(greater(step.y, 0.0), step.up, 0.0)}


def _within(value: ov.Output, low: float, high: float) -> ov.Output:
    """Return where a tensor lies between two limits, neither of them reached."""
    return both(greater(value, low), call(ops.less, value, number(high, value)))


def _clamp(step: Step) -> Gradients:
    limits = step.node.get_attributes()
    return {0: choose(_within(step.y, limits["min"], limits["max"]), step.up, 0.0)}


def _prelu(step: Step) -> Gradients:
    slope, x = step.node.input_value(1), step.x
    dims = dimensions(slope) or []
    if len(dims) == 1 and dims != [1] and rank(x) > 2:
        slope = reshape(slope, [-1, *[1] * (rank(x) - 2)])  # one a channel
    return {0: mul(step.up, choose(call(ops.less, x, number(0, x)), slope, 1.0))}


def _elu(step: Step) -> Gradients:
    alpha = float(step.node.get_attributes()["alpha"])
    return {0: choose(greater(step.x, 0.0), step.up, mul(step.up, add(step.y, alpha)))}


def _selu(step: Step) -> Gradients:
    alpha, scale = step.node.input_value(1), step.node.input_value(2)
    return {0: mul(step.up, choose(greater(step.x, 0.0), scale, add(step.y, mul(alpha, scale))))}


def _sigmoid_slope(step: Step) -> ov.Output:
    return mul(step.y, sub(1.0, step.y))


def _tanh_slope(step: Step) -> ov.Output:
    return sub(1.0, mul(step.y, step.y))


def _swish_slope(step: Step) -> ov.Output:
    beta: Term = step.node.input_value(1) if step.node.get_input_size() > 1 else 1.0
    gate = call(ops.sigmoid, step.x if isinstance(beta, float) else mul(step.x, beta))
    rest = mul(step.y, sub(1.0, gate))
    return add(gate, rest if isinstance(beta, float) else mul(rest, beta))


def _hswish_slope(step: Step) -> ov.Output:
    """Return ``(2x + 3) / 6`` between -3 and 3, 0 below and 1 above."""
    x = step.x
    middle = add(mul(x, 1 / 3), 0.5)
    return choose(greater(x, 3.0), 1.0, choose(greater(x, -3.0), middle, 0.0))


def _hsigmoid(step: Step) -> Gradients:
    """Ask the input: OpenVINO's result need not reach 1."""
    return {0: choose(_within(step.x, -3.0, 3.0), mul(step.up, 1 / 6), 0.0)}


def _hard_sigmoid(step: Step) -> Gradients:
    return {0: choose(_within(step.y, 0.0, 1.0), mul(step.up, step.node.input_value(1)), 0.0)}


def _gelu_slope(step: Step) -> ov.Output:
    x = step.x
    square = mul(x, x)
    if str(step.node.get_attributes().get("approximation_mode", "ERF")).lower() == "tanh":
        root, cubic = sqrt(2 / pi), 0.044715
        bend = call(ops.tanh, mul(mul(x, root), add(mul(square, cubic), 1.0)))
        steep = mul(add(mul(square, 3 * cubic), 1.0), root)
        tail = mul(mul(x, 0.5), mul(sub(1.0, mul(bend, bend)), steep))
        return add(mul(add(bend, 1.0), 0.5), tail)
    area = mul(add(call(ops.erf, mul(x, sqrt(0.5))), 1.0), 0.5)
    density = mul(call(ops.exp, mul(square, -0.5)), 1 / sqrt(2 * pi))
    return add(area, mul(x, density))


def _mish_slope(step: Step) -> ov.Output:
    bend = call(ops.tanh, call(ops.softplus, step.x))
    return add(bend, mul(mul(step.x, call(ops.sigmoid, step.x)), sub(1.0, mul(bend, bend))))


def _soft_sign_slope(step: Step) -> ov.Output:
    rest = sub(1.0, call(ops.abs, step.y))
    return mul(rest, rest)


def _erf_slope(step: Step) -> ov.Output:
    return mul(call(ops.exp, call(ops.negative, mul(step.x, step.x))), 2 / sqrt(pi))


def _log(step: Step) -> Gradients:
    return {0: div(step.up, step.x)}


def _sqrt(step: Step) -> Gradients:
    return {0: div(mul(step.up, 0.5), step.y)}


def _quantised(step: Step) -> Gradients:
    """Pass a quantiser straight through, also where it cuts.

    Where steps and limits were fixed for whole images, elements beyond the limits are those that say most.
    """
    limits = [constant_value(step.node.input_value(i)) for i in range(1, 5)]
    if all(limit is not None for limit in limits) and not _rescales(limits):
        return {0: step.up}
    low, high, first, last = (step.node.input_value(i) for i in range(1, 5))
    return {0: mul(step.up, div(sub(last, first), sub(high, low)))}


def _rescales(limits: Sequence[object]) -> bool:
    low, high, first, last = (np.asarray(limit, np.float64) for limit in limits)
    return not bool(np.allclose(high - low, last - first, rtol=1e-4))


ACTIVATION_RULES = {
    "pass": Rule(_passed, inputs=(0,), pointwise=True),
    "convert": Rule(_converted, inputs=(0,), pointwise=True),
    "quantised": Rule(_quantised, inputs=(0,), pointwise=True),
    "negative": Rule(_negative, inputs=(0,), pointwise=True),
    "relu": Rule(_relu, inputs=(0,), pointwise=True),
    "clamp": Rule(_clamp, inputs=(0,), pointwise=True),
    "prelu": Rule(_prelu, inputs=(0,), pointwise=True),
    "elu": Rule(_elu, inputs=(0,), pointwise=True),
    "selu": Rule(_selu, inputs=(0,), pointwise=True),
    "hsigmoid": Rule(_hsigmoid, inputs=(0,), pointwise=True),
    "hard_sigmoid": Rule(_hard_sigmoid, inputs=(0,), pointwise=True),
    "log": Rule(_log, inputs=(0,), pointwise=True),
    "sqrt": Rule(_sqrt, inputs=(0,), pointwise=True),
    "sigmoid": _sloped(_sigmoid_slope),
    "tanh": _sloped(_tanh_slope),
    "swish": _sloped(_swish_slope),
    "hswish": _sloped(_hswish_slope),
    "gelu": _sloped(_gelu_slope),
    "mish": _sloped(_mish_slope),
    "softplus": _sloped(lambda step: call(ops.sigmoid, step.x)),
    "soft_sign": _sloped(_soft_sign_slope),
    "erf": _sloped(_erf_slope),
    "exp": _sloped(lambda step: step.y),
    "abs": _sloped(lambda step: call(ops.sign, step.x)),
    "sin": _sloped(lambda step: call(ops.cos, step.x)),
    "cos": _sloped(lambda step: call(ops.negative, call(ops.sin, step.x))),
}
"""Rules of operations on one operand, by the names that the table of operations uses."""
