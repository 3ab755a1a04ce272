"""Rules of operations that put elements elsewhere, also several times or not at all: the way back leads to where from.

One rule holds for all of them: the operation, done to the numbers of the elements, tells where each came from, and
gradients are added up there. What networks are full of has shorter ways.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.gradients.formulas import again, axes_of, ints, number, shaped, sum_over, summed_at, summed_to_input
from otx_xai.gradients.reduction_rules import names_first, without_constant_axes
from otx_xai.gradients.step import Gradients, Rule, Size, Step, rank, sizes, tensor_sizes
from otx_xai.graph.surgery import reshape
from otx_xai.graph.view import constant_ints, constant_value, dimensions


def numbered(tensor: ov.Output) -> ov.Output:
    """Return 0, 1, … in the shape of a tensor, ``i32``."""
    own = tensor_sizes(tensor)
    if all(isinstance(size, int) for size in own):
        shape = [size for size in own if isinstance(size, int)]
        return ops.constant(np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)).output(0)
    whole = ops.shape_of(tensor, output_type="i32")
    total = ops.reduce_prod(whole, ints([0]), False)
    row = ops.range(ops.constant(np.int32(0)), total, ops.constant(np.int32(1)), "i32")
    return ops.reshape(row, whole, special_zero=False).output(0)


def sent_back(step: Step, origins: ov.Output, index: int = 0) -> ov.Output:
    """Return the gradient of an input each of whose elements went to some places of the output.

    Args:
        step: of the operation.
        origins: for each place of the output, the number of the element that it came from.
        index: of the input.
    """
    tensor = step.node.input_value(index)
    front: list[Size] = [] if step.front == "plain" else [step.count]
    flat = reshape(origins, [*[1] * len(front), -1])
    up = shaped(step.up, [*front, -1])
    where = ops.broadcast(flat, ops.shape_of(up)) if front else flat
    whole = ops.reduce_prod(ops.shape_of(tensor), ints([0]), True).output(0)
    dims = tensor_sizes(tensor)
    if all(isinstance(size, int) for size in dims):
        whole = int(np.prod([size for size in dims if isinstance(size, int)], dtype=int))
    return shaped(summed_at([*front, whole], where, up, len(front)), sizes(step, tensor))


def relocated(step: Step) -> Gradients:
    """Pass gradients back through any operation that copies elements of its first input to fixed or computed places."""
    inputs = [numbered(step.x), *step.node.input_values()[1:]]
    return {0: sent_back(step, again(step.node, inputs).output(0))}


def placed(up: ov.Output, axis: int, origins: NDArray[np.generic], size: int) -> ov.Output | None:
    """Return the gradient of what ``origins`` were taken from along an axis; ``None`` where some were taken twice.

    Args:
        up: gradient of the parts.
        axis: counted from the last.
        origins: number of the element along the axis that each part is; whole numbers from 0.
        size: length of the axis before.
    """
    if len(set(origins.tolist())) < len(origins):
        return None
    if np.array_equal(origins, np.arange(size)):
        return up
    if len(origins) and np.array_equal(origins, np.arange(origins[0], origins[0] + len(origins))):
        return padded(up, axis, int(origins[0]), int(size - origins[0] - len(origins)))
    where = np.full(size, len(origins))
    where[origins] = np.arange(len(origins))
    more = up if len(origins) == size else padded(up, axis, 0, 1)
    return ops.gather(more, ints(where), ops.constant(np.int64(axis + rank(up)))).output(0)


def padded(value: ov.Output, axis: int, before: int, after: int, filling: float = 0) -> ov.Output:
    """Return a tensor with a number, mostly 0, so many times before and after it along an axis."""
    if not before and not after:
        return value
    begin, end = np.zeros((2, rank(value)), np.int64)
    begin[axis], end[axis] = before, after
    return ops.pad(value, ints(begin), ints(end), "constant", number(filling, value)).output(0)


def _sliced(step: Step) -> Gradients:
    """Put a slice back axis by axis, where its bounds are constant and the axes that it cuts are of known length."""
    dims, cuts = dimensions(step.x) or [], _slice_of(step.node)
    if cuts is None or any(dims[axis] is None for axis in cuts):
        return relocated(step)
    value: ov.Output | None = step.up
    for axis, part in cuts.items():
        if value is not None:
            size = dims[axis] or 0
            value = placed(value, axis, np.arange(size)[part], size)
    return relocated(step) if value is None else {0: value}


def _slice_of(node: ov.Node) -> dict[int, slice] | None:
    """Return what a Slice takes of each axis that it names, counted from the last; ``None`` where it is computed."""
    own = rank(node.input_value(0))
    parts = [constant_ints(node.input_value(i)) for i in range(1, node.get_input_size())]
    if any(part is None for part in parts):
        return None
    starts, stops, steps = (part or [] for part in parts[:3])
    axes = (parts[3] if len(parts) > 3 else None) or list(range(len(starts)))
    dims = dimensions(node.input_value(0)) or []
    return {
        axis % own - own: _slice(start, stop, step, dims[axis % own])
        for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True)
    }


def _slice(start: int, stop: int, step: int, size: int | None) -> slice:
    """Return the bounds as numpy means them: one that lies before the first element is not counted from the last."""
    if size is not None and stop < -size and step < 0:
        return slice(start, None, step)
    return slice(start, stop, step)


def _slice_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    cuts = _slice_of(node)
    return cuts is None or -rank(node.input_value(0)) in cuts


def _gathered(step: Step) -> Gradients:
    """Put what a Gather of constant indices took back; computed indices, or several alike, take the long way."""
    axis, indices = _gather_of(step.node)
    dims = dimensions(step.x) or []
    if axis is None or indices is None or dims[axis] is None:
        return relocated(step)
    size = dims[axis] or 0
    up = step.up
    if indices.ndim != 1:
        parts = sizes(step, step.x)
        parts[axis] = indices.size
        up = shaped(up, parts)
    value = placed(up, axis, indices.reshape(-1) % size, size)
    return relocated(step) if value is None else {0: value}


def _gather_of(node: ov.Node) -> tuple[int | None, NDArray[np.generic] | None]:
    """Return the axis, counted from the last, and the indices of a Gather, ``None`` for what is computed."""
    axis, indices = constant_ints(node.input_value(2)), constant_value(node.input_value(1))
    own = rank(node.input_value(0))
    batch = int(node.get_attributes().get("batch_dims", 0))
    if batch and indices is not None and indices.ndim > 0:
        indices = None
    return None if axis is None else axis[0] % own - own, indices


def _gather_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    axis, indices = _gather_of(node)
    return axis is None or indices is None or axis == -rank(node.input_value(0))


def _rolled(step: Step) -> Gradients:
    axes = axes_of(step.node, 2) or []
    own = rank(step.up)
    back = ops.roll(step.up, ops.negative(step.node.input_value(1)), ints(axis + own for axis in axes))
    return {0: back.output(0)}


def _tiled(step: Step) -> Gradients:
    repeats, own = constant_ints(step.node.input_value(1)), rank(step.x)
    if repeats is None or len(repeats) > own:
        return relocated(step)
    repeats = [1] * (own - len(repeats)) + repeats
    target = sizes(step, step.x)
    skipped = len(target) - own  # a front axis is never repeated
    parts: list[Size] = list(target[:skipped])
    sums = []
    for axis, times in enumerate(repeats):
        if times != 1:
            sums.append(len(parts))
            parts.append(times)
        parts.append(target[skipped + axis])
    return {0: sum_over(shaped(step.up, parts), sums, keep=False)}


def _tile_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    repeats = constant_ints(node.input_value(1))
    return repeats is None or (len(repeats) >= rank(node.input_value(0)) and repeats[0] != 1)


def _broadcast(step: Step) -> Gradients:
    before, after = dimensions(step.x) or [], dimensions(step.y) or []
    mode = str(step.node.get_attributes().get("mode", "numpy")).lower()
    pairs = zip(before, after[len(after) - len(before) :], strict=True)
    if mode == "explicit" or any(size is None for size, _ in pairs):
        return relocated(step)
    return {0: summed_to_input(step, step.up, 0)}


def _broadcast_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    explicit = str(node.get_attributes().get("mode", "numpy")).lower() == "explicit"
    return explicit or rank(node.input_value(0)) != rank(node.output(0))


def _padding(step: Step) -> Gradients:
    """Cut a padding off again; what edges and reflections have copied is sent back to where it came from."""
    if str(step.node.get_attributes()["pad_mode"]).lower() != "constant":
        return relocated(step)
    own, extra = rank(step.x), rank(step.up) - rank(step.x)
    begin = step.node.input_value(1)
    moved = constant_ints(begin)
    if moved is not None and not any(moved) and not any(constant_ints(step.node.input_value(2)) or [1]):
        return {0: step.up}
    if moved is not None and min(moved) < 0:
        return _uncropped(step)
    stop = ops.add(begin, ops.convert_like(ops.shape_of(step.x), begin))
    skipped = int(step.front == "folded")  # seeds stand where one image did, which is not padded
    axes = list(range(skipped, own))
    low, high = (ops.gather(bound, ints(axes), ops.constant(np.int64(0))) for bound in (begin, stop))
    one = ops.convert_like(ints([1] * len(axes)), begin)
    return {0: ops.slice(step.up, low, high, one, ints(extra + axis for axis in axes)).output(0)}


def _uncropped(step: Step) -> Gradients:
    extra = rank(step.up) - rank(step.x)
    sides = [ops.concat([ints([0] * extra), ops.negative(step.node.input_value(i))], 0) for i in (1, 2)]
    return {0: ops.pad(step.up, *sides, "constant", number(0, step.up)).output(0)}


def _pad_first(node: ov.Node, _wanted: frozenset[int]) -> bool:
    sides = [constant_ints(node.input_value(i)) for i in (1, 2)]
    return any(side is None or side[0] != 0 for side in sides)


def _pad_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    begin = constant_ints(node.input_value(1))
    is_constant = str(node.get_attributes()["pad_mode"]).lower() == "constant"
    return "pads by computed lengths" if begin is None and not is_constant else None


def _best(step: Step) -> Gradients:
    """Send the gradient of the values of a TopK back to where its indices point."""
    axis = int(step.node.get_attributes()["axis"])
    origins = ops.gather_elements(numbered(step.x), step.node.output(1), axis % rank(step.x))
    return {0: sent_back(step, origins.output(0))}


RELOCATION_RULES = {
    "relocated": Rule(relocated, inputs=(0,)),
    "sliced": Rule(_sliced, inputs=(0,), first_axis=_slice_first),
    "gathered": Rule(_gathered, inputs=(0,), first_axis=_gather_first),
    "rolled": Rule(_rolled, inputs=(0,), first_axis=names_first(2), refusal=without_constant_axes(2)),
    "tiled": Rule(_tiled, inputs=(0,), first_axis=_tile_first),
    "broadcast": Rule(_broadcast, inputs=(0,), first_axis=_broadcast_first),
    "padded": Rule(_padding, inputs=(0,), first_axis=_pad_first, refusal=_pad_refusal),
    "best": Rule(_best, inputs=(0,)),
}
"""Rules of what puts elements elsewhere, by the names that the table of operations uses."""
