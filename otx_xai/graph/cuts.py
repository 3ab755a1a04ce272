"""Slices along one axis, however they are written: Slice, StridedSlice and Gather of one index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import openvino as ov

from otx_xai.graph.view import constant_ints, dimensions, kind


@dataclass(frozen=True)
class Cut:
    """A slice along one axis with static bounds: ``begin <= i < end`` (``end`` ``None``: to the end), step 1.

    ``drops`` tells that a single index was taken and the axis is gone.
    """

    axis: int
    begin: int
    end: int | None
    drops: bool = False


def cut_of(node: ov.Node) -> Cut | None:
    """Return the cut that a Slice, StridedSlice or Gather makes along one axis, else ``None``."""
    dims = dimensions(node.input_value(0))
    if dims is None:
        return None
    match kind(node):
        case "Gather":
            return _gather_cut(node, dims)
        case "Slice":
            return _slice_cut(node, dims)
        case "StridedSlice":
            return _strided_slice_cut(node, dims)
    return None


def _gather_cut(node: ov.Node, dims: list[int | None]) -> Cut | None:
    indices, axes = constant_ints(node.input_value(1)), constant_ints(node.input_value(2))
    if indices is None or axes is None or len(indices) != 1:
        return None
    axis = axes[0] % len(dims)
    begin = _wrap(indices[0], dims[axis])
    if begin is None:
        return None
    return Cut(axis, begin, begin + 1, drops=len(dimensions(node.input_value(1)) or ()) == 0)


def _slice_cut(node: ov.Node, dims: list[int | None]) -> Cut | None:
    values = [constant_ints(value) for value in node.input_values()[1:]]
    if any(value is None for value in values):
        return None
    begin, end, step = (value or [] for value in values[:3])
    axes = [axis % len(dims) for axis in (values[3] or [] if len(values) > 3 else range(len(begin)))]
    return _single_cut(list(zip(axes, begin, end, step, strict=True)), dims)


def _strided_slice_cut(node: ov.Node, dims: list[int | None]) -> Cut | None:
    values = [constant_ints(value) for value in node.input_values()[1:]]
    attributes = node.get_attributes()
    if any(value is None for value in values) or any(attributes.get("new_axis_mask") or []):
        return None
    if any(attributes.get("ellipsis_mask") or []):
        return None
    begin, end = values[0] or [], values[1] or []
    step = (values[2] if len(values) > 2 else None) or [1] * len(begin)
    masks = {name: list(attributes.get(name) or []) + [0] * len(dims) for name in ("begin_mask", "end_mask")}
    shrink = list(attributes.get("shrink_axis_mask") or []) + [0] * len(dims)
    bounds = []
    for axis in range(len(begin)):
        first = 0 if masks["begin_mask"][axis] else begin[axis]
        last = 2**31 if masks["end_mask"][axis] else end[axis]
        if shrink[axis]:
            first, last = begin[axis], begin[axis] + 1
            if begin[axis] == -1:
                last = 2**31
        bounds.append((axis, first, last, step[axis]))
    cut = _single_cut(bounds, dims)
    if cut is None:
        return None
    return replace(cut, drops=True) if shrink[cut.axis] else (None if any(shrink) else cut)


def _single_cut(bounds: Sequence[tuple[int, int, int, int]], dims: list[int | None]) -> Cut | None:
    """Return the one cut among ``(axis, begin, end, step)``; ``None`` for several, or a step other than 1."""
    cuts = []
    for axis, begin, end, step in bounds:
        first = _wrap(begin, dims[axis])
        last = None if end >= (dims[axis] or 2**31 - 1) else _wrap(end, dims[axis])
        if step != 1 or first is None or (last is None and end < 0):
            return None
        if (first, last) != (0, None):
            cuts.append(Cut(axis, first, last))
    if not cuts:
        return Cut(0, 0, None) if bounds else None
    return cuts[0] if len(cuts) == 1 else None


def _wrap(index: int, size: int | None) -> int | None:
    if index >= 0:
        return index
    return None if size is None else max(index + size, 0)
