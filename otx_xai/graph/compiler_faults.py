"""What OpenVINO's compiler gets wrong, written so that it gets it right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.graph.constants import evaluate
from otx_xai.graph.cuts import cut_of
from otx_xai.graph.view import Port, computed_before, constant_value, kind, port_of


def split_before_gathers(model: ov.Model) -> None:
    """Replace slices in front of GatherElements by splits, in place."""
    for node in model.get_ordered_ops():
        if kind(node) == "GatherElements":
            axis = int(node.get_attributes()["axis"])
            node.input(0).replace_source_output(split_instead(node.input_value(0), axis))


def split_instead(gathered: ov.Output, axis: int) -> ov.Output:
    """Return what GatherElements is to take its elements from, so that a slice in front of it is not lost.

    Up to version 2026.4 a slice that begins at 0 is dropped there, since indices reach no further; along another axis
    than that of the indices, as in YOLO26 with key points or turned boxes, the model then cannot be compiled at all,
    and one of torch not even converted.

    Args:
        gathered: what it takes its elements from.
        axis: of the indices.

    Returns:
        The first part of a split where ``gathered`` is such a slice; else ``gathered`` itself.
    """
    sliced = gathered.get_node()
    cut = cut_of(sliced) if kind(sliced) in ("Slice", "StridedSlice") else None
    if cut is None or cut.drops or cut.begin or not cut.end or cut.axis == axis:
        return gathered
    lengths = ops.constant(np.array([cut.end, -1], np.int64))
    split = ops.variadic_split(sliced.input_value(0), ops.constant(np.int64(cut.axis)), lengths)
    split.set_friendly_name(f"{sliced.get_friendly_name()}/split")
    return split.output(0)


def own_factors(ends: Iterable[ov.Output]) -> None:
    """Give products in front of some tensors constant factors that nobody else reads, in place.

    Where a graph has quantisers, the compiler takes products with constants for scalings, up to version 2026.4, and
    moves them behind what follows. Behind a padding it pads the constant, and for all who read it: the way back of a
    slice pads, and shares its factors with the way there. The model then could not be compiled.

    Args:
        ends: tensors of a graph that is being written.
    """
    nodes = computed_before(ends)
    if any(kind(node) == "FakeQuantize" for node in nodes):
        shared = list(_shared_factors(nodes))
        for (node, i), value in zip(shared, _values([node.input_value(i) for node, i in shared]), strict=True):
            own = ops.constant(value, dtype=node.input_value(i).get_element_type())
            node.input(i).replace_source_output(own.output(0))


def _shared_factors(nodes: Iterable[ov.Node]) -> Iterator[tuple[ov.Node, int]]:
    """Yield products, given in order, with the number of a factor that an earlier product has as well."""
    constant: set[str] = set()
    factors: set[Port] = set()
    for node in nodes:
        sources = node.input_values()
        is_constant = [value.get_node().get_name() in constant for value in sources]
        if kind(node) != "Parameter" and all(is_constant):
            constant.add(node.get_name())
        elif kind(node) == "Multiply":
            for i, value in enumerate(sources):
                if is_constant[i] and port_of(value) in factors and max(value.get_shape(), default=1) > 1:
                    yield node, i
                elif is_constant[i]:
                    factors.add(port_of(value))


def _values(outputs: list[ov.Output]) -> Iterator[NDArray[np.generic]]:
    """Yield the values of constants, and of what is computed of constants alone."""
    known = [constant_value(output) for output in outputs]
    unknown = [output for output, value in zip(outputs, known, strict=True) if value is None]
    computed = iter(evaluate(unknown) if unknown else [])
    for value in known:
        yield next(computed) if value is None else value
