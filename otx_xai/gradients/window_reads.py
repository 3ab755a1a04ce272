"""What the way back within windows reads of a forward pass over the whole image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.surgery import reshape, transpose
from otx_xai.graph.traits import BINARY, UNARY
from otx_xai.graph.view import Port, computed_before, dimensions, kind, port_of
from otx_xai.records import Size


@dataclass(frozen=True)
class Read:
    """A tensor that the forward pass hands over, ``(H * W, C)``.

    Args:
        key: what it is; the same in every way back through the same model.
        whole: the tensor, in the forward pass.
        parameter: what stands for it in the way back.
    """

    key: str
    whole: ov.Output
    parameter: ov.Node


@dataclass(frozen=True)
class _Known:
    """A tensor of the forward pass that the way back was written by.

    Args:
        key: what it is.
        whole: the tensor over the whole image.
    """

    key: str
    whole: ov.Output


class WindowReads:
    """Lets the way back read parts of tensors of the whole image.

    Args:
        coarsest: rows and columns of the coarsest grid.
        window: rows and columns of a window on it.

    Attributes:
        corners: ``int64`` ``(S, 2)``: row and column of each window's first place on the coarsest grid.
    """

    def __init__(self, coarsest: Size, window: Size) -> None:
        self._coarsest, self._window = coarsest, window
        self.corners = ops.parameter([-1, 2], np.int64)
        self._known: dict[Port, _Known] = {}
        self._reads: dict[str, Read] = {}
        self._parts: dict[tuple[str, bool], ov.Output] = {}
        self._numbers: dict[int, ov.Output] = {}

    @property
    def all(self) -> tuple[Read, ...]:
        """What is read, in the order of its first use."""
        return tuple(self._reads.values())

    def know(self, copy: ov.Output, value: ov.Output, whole: ov.Output) -> None:
        """Tell of a tensor of the forward pass.

        Args:
            copy: that of the size of windows, which the way back was written by.
            value: that of the viewed model.
            whole: that of the size of the image.
        """
        name, index = port_of(value)
        self._known[port_of(copy)] = _Known(f"{name}:{index}", whole)

    def redirect(self, results: Sequence[ov.Output], old: Set[str]) -> None:
        """Let all that new operations above some results read of the forward pass be read from the whole.

        Element-wise arithmetic on nothing but the forward pass, such as slopes of activations, becomes part of it.

        Args:
            results: of the way back.
            old: unique names of operations that do not belong to the way back.
        """
        for node in computed_before(results, old):
            read = [value for value in node.input_values() if kind(value.get_node()) != "Constant"]
            if kind(node) in UNARY | BINARY and all(port_of(value) in self._known for value in read):
                self._compute_ahead(node)
                continue
            for i, value in enumerate(node.input_values()):
                if port_of(value) not in self._known:
                    continue
                if kind(node) == "ShapeOf":
                    shape = self._shape(value, node.get_element_type())
                    for target in list(node.output(0).get_target_inputs()):
                        target.replace_source_output(shape)
                else:
                    part = self.part(value, spread=kind(node) not in BINARY)
                    node.input(i).replace_source_output(part)

    def _compute_ahead(self, node: ov.Node) -> None:
        """Make an operation of the way back one of the forward pass."""
        keys = []
        for i, value in enumerate(node.input_values()):
            known = self._known.get(port_of(value))
            if known is None:
                keys.append(hashlib.sha256(value.get_node().get_data().tobytes()).hexdigest())
            else:
                keys.append(known.key)
                node.input(i).replace_source_output(known.whole)
        node.validate_and_infer_types()
        key = f"{kind(node)}{node.get_attributes()}({','.join(keys)})"
        self._known[port_of(node.output(0))] = _Known(hashlib.sha256(key.encode()).hexdigest(), node.output(0))

    def _shape(self, value: ov.Output, integer: ov.Type) -> ov.Output:
        """Return the shape of the windows of a tensor."""
        sizes = np.array((dimensions(value) or [])[1:], integer.to_dtype())
        count = ops.gather(ops.shape_of(self.corners, output_type=integer), np.array([0]), np.int64(0))
        return ops.concat([count, ops.constant(sizes)], 0).output(0)

    def part(self, value: ov.Output, *, spread: bool = False) -> ov.Output:
        """Return the windows ``(S, C, h, w)`` of a tensor that is known by its copy.

        Args:
            value: the copy.
            spread: give windows that are the whole image one by one; else they are one for all, ``(1, C, h, w)``.
        """
        known, is_whole = self._known[port_of(value)], self._window == self._coarsest and not spread
        if (known.key, is_whole) not in self._parts:
            dims = dimensions(known.whole) or []
            if len(dims) != 4:
                raise GraphError(f"{known.whole.get_node().get_friendly_name()!r} is no map with channels.")
            _, channels, rows, columns = (size or 1 for size in dims)
            if known.key not in self._reads:
                places = reshape(transpose(known.whole, (0, 2, 3, 1)), (rows * columns, channels))
                parameter = ops.parameter([rows * columns, channels], known.whole.get_element_type())
                self._reads[known.key] = Read(known.key, places, parameter)
            source = self._reads[known.key].parameter.output(0)
            if is_whole:
                windows = reshape(source, (1, rows, columns, channels))
            else:
                places = self._places(rows // self._coarsest[0])
                windows = ops.gather(source, places, ops.constant(np.int64(0))).output(0)
            self._parts[known.key, is_whole] = transpose(windows, (0, 3, 1, 2))
        return self._parts[known.key, is_whole]

    def _places(self, factor: int) -> ov.Output:
        """Return the numbers of the places of each window, ``(S, h, w)``, on a grid so many times finer."""
        if factor not in self._numbers:
            columns = factor * self._coarsest[1]
            strides = ops.constant(np.array([[factor * columns, factor]], np.int64))
            first = ops.reduce_sum(ops.multiply(self.corners, strides), np.array([1]))
            height, width = (factor * places for places in self._window)
            steps = np.arange(height)[:, None] * columns + np.arange(width)
            corner = ops.unsqueeze(first, np.array([1, 2]))
            self._numbers[factor] = ops.add(corner, steps[None].astype(np.int64)).output(0)
        return self._numbers[factor]
