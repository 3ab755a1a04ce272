"""Rules of convolutions and of their transposes: each is the way back of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.gradients.formulas import add, array, ints, weights_of
from otx_xai.gradients.shape_rules import merged, parted
from otx_xai.gradients.step import Gradients, Rule, Size, Step, rank, tensor_sizes
from otx_xai.graph.view import dimensions, kind


@dataclass(frozen=True)
class Geometry:
    """How a window moves.

    Args:
        strides: one an axis, as all here.
        dilations: distances of its elements.
        extents: lengths of the window, dilated.
        begins: paddings in front; ``None``: as ``SAME_*`` chooses them for lengths that are not known yet.
        is_upper: of such a padding, the larger part lies behind.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    extents: tuple[int, ...]
    begins: tuple[int, ...] | None
    is_upper: bool = True


def geometry(node: ov.Node, kernel: Sequence[int]) -> Geometry:
    """Return how the window of an operation moves.

    Args:
        node: a convolution or a pooling.
        kernel: lengths of its window.
    """
    attributes = node.get_attributes()
    strides = tuple(map(int, attributes["strides"]))
    dilations = tuple(map(int, attributes.get("dilations") or [1] * len(kernel)))
    extents = tuple((size - 1) * gap + 1 for size, gap in zip(kernel, dilations, strict=True))
    mode = str(attributes["auto_pad"]).lower()
    dims = dimensions(node.input_value(0)) or []
    if mode == "valid":
        begins: tuple[int, ...] | None = (0,) * len(kernel)
    elif mode.startswith("same") and None in dims[2:]:
        begins = None
    else:
        begins = tuple(map(int, attributes["pads_begin"]))
    return Geometry(strides, dilations, extents, begins, mode != "same_lower")


def _kernel(node: ov.Node) -> list[int] | None:
    """Return the lengths of the window of weights, ``None`` where they are not known."""
    dims = dimensions(node.input_value(1))
    found = [size for size in (dims or [])[3 if kind(node).startswith("Group") else 2 :] if size is not None]
    return found if dims is not None and len(found) == rank(node.input_value(0)) - 2 else None


def _convolution(step: Step) -> Gradients:
    weights = step.node.input_value(1)
    is_grouped = kind(step.node).startswith("Group")
    moves = geometry(step.node, _kernel(step.node) or [])
    known, up = weights_of(weights), merged(step, step.up)
    if known is not None and _can_be_turned(step.node, moves):
        return {0: parted(step, _turned_convolution(step, up, known, moves, is_grouped=is_grouped))}
    if known is not None:
        weights = array(known.copy(), up)
    return {0: parted(step, sent_through(step, up, weights, moves, is_grouped=is_grouped))}


def ends_of(node: ov.Node, places: int) -> list[int]:
    """Return the paddings behind."""
    attributes = node.get_attributes()
    return [0] * places if str(attributes["auto_pad"]).lower() == "valid" else list(map(int, attributes["pads_end"]))


def _can_be_turned(node: ov.Node, moves: Geometry) -> bool:
    if moves.begins is None or set(moves.strides) != {1}:
        return False
    pads = zip(moves.begins, ends_of(node, len(moves.begins)), moves.extents, strict=True)
    return all(max(begin, end) < extent for begin, end, extent in pads)


def _turned_convolution(
    step: Step, up: ov.Output, weights: NDArray[np.float32], moves: Geometry, *, is_grouped: bool
) -> ov.Output:
    """Write the way back of a convolution without strides as a convolution with turned weights, which is fast."""
    places = rank(step.x) - 2
    order = weights.ndim - places
    turned = np.flip(np.swapaxes(weights, order - 2, order - 1), tuple(range(order, weights.ndim)))
    ends = ends_of(step.node, places)
    pads = [
        [extent - 1 - pad for extent, pad in zip(moves.extents, side, strict=True)]
        for side in (moves.begins or (), ends)
    ]
    make = ops.group_convolution if is_grouped else ops.convolution
    kernel = array(np.ascontiguousarray(turned), up)
    return make(up, kernel, list(moves.strides), *pads, list(moves.dilations), "explicit").output(0)


def sent_through(step: Step, up: ov.Output, weights: ov.Output, moves: Geometry, *, is_grouped: bool) -> ov.Output:
    """Return what a transposed convolution makes of a gradient, cut to the size of the input of a step.

    Args:
        step: of a convolution, or of a pooling that is written as one.
        up: the gradient, seeds and images being one batch.
        weights: of the convolution, as they are.
        moves: how its window moves.
        is_grouped: whether the weights have an axis of groups in front.
    """
    make = ops.group_convolution_backprop_data if is_grouped else ops.convolution_backprop_data
    inside, outside = (dimensions(tensor) or [] for tensor in (step.x, step.y))
    strides, dilations = list(moves.strides), list(moves.dilations)
    if moves.begins is not None and None not in [*inside[2:], *outside[2:]]:
        rows = zip(inside[2:], outside[2:], strides, moves.extents, moves.begins, strict=True)
        ends = [(out or 0) * s - s + extent - begin - (size or 0) for size, out, s, extent, begin in rows]
        extra = [max(-end, 0) for end in ends]
        shapes = {"pads_begin": list(moves.begins), "pads_end": [max(end, 0) for end in ends], "output_padding": extra}
        if all(more < s for more, s in zip(extra, strides, strict=True)):
            return make(up, weights, strides, dilations=dilations, auto_pad="explicit", **shapes).output(0)
    none = [0] * len(strides)
    extra = [s - 1 for s in strides]
    shapes = {"pads_begin": none, "pads_end": none, "output_padding": extra}
    whole = make(up, weights, strides, dilations=dilations, auto_pad="explicit", **shapes).output(0)
    return _cut_to_input(step, whole, moves)


def _cut_to_input(step: Step, whole: ov.Output, moves: Geometry) -> ov.Output:
    own, outside = tensor_sizes(step.x)[2:], tensor_sizes(step.y)[2:]
    axes = range(2, 2 + len(own))
    starts = [
        ints([moves.begins[i]]) if moves.begins is not None else _same_begin(moves, i, size, out)
        for i, (size, out) in enumerate(zip(own, outside, strict=True))
    ]
    stops = [
        add(start, ints([size]) if isinstance(size, int) else size) for start, size in zip(starts, own, strict=True)
    ]
    one = ints([1] * len(own))
    return ops.slice(whole, ops.concat(starts, 0), ops.concat(stops, 0), one, ints(axes)).output(0)


def _same_begin(moves: Geometry, i: int, size: Size, out: Size) -> ov.Output:
    """Return the padding in front that ``SAME_*`` chooses for a length that is known when the model runs."""
    long = [ints([part]) if isinstance(part, int) else part for part in (size, out)]
    reach = ops.add(ops.multiply(ops.subtract(long[1], ints([1])), ints([moves.strides[i]])), ints([moves.extents[i]]))
    total = ops.maximum(ops.subtract(reach, long[0]), ints([0]))
    half = ops.divide(ops.add(total, ints([0 if moves.is_upper else 1])), ints([2]))
    return half.output(0)


def _transposed_convolution(step: Step) -> Gradients:
    weights, up = step.node.input_value(1), merged(step, step.up)
    moves = geometry(step.node, _kernel(step.node) or [])
    begins = list(moves.begins or [])
    ends = [int(end) for end in step.node.get_attributes()["pads_end"]]
    inside, outside = (dimensions(tensor) or [] for tensor in (step.x, step.y))
    if None not in [*inside[2:], *outside[2:]]:
        rows = zip(inside[2:], outside[2:], moves.strides, moves.extents, begins, strict=True)
        ends = [((size or 0) - 1) * s + extent - (out or 0) - begin for size, out, s, extent, begin in rows]
    cropped = _cropped(up, [min(end, 0) for end in ends])
    make = ops.group_convolution if kind(step.node).startswith("Group") else ops.convolution
    pads = [max(end, 0) for end in ends]
    back = make(cropped, weights, list(moves.strides), begins, pads, list(moves.dilations), "explicit")
    return {0: parted(step, back.output(0))}


def _cropped(value: ov.Output, ends: Sequence[int]) -> ov.Output:
    """Leave out the last places, which no window reaches."""
    if not any(ends):
        return value
    axes = range(2, 2 + len(ends))
    stops = ints(end or 2**62 for end in ends)
    zeros, ones = ints([0] * len(ends)), ints([1] * len(ends))
    return ops.slice(value, zeros, stops, ones, ints(axes)).output(0)


def _refusal(node: ov.Node, wanted: frozenset[int]) -> str | None:
    if wanted != {0}:
        return "computes its weights from the image"
    return "has weights of unknown size" if _kernel(node) is None else None


def _transposed_refusal(node: ov.Node, wanted: frozenset[int]) -> str | None:
    dims = [*(dimensions(node.input_value(0)) or [])[2:], *(dimensions(node.output(0)) or [])[2:]]
    is_explicit = str(node.get_attributes()["auto_pad"]).lower() == "explicit" and node.get_input_size() < 3
    if None in dims and not is_explicit:
        return "chooses paddings for lengths that are not known"
    return _refusal(node, wanted)


CONVOLUTION_RULES = {
    "convolution": Rule(_convolution, refusal=_refusal),
    "transposed_convolution": Rule(_transposed_convolution, inputs=(0, 1), refusal=_transposed_refusal),
}
"""Rules of convolutions, by the names that the table of operations uses."""
