"""Rules of normalisations: by mean and variance, by length, and by what stands around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    add,
    array,
    axes_of,
    call,
    choose,
    div,
    greater,
    mean_over,
    mul,
    power,
    shaped,
    sub,
    sum_over,
)
from otx_xai.gradients.reduction_rules import names_first, without_constant_axes
from otx_xai.gradients.step import Gradients, Rule, Step, rank, sizes, tensor_sizes
from otx_xai.graph.surgery import reshape, transpose
from otx_xai.graph.view import dimensions


def _centred(value: ov.Output, axes: Sequence[int]) -> ov.Output:
    return sub(value, mean_over(value, axes))


def _spread_of(x: ov.Output, axes: Sequence[int], epsilon: float, *, inside: bool) -> tuple[ov.Output, ov.Output]:
    """Return what is divided by to normalise, and the same without an epsilon that is added last."""
    rest = _centred(x, axes)
    variance = mean_over(mul(rest, rest), axes)
    if inside:
        deviation = call(ops.sqrt, add(variance, epsilon))
        return deviation, deviation
    deviation = call(ops.sqrt, variance)
    return add(deviation, epsilon), deviation


def _normalised(x: ov.Output, up: ov.Output, axes: Sequence[int], epsilon: float, *, inside: bool) -> ov.Output:
    """Return the gradient of what is normalised to mean 0 and variance 1 along axes."""
    whole, bare = _spread_of(x, axes, epsilon, inside=inside)
    y = div(_centred(x, axes), whole)
    share = mul(y, mean_over(mul(up, y), axes))
    if not inside:
        share = mul(share, div(whole, bare))
    return div(sub(_centred(up, axes), share), whole)


def _mvn_axes(node: ov.Node) -> list[int] | None:
    if node.get_input_size() > 1:
        return axes_of(node, 1)
    own, across = rank(node.input_value(0)), bool(node.get_attributes()["across_channels"])
    return [axis - own for axis in range(1 if across else 2, own)]


def _mvn(step: Step) -> Gradients:
    attributes, axes = step.node.get_attributes(), _mvn_axes(step.node) or []
    if not attributes["normalize_variance"]:
        return {0: _centred(step.up, axes)}
    inside = str(attributes.get("eps_mode", "inside_sqrt")).lower() == "inside_sqrt"
    return {0: _normalised(step.x, step.up, axes, float(attributes["eps"]), inside=inside)}


def _mvn_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    return "computes its axes" if _mvn_axes(node) is None else None


def _mvn_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return -rank(node.input_value(0)) in (_mvn_axes(node) or [])


def _unit(step: Step) -> Gradients:
    attributes, axes = step.node.get_attributes(), axes_of(step.node, 1) or []
    square = sum_over(mul(step.x, step.x), axes)
    epsilon = float(attributes["eps"])
    share = mul(step.y, sum_over(mul(step.up, step.y), axes))
    if str(attributes["eps_mode"]).lower() == "add":
        return {0: div(sub(step.up, share), call(ops.sqrt, add(square, epsilon)))}
    share = choose(greater(square, epsilon), share, 0.0)
    length = call(ops.sqrt, call(ops.maximum, square, array(np.array(epsilon), square)))
    return {0: div(sub(step.up, share), length)}


def _neighbours(value: ov.Output, axis: int, size: int, reach: int) -> ov.Output:
    """Return sums over ``size`` neighbours along an axis that is counted from the last."""
    own = rank(value)
    order = list(range(own))
    order[axis], order[-1] = order[-1], order[axis]
    places = np.arange(reach)
    distance = places[None, :] - places[:, None]
    band = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    product = ops.matmul(transpose(value, order), array((band | band.T).astype(np.float32), value), False, False)
    return transpose(product.output(0), order)


def _local(step: Step) -> Gradients:
    """Differentiate ``x · s^-β`` with ``s = bias + α / size · Σ x²`` over neighbours along each of the axes."""
    attributes, axes = step.node.get_attributes(), axes_of(step.node, 1) or []
    size, beta = int(attributes["size"]), float(attributes["beta"])
    share = float(attributes["alpha"]) / size ** len(axes)
    dims = dimensions(step.x) or []

    def around(value: ov.Output) -> ov.Output:
        for axis in axes:
            value = _neighbours(value, axis, size, dims[axis] or 1)
        return value

    total = add(mul(around(mul(step.x, step.x)), share), float(attributes["bias"]))
    factor = power(total, -beta)
    pull = around(mul(mul(step.up, step.x), div(factor, total)))
    return {0: sub(mul(step.up, factor), mul(mul(step.x, pull), 2 * share * beta))}


def _local_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    axes, dims = axes_of(node, 1), dimensions(node.input_value(0)) or []
    if axes is None:
        return "computes its axes"
    if int(node.get_attributes()["size"]) % 2 == 0:
        return "has an even window"
    return "has axes of dynamic length" if any(dims[axis] is None for axis in axes) else None


def _per_channel(value: ov.Output, tensor: ov.Output) -> ov.Output:
    """Return numbers of channels so that they line up with the second axis of a tensor."""
    return reshape(value, [-1, *[1] * (rank(tensor) - 2)])


def _batch_norm(step: Step) -> Gradients:
    inputs = step.node.input_values()
    data = _batch_norm_data(step.node)
    gamma, variance = (inputs[1] if data == 0 else inputs[0]), inputs[4]
    epsilon = float(step.node.get_attributes()["epsilon"])
    scale = div(gamma, call(ops.sqrt, add(variance, epsilon)))
    return {data: mul(step.up, _per_channel(scale, inputs[data]))}


def _batch_norm_data(node: ov.Node) -> int:
    """Return which input has the data: the third of the first version of the operation."""
    return 2 if str(node.get_type_info().version_id) == "opset1" else 0


def _batch_norm_refusal(node: ov.Node, wanted: frozenset[int]) -> str | None:
    return None if wanted == {_batch_norm_data(node)} else "computes its statistics from the image"


def _group_norm(step: Step) -> Gradients:
    attributes = step.node.get_attributes()
    groups, own = int(attributes["num_groups"]), tensor_sizes(step.x)
    up = mul(step.up, _per_channel(step.node.input_value(1), step.x))
    front = sizes(step, step.x)[: step.lead + 1]
    x = shaped(step.x, [own[0], groups, -1])
    back = _normalised(x, shaped(up, [*front, groups, -1]), [-1], float(attributes["epsilon"]), inside=True)
    return {0: shaped(back, sizes(step, step.x))}


def _root_mean_square(step: Step) -> Gradients:
    """Differentiate ``x / √(mean(x²) + ε)``, with a scale behind it where there is one."""
    up = step.up
    if step.node.get_input_size() > 1:
        up = mul(up, step.node.input_value(1))
    square = mean_over(mul(step.x, step.x), [-1])
    scale = call(ops.sqrt, add(square, float(step.node.get_attributes()["epsilon"])))
    y = div(step.x, scale)
    return {0: div(sub(up, mul(y, mean_over(mul(up, y), [-1]))), scale)}


NORMALISATION_RULES = {
    "mvn": Rule(_mvn, inputs=(0,), first_axis=_mvn_first, refusal=_mvn_refusal),
    "unit": Rule(_unit, inputs=(0,), first_axis=names_first(1), refusal=without_constant_axes(1)),
    "local": Rule(_local, inputs=(0,), first_axis=names_first(1), refusal=_local_refusal),
    "batch_norm": Rule(_batch_norm, refusal=_batch_norm_refusal),
    "group_norm": Rule(_group_norm, inputs=(0,)),
    "root_mean_square": Rule(_root_mean_square, inputs=(0,)),
}
"""Rules of normalisations, by the names that the table of operations uses."""
