"""Where the elements of convolutions end up: numbered, and carried along by the moves of elements alone.

Reshape, Transpose, Concat, Slice and the like only move elements, and activations leave them in place. So when every
element of a convolution's output has a number, the numbers in a later tensor tell exactly which element stands where,
whatever the layout. Numbers are followed from tensors that :func:`way_back` finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import GraphError
from otx_xai.graph.cuts import cut_of
from otx_xai.graph.labels import Labels, is_map
from otx_xai.graph.traits import BINARY, CUTS, MOVES, PICKS, RESHAPES, SCORE_PORTS, names_with
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of

ElementNumbers = NDArray[np.int32]

_ELEMENT_WISE = names_with(lambda own: own.elements == "kept")
_DECODES = names_with(lambda own: own.decodes)
_SAMPLE = 4096
"""Rows that are looked at to tell whether an axis stays at one place."""


def is_raw(view: View, labels: dict[Port, Labels], output: ov.Output) -> bool:
    """Whether a tensor is a map in front of all activations and moves of elements: a convolution with its bias."""
    own, node = labels.get(port_of(output), ()), output.get_node()
    if not is_map(own) or not output.get_element_type().is_real():
        return False
    if kind(node) == "Multiply" and len(view.data_inputs(node)) > 1:
        return False
    return kind(node) not in MOVES | _DECODES


@dataclass(frozen=True)
class Way:
    """What lies between class scores and raw heads.

    Args:
        starts: the scores where the way began.
        nodes: what it passed, in topological order.
        raw: where it ended, in topological order.
    """

    starts: tuple[ov.Output, ...]
    nodes: tuple[ov.Node, ...]
    raw: tuple[ov.Output, ...]


def way_back(view: View, labels: dict[Port, Labels], starts: Iterable[ov.Output]) -> Way:
    """Follow values, not indices or conditions, from ``starts`` back to raw maps.

    Args:
        view: the model, static in its dense part.
        labels: meaning of its axes.
        starts: where to begin.
    """
    starts = tuple(starts)
    todo, seen = list(starts), set()
    raw: dict[Port, ov.Output] = {}
    while todo:
        output = todo.pop()
        if is_raw(view, labels, output):
            raw[port_of(output)] = output
            continue
        node = output.get_node()
        if node.get_name() in seen or not view.is_data(output):
            continue
        seen.add(node.get_name())
        todo += passed_on(view, node)
    ends = tuple(sorted(raw.values(), key=lambda output: view.position[output.get_node().get_name()]))
    return Way(starts, tuple(view.ordered(seen)), ends)


def passed_on(view: View, node: ov.Node) -> list[ov.Output]:
    """Return those inputs whose values an operation passes on."""
    operation = kind(node)
    if operation in SCORE_PORTS:
        return [node.input_value(SCORE_PORTS[operation])]
    if operation == "Concat" or operation in BINARY:
        return view.data_inputs(node)
    if operation == "Select":
        return [node.input_value(1), node.input_value(2)]
    if operation in CUTS | RESHAPES | _ELEMENT_WISE | PICKS | {"Transpose"}:
        picked = [node.input_value(0)]
        return [*picked, node.input_value(2)] if operation.startswith("Scatter") else picked
    return []


class Numbers:
    """The elements of raw heads, numbered, and where moves of elements carry them.

    Args:
        plan: the model.
        way: between scores and raw heads.
    """

    def __init__(self, view: View, labels: dict[Port, Labels], way: Way) -> None:
        self.raw = way.raw
        self.orders = [order_of(labels[port_of(output)]) for output in way.raw]
        self.shapes = [shape_of(output) for output in way.raw]
        self.offsets = np.cumsum([0, *(prod(shape) for shape in self.shapes)])
        heads, channels, places = [], [], []
        for head, (shape, order) in enumerate(zip(self.shapes, self.orders, strict=True)):
            sizes = [shape[axis] for axis in order]
            place = np.arange(sizes[0] * sizes[2] * sizes[3], dtype=np.int32).reshape(sizes[0], 1, sizes[2], sizes[3])
            channel = np.arange(sizes[1], dtype=np.int32).reshape(1, -1, 1, 1)
            back = np.argsort(order)
            places.append(np.broadcast_to(place, sizes).transpose(back).reshape(-1))
            channels.append(np.broadcast_to(channel, sizes).transpose(back).reshape(-1))
            heads.append(np.full(prod(shape), head, np.int32))
        self.area = np.array(
            [size[o[2]] * 2**16 + size[o[3]] for size, o in zip(self.shapes, self.orders, strict=True)]
        )
        self.head, self.channel, self.place = (
            np.concatenate([*parts, np.full(1, -1, np.int32)]) for parts in (heads, channels, places)
        )  # number -1, an element of unknown origin, finds -1
        self.at: dict[Port, ElementNumbers] = {}
        self.products: list[tuple[ElementNumbers, ElementNumbers]] = []
        for offset, shape, output in zip(self.offsets, self.shapes, way.raw, strict=False):
            self.at[port_of(output)] = np.arange(offset, offset + prod(shape), dtype=np.int32).reshape(shape)
        for node in way.nodes:
            for output, numbers in self._carried(view, node):
                self.at[port_of(output)] = numbers

    def _carried(self, view: View, node: ov.Node) -> Iterator[tuple[ov.Output, ElementNumbers]]:
        """Yield the outputs of an operation that moves elements, with their numbers."""
        operation, output, dims = kind(node), node.output(0), dimensions(node.output(0))
        inputs = [self.at.get(port_of(value)) for value in node.input_values()]
        if dims is None or None in dims or all(numbers is None for numbers in inputs):
            return
        if operation == "Concat":
            parts = [self._or_unknown(n, v) for n, v in zip(inputs, node.input_values(), strict=True)]
            yield output, np.concatenate(parts, axis=int(node.get_attributes()["axis"]))
        elif operation in BINARY | {"Select"}:
            combined = self._combined(view, node, [numbers for numbers in inputs if numbers is not None])
            if combined is not None:
                yield output, combined
        elif inputs[0] is not None:
            yield from _moved(node, inputs[0])

    def _combined(self, view: View, node: ov.Node, known: list[ElementNumbers]) -> ElementNumbers | None:
        """Return the numbers of arithmetic with constants, of a choice, or of a product with objectness."""
        operation, shape = kind(node), shape_of(node.output(0))
        if len(known) == 1 and len(view.data_inputs(node)) - (operation == "Select") == 1:
            return np.broadcast_to(known[0], shape)
        if len(known) == 2 and operation == "Multiply":
            return self._product(known[0], known[1], shape)
        return None

    def _or_unknown(self, numbers: ElementNumbers | None, output: ov.Output) -> ElementNumbers:
        return np.full(shape_of(output), -1, np.int32) if numbers is None else numbers

    def _product(self, first: ElementNumbers, second: ElementNumbers, shape: tuple[int, ...]) -> ElementNumbers:
        """Numbers of the class scores in a product with objectness, which has one value for all classes."""
        scores, factor = (first, second) if first.size >= second.size else (second, first)
        scores, factor = np.broadcast_to(scores, shape), np.broadcast_to(factor, shape)
        self.products.append((scores, factor))
        return scores

    def heads_in(self, numbers: ElementNumbers) -> set[int]:
        """Which raw heads have elements here."""
        return set(np.flatnonzero(np.bincount(self.head[numbers].reshape(-1) + 1, minlength=1)[1:]).tolist())

    def rows(self, numbers: ElementNumbers) -> ElementNumbers | None:
        """Return the predictions in a tensor, ``(…, L)``: what shares a place along one axis; ``None`` for no axis.

        Where anchors and classes are two axes, classes are the one along which channels vary faster.
        """
        best: tuple[int, int] | None = None
        for axis, size in enumerate(numbers.shape):
            rows = np.moveaxis(numbers, axis, -1).reshape(-1, size)
            step = self._step(rows[:: 1 + len(rows) // _SAMPLE]) if size > 1 else None
            if step is not None and (best is None or step < best[0]):
                best = step, axis
        if best is None:
            return None
        rows = np.moveaxis(numbers, best[1], -1)
        return rows.reshape(-1, rows.shape[-1])

    def _step(self, rows: ElementNumbers) -> int | None:
        """Return the smallest step of channels along rows that stay at one place; ``None`` for rows that do not.

        A place is the same in all heads of one size: boxes, objectness and classes of a level.
        """
        known = rows >= 0
        heads, channels = self.head[rows], self.channel[rows]
        for values in (self.place[rows], self.area[heads]):
            top = np.where(known, values, -1).max(axis=1)
            low = np.where(known, values, top[:, None]).min(axis=1)
            if (top != low).any():
                return None
        pairs = known[:, 1:] & known[:, :-1] & (heads[:, 1:] == heads[:, :-1])
        jumps = np.abs(np.diff(channels, axis=1))[pairs]
        return int(jumps.min()) if jumps.size else 2**30

    def first_rows(self, rows: ElementNumbers, head: int) -> ElementNumbers:
        """Return the rows ``(A, L)`` of the first place of a head, one an anchor."""
        mine = (self.head[rows] == head) & (self.place[rows] == 0)
        found: ElementNumbers = rows[mine.any(axis=1)]
        return found


def _moved(node: ov.Node, numbers: ElementNumbers) -> Iterator[tuple[ov.Output, ElementNumbers]]:
    """Yield the outputs of an operation on one tensor with their numbers."""
    operation, output = kind(node), node.output(0)
    if operation in _ELEMENT_WISE:
        yield output, numbers
    elif operation in RESHAPES:
        yield output, numbers.reshape(shape_of(output))
    elif operation == "Transpose":
        order = constant_ints(node.input_value(1))
        if order is not None:
            yield output, numbers.transpose(order)
    elif operation in ("Split", "VariadicSplit"):
        yield from _split(node, numbers)
    elif operation in CUTS:
        yield from _cut(node, numbers)


def _cut(node: ov.Node, numbers: ElementNumbers) -> Iterator[tuple[ov.Output, ElementNumbers]]:
    cut = cut_of(node)
    if cut is not None:
        bounds = [slice(None)] * numbers.ndim
        bounds[cut.axis] = slice(cut.begin, cut.end)
        yield node.output(0), numbers[tuple(bounds)].reshape(shape_of(node.output(0)))
    elif kind(node) == "Gather":
        axes, indices = constant_ints(node.input_value(2)), constant_ints(node.input_value(1))
        if axes is not None and indices is not None and not node.get_attributes().get("batch_dims"):
            yield node.output(0), np.take(numbers, indices, axis=axes[0]).reshape(shape_of(node.output(0)))


def _split(node: ov.Node, numbers: ElementNumbers) -> Iterator[tuple[ov.Output, ElementNumbers]]:
    axes, begin = constant_ints(node.input_value(1)), 0
    if axes is None:
        return
    for output in node.outputs():
        size = shape_of(output)[axes[0]]
        yield output, np.take(numbers, range(begin, begin + size), axis=axes[0])
        begin += size


def shape_of(output: ov.Output) -> tuple[int, ...]:
    """Return the sizes of a static tensor.

    Raises:
        GraphError: one of them is open.
    """
    sizes = dimensions(output)
    if sizes is None or None in sizes:
        name, shape = output.get_node().get_friendly_name(), output.get_partial_shape()
        raise GraphError(f"The tensor {name!r} has open sizes {shape}, so that its elements cannot be followed.")
    return tuple(size for size in sizes if size is not None)


def order_of(labels: Labels) -> tuple[int, int, int, int]:
    """Return the positions of batch, channel, height and width among the axes of a map."""
    batch, channel, height, width = (labels.index(axis) for axis in "NCHW")
    return batch, channel, height, width
