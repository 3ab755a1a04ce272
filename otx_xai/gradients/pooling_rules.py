"""Rules of poolings and of resizes.

Means and resizes work on each axis alone, by a matrix that the operation itself tells: it is done to the rows of the
unit matrix. So ceil rounding, paddings that do not count, and all ways to place and weigh coordinates are what
OpenVINO makes of them.
"""

from __future__ import annotations

from math import prod

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.utils.node_factory import NodeFactory

from otx_xai.gradients.formulas import again, array, ints, mul, number, shaped, summed_at, vector
from otx_xai.gradients.shape_rules import merged, parted
from otx_xai.gradients.shifted_pooling import shifted_pooling
from otx_xai.gradients.step import Gradients, Rule, Size, Step, rank, sizes, tensor_sizes
from otx_xai.graph.constants import evaluate
from otx_xai.graph.surgery import transpose
from otx_xai.graph.view import constant_ints, dimensions, kind

_IDLE = (("kernel", 1), ("strides", 1), ("pads_begin", 0), ("pads_end", 0), ("dilations", 1))
"""Attributes of a pooling, with what leaves an axis alone."""

_IMAGE_AXES = 4
"""Images, channels, height and width: a tensor of as many axes or more is resized along those of places only."""


def _largest_in_window(step: Step) -> Gradients:
    shifted = shifted_pooling(step)
    return {0: _scattered(step, _indices(step.node)) if shifted is None else shifted}


def _indices(node: ov.Node) -> ov.Output:
    """Return for each place of a MaxPool the number of the first largest among the places of its channel.

    Of an image the largest of rows are looked for first, then those of columns among them: OpenVINO's kernel compares
    each place of a window, and so takes twice the side of it instead of the square. What comes first stays the same.
    """
    attributes = {**node.get_attributes(), "axis": 2, "index_element_type": "i32"}
    version = str(node.get_type_info().version_id)
    if version == "opset1":
        attributes["dilations"], version = [1] * len(attributes["kernel"]), "opset8"
    if len(attributes["kernel"]) != 2:
        return NodeFactory(version).create("MaxPool", [node.input_value(0)], attributes).output(1)
    across, down = (
        {
            **attributes,
            **{name: [idle if i == still else int(attributes[name][i]) for i in range(2)] for name, idle in _IDLE},
        }
        for still in range(2)
    )
    rows = NodeFactory(version).create("MaxPool", [node.input_value(0)], across)
    columns = NodeFactory(version).create("MaxPool", [rows.output(0)], down)
    front = tensor_sizes(columns.output(1))
    first, second = (shaped(one.output(1), [*tensor_sizes(one.output(1))[:2], -1]) for one in (rows, columns))
    return shaped(ops.gather_elements(first, second, 2).output(0), front)


def _scattered(step: Step, indices: ov.Output) -> ov.Output:
    """Add gradients up at the places that indices within channels name."""
    target = sizes(step, step.x)
    front = target[: step.lead + 2]
    own = tensor_sizes(indices)
    flat = shaped(indices, [*own[:2], -1])
    up = shaped(step.up, [*front, -1])
    where = ops.broadcast(flat, ops.shape_of(up)) if step.front != "plain" else flat
    places = target[step.lead + 2 :]
    whole: Size = prod(size for size in places if isinstance(size, int))
    if not all(isinstance(size, int) for size in places):
        whole = ops.reduce_prod(vector(places), ints([0]), True).output(0)
    return shaped(summed_at([*front, whole], where, up, step.lead + 2), target)


def _adaptive_largest(step: Step) -> Gradients:
    return {0: _scattered(step, step.node.output(1))}


def _axes(node: ov.Node) -> list[int]:
    """Return the axes that a pooling or a resize works on."""
    own = rank(node.input_value(0))
    if kind(node) != "Interpolate":
        return list(range(2, own))
    version = str(node.get_type_info().version_id)
    place = 3 if version == "opset4" else 2
    if node.get_input_size() <= place:
        return list(range(own))
    return [axis % own for axis in constant_ints(node.input_value(place)) or []]


def _resized_axes(node: ov.Node) -> list[int]:
    """Return the axes along which a pooling or a resize may change values: exporters name images and channels, too."""
    kept = 2 if rank(node.input_value(0)) >= _IMAGE_AXES else 0
    return [axis for axis in _axes(node) if axis >= kept or not _keeps(node, axis)]


def _keeps(node: ov.Node, axis: int) -> bool:
    return _dims(node.input_value(0))[axis] == _dims(node.output(0))[axis]


def _alone(node: ov.Node, unit: ov.Output, axis: int) -> ov.Output:
    """Do a pooling or a resize to a tensor along one of its axes only; the others have length 1."""
    axes = _axes(node)
    place = axes.index(axis)
    if kind(node) == "Interpolate":
        lengths = 2 if str(node.get_type_info().version_id) == "opset4" else 1
        alone = [_only(value, place) for value in node.input_values()[1 : 1 + lengths]]
        return again(node, [unit, *alone, ints([axis])]).output(0)
    if kind(node) == "AdaptiveAvgPool":
        return again(node, [unit, _others_left(node.input_value(1), place, len(axes))]).output(0)
    changed: dict[str, object] = {}
    for name, idle in _IDLE:
        if name in node.get_attributes():
            values = node.get_attributes()[name]
            changed[name] = [int(values[i]) if i == place else idle for i in range(len(axes))]
    return again(node, [unit], **changed).output(0)


def _dims(tensor: ov.Output) -> list[int | None]:
    return dimensions(tensor) or []


def _others_left(values: ov.Output, place: int, count: int) -> ov.Output:
    """Return lengths or factors of which all but one are 1."""
    one = array(np.array([1]), values)
    return ops.concat([_only(values, place) if i == place else one for i in range(count)], 0).output(0)


def _only(values: ov.Output, place: int) -> ov.Output:
    """Return one element of a list as a list."""
    return ops.gather(values, ints([place]), ops.constant(np.int64(0))).output(0)


def _matrix(node: ov.Node, axis: int) -> ov.Output | NDArray[np.float32]:
    """Return what a pooling or a resize does along an axis, ``(before, after)``; an array where lengths are static."""
    x = node.input_value(0)
    size = tensor_sizes(x)[axis]
    places: list[Size] = [1] * rank(x)
    places[0] = places[axis] = size
    if isinstance(size, int) and _dims(node.output(0))[axis] is not None:
        eye = ops.parameter([place for place in places if isinstance(place, int)], np.float32)
        result = _alone(node, ops.convert(eye, x.get_element_type()).output(0), axis)
        return evaluate([result], {eye: np.eye(size, dtype=np.float32).reshape(eye.shape)})[0].reshape(size, -1)
    wanted = ints([size]) if isinstance(size, int) else size
    scalar = ops.squeeze(wanted, ints([0]))
    row = ops.range(ops.constant(np.int64(0)), scalar, ops.constant(np.int64(1)), "i64")
    unit = ops.one_hot(row, scalar, number(1, x), number(0, x), -1).output(0)
    return shaped(_alone(node, shaped(unit, places), axis), [size, -1])


def _axis_by_axis(step: Step) -> Gradients:
    node = step.node
    matrices = {axis: _matrix(node, axis) for axis in _resized_axes(node)}
    matrices = {axis: found for axis, found in matrices.items() if not _is_unit(found)}
    short = _repeated(step, matrices) or _averaged(step, matrices)
    if short is not None:
        return {0: short}
    value = step.up
    for axis, found in matrices.items():
        value = _along(value, found, axis - rank(step.x))
    return {0: value}


def _is_unit(found: ov.Output | NDArray[np.float32]) -> bool:
    return (
        isinstance(found, np.ndarray) and found.shape[0] == found.shape[1] and np.array_equal(found, np.eye(len(found)))
    )


def _along(value: ov.Output, found: ov.Output | NDArray[np.float32], axis: int) -> ov.Output:
    """Multiply by the transpose of ``(before, after)`` along an axis that is counted from the last."""
    matrix = array(found, value) if isinstance(found, np.ndarray) else found
    if axis == -1:
        return ops.matmul(value, matrix, False, True).output(0)
    if axis == -2:
        return ops.matmul(matrix, value, False, False).output(0)
    order = list(range(rank(value)))
    order[axis], order[-1] = order[-1], order[axis]
    return transpose(ops.matmul(transpose(value, order), matrix, False, True).output(0), order)


def _blocks(found: ov.Output | NDArray[np.float32], *, turned: bool) -> int | None:
    """Return how often a matrix repeats each element (``turned``: how many it averages), ``None`` if it does not."""
    if not isinstance(found, np.ndarray):
        return None
    matrix = found.T if turned else found
    before, after = matrix.shape
    if after % before:
        return None
    times = after // before
    block = np.full((1, times), 1 / times if turned else 1)
    return times if np.allclose(matrix, np.kron(np.eye(before), block), atol=1e-6) else None


def _factors(step: Step, matrices: dict[int, ov.Output | NDArray[np.float32]], *, turned: bool) -> list[int] | None:
    """Return repetitions along height and width, where a step has images and does nothing else."""
    if rank(step.x) != 4 or not matrices or not matrices.keys() <= {2, 3}:
        return None
    found = [_blocks(matrices[axis], turned=turned) if axis in matrices else 1 for axis in (2, 3)]
    return None if None in found else [times or 1 for times in found]


def _repeated(step: Step, matrices: dict[int, ov.Output | NDArray[np.float32]]) -> ov.Output | None:
    """Return the gradient of what repeats each pixel: the sum of each block."""
    times = _factors(step, matrices, turned=False)
    if times is None:
        return None
    up = merged(step, step.up)
    mean = ops.avg_pool(up, times, [0, 0], [0, 0], times, True).output(0)
    return parted(step, mul(mean, float(prod(times))))


def _averaged(step: Step, matrices: dict[int, ov.Output | NDArray[np.float32]]) -> ov.Output | None:
    """Return the gradient of what averages blocks: a share for each pixel."""
    times = _factors(step, matrices, turned=True)
    if times is None:
        return None
    share = mul(merged(step, step.up), 1 / prod(times))
    places = (dimensions(step.x) or [])[2:]
    if (dimensions(step.y) or [])[2:] == [1, 1]:
        return parted_thin(step, share)
    goal = ints(size or 1 for size in places)
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    whole = ops.interpolate(share, goal, "nearest", "sizes", axes=ints([2, 3]), **modes)
    return parted(step, whole.output(0))


def parted_thin(step: Step, share: ov.Output) -> ov.Output:
    """Return a gradient that is the same for all places of an image, still with one place."""
    return shaped(share, [*sizes(step, step.x)[: step.lead + 2], 1, 1]) if step.lead else share


def _refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    if kind(node) != "Interpolate":
        return None
    attributes, version = node.get_attributes(), str(node.get_type_info().version_id)
    if version == "opset1":
        return "is of the first version of resizes"
    if any(attributes.get("pads_begin") or []) or any(attributes.get("pads_end") or []):
        return "pads what it resizes"
    place = 3 if version == "opset4" else 2
    if node.get_input_size() > place and constant_ints(node.input_value(place)) is None:
        return "computes its axes"
    return None


POOLING_RULES = {
    "largest_in_window": Rule(_largest_in_window, inputs=(0,)),
    "adaptive_largest": Rule(_adaptive_largest, inputs=(0,)),
    "axis_by_axis": Rule(_axis_by_axis, inputs=(0,), refusal=_refusal),
}
"""Rules of poolings and resizes, by the names that the table of operations uses."""
