"""Rules of operations that read features at computed places: grids of points, regions, and windows that overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    Term,
    add,
    array,
    as_numbers,
    both,
    call,
    greater,
    ints,
    mul,
    number,
    shaped,
    sub,
    sum_over,
    summed_at,
    typed,
    zeros,
)
from otx_xai.gradients.fronts import is_one_image
from otx_xai.gradients.relocation_rules import padded
from otx_xai.gradients.shape_rules import merged
from otx_xai.gradients.step import Gradients, Rule, Size, Step, rank, sizes, tensor_sizes
from otx_xai.graph.surgery import transpose
from otx_xai.graph.view import constant_ints


@dataclass(frozen=True)
class Side:
    """Where points lie along one axis of the features, each tensor ``(N, 1, Q)``.

    Args:
        length: of the axis, as a number.
        place: of each point, in pixels; beyond the features only where those are zero there.
        first: the pixel before it.
        rest: how far it lies behind that.
        slope: how many pixels it moves with its coordinate.
    """

    length: Term
    place: ov.Output
    first: ov.Output
    rest: ov.Output
    slope: ov.Output


def _side(step: Step, axis: int) -> Side:
    attributes, grid = step.node.get_attributes(), step.node.input_value(1)
    images = tensor_sizes(grid)[0]
    column = ops.gather(grid, ops.constant(np.int64(axis)), ops.constant(np.int64(3)))
    coordinate = shaped(column.output(0), [images, 1, -1])
    length = _length(step.x, 3 - axis, grid)
    last = sub(length, 1.0) if isinstance(length, ov.Output) else length - 1
    reach = mul(last if attributes["align_corners"] else length, number(0.5, grid))
    place = mul(add(coordinate, 1.0), reach)
    if not attributes["align_corners"]:
        place = sub(place, 0.5)
    slope = mul(as_numbers(greater(coordinate, -np.inf), grid), reach)
    if str(attributes["padding_mode"]).lower() == "border":
        inside = both(greater(place, 0.0), greater(last, place))
        slope = mul(slope, as_numbers(inside, grid))
        place = call(ops.minimum, call(ops.maximum, place, number(0, grid)), _term(last, grid))
    nearest = str(attributes["mode"]).lower() == "nearest"
    first = call(ops.round, place, "half_to_even") if nearest else call(ops.floor, place)
    return Side(length, place, first, sub(place, first), slope)


def _length(tensor: ov.Output, axis: int, like: ov.Output) -> Term:
    size = tensor_sizes(tensor)[axis]
    if isinstance(size, int):
        return float(size)
    return as_numbers(ops.squeeze(size, ints([0])).output(0), like)


def _term(value: Term, like: ov.Output) -> ov.Output:
    return value if isinstance(value, ov.Output) else number(value, like)


@dataclass(frozen=True)
class Corner:
    """One of the pixels around each point: its number, whether it is there, and its shares along both axes."""

    index: ov.Output
    is_there: ov.Output
    across: ov.Output
    down: ov.Output


def _corner(columns: Side, rows: Side, right: int, below: int) -> Corner:
    marks, pixels = [], []
    for side, more in ((columns, right), (rows, below)):
        pixel = add(side.first, float(more))
        last = sub(side.length, 1.0) if isinstance(side.length, ov.Output) else number(side.length - 1, pixel)
        marks.append(both(greater(pixel, -0.5), greater(add(last, 0.5), pixel)))
        pixels.append(call(ops.minimum, call(ops.maximum, pixel, number(0, pixel)), last))
    index = add(mul(pixels[1], columns.length), pixels[0])
    shares = [side.rest if more else sub(1.0, side.rest) for side, more in ((columns, right), (rows, below))]
    there = as_numbers(both(*marks), columns.place)
    return Corner(ops.convert(index, "i32").output(0), there, *shares)


def _sampled(step: Step) -> Gradients:
    columns, rows = _side(step, 0), _side(step, 1)
    if str(step.node.get_attributes()["mode"]).lower() == "nearest":
        corner = _corner(columns, rows, 0, 0)
        return {0: _spread_to(step, [(corner.index, corner.is_there)])}
    corners = {(right, below): _corner(columns, rows, right, below) for right in (0, 1) for below in (0, 1)}
    found = {}
    if 0 in step.wanted:
        shares = [(own.index, mul(mul(own.across, own.down), own.is_there)) for own in corners.values()]
        found[0] = _spread_to(step, shares)
    if 1 in step.wanted:
        found[1] = _moved(step, columns, rows, corners)
    return found


def _spread_to(step: Step, shares: list[tuple[ov.Output, ov.Output]]) -> ov.Output:
    """Add gradients of points up at pixels, each with its share."""
    target = sizes(step, step.x)
    front = target[:-2]
    up = shaped(step.up, [*front, -1])
    updates = ops.concat([mul(up, typed(share, up)) for _, share in shares], -1).output(0)
    indices = ops.concat([index for index, _ in shares], -1)
    where = ops.broadcast(indices, ops.shape_of(updates))
    height, width = target[-2:]
    places: Size = 0
    if isinstance(height, int) and isinstance(width, int):
        places = height * width
    else:
        places = mul(*(ints([size]) if isinstance(size, int) else size for size in (height, width)))
    return shaped(summed_at([*front, places], where, updates, len(target) - 2), target)


def _moved(step: Step, columns: Side, rows: Side, corners: dict[tuple[int, int], Corner]) -> ov.Output:
    """Return the gradient of the points, in their type: what changes as they move right, and down."""
    own = tensor_sizes(step.x)
    features = shaped(typed(step.x, columns.place), [*own[:2], -1])
    values = {}
    for name, corner in corners.items():
        where = ops.broadcast(corner.index, ops.shape_of(_points(step)))
        values[name] = mul(ops.gather_elements(features, where, 2).output(0), corner.is_there)
    target = sizes(step, step.node.input_value(1))
    up = shaped(typed(step.up, columns.place), [*sizes(step, step.y)[:-2], -1])
    right = [mul(sub(values[1, below], values[0, below]), corners[0, below].down) for below in (0, 1)]
    down = [mul(sub(values[right_, 1], values[right_, 0]), corners[right_, 0].across) for right_ in (0, 1)]
    parts = []
    for (first, second), side in ((right, columns), (down, rows)):
        total = sum_over(mul(up, add(first, second)), [-2])
        parts.append(shaped(mul(total, side.slope), [*target[:-1], 1]))
    return ops.concat(parts, -1).output(0)


def _points(step: Step) -> ov.Output:
    """Return the output as ``(N, C, Q)``."""
    return shaped(step.y, [*tensor_sizes(step.y)[:2], -1])


def _sampled_refusal(node: ov.Node, wanted: frozenset[int]) -> str | None:
    attributes = node.get_attributes()
    mode, padding = (str(attributes[name]).lower() for name in ("mode", "padding_mode"))
    if mode not in ("bilinear", "nearest") or padding not in ("zeros", "border"):
        return f"samples in mode {mode} with padding {padding}"
    return None


def _sampled_inputs(step: Step) -> Gradients:
    found = _sampled(step)
    if 1 in step.wanted and 1 not in found:  # the nearest pixel stays the same where a point moves a little
        target = sizes(step, step.node.input_value(1))
        found = {**found, 1: zeros(target, step.node.input_value(1))}
    return found


def _region(step: Step) -> Gradients:
    """Differentiate means over the points of each bin, which are products of means along rows and columns."""
    attributes = step.node.get_attributes()
    rows, columns = _bins(step, 0, int(attributes["pooled_h"])), _bins(step, 1, int(attributes["pooled_w"]))
    up = step.up  # (S?, R, C, h, w)
    wide = ops.matmul(up, ops.unsqueeze(columns, ints([1])), False, False).output(0)  # (S?, R, C, h, W)
    lead = list(range(rank(wide) - 4))
    turned = transpose(wide, [*lead, *(len(lead) + axis for axis in (1, 0, 2, 3))])
    target = sizes(step, step.x)
    flat = shaped(turned, [*[step.count] * len(lead), tensor_sizes(step.x)[1], -1, tensor_sizes(step.x)[3]])
    tall = shaped(rows, [-1, tensor_sizes(step.x)[2]])
    return {0: shaped(ops.matmul(tall, flat, True, False).output(0), target)}


def _bins(step: Step, down: int, count: int) -> ov.Output:
    """Return by how much each bin of a region reads each row (``down`` 0) or column: ``(R, bins, rows)``."""
    attributes, regions = step.node.get_attributes(), step.node.input_value(1)
    axis, samples = 1 - down, int(attributes["sampling_ratio"])
    aligned = str(attributes.get("aligned_mode", "asymmetric")).lower()
    scale = float(attributes["spatial_scale"])
    shift = {"asymmetric": 0.0, "half_pixel": 0.5 * scale - 0.5}.get(aligned, -0.5)
    low, high = (
        add(mul(ops.gather(regions, ints([i]), ops.constant(np.int64(1))).output(0), scale), shift)
        for i in (axis, axis + 2)
    )
    size = sub(high, low)  # (R, 1)
    if aligned == "asymmetric":
        size = call(ops.maximum, size, number(1, size))
    steps = (np.arange(count * samples) + 0.5) / (samples * count)
    place = add(low, mul(size, array(steps[None].astype(np.float32), size)))  # (R, bins * samples)
    length = _length(step.x, 2 + down, step.x)
    last = sub(length, 1.0) if isinstance(length, ov.Output) else number(length - 1, place)
    valid = both(greater(place, -1.0000001), greater(add(last, 1.0000001), place))
    inside = call(ops.minimum, call(ops.maximum, place, number(0, place)), last)
    stop = ops.convert(add(last, 1.0), "i64")
    pixels = ops.range(ops.constant(np.int64(0)), stop, ops.constant(np.int64(1)), "f32").output(0)
    distance = call(ops.abs, sub(ops.unsqueeze(inside, ints([2])).output(0), pixels))
    share = mul(call(ops.relu, sub(1.0, distance)), ops.unsqueeze(as_numbers(valid, place), ints([2])).output(0))
    parted_bins = shaped(share, [tensor_sizes(regions)[0], count, samples, tensor_sizes(step.x)[2 + down]])
    return ops.reduce_mean(parted_bins, ints([2]), False).output(0)


def _region_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    attributes = node.get_attributes()
    if str(attributes["mode"]).lower() != "avg":
        return "takes the largest of each bin"
    if int(attributes["sampling_ratio"]) < 1:
        return "chooses the number of points by the size of a region"
    return None if is_one_image(node.input_value(0)) else "reads regions of several images"


def _folded_windows(step: Step) -> Gradients:
    """Differentiate the sum of overlapping windows: each window reads its part of the gradient again."""
    attributes = step.node.get_attributes()
    size, kernel = (constant_ints(step.node.input_value(i)) or [] for i in (1, 2))
    places, valid = [], []
    for i in (0, 1):
        stride, gap, begin, end = (
            int(attributes[name][i]) for name in ("strides", "dilations", "pads_begin", "pads_end")
        )
        blocks = (size[i] + begin + end - (kernel[i] - 1) * gap - 1) // stride + 1
        place = np.arange(kernel[i])[:, None] * gap + np.arange(blocks)[None] * stride - begin
        places.append(place)
        valid.append((place >= 0) & (place < size[i]))
    index = places[0][:, None, :, None] * size[1] + places[1][None, :, None, :]
    index = np.where(valid[0][:, None, :, None] & valid[1][None, :, None, :], index, size[0] * size[1]).reshape(-1)
    up = merged(step, step.up) if rank(step.y) == 4 else step.up
    flat = shaped(up, [*_front(up), -1])
    whole = padded(flat, -1, 0, 1)
    taken = ops.gather(whole, ints(index), ops.constant(np.int64(rank(whole) - 1))).output(0)
    return {0: shaped(taken, sizes(step, step.x))}


def _front(value: ov.Output) -> list[Size]:
    return tensor_sizes(value)[:-2]


def _folded_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    known = all(constant_ints(node.input_value(i)) is not None for i in (1, 2))
    return None if known else "computes its sizes"


SAMPLING_RULES = {
    "sampled": Rule(_sampled_inputs, inputs=(0, 1), refusal=_sampled_refusal),
    "region": Rule(_region, inputs=(0,), refusal=_region_refusal),
    "folded_windows": Rule(_folded_windows, inputs=(0,), refusal=_folded_refusal),
}
"""Rules of what reads features at computed places, by the names that the table of operations uses."""
