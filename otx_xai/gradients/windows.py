"""The way back confined to windows: far from its place hardly any gradient of a score of a detector is left.

A forward pass over the whole image hands over what the way back reads. There, each window is an image of its own that
reads its part. So what is computed is exact, but for gradients that would have left a window and come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.gradient import gradients
from otx_xai.gradients.sweep import find_way
from otx_xai.gradients.tail import Tail, tail_of
from otx_xai.gradients.window_reads import Read, WindowReads
from otx_xai.graph.labels import Labels
from otx_xai.graph.traits import RESHAPES, trait
from otx_xai.graph.view import Port, View, dimensions, kind, port_of
from otx_xai.records import Size


@dataclass(frozen=True)
class Confined:
    """The way back from outputs to tensors within windows, to be made a model.

    Args:
        starts: tensors of the viewed model that the forward pass starts from.
        parameters: what stands for them in the forward pass.
        reads: what the forward pass hands over to the way back.
        corners: input of the way back, ``int64`` ``(S, 2)``: row and column of each window's first place on the
            coarsest grid.
        gradients: for each of the tensors its gradient, ``(S, C, h, w)``.
        tensors: parts of the tensors themselves, likewise.
    """

    starts: tuple[ov.Output, ...]
    parameters: tuple[ov.Node, ...]
    reads: tuple[Read, ...]
    corners: ov.Node
    gradients: tuple[ov.Output, ...]
    tensors: tuple[ov.Output, ...]


class Grids:
    """What lies between outputs and tensors of a graph, where each tensor is a map whose places see their neighbours.

    Args:
        view: the graph, static, for one image.
        labels: meaning of its axes.
        ends: outputs that are to be differentiated.
        wrt: tensors whose gradients are asked for.

    Attributes:
        coarsest: rows and columns of the coarsest grid on the way; those of all others are multiples of these.

    Raises:
        GraphError: an operation looks at all places, or at others than those around each place.
    """

    def __init__(
        self, view: View, labels: Mapping[Port, Labels], ends: Sequence[ov.Output], wrt: Sequence[ov.Output]
    ) -> None:
        self.view, self.ends, self.wrt = view, tuple(ends), tuple(wrt)
        self._labels = labels
        self.way = find_way(ends, wrt).nodes
        read = [value for node in self.way for value in view.data_inputs(node)]
        grids = [self.grid_of(value) for value in (*wrt, *read, *ends)]
        self.coarsest = (min(rows for rows, _ in grids), min(columns for _, columns in grids))
        for node in self.way:
            self._refuse_far_sight(node)
            self.factor(node.output(0))

    def grid_of(self, value: ov.Output) -> Size:
        """Return rows and columns of a tensor.

        Raises:
            GraphError: it is no map.
        """
        own, dims = self._labels.get(port_of(value), ()), dimensions(value) or []
        if own[:1] != ("N",) or own[-2:] != ("H", "W") or None in dims or dims[0] != 1:
            raise GraphError(f"{value.get_node().get_friendly_name()!r} is no map of one image.")
        return dims[-2] or 1, dims[-1] or 1

    def factor(self, value: ov.Output) -> int:
        """Return how many times finer than the coarsest a grid is."""
        (rows, columns), (least_rows, least_columns) = self.grid_of(value), self.coarsest
        factor = rows // least_rows
        if (rows, columns) != (factor * least_rows, factor * least_columns):
            raise GraphError(f"The grid of {value.get_node().get_friendly_name()!r} is no multiple of the coarsest.")
        return factor

    def within(self, value: ov.Output, window: Size) -> list[int]:
        """Return the shape of a tensor within windows, -1 for their number.

        Args:
            value: the tensor.
            window: rows and columns of a window on the coarsest grid.
        """
        inner = [size or 1 for size in (dimensions(value) or [])[1:-2]]
        return [-1, *inner, *(self.factor(value) * places for places in window)]

    def _refuse_far_sight(self, node: ov.Node) -> None:
        own, operation = trait(kind(node)), kind(node)
        constants = [value for value in node.input_values() if not self.view.is_data(value)]
        local = own.places == "each"
        if own.axes == "broadcast":
            local = all(self._is_everywhere_alike(value) for value in constants)
        elif own.window is not None:
            local = own.window.shape != "adaptive"
        elif operation == "Interpolate":
            local = node.get_attributes()["coordinate_transformation_mode"] != "align_corners"
        elif own.axes in ("reshape", "concat", "cut", "split"):
            local = all(self.grid_of(value) == self.grid_of(node.output(0)) for value in self.view.data_inputs(node))
        if not local:
            raise GraphError(f"{operation} {node.get_friendly_name()!r} may look at places far away.")

    def _is_everywhere_alike(self, value: ov.Output) -> bool:
        return all(size == 1 for size in (dimensions(value) or [])[-2:])


def confined(grids: Grids, window: Size, seeds: Callable[[ov.Output, list[int]], ov.Output]) -> Confined:
    """Write the way back within windows.

    Args:
        grids: what is differentiated.
        window: rows and columns of a window, in places of the coarsest grid.
        seeds: makes the seed ``(S, C, h, w)`` of an output, given the output and this shape.

    Raises:
        GraphError: gradients cannot pass an operation, or one of them needs the whole image.
    """
    whole, part = (tail_of(grids.view, grids.ends, grids.wrt) for _ in range(2))
    _shrink(grids, part, window)
    known = {node.get_name() for node in part.twin.model.get_ordered_ops()}
    known |= {parameter.get_name() for parameter in part.parameters}
    seeded = [(end, seeds(end, grids.within(own, window))) for own, end in zip(grids.ends, part.ends, strict=True)]
    found = gradients(seeded, part.wrt)
    reads = WindowReads(grids.coarsest, window)
    for start, own, other in zip(part.starts, part.parameters, whole.parameters, strict=True):
        reads.know(own.output(0), start, other.output(0))
    for value in (value for node in grids.way for value in node.outputs()):
        reads.know(part.twin.output(value), value, whole.twin.output(value))
    reads.redirect(found, known)
    tensors = tuple(map(reads.part, part.wrt))
    return Confined(whole.starts, whole.parameters, reads.all, reads.corners, tuple(found), tensors)


def _shrink(grids: Grids, part: Tail, window: Size) -> None:
    """Give the copy of the forward pass the size of windows; it is never run, but the way back is written by it."""
    for start, parameter in zip(part.starts, part.parameters, strict=True):
        parameter.set_partial_shape(ov.PartialShape(grids.within(start, window)))
        parameter.validate_and_infer_types()
    for node in grids.way:
        copy, shape = part.twin.node(node), grids.within(node.output(0), window)
        if kind(node) == "Reshape":
            copy.input(1).replace_source_output(ops.constant(np.array(shape, np.int64)).output(0))
        elif kind(node) in RESHAPES:
            raise GraphError(f"{kind(node)} {node.get_friendly_name()!r} may touch the axis of images.")
        elif kind(node) == "Interpolate" and node.get_attributes()["shape_calculation_mode"] == "sizes":
            _resize_to(node, copy, shape)
        try:
            copy.validate_and_infer_types()
        except RuntimeError as error:
            raise GraphError(f"{kind(node)} {node.get_friendly_name()!r} has a fixed size.") from error
        for value, made in zip(node.outputs(), copy.outputs(), strict=True):
            if made.get_partial_shape() != ov.PartialShape(grids.within(value, window)):
                raise GraphError(f"{kind(node)} {node.get_friendly_name()!r} depends on the size of the image.")


def _resize_to(node: ov.Node, copy: ov.Node, shape: Sequence[int]) -> None:
    before = node.input_value(1).get_shape()
    if tuple(before) != (2,):
        raise GraphError(f"Interpolate {node.get_friendly_name()!r} names more axes than those of places.")
    sizes = np.array(shape[-2:], node.input_value(1).get_element_type().to_dtype())
    copy.input(1).replace_source_output(ops.constant(sizes).output(0))
