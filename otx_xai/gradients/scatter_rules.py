"""Rules of updates of parts of a tensor: what was overwritten gets no gradient, what was written that of its place."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import axes_of, spread, zeros
from otx_xai.gradients.step import Gradients, Rule, Step, always, rank, sizes
from otx_xai.graph.surgery import transpose


def _adds(node: ov.Node) -> bool:
    return str(node.get_attributes().get("reduction", "none")).lower() == "sum"


def _refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    attributes = node.get_attributes()
    if str(attributes.get("reduction", "none")).lower() not in ("none", "sum"):
        return "combines updates with what is there"
    if not attributes.get("use_init_val", True):
        return "forgets what is updated"
    return "computes its axis" if node.get_input_size() > 3 and axes_of(node, 3) is None else None


def _rows(step: Step) -> Gradients:
    """Differentiate ``data[:, …, indices] = updates``."""
    axis = (axes_of(step.node, 3) or [0])[0] + rank(step.up)
    place, indices = ops.constant(np.int64(axis)), step.node.input_value(1)
    found = {}
    if 0 in step.wanted:
        nothing = zeros(sizes(step, step.node.input_value(2)), step.up)
        found[0] = ops.scatter_update(step.up, indices, nothing, place).output(0)
    if 2 in step.wanted:
        found[2] = ops.gather(step.up, indices, place).output(0)
    return found


def _elements(step: Step) -> Gradients:
    """Differentiate ``data[…, indices[…], …] = updates``, index by index."""
    axis = (axes_of(step.node, 3) or [0])[0] + rank(step.up)
    target = sizes(step, step.node.input_value(2))
    indices = step.node.input_value(1)
    if step.front != "plain":
        indices = spread(indices, target)
    found = {}
    if 0 in step.wanted:
        place = ops.constant(np.int64(axis))
        found[0] = step.up
        if not _adds(step.node):
            found[0] = ops.scatter_elements_update(step.up, indices, zeros(target, step.up), place).output(0)
    if 2 in step.wanted:
        found[2] = ops.gather_elements(step.up, indices, axis).output(0)
    return found


def _slices(step: Step) -> Gradients:
    """Differentiate ``data[indices] = updates`` for indices of several axes; seeds stand behind meanwhile."""
    indices = step.node.input_value(1)
    own = rank(step.up)
    order = list(range(own))
    up = transpose(step.up, [*order[1:], 0]) if step.lead else step.up
    found = {}
    if 0 in step.wanted:
        found[0] = step.up
        if not _adds(step.node):
            nothing = zeros(sizes(step, step.node.input_value(2)), step.up)
            if step.lead:
                nothing = transpose(nothing, [*range(1, rank(nothing)), 0])
            updated = ops.scatter_nd_update(up, indices, nothing).output(0)
            found[0] = transpose(updated, [own - 1, *order[:-1]]) if step.lead else updated
    if 2 in step.wanted:
        taken = ops.gather_nd(up, indices).output(0)
        last = rank(taken) - 1
        found[2] = transpose(taken, [last, *range(last)]) if step.lead else taken
    return found


SCATTER_RULES = {
    "scattered_rows": Rule(_rows, inputs=(0, 2), first_axis=always, refusal=_refusal),
    "scattered_elements": Rule(_elements, inputs=(0, 2), first_axis=always, refusal=_refusal),
    "scattered_slices": Rule(_slices, inputs=(0, 2), first_axis=always, refusal=_refusal),
}
"""Rules of updates, by the names that the table of operations uses."""
