"""Small pieces that rules are written with: arithmetic on tensors and numbers, shapes, sums over what was broadcast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import TypeAlias

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino import opset15
from openvino.utils.node_factory import NodeFactory

from otx_xai.gradients.step import Size, Step, rank, sizes, tensor_sizes
from otx_xai.graph.constants import evaluate
from otx_xai.graph.surgery import reshape, size_of
from otx_xai.graph.view import constant_ints, constant_value, dimensions, kind

Term: TypeAlias = ov.Output | float

_FEW = 32
"""Operations that weights are decompressed by, at most."""


def number(value: float, like: ov.Output) -> ov.Output:
    """Return a scalar constant of the type of ``like``."""
    return ops.constant(np.array(value), dtype=like.get_element_type()).output(0)


def array(values: NDArray[np.generic], like: ov.Output) -> ov.Output:
    """Return a constant of the type of ``like``."""
    return ops.constant(values, dtype=like.get_element_type()).output(0)


def ints(values: Iterable[int]) -> ov.Output:
    """Return an ``i64`` constant."""
    return ops.constant(np.array(list(values), np.int64)).output(0)


def _binary(make: Callable[[ov.Output, ov.Output], ov.Node], a: Term, b: Term) -> ov.Output:
    like = a if isinstance(a, ov.Output) else b
    first, second = (term if isinstance(term, ov.Output) else number(term, like) for term in (a, b))
    return make(first, second).output(0)


def add(a: Term, b: Term) -> ov.Output:
    """Return ``a + b``; at least one is a tensor, as in all functions here."""
    return _binary(ops.add, a, b)


def sub(a: Term, b: Term) -> ov.Output:
    """Return ``a - b``."""
    return _binary(ops.subtract, a, b)


def mul(a: Term, b: Term) -> ov.Output:
    """Return ``a * b``."""
    return _binary(ops.multiply, a, b)


def div(a: Term, b: Term) -> ov.Output:
    """Return ``a / b``."""
    return _binary(ops.divide, a, b)


def power(a: Term, b: Term) -> ov.Output:
    """Return ``a ** b``."""
    return _binary(ops.power, a, b)


def greater(a: Term, b: Term) -> ov.Output:
    """Return where ``a > b``."""
    return _binary(ops.greater, a, b)


def equal(a: Term, b: Term) -> ov.Output:
    """Return where ``a == b``."""
    return _binary(ops.equal, a, b)


def both(a: ov.Output, b: ov.Output) -> ov.Output:
    """Return where ``a`` and ``b`` are true."""
    return ops.logical_and(a, b).output(0)


def choose(condition: ov.Output, a: Term, b: Term) -> ov.Output:
    """Return ``a`` where the condition holds, else ``b``."""
    return _binary(lambda first, second: ops.select(condition, first, second), a, b)


def as_numbers(condition: ov.Output, like: ov.Output) -> ov.Output:
    """Return 1 where the condition holds, else 0, in the type of ``like``."""
    return ops.convert(condition, like.get_element_type()).output(0)


def typed(tensor: ov.Output, like: ov.Output) -> ov.Output:
    """Return a tensor in the type of another."""
    same = tensor.get_element_type() == like.get_element_type()
    return tensor if same else ops.convert(tensor, like.get_element_type()).output(0)


def call(make: Callable[..., ov.Node], *terms: ov.Output | ov.Node | bool | int | str) -> ov.Output:
    """Return the first output of the operation that ``make`` makes."""
    return make(*terms).output(0)


def sum_over(value: ov.Output, axes: Iterable[int], *, keep: bool = True) -> ov.Output:
    """Return the sum over axes; over none, the value itself."""
    axes = list(axes)
    return ops.reduce_sum(value, ints(axes), keep).output(0) if axes else value


def mean_over(value: ov.Output, axes: Iterable[int]) -> ov.Output:
    """Return the mean over axes, which stay with length 1."""
    return ops.reduce_mean(value, ints(axes), True).output(0)


def again(node: ov.Node, inputs: Sequence[ov.Output], **changed: object) -> ov.Node:
    """Return the same operation on other inputs.

    Args:
        node: the operation; its newest version where it has several.
        inputs: the inputs of the copy.
        changed: attributes of the copy that differ.
    """
    factory = NodeFactory(str(node.get_type_info().version_id))
    return factory.create(kind(node), list(inputs), {**node.get_attributes(), **changed})


def vector(parts: Iterable[Size]) -> ov.Output:
    """Return sizes as one ``i64`` tensor: a constant where all are static."""
    parts = list(parts)
    if all(isinstance(part, int) for part in parts):
        return ints(part for part in parts if isinstance(part, int))
    return ops.concat([ints([part]) if isinstance(part, int) else part for part in parts], axis=0).output(0)


def shaped(value: ov.Output, parts: Iterable[Size]) -> ov.Output:
    """Reshape to sizes, of which OpenVINO works one out from the others; a reshape to the same shape is none."""
    parts = list(parts)
    if dimensions(value) == parts:
        return value
    dynamic = [i for i, part in enumerate(parts) if not isinstance(part, int)]
    if len(dynamic) == 1 and -1 not in [part for part in parts if isinstance(part, int)]:
        parts[dynamic[0]] = -1
    return reshape(value, parts)


def spread(value: ov.Output, parts: Iterable[Size]) -> ov.Output:
    """Broadcast to sizes."""
    parts = list(parts)
    return value if dimensions(value) == parts else ops.broadcast(value, vector(parts)).output(0)


def zeros(parts: Iterable[Size], like: ov.Output) -> ov.Output:
    """Return zeros of some sizes, of the type of ``like``."""
    return ops.broadcast(number(0, like), vector(parts)).output(0)


def summed_at(parts: Iterable[Size], where: ov.Output, values: ov.Output, axis: int) -> ov.Output:
    """Return zeros of some sizes with values added at places along an axis, which may be named several times."""
    start = zeros(parts, values)
    total = opset15.scatter_elements_update(start, where, values, ints([axis]), reduction="sum", use_init_val=True)
    return total.output(0)


def count_of(tensor: ov.Output, axes: Iterable[int]) -> Term:
    """Return the number of elements along axes: a number where it is static, else a scalar of the tensor's type."""
    own = tensor_sizes(tensor)
    parts = [own[axis] for axis in axes]
    if all(isinstance(part, int) for part in parts):
        return float(prod(part for part in parts if isinstance(part, int)))
    total = ops.reduce_prod(vector(parts), ints([0]), False)
    return as_numbers(total.output(0), tensor)


def weights_of(tensor: ov.Output) -> NDArray[np.float32] | None:
    """Return a tensor that depends on no input of the model, decompressed or quantised as it may be; ``None`` else.

    What goes forward and back by the same weights gets a constant for each: OpenVINO's CPU plugin packs the weights of
    a layer once, and would use those of a square matrix turned the wrong way.
    """
    todo = [tensor.get_node()]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        if kind(node) == "Parameter" or len(seen) > _FEW:
            return None
        if node.get_name() not in seen:
            seen.add(node.get_name())
            todo.extend(value.get_node() for value in node.input_values())
    value = constant_value(tensor)
    return evaluate([tensor])[0] if value is None else np.asarray(value, np.float32)


def axes_of(node: ov.Node, index: int) -> list[int] | None:
    """Return the axes that an input of an operation names, counted from the last; ``None`` where they are no constant.

    Args:
        node: the operation.
        index: of the input that names them.
    """
    axes = constant_ints(node.input_value(index))
    own = rank(node.input_value(0))
    return None if axes is None else [axis % own - own for axis in axes]


def summed_to_input(step: Step, value: ov.Output, index: int) -> ov.Output:
    """Return a gradient of the shape of the output, summed over the axes that an input was broadcast along.

    Whether an axis of unknown length was, is seen when the model runs, unless its length is unknown in the output too:
    both count as equal then.
    """
    tensor, front = step.node.input_value(index), step.lead
    before, after = dimensions(tensor) or [], dimensions(step.y) or []
    extra = len(after) - len(before)
    value = sum_over(value, [front + axis for axis in range(extra)], keep=False)
    pairs = list(zip(before, after[extra:], strict=True))
    value = sum_over(
        value, [axis - len(before) for axis, (size, whole) in enumerate(pairs) if size == 1 and whole != 1]
    )
    open_axes = [axis for axis, (size, whole) in enumerate(pairs) if size is None and whole is not None]
    return _summed_where_needed(step, value, tensor, open_axes) if open_axes else value


def _summed_where_needed(step: Step, value: ov.Output, tensor: ov.Output, open_axes: Sequence[int]) -> ov.Output:
    """Sum a gradient along axes in so many parts as a tensor has places there: one, or all."""
    parts: list[Size] = []
    sums = []
    target = sizes(step, tensor)
    skipped = len(target) - rank(tensor)
    for i, size in enumerate(target):
        parts.append(size)
        if i - skipped in open_axes:
            sums.append(len(parts))
            parts.append(ops.divide(size_of(value, i), size).output(0))
    whole = ops.reshape(value, vector(parts), special_zero=False).output(0)
    return sum_over(whole, sums, keep=False)


def is_broadcast(node: ov.Node, index: int) -> bool:
    """Whether an input of an operation is broadcast to the shape of its output."""
    return dimensions(node.input_value(index)) != dimensions(node.output(0))
