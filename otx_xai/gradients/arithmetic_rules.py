"""Rules of arithmetic of several operands, element by element, with broadcasting either way."""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    add,
    call,
    choose,
    div,
    greater,
    mul,
    power,
    sub,
    summed_to_input,
)
from otx_xai.gradients.step import Gradients, Rule, Step
from otx_xai.graph.view import constant_value

Partial = Callable[[Step, ov.Output, ov.Output], ov.Output]
"""The gradient of one operand, before what was broadcast is summed up, given the step and both operands."""


def _operands(first: Partial, second: Partial) -> Rule:
    """Return the rule of an operation on two operands."""

    def apply(step: Step) -> Gradients:
        a, b = step.node.input_value(0), step.node.input_value(1)
        made = {i: (first, second)[i](step, a, b) for i in sorted(step.wanted)}
        return {i: summed_to_input(step, value, i) for i, value in made.items()}

    return Rule(apply, inputs=(0, 1), pointwise=True)


def _power_of_base(step: Step, a: ov.Output, b: ov.Output) -> ov.Output:
    """Return ``b · a^(b - 1)`` times the gradient; exponents that are a plain number take no power of their own."""
    exponent = constant_value(b)
    if exponent is not None and exponent.size == 1:
        value = float(exponent.reshape(-1)[0])
        base = a if value == 2 else None if value == 1 else power(a, value - 1)
        return step.up if base is None else mul(step.up, mul(base, value))
    return mul(step.up, mul(b, power(a, sub(b, 1.0))))


def _power_of_exponent(step: Step, a: ov.Output, b: ov.Output) -> ov.Output:
    is_positive = greater(a, 0.0)
    logarithm = call(ops.log, choose(is_positive, a, 1.0))
    return mul(step.up, mul(step.y, logarithm))


def _share(larger: ov.Output, smaller: ov.Output) -> ov.Output:
    """Return 1 where the first operand is larger, 0 where it is smaller, and a half where both are equal."""
    return add(mul(call(ops.sign, sub(larger, smaller)), 0.5), 0.5)


def _whole(step: Step, a: ov.Output, b: ov.Output) -> ov.Output:
    """Return minus how often the divisor went into the dividend, times the gradient."""
    return mul(step.up, div(sub(step.y, a), b))


def _select(step: Step) -> Gradients:
    condition = step.node.input_value(0)
    made = {1: (step.up, 0.0), 2: (0.0, step.up)}
    return {i: summed_to_input(step, choose(condition, *made[i]), i) for i in sorted(step.wanted)}


ARITHMETIC_RULES = {
    "add": _operands(lambda step, a, b: step.up, lambda step, a, b: step.up),
    "subtract": _operands(lambda step, a, b: step.up, lambda step, a, b: call(ops.negative, step.up)),
    "multiply": _operands(lambda step, a, b: mul(step.up, b), lambda step, a, b: mul(step.up, a)),
    "divide": _operands(
        lambda step, a, b: div(step.up, b),
        lambda step, a, b: call(ops.negative, mul(step.up, div(step.y, b))),
    ),
    "power": _operands(_power_of_base, _power_of_exponent),
    "maximum": _operands(lambda step, a, b: mul(step.up, _share(a, b)), lambda step, a, b: mul(step.up, _share(b, a))),
    "minimum": _operands(lambda step, a, b: mul(step.up, _share(b, a)), lambda step, a, b: mul(step.up, _share(a, b))),
    "squared_difference": _operands(
        lambda step, a, b: mul(step.up, mul(sub(a, b), 2.0)),
        lambda step, a, b: mul(step.up, mul(sub(b, a), 2.0)),
    ),
    "modulo": _operands(lambda step, a, b: step.up, _whole),
    "select": Rule(_select, inputs=(1, 2), pointwise=True),
}
"""Rules of arithmetic, by the names that the table of operations uses."""
