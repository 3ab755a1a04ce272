"""How many classes an output of class indices chooses among."""

from __future__ import annotations

import openvino as ov

from otx_xai.graph.traits import BINARY, MOVES, PICKS
from otx_xai.graph.view import constant_ints, constant_value, dimensions, kind

_FOLLOWED = MOVES | PICKS | {"Convert", "Floor", "Select"}


def count_of_classes(indices: ov.Output) -> int | None:
    """Tell the number of classes from where their indices are computed; ``None`` where the graph does not tell.

    An index is the place of the best of several scores along the axis of classes, or the rest of a place among places
    times classes after division by their number.

    Args:
        indices: class indices, or a tensor that only moves them.
    """
    output = indices
    while True:
        node = output.get_node()
        if kind(node) in ("Mod", "FloorMod"):
            return _number(node.input_value(1))
        if kind(node) == "Subtract":
            return _rest(node)
        if kind(node) == "TopK" and output.get_index() == 1:
            return _length(node.input_value(0), int(node.get_attributes()["axis"])) if _takes_one(node) else None
        if kind(node) == "NonMaxSuppression":
            return _length(node.input_value(1), 1) if output.get_index() == 0 else None
        if kind(node) in BINARY or kind(node) not in _FOLLOWED:
            return None
        output = _followed(node)


def _followed(node: ov.Node) -> ov.Output:
    """Return the input that an operation passes on."""
    if kind(node) == "Select":
        return node.input_value(1)
    if kind(node).startswith("Scatter"):
        return node.input_value(2)
    return node.input_value(0)


def _takes_one(node: ov.Node) -> bool:
    return constant_ints(node.input_value(1)) == [1]


def _length(output: ov.Output, axis: int) -> int | None:
    dims = dimensions(output)
    return None if dims is None else dims[axis]


def _rest(subtract: ov.Node) -> int | None:
    """Return ``K`` of ``index - index / K * K``."""
    product = subtract.input_value(1).get_node()
    return _number(product.input_value(1)) if kind(product) == "Multiply" else None


def _number(output: ov.Output) -> int | None:
    value = constant_value(output)
    return None if value is None or value.size != 1 else int(value.reshape(-1)[0])
