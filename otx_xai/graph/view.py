"""Read-only view of an ``ov.Model``: who feeds whom, and which tensors every path to an output runs through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from functools import cached_property
from math import prod

import numpy as np
import openvino as ov
from numpy.typing import NDArray

Port = tuple[str, int]
"""Identity of an output: unique name of its node, and its index."""

_FEW = 64
"""Elements of axes, bounds and indices at most; larger tensors are weights or data."""


def port_of(output: ov.Output) -> Port:
    """Return the hashable identity of ``output``."""
    return output.get_node().get_name(), output.get_index()


def kind(node: ov.Node) -> str:
    """Return the operation of ``node``, e.g. ``Convolution``."""
    return str(node.get_type_name())


def dimensions(output: ov.Output) -> list[int | None] | None:
    """Return the static dimensions of ``output`` with ``None`` for dynamic ones, or ``None`` for a dynamic rank."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return [None if dim.is_dynamic else dim.get_length() for dim in shape]


def is_unit(size: ov.Dimension) -> bool:
    """Whether an axis surely has length 1."""
    return bool(size.is_static and size.get_length() == 1)


def constant_value(output: ov.Output) -> NDArray[np.generic] | None:
    """Return the value of a Constant (seen through Convert) or of a few numbers computed from some, else ``None``.

    ONNX models compute axes and bounds by ``Range`` and ``Broadcast`` of Constants, and of sizes that are known.
    """
    node = output.get_node()
    while kind(node) == "Convert":
        node = node.input_value(0).get_node()
    return np.asarray(node.data) if kind(node) == "Constant" else _computed(output)


def _computed(output: ov.Output) -> NDArray[np.generic] | None:
    node, shape = output.get_node(), output.get_partial_shape()
    if kind(node) == "Constant":
        return np.asarray(node.data)
    if kind(node) == "ShapeOf" and node.input_value(0).get_partial_shape().is_static:
        return np.array(node.input_value(0).get_shape(), output.get_element_type().to_dtype())
    if not node.inputs() or shape.is_dynamic or prod(output.get_shape()) > _FEW:
        return None
    values = []
    for source in node.input_values():
        value = _computed(source)
        if value is None:
            return None
        values.append(ov.Tensor(np.array(value)))
    results = [ov.Tensor(port.get_element_type(), port.get_shape()) for port in node.outputs()]
    return np.array(results[output.get_index()].data) if node.evaluate(results, values) else None


def constant_ints(output: ov.Output) -> list[int] | None:
    """Return integers that :func:`constant_value` knows as a flat list, else ``None``."""
    value = constant_value(output)
    return None if value is None else [int(number) for number in value.reshape(-1)]


def computed_before(
    ends: Iterable[ov.Output],
    old: Set[str] = frozenset(),
    inputs: Callable[[ov.Node], Iterable[ov.Output]] = ov.Node.input_values,
) -> list[ov.Node]:
    """Return the operations that some tensors are computed by, their own included, in the order of computation.

    Args:
        ends: the tensors.
        old: unique names of operations that are left out, with all in front of them.
    """
    order: list[ov.Node] = []
    seen, todo = set(old), [(end.get_node(), False) for end in ends]
    while todo:
        node, is_done = todo.pop()
        if is_done:
            order.append(node)
        elif node.get_name() not in seen:
            seen.add(node.get_name())
            todo.append((node, True))
            todo.extend((value.get_node(), False) for value in inputs(node))
    return order


class View:
    """The graph of one model, indexed.

    *Data* nodes carry image content: they descend from a Parameter through values, not merely through ``ShapeOf``.
    *Constant* nodes descend from no Parameter at all.

    Args:
        model: the model to look at; it is not changed, and must not change while the view is used.
        left_out: names of outputs that are not to be asked what the model gives, because somebody has added them.
    """

    def __init__(self, model: ov.Model, left_out: Set[str] = frozenset()) -> None:
        self.model = model
        self.left_out = left_out
        self.nodes: list[ov.Node] = list(model.get_ordered_ops())
        self.position: dict[str, int] = {node.get_name(): i for i, node in enumerate(self.nodes)}
        self.consumers: dict[Port, list[tuple[ov.Node, int]]] = {}
        self.data: set[str] = set()
        self.constant: set[str] = set()
        for node in self.nodes:
            for i, value in enumerate(node.input_values()):
                source = port_of(value)
                self.consumers.setdefault(source, []).append((node, i))
                if source[0] in self.data and kind(node) != "ShapeOf":
                    self.data.add(node.get_name())
            if kind(node) == "Parameter":
                self.data.add(node.get_name())
            elif all(value.get_node().get_name() in self.constant for value in node.input_values()):
                self.constant.add(node.get_name())

    @cached_property
    def outputs(self) -> list[ov.Output]:
        """What the model gives, in order: what each Result reads, those that are left out aside."""
        results = [result for result in self.model.get_results() if not self.left_out & result.output(0).get_names()]
        return [result.input_value(0) for result in results]

    @cached_property
    def by_layer_name(self) -> dict[str, ov.Output]:
        """Map friendly node names and tensor names to the (first) output that bears them."""
        names: dict[str, ov.Output] = {}
        for node in self.nodes:
            if kind(node) == "Result":
                continue
            for output in node.outputs():
                names.setdefault(node.get_friendly_name(), output)
                for name in output.get_names():
                    names.setdefault(name, output)
        return names

    def is_data(self, output: ov.Output) -> bool:
        """Whether ``output`` carries image content."""
        return output.get_node().get_name() in self.data

    def data_inputs(self, node: ov.Node) -> list[ov.Output]:
        """Return those inputs of ``node`` that carry image content."""
        return [value for value in node.input_values() if self.is_data(value)]

    def ancestors(self, outputs: Iterable[ov.Output], *, stop: Iterable[ov.Output] = ()) -> set[str]:
        """Return the names of the data nodes that ``outputs`` depend on, themselves included, up to ``stop``."""
        stops = {port_of(output) for output in stop}
        todo = [output for output in outputs if port_of(output) not in stops]
        seen: set[str] = set()
        while todo:
            node = todo.pop().get_node()
            if node.get_name() in seen or node.get_name() not in self.data:
                continue
            seen.add(node.get_name())
            todo.extend(value for value in node.input_values() if port_of(value) not in stops)
        return seen

    def descendants(self, outputs: Iterable[ov.Output]) -> set[str]:
        """Return the names of the data nodes that read ``outputs``, directly or not."""
        todo = list(outputs)
        seen: set[str] = set()
        while todo:
            for consumer, _ in self.consumers.get(port_of(todo.pop()), ()):
                name = consumer.get_name()
                if name in self.data and name not in seen:
                    seen.add(name)
                    todo.extend(consumer.outputs())
        return seen

    def between(self, starts: Iterable[ov.Output], ends: Iterable[ov.Output]) -> set[str]:
        """Return the names of the nodes on any data path from ``starts`` (excluded) to ``ends`` (included)."""
        starts = list(starts)
        return self.descendants(starts) & self.ancestors(ends, stop=starts)

    def ordered(self, names: Iterable[str]) -> list[ov.Node]:
        """Return the nodes with these names in topological order."""
        return [self.nodes[i] for i in sorted(self.position[name] for name in names)]

    def cuts(self, end: ov.Output, *, start: ov.Output | None = None) -> list[ov.Output]:
        """Return the cut vertices of the data flow into ``end``, from ``end`` upwards (``end`` included).

        A cut vertex is a tensor that every path from the image (or from ``start``, included then) to ``end`` runs
        through. Nodes with several outputs are left out.
        """
        names = self.ancestors([end])
        if start is not None:
            names = (names & self.descendants([start])) | {start.get_node().get_name()}
        path = self.ordered(names)
        return list(self._cuts(path))[::-1]

    def _cuts(self, path: list[ov.Node]) -> Iterator[ov.Output]:
        order = {node.get_name(): i for i, node in enumerate(path)}
        reach = 0
        for i, node in enumerate(path):
            if reach <= i and len(node.outputs()) == 1:
                yield node.output(0)
            for output in node.outputs():
                for consumer, _ in self.consumers.get(port_of(output), ()):
                    if kind(consumer) != "ShapeOf":
                        reach = max(reach, order.get(consumer.get_name(), 0))
