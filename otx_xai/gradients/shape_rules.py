"""Rules of operations that arrange elements anew, each going to one place: the way back is arranged as before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import shaped, vector, zeros
from otx_xai.gradients.step import Gradients, Rule, Size, Step, rank, sizes, tensor_sizes
from otx_xai.graph.surgery import size_of, transpose
from otx_xai.graph.view import constant_ints, dimensions, kind


def _reshaped(step: Step) -> Gradients:
    return {0: shaped(step.up, sizes(step, step.x))}


def _order(node: ov.Node) -> list[int] | None:
    order = constant_ints(node.input_value(1))
    return list(range(rank(node.input_value(0))))[::-1] if order == [] else order


def _transposed(step: Step) -> Gradients:
    order = _order(step.node) or []
    back = sorted(range(len(order)), key=order.__getitem__)
    return {0: transpose(step.up, [*range(step.lead), *(step.lead + axis for axis in back)])}


def _transpose_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return (_order(node) or [1])[0] != 0


def _transpose_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    return "computes its order of axes" if _order(node) is None else None


def _axis(node: ov.Node) -> int:
    """Return the axis of a Concat, counted from the last."""
    own = rank(node.output(0))
    return int(node.get_attributes()["axis"]) % own - own


def _joined(step: Step) -> Gradients:
    axis, inputs = _axis(step.node), step.node.input_values()
    lengths = [tensor_sizes(value)[axis] for value in inputs]
    place = ops.constant(np.int64(axis + rank(step.up)))
    parts = ops.variadic_split(step.up, place, vector(lengths))
    return {i: parts.output(i) for i in step.wanted}


def _concat_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return _axis(node) == -rank(node.output(0))


def _split(step: Step) -> Gradients:
    axis = _split_axis(step.node) or -1
    parts = [
        zeros(sizes(step, output), step.x) if up is None else up
        for output, up in zip(step.node.outputs(), step.ups, strict=True)
    ]
    return {0: ops.concat(parts, axis + rank(parts[0])).output(0)}


def _split_axis(node: ov.Node) -> int | None:
    axis, own = constant_ints(node.input_value(1)), rank(node.input_value(0))
    return None if axis is None else axis[0] % own - own


def _split_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return _split_axis(node) == -rank(node.input_value(0))


def _split_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    return "computes its axis" if _split_axis(node) is None else None


def merged(step: Step, value: ov.Output) -> ov.Output:
    """Return a gradient whose seeds, where they have an axis of their own, are a batch together with the images."""
    if not step.lead:
        return value
    dims = (dimensions(value) or [])[2:]
    return shaped(value, [-1, *_sizes_behind(value, dims)])


def _sizes_behind(value: ov.Output, dims: Sequence[int | None]) -> list[Size]:
    return [size_of(value, 2 + i) if size is None else size for i, size in enumerate(dims)]


def parted(step: Step, value: ov.Output, index: int = 0) -> ov.Output:
    """Undo :func:`merged` for the gradient of an input."""
    return shaped(value, sizes(step, step.node.input_value(index))) if step.lead else value


def _depth(step: Step) -> Gradients:
    attributes = step.node.get_attributes()
    is_deep = kind(step.node) == "DepthToSpace"
    make = ops.space_to_depth if is_deep else ops.depth_to_space
    back = make(merged(step, step.up), str(attributes["mode"]).lower(), int(attributes["block_size"]))
    return {0: parted(step, back.output(0))}


def _shuffled(step: Step) -> Gradients:
    attributes, own = step.node.get_attributes(), rank(step.x)
    axis, groups = int(attributes["axis"]) % own, int(attributes["group"])
    length = (dimensions(step.x) or [])[axis] or groups
    back = ops.shuffle_channels(step.up, axis + step.lead, length // groups)
    return {0: back.output(0)}


def _shuffle_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    return int(node.get_attributes()["axis"]) % rank(node.input_value(0)) == 0


def _shuffle_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    axis = int(node.get_attributes()["axis"])
    return "has channels of unknown number" if (dimensions(node.input_value(0)) or [])[axis] is None else None


SHAPE_RULES = {
    "reshaped": Rule(_reshaped, inputs=(0,)),
    "transposed": Rule(_transposed, inputs=(0,), first_axis=_transpose_first, refusal=_transpose_refusal),
    "joined": Rule(_joined, first_axis=_concat_first),
    "split": Rule(_split, inputs=(0,), first_axis=_split_first, refusal=_split_refusal),
    "depth": Rule(_depth, inputs=(0,)),
    "shuffled": Rule(_shuffled, inputs=(0,), first_axis=_shuffle_first, refusal=_shuffle_refusal),
}
"""Rules of what arranges elements anew, by the names that the table of operations uses."""
