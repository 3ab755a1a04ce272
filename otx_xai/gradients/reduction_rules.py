"""Rules of reductions, of running sums, of soft-max and of normalisations: what computes along some axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    as_numbers,
    axes_of,
    call,
    choose,
    count_of,
    div,
    equal,
    ints,
    mul,
    sub,
    sum_over,
)
from otx_xai.gradients.step import Gradients, Rule, Step, rank
from otx_xai.graph.view import constant_ints, dimensions


def without_constant_axes(index: int) -> Callable[[ov.Node, frozenset[int]], str | None]:
    """Return a refusal of operations whose axes, input ``index``, are computed."""

    def refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
        return "computes its axes" if axes_of(node, index) is None else None

    return refusal


def names_first(index: int) -> Callable[[ov.Node, frozenset[int]], bool]:
    """Return whether an operation names the first axis among those of input ``index``."""

    def names(node: ov.Node, _wanted: frozenset[int]) -> bool:
        return -rank(node.input_value(0)) in (axes_of(node, index) or [])

    return names


def reduced_axes(node: ov.Node) -> list[int] | None:
    """Return the axes that a reduction names, counted from the last; ``None`` where nobody knows them.

    ONNX models compute them from the rank. The shapes tell them then, those of length 1 aside, where it makes no
    difference whether they are reduced.
    """
    axes = axes_of(node, 1)
    before, after = dimensions(node.input_value(0)) or [], dimensions(node.output(0))
    if axes is not None or after is None or not node.get_attributes().get("keep_dims", False):
        return axes
    if any(size is not None and whole is None for size, whole in zip(before, after, strict=True)):
        return None
    pairs = enumerate(zip(before, after, strict=True))
    return [axis - len(before) for axis, (size, whole) in pairs if whole == 1 and size != 1]


def _unknown_axes(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    return "computes its axes" if reduced_axes(node) is None else None


def _reduces_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return -rank(node.input_value(0)) in (reduced_axes(node) or [])


def _kept(step: Step, value: ov.Output) -> ov.Output:
    """Give a tensor of the shape of the output of a reduction (or its gradient) the reduced axes with length 1."""
    if step.node.get_attributes().get("keep_dims", False):
        return value
    axes = sorted(reduced_axes(step.node) or [])
    return ops.unsqueeze(value, ints(axes)).output(0) if axes else value


def _reduction(partial: Callable[[Step, list[int], ov.Output, ov.Output], ov.Output]) -> Rule:
    """Return the rule of a reduction.

    Args:
        partial: gives the gradient of the input from the step, the axes, and output and gradient with reduced axes.
    """

    def apply(step: Step) -> Gradients:
        axes = reduced_axes(step.node) or []
        return {0: partial(step, axes, _kept(step, step.y), _kept(step, step.up))}

    return Rule(apply, inputs=(0,), first_axis=_reduces_first, refusal=_unknown_axes)


def _largest(step: Step, axes: list[int], y: ov.Output, up: ov.Output) -> ov.Output:
    """Share the gradient among all that are the largest, or the smallest."""
    chosen = as_numbers(equal(step.x, y), y)
    return mul(chosen, div(up, sum_over(chosen, axes)))


def _product(step: Step, axes: list[int], y: ov.Output, up: ov.Output) -> ov.Output:
    """Multiply by the product of the others, which is not ``y / x`` where some are zero."""
    is_zero = equal(step.x, 0.0)
    filled = choose(is_zero, 1.0, step.x)
    others = call(ops.reduce_prod, filled, ints(axes), True)
    zeros = sum_over(as_numbers(is_zero, step.x), axes)
    spare = sub(zeros, as_numbers(is_zero, step.x))
    return mul(up, choose(equal(spare, 0.0), div(others, filled), 0.0))


def _length(step: Step, axes: list[int], y: ov.Output, up: ov.Output) -> ov.Output:
    is_zero = equal(y, 0.0)
    return mul(step.x, div(choose(is_zero, 0.0, up), choose(is_zero, 1.0, y)))


def _cumulated(step: Step) -> Gradients:
    axis = constant_ints(step.node.input_value(1)) or [0]
    own = rank(step.x)
    attributes = step.node.get_attributes()
    place = ops.constant(np.int64(axis[0] % own + step.lead))
    back = ops.cum_sum(step.up, place, bool(attributes["exclusive"]), not attributes["reverse"])
    return {0: back.output(0)}


def _softmax_axis(node: ov.Node) -> int:
    own = rank(node.input_value(0))
    return int(node.get_attributes()["axis"]) % own - own


def _softmax_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return _softmax_axis(node) == -rank(node.input_value(0))


def softmax_gradient(y: ov.Output, up: ov.Output, axis: int) -> ov.Output:
    """Return the gradient of what a soft-max along ``axis`` has made ``y`` of."""
    return mul(y, sub(up, sum_over(mul(up, y), [axis])))


def _softmax(step: Step) -> Gradients:
    return {0: softmax_gradient(step.y, step.up, _softmax_axis(step.node))}


def _log_softmax(step: Step) -> Gradients:
    total = sum_over(step.up, [_softmax_axis(step.node)])
    return {0: sub(step.up, mul(call(ops.exp, step.y), total))}


REDUCTION_RULES = {
    "sum": _reduction(lambda step, axes, y, up: up),
    "mean": _reduction(lambda step, axes, y, up: div(up, count_of(step.x, axes))),
    "largest": _reduction(_largest),
    "product": _reduction(_product),
    "absolute": _reduction(lambda step, axes, y, up: mul(up, call(ops.sign, step.x))),
    "length": _reduction(_length),
    "cumulated": Rule(_cumulated, inputs=(0,), first_axis=names_first(1), refusal=without_constant_axes(1)),
    "softmax": Rule(_softmax, first_axis=_softmax_first),
    "log_softmax": Rule(_log_softmax, first_axis=_softmax_first),
}
"""Rules of what computes along axes, by the names that the table of operations uses."""
