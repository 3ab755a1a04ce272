"""Where the numbers of an output come from, number by number: behind what only moves and joins them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from math import prod

import numpy as np
import openvino as ov

from otx_xai.graph.cuts import cut_of
from otx_xai.graph.traits import RESHAPES
from otx_xai.graph.view import Port, View, constant_ints, kind, port_of
from otx_xai.records import IntArray

_NOWHERE = -1


@dataclass(frozen=True)
class Leaf:
    """A tensor that numbers of an output are taken from as they are.

    Args:
        output: the tensor.
        elements: for each number of the output which element of the tensor it is, ``int64`` of the output's size; -1
            where it comes from elsewhere. ``None``: all of them, in their order.
    """

    output: ov.Output
    elements: IntArray | None = None


def leaves_of(view: View, output: ov.Output, passed: Set[str] = frozenset()) -> list[Leaf]:
    """Follow the numbers of an output backwards through what moves and joins them, as far as their places are fixed.

    Args:
        view: the graph.
        output: the tensor to begin with; where its sizes are open, it is the only leaf.
        passed: further operations to go through, which leave each number in its place.
    """
    if output.get_partial_shape().is_dynamic:
        return [Leaf(output)]
    size = prod(output.get_shape())
    found: dict[Port, tuple[ov.Output, IntArray]] = {}
    todo = [(output, np.arange(size, dtype=np.int64).reshape(output.get_shape()))]
    while todo:
        value, numbers = todo.pop()
        sources = list(_sources(value, numbers, passed))
        todo += [(source, part) for source, part in sources if view.is_data(source) and (part >= 0).any()]
        if not sources:
            _, elements = found.setdefault(port_of(value), (value, np.full(size, _NOWHERE, np.int64)))
            flat = numbers.reshape(-1)
            known = np.flatnonzero(flat >= 0)
            elements[flat[known]] = known
    return [Leaf(value, elements) for value, elements in found.values()]


def _sources(value: ov.Output, numbers: IntArray, passed: Set[str]) -> Iterator[tuple[ov.Output, IntArray]]:
    """Yield what a tensor is put together from, each with the numbers of its elements; nothing where it is computed."""
    node, first = value.get_node(), value.get_node().input_value(0) if value.get_node().inputs() else None
    if first is None or any(source.get_partial_shape().is_dynamic for source in node.input_values()):
        return
    shape = tuple(first.get_shape())
    if kind(node) == "Concat":
        yield from _parts(node, numbers)
    elif kind(node) in RESHAPES:
        yield first, numbers.reshape(shape)
    elif kind(node) in passed:
        yield first, numbers
    elif kind(node) == "Transpose":
        order = constant_ints(node.input_value(1))
        if order is not None:
            yield first, numbers.transpose(np.argsort(order))
    elif kind(node) in ("Split", "VariadicSplit"):
        axis = (constant_ints(node.input_value(1)) or [0])[0] % len(shape)
        begin = sum(other.get_shape()[axis] for other in node.outputs()[: value.get_index()])
        yield first, _placed(shape, axis, begin, numbers)
    elif (cut := cut_of(node)) is not None:
        part = np.expand_dims(numbers, cut.axis) if cut.drops else numbers
        yield first, _placed(shape, cut.axis, cut.begin, part)


def _parts(node: ov.Node, numbers: IntArray) -> Iterator[tuple[ov.Output, IntArray]]:
    axis, begin = int(node.get_attributes()["axis"]), 0
    for source in node.input_values():
        length = source.get_shape()[axis]
        yield source, np.take(numbers, range(begin, begin + length), axis=axis)
        begin += length


def _placed(shape: tuple[int, ...], axis: int, begin: int, part: IntArray) -> IntArray:
    """Return numbers of a whole of which a part is known."""
    whole = np.full(shape, _NOWHERE, np.int64)
    bounds = [slice(None)] * len(shape)
    bounds[axis] = slice(begin, begin + part.shape[axis])
    whole[tuple(bounds)] = part
    return whole
