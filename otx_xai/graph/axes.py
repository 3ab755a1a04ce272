"""What the axes of every tensor mean, derived from what the operations mean.

A Convolution or a pooling is NCHW by definition; from there the labels ``N`` (batch), ``C`` (channel), ``H`` and
``W`` (space) travel forward through transposes, reshapes, element-wise operations, slices, linear layers and
attention. A reshape that merges ``H`` and ``W`` makes a :class:`Tokens` axis, and a concatenation along it with
something that is no image content (class, distillation and register tokens) lengthens its prefix. An axis whose
meaning is lost is ``None``: nothing is ever concluded from sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import openvino as ov

from otx_xai.graph.cuts import cut_of
from otx_xai.graph.labels import ORDERED, Blocks, Label, Labels, Tokens
from otx_xai.graph.reshapes import reshaped
from otx_xai.graph.traits import Axes, trait
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of

_MAP: Labels = ("N", "C", "H", "W")


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


def _image(_view: View, node: ov.Node, _labels: dict[Port, Labels]) -> Labels | None:
    return _MAP if len(dimensions(node.output(0)) or ()) == 4 else None


def _same(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    return labels.get(port_of(node.input_value(0)))


def _moved(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    """Labels after padding, resizing or rolling: space stays space, but tokens are no longer those of the grid."""
    own = labels.get(port_of(node.input_value(0)))
    return None if own is None else _without_tokens(own)


def _without_tokens(own: Labels) -> Labels:
    return tuple(None if isinstance(label, ORDERED) else label for label in own)


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
        return tuple(None if axis in axes and isinstance(label, Blocks) else label for axis, label in enumerate(own))
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
    return reshaped(own, before, after, port_of(source))


def _unit_axes(node: ov.Node, rank: int) -> set[int] | None:
    """Return the axes of length 1 that a Squeeze drops or an Unsqueeze adds, among the ``rank`` ones with them."""
    axes = constant_ints(node.input_value(1)) if node.get_input_size() > 1 else None
    return None if axes is None else {axis % rank for axis in axes}


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
    elif rank and isinstance(merged[along], ORDERED):
        merged[along] = None
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
        return _linear(own_first, swapped=attributes["transpose_a"]) if len(own_first) == rank else None
    if not view.is_data(first) or len(own_first) < 2 or len(own_second) < 2 or len(own_first) != rank:
        return None
    rows = own_first[-1 if attributes["transpose_a"] else -2]
    columns = own_second[-2 if attributes["transpose_b"] else -1]
    return (*own_first[:-2], rows, columns)


def _linear(own: Labels, *, swapped: bool) -> Labels:
    """Labels after a linear layer along the last axis, or the one before it, with which that is ``swapped``."""
    *rest, last = (*own[:-2], own[-1], own[-2]) if swapped else own
    # What mixes places, as MLP-Mixer does, leaves channels where they are
    mixes_places = "C" in rest or last in ("H", "W") or isinstance(last, ORDERED)
    return (*rest, None if mixes_places else "C")


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
    if (label in ("H", "W") or isinstance(label, ORDERED)) and (cut.begin, cut.end) != (0, None):
        own = _without_blocks(own)
    if cut.drops:
        return own[: cut.axis] + own[cut.axis + 1 :]
    if isinstance(label, Tokens) and (cut.begin, cut.end) != (0, None):
        whole = cut.end is None or cut.end == dims[cut.axis]
        label = replace(label, prefix=label.prefix - cut.begin) if whole and cut.begin <= label.prefix else None
    elif isinstance(label, ORDERED) and (cut.begin, cut.end) != (0, None):
        label = None
    return (*own[: cut.axis], label, *own[cut.axis + 1 :])


def _without_blocks(own: Labels) -> Labels:
    """Labels after a cut: what is left of places in blocks is no longer the whole image."""
    return tuple(None if isinstance(label, Blocks) else label for label in own)


def _adds_axes(node: ov.Node) -> bool:
    return kind(node) == "StridedSlice" and any(node.get_attributes().get("new_axis_mask") or [])


def _split(_view: View, node: ov.Node, labels: dict[Port, Labels]) -> Labels | None:
    own, axes = labels.get(port_of(node.input_value(0))), constant_ints(node.input_value(1))
    if own is None or axes is None:
        return None
    axis = axes[0] % len(own)
    label = None if isinstance(own[axis], ORDERED) else own[axis]
    return (*own[:axis], label, *own[axis + 1 :])


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
