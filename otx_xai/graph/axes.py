"""What the axes of every tensor mean, derived from what the operations mean.

A Convolution or a pooling is NCHW by definition; from there the labels ``N`` (batch), ``C`` (channel), ``H`` and
``W`` (space) travel forward through transposes, reshapes, element-wise operations, slices, linear layers and
attention. A reshape that merges ``H`` and ``W`` makes a :class:`Tokens` axis, and a concatenation along it with
something that is no image content (class, distillation and register tokens) lengthens its prefix. An axis whose
meaning is lost is ``None``: nothing is ever concluded from sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import openvino as ov

from otx_xai.graph.traits import Axes, trait
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of


@dataclass(frozen=True)
class Tokens:
    """A token axis: ``prefix`` tokens that are no place of the image, then the places in row-major order.

    Args:
        height: rows of the grid; ``None`` when dynamic.
        width: columns of the grid; ``None`` when dynamic.
        source: the tensor whose ``H`` and ``W`` axes (``source_axes``) were merged, to ask for dynamic sizes.
        source_axes: positions of ``H`` and ``W`` there.
        prefix: how many tokens stand before the grid.
    """

    height: int | None
    width: int | None
    source: Port
    source_axes: tuple[int, int]
    prefix: int = 0


@dataclass(frozen=True)
class Rows:
    """Batch and tokens merged into one axis, batch first."""

    tokens: Tokens


Label = str | Tokens | Rows | None
Labels = tuple[Label, ...]

_MAP: Labels = ("N", "C", "H", "W")


@dataclass(frozen=True)
class Cut:
    """A slice along one axis with static bounds: ``begin <= i < end`` (``end`` ``None``: to the end), step 1.

    ``drops`` tells that a single index was taken and the axis is gone.
    """

    axis: int
    begin: int
    end: int | None
    drops: bool = False


def label_axes(view: View, layout: str | None = None) -> dict[Port, Labels]:
    """Label the axes of every tensor of known rank.

    Args:
        view: the graph.
        layout: the axes of the image input when they are known, e.g. ``NHWC``; lets labels begin before the first
            convolution (networks that cut patches by reshaping).

    Returns:
        The labels, one an axis, for every output of known rank.
    """
    labels: dict[Port, Labels] = {}
    for node in view.nodes:
        if kind(node) == "Parameter" and layout and len(dimensions(node.output(0)) or ()) == len(layout):
            labels[port_of(node.output(0))] = tuple(layout)
        label_node(view, node, labels)
    return labels


def label_node(view: View, node: ov.Node, labels: dict[Port, Labels]) -> None:
    """Label the outputs of one node, those of known rank, from the labels of what it reads.

    Args:
        view: the graph.
        node: the node; outputs that have labels keep them.
        labels: of all nodes before it in topological order; those of its outputs are added.
    """
    rule = _RULES.get(trait(kind(node)).axes) if node.get_name() in view.data else None
    for output in node.outputs():
        dims, port = dimensions(output), port_of(output)
        if dims is None or port in labels:
            continue
        found = None if rule is None else rule(view, node, labels)
        labels[port] = found if found is not None and len(found) == len(dims) else (None,) * len(dims)


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


def group_axes(before: Sequence[int | None], after: Sequence[int | None]) -> list[tuple[list[int], list[int]]] | None:
    """Pair the axes of a reshape: groups of axes before and after that hold the same elements in the same order.

    Args:
        before: dimensions of the input, ``None`` where dynamic.
        after: dimensions of the output.

    Returns:
        ``[(axes before, axes after), …]`` in order, or ``None`` where dynamic dimensions leave it open.

    >>> group_axes([1, 768, 14, 14], [1, 768, 196])
    [([0], [0]), ([1], [1]), ([2, 3], [2])]
    >>> group_axes([None, 197, 192], [None, 197, 3, 64])
    [([0], [0]), ([1], [1]), ([2], [2, 3])]
    """
    left = 0
    while left < min(len(before), len(after)) and before[left] == after[left]:
        left += 1
    right = 0
    while right < min(len(before), len(after)) - left and before[-1 - right] == after[-1 - right]:
        right += 1
    inner_before, inner_after = (list(range(left, len(dims) - right)) for dims in (before, after))
    if left and bool(inner_before) != bool(inner_after):
        rest = before[left : len(before) - right] + after[left : len(after) - right]  # type: ignore[operator]
        if any(dim != 1 for dim in rest):  # a dynamic axis was merged or split: it is no longer the same axis
            left -= 1
            inner_before.insert(0, left)
            inner_after.insert(0, left)
    groups = [([i], [i]) for i in range(left)]
    inner = _match_products(before, after, inner_before, inner_after)
    if inner is None:
        return None
    groups += inner
    groups += [([len(before) - i], [len(after) - i]) for i in range(right, 0, -1)]
    return groups


def _match_products(
    before: Sequence[int | None], after: Sequence[int | None], axes_before: list[int], axes_after: list[int]
) -> list[tuple[list[int], list[int]]] | None:
    if not axes_before or not axes_after:
        return [(axes_before, axes_after)] if axes_before or axes_after else []
    if any(before[i] is None for i in axes_before) or any(after[i] is None for i in axes_after):
        return [(axes_before, axes_after)]
    groups: list[tuple[list[int], list[int]]] = []
    ins, outs = list(axes_before), list(axes_after)
    while ins or outs:
        group: tuple[list[int], list[int]] = ([], [])
        for axes, side in ((ins, group[0]), (outs, group[1])):
            if axes:
                side.append(axes.pop(0))
        while True:
            size_in, size_out = _product(before[i] for i in group[0]), _product(after[i] for i in group[1])
            if size_in == size_out:
                break
            if size_in < size_out and ins:
                group[0].append(ins.pop(0))
            elif size_out < size_in and outs:
                group[1].append(outs.pop(0))
            else:
                return None
        groups.append(group)
    return groups


def _product(sizes: Iterable[int | None]) -> int:
    return prod(size or 0 for size in sizes)


def _image(_view: View, node: ov.Node, _labels: dict[Port, Labels]) -> Labels | None:
    return _MAP if len(dimensions(node.output(0)) or ()) == 4 else None


def _same(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    return labels.get(port_of(node.input_value(0)))


def _moved(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    """Labels after padding, resizing or rolling: space stays space, but tokens are no longer those of the grid."""
    own = labels.get(port_of(node.input_value(0)))
    return None if own is None else _without_tokens(own)


def _without_tokens(own: Labels) -> Labels:
    return tuple(None if isinstance(label, Tokens | Rows) else label for label in own)


def _binary(view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    rank = len(dimensions(node.output(0)) or ())
    merged: list[Label] = []
    for axis in range(-rank, 0):
        found = set()
        for value in view.data_inputs(node):
            own, dims = labels.get(port_of(value)), dimensions(value)
            if own is None or dims is None or len(own) < -axis:
                continue
            if own[axis] is not None and dims[axis] != 1:
                found.add(own[axis])
        merged.append(found.pop() if len(found) == 1 else None)
        if not found and merged[-1] is None:
            merged[-1] = _unit_label(view, node, labels, axis)
    return tuple(merged)


def _unit_label(view: View, node: ov.Node, labels: dict[Port, Labels], axis: int) -> Label:
    """Label of an axis that has size 1 in every input."""
    found = set()
    for value in view.data_inputs(node):
        own, dims = labels.get(port_of(value)), dimensions(value)
        if own is not None and dims is not None and len(own) >= -axis and dims[axis] == 1:
            found.add(own[axis])
    found.discard(None)
    out = dimensions(node.output(0))
    return found.pop() if len(found) == 1 and out is not None and out[axis] == 1 else None


def _reduction(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own, axes = labels.get(port_of(node.input_value(0))), computed_axes(node)
    if own is None or axes is None:
        return None
    if node.get_attributes()["keep_dims"]:
        return own
    return tuple(label for axis, label in enumerate(own) if axis not in axes)


def computed_axes(node: ov.Node) -> list[int] | None:
    """Return the axes that a reduction or a normalisation computes along, from the front and sorted, else ``None``."""
    if node.get_input_size() < 2:
        return None
    axes, dims = constant_ints(node.input_value(1)), dimensions(node.input_value(0))
    if axes is None or dims is None:
        return None
    return sorted(axis % len(dims) for axis in axes)


def _reshape(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    source = node.input_value(0)
    own, before, after = labels.get(port_of(source)), dimensions(source), dimensions(node.output(0))
    if own is None or before is None or after is None:
        return None
    units = _unit_axes(node, len(max(before, after, key=len))) if kind(node) != "Reshape" else None
    if units is not None:
        rest = iter(label for axis, label in enumerate(own) if len(after) > len(before) or axis not in units)
        return tuple(None if len(after) > len(before) and axis in units else next(rest) for axis in range(len(after)))
    groups = group_axes(before, after)
    if groups is None:
        return None
    result: list[Label] = [None] * len(after)
    for ins, outs in groups:
        for axis, label in zip(outs, _regroup(own, before, after, ins, outs, port_of(source)), strict=True):
            result[axis] = label
    return tuple(result)


def _unit_axes(node: ov.Node, rank: int) -> set[int] | None:
    """Return the axes of length 1 that a Squeeze drops or an Unsqueeze adds, among the ``rank`` ones with them."""
    axes = constant_ints(node.input_value(1)) if node.get_input_size() > 1 else None
    return None if axes is None else {axis % rank for axis in axes}


def _regroup(
    own: Labels,
    before: Sequence[int | None],
    after: Sequence[int | None],
    ins: list[int],
    outs: list[int],
    source: Port,
) -> list[Label]:
    """Labels of the axes ``outs`` that hold what the axes ``ins`` held."""
    unknown: list[Label] = [None] * len(outs)
    if not ins or not outs:
        return unknown
    real = [i for i in ins if before[i] != 1] or ins[:1]
    targets = [i for i, axis in enumerate(outs) if after[axis] != 1] or [0]
    kinds = [own[i] for i in real]
    if len(targets) == 1:
        unknown[targets[0]] = _merge(kinds, real, before, source)
        return unknown
    if len(real) == 1:
        for place, label in zip(targets, _divide(kinds[0], [after[outs[i]] for i in targets]), strict=True):
            unknown[place] = label
    return unknown


def _merge(kinds: list[Label], axes: list[int], before: Sequence[int | None], source: Port) -> Label:
    match kinds:
        case [label]:
            return label
        case ["H", "W"]:
            return Tokens(before[axes[0]], before[axes[1]], source, (axes[0], axes[1]))
        case ["N", Tokens() as tokens]:
            return Rows(tokens)
        case ["N", "H", "W"]:
            return Rows(Tokens(before[axes[1]], before[axes[2]], source, (axes[1], axes[2])))
        case [*inner, "C"] if all(label is None for label in inner):
            return "C"
    return None


def _divide(label: Label, sizes: list[int | None]) -> list[Label]:
    match label:
        case Tokens(height, width, prefix=0) if height is not None and width is not None and None not in sizes:
            for split in range(1, len(sizes)):
                if (_product(sizes[:split]), _product(sizes[split:])) == (height, width):
                    return ["H", *[None] * (split - 1), "W", *[None] * (len(sizes) - split - 1)]
        case Rows(tokens) if len(sizes) == 2:
            return ["N", tokens]
        case "H" | "W":
            return [label, *[None] * (len(sizes) - 1)]
    return [None] * len(sizes)


def _transpose(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own, order = labels.get(port_of(node.input_value(0))), constant_ints(node.input_value(1))
    return None if own is None or order is None else tuple(own[axis] for axis in order)


def _concat(view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    rank = len(dimensions(node.output(0)) or ())
    along = int(node.get_attributes()["axis"]) % rank if rank else 0
    merged: list[Label] = []
    for axis in range(rank):
        found = {labels[port_of(value)][axis] for value in view.data_inputs(node) if port_of(value) in labels} - {None}
        merged.append(found.pop() if len(found) == 1 else None)
    if isinstance(merged[along], Tokens):
        merged[along] = _lengthen(node, labels, along)
    return tuple(merged)


def _lengthen(node: ov.Node, labels: dict[Port, Labels], axis: int) -> Label:
    """Label of a token axis after a concatenation: what stands before the grid is its prefix, nothing may follow."""
    prefix = 0
    values = node.input_values()
    for i, value in enumerate(values):
        label = labels.get(port_of(value), (None,) * (axis + 1))[axis]
        if isinstance(label, Tokens):
            return replace(label, prefix=label.prefix + prefix) if i == len(values) - 1 else None
        dims = dimensions(value)
        if dims is None or dims[axis] is None:
            return None
        prefix += dims[axis] or 0
    return None


def _matmul(view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    first, second = node.input_values()
    attributes = node.get_attributes()
    rank = len(dimensions(node.output(0)) or ())
    own_first, own_second = labels.get(port_of(first), ()), labels.get(port_of(second), ())
    if view.is_data(first) and not view.is_data(second):
        if attributes["transpose_a"] or len(own_first) != rank:
            return None
        return (*own_first[:-1], "C")
    if not view.is_data(first) or len(own_first) < 2 or len(own_second) < 2 or len(own_first) != rank:
        return None
    rows = own_first[-1 if attributes["transpose_a"] else -2]
    columns = own_second[-2 if attributes["transpose_b"] else -1]
    return (*own_first[:-2], rows, columns)


def _attention(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own = labels.get(port_of(node.input_value(0)))
    return None if own is None else (*own[:-1], None)


def _cut(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own, dims = labels.get(port_of(node.input_value(0))), dimensions(node.input_value(0))
    after = dimensions(node.output(0))
    if own is None or dims is None or after is None:
        return None
    cut = cut_of(node)
    if cut is None:  # a strided or two-axis slice keeps space and batch what they are, but breaks up tokens
        return _without_tokens(own) if len(after) == len(own) and not _adds_axes(node) else None
    label = own[cut.axis]
    if cut.drops:
        return own[: cut.axis] + own[cut.axis + 1 :]
    if isinstance(label, Tokens) and (cut.begin, cut.end) != (0, None):
        whole = cut.end is None or cut.end == dims[cut.axis]
        label = replace(label, prefix=label.prefix - cut.begin) if whole and cut.begin <= label.prefix else None
    return (*own[: cut.axis], label, *own[cut.axis + 1 :])


def _adds_axes(node: ov.Node) -> bool:
    return kind(node) == "StridedSlice" and any(node.get_attributes().get("new_axis_mask") or [])


def _split(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own, axes = labels.get(port_of(node.input_value(0))), constant_ints(node.input_value(1))
    if own is None or axes is None:
        return None
    axis = axes[0] % len(own)
    label = None if isinstance(own[axis], Tokens | Rows) else own[axis]
    return (*own[:axis], label, *own[axis + 1 :])


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


_Rule = Callable[[View, ov.Node, dict[Port, Labels]], Labels | None]
_RULES: Mapping[Axes, _Rule] = {
    "image": _image,
    "same": _same,
    "normalise": _same,
    "broadcast": _binary,
    "reduce": _reduction,
    "reshape": _reshape,
    "transpose": _transpose,
    "concat": _concat,
    "matmul": _matmul,
    "attention": _attention,
    "cut": _cut,
    "split": _split,
    "move": _moved,
}
