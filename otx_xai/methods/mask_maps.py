"""Maps of classes in the graph, of masks that fill their boxes or lie over the whole input.

Masks are never held in full size. One that fills its box is laid over the input by two small matrices, ``rows · mask ·
columns``, which interpolate it bilinearly at pixel centres, 0 outside, as mmdetection pastes masks; averaging the
*matrices* over the pixels of a map's cell gives exactly the average of the pasted mask. So maps of any size are those
of full size, averaged over cells as torch's ``adaptive_avg_pool2d`` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.surgery import as_type, cut, reshape, size_of
from otx_xai.graph.view import dimensions

MEMORY_LIMIT = 10 * 2**20
"""Bytes of pasted masks that are held at a time. Of 100 instances at 800 × 1333 the branch needs 30 MiB for maps of
default size; for maps of full size 45 MiB, and three times the bytes of its result ``(1, K, 800, 1333)``."""

_ASSUMED_INSTANCES = 100

Length: TypeAlias = "int | ov.Output"
"""A number of pixels or cells: known, or an ``i64`` tensor of shape (1,)."""


@dataclass(frozen=True)
class Canvas:
    """What masks are laid over: ``size``, rows and columns of the network's input, and ``cells``, those of a map."""

    size: tuple[Length, Length]
    cells: tuple[Length, Length]


@dataclass(frozen=True)
class Instances:
    """Of one image: ``boxes`` ``(N, 4)``, ``labels`` ``i64`` ``(N,)``, ``scores`` ``(N,)``, ``masks`` ``(…, a, b)``.

    Masks are what the model gives, with its axes and type: where they are large, the CPU plugin would copy them to
    reshape them, since they are an output as well.
    """

    boxes: ov.Output
    labels: ov.Output
    scores: ov.Output
    masks: ov.Output


def class_weights(instances: Instances, labels: Sequence[int], threshold: float) -> ov.Output:
    """Return what each instance adds to each class, ``(K, N)``: its score by the number of that class's instances.

    Args:
        instances: of one image.
        labels: of the classes, as the model calls them.
        threshold: score from which an instance counts.
    """
    wanted = ops.constant(np.array(labels, np.int64)[:, None])
    counts = ops.equal(ops.unsqueeze(instances.labels, integers(0)), wanted)
    if threshold > 0:
        enough = ops.greater_equal(instances.scores, ops.constant(np.float32(threshold)))
        counts = ops.logical_and(counts, ops.unsqueeze(enough, integers(0)))
    members = ops.convert(counts, "f32")
    number = ops.maximum(ops.reduce_sum(members, integers(1), keep_dims=True), _number(1))
    return ops.divide(ops.multiply(members, ops.unsqueeze(instances.scores, integers(0))), number).output(0)


def mean_masks(instances: Instances, weights: ov.Output, canvas: Canvas) -> ov.Output:
    """Return the maps of all wanted classes, ``(K, h, w)``, unscaled.

    Args:
        instances: of one image.
        weights: what each adds to each class, ``(K, N)``.
        canvas: the input that masks are laid over, and the cells of a map.
    """
    mask_size = [_length(instances.masks, axis) for axis in (-2, -1)]
    if all(map(_equal, mask_size, canvas.size)):
        return _average_of_whole(instances, weights, canvas)
    frames = _frames(instances, mask_size, canvas)
    down, along = (
        _interpolation(frames, side, mask_size[1 - side], canvas.size[1 - side], canvas.cells[1 - side])
        for side in (1, 0)
    )
    masks = as_type(reshape(instances.masks, (-1, *mask_size)), ov.Type.f32)
    chunk = _chunk(instances, canvas.cells)

    def maps(down: ov.Output, masks: ov.Output, along: ov.Output, weights: ov.Output) -> ov.Output:
        tall = ops.matmul(down, masks, transpose_a=False, transpose_b=False)
        pasted = ops.matmul(tall, along, transpose_a=False, transpose_b=True).output(0)
        return _weighted(weights, pasted, (chunk, canvas.cells[1]))

    return _by_rows(maps, down, (masks, along, weights), chunk)


def _average_of_whole(instances: Instances, weights: ov.Output, canvas: Canvas) -> ov.Output:
    """Do so for masks that the model itself has laid over the input: weigh first, then average over cells."""
    (height, width), (rows, columns) = canvas.size, canvas.cells
    chunk = _chunk(instances, canvas.size)

    def maps(masks: ov.Output, weights: ov.Output) -> ov.Output:
        wide = _weighted(weights, as_type(masks, ov.Type.f32), (chunk, width))
        return wide if _equal(columns, width) else _pooled(wide, (chunk, columns))

    tall = _by_rows(maps, instances.masks, (weights,), chunk)
    return tall if _equal(rows, height) else _pooled(tall, (rows, columns))


def _frames(instances: Instances, mask_size: Sequence[Length], canvas: Canvas) -> ov.Output:
    """Return what masks fill, xyxy: their boxes ``(N, 4)``; or the whole input ``(1, 4)``.

    Where sizes are known, masks are inside of boxes. Else the graph looks whether their size is that of the input.
    """
    if all(isinstance(length, int) for length in (*mask_size, *canvas.size)):
        return instances.boxes
    pairs = zip(mask_size, canvas.size, strict=True)
    is_whole = ops.logical_and(*(ops.equal(as_tensor(found), as_tensor(wanted)) for found, wanted in pairs))
    nothing, edges = _number(0), [ops.convert(as_tensor(length), "f32") for length in canvas.size[::-1]]
    whole = ops.unsqueeze(ops.concat([nothing, nothing, *edges], axis=0), integers(0))
    begin = ops.select(is_whole, integers(0), integers(1))
    end = ops.select(is_whole, integers(1), integers(2**62))
    rows = ops.concat([whole, instances.boxes], axis=0)
    return ops.slice(rows, begin, end, integers(1), integers(0)).output(0)


def _interpolation(frames: ov.Output, side: int, mask_size: Length, size: Length, cells: Length) -> ov.Output:
    """Return the matrices that lay the rows (``side`` 1) or columns (0) of masks over those of a map, ``(N, h, a)``.

    Pixel centres lie half a pixel inside. Between two places of the mask weights fall linearly; outside it is 0.
    """
    low, high = (ops.unsqueeze(cut(frames, 1, edge, edge + 1), integers(1)) for edge in (side, side + 2))
    ratio = ops.divide(as_type(as_tensor(mask_size), ov.Type.f32), ops.maximum(ops.subtract(high, low), _number(1e-6)))
    pixels = reshape(_count(size), (1, -1, 1))
    places = ops.subtract(ops.multiply(ops.subtract(ops.add(pixels, _number(0.5)), low), ratio), _number(0.5))
    distance = ops.abs(ops.subtract(places, reshape(_count(mask_size), (1, 1, -1))))
    weights = ops.relu(ops.subtract(_number(1), distance)).output(0)
    return weights if _equal(cells, size) else _pooled(weights, (cells, mask_size))


def _pooled(values: ov.Output, sizes: tuple[Length, Length]) -> ov.Output:
    """Average ``(N, H, W)`` over cells, as torch's ``adaptive_avg_pool2d`` does it; return ``(N, h, w)``."""
    target = ops.concat([as_tensor(size) for size in sizes], axis=0)
    return squeezed(ops.adaptive_avg_pool(ops.unsqueeze(values, integers(0)), target).output(0), 0)


def _weighted(weights: ov.Output, masks: ov.Output, size: tuple[Length, Length]) -> ov.Output:
    """Return the product of weights ``(K, N)`` and ``N`` masks of a size, ``(K, h, w)``; zeros where ``N`` is 0."""
    area = ops.multiply(*(as_tensor(length) for length in size)).output(0)
    maps = ops.matmul(weights, reshape(masks, (-1, area)), transpose_a=False, transpose_b=False)
    # What a product over an empty axis holds is no plugin's promise
    found = ops.greater(size_of(weights, 1), integers(0))
    return reshape(ops.select(found, maps, _number(0)).output(0), (-1, *size))


def _chunk(instances: Instances, size: tuple[Length, Length]) -> Length:
    """Return how many rows of all masks of a size fit into the limit of memory: a divisor of all rows.

    All of them where the size is not known: maps of default size are small.
    """
    rows, columns = size
    if not isinstance(rows, int) or not isinstance(columns, int):
        return rows
    outputs = (instances.boxes, instances.labels, instances.scores)
    known = [output.get_partial_shape()[0].get_max_length() for output in outputs]
    count = max(1, min((most for most in known if most >= 0), default=_ASSUMED_INSTANCES))
    fitting = max(1, MEMORY_LIMIT // (4 * columns * count))
    return max(chunk for chunk in range(1, min(rows, fitting) + 1) if rows % chunk == 0)


def _by_rows(maps: Callable[..., ov.Output], rows: ov.Output, others: Sequence[ov.Output], chunk: Length) -> ov.Output:
    """Return ``maps(rows, *others)``, ``(K, h, w)``, in a loop over chunks of the last but one axis of ``rows``."""
    axis = len(dimensions(rows) or ()) - 2
    if not isinstance(chunk, int) or _equal(chunk, _length(rows, axis)):
        return maps(rows, *others)
    shape = rows.get_partial_shape()
    shape[axis] = chunk
    part = ops.parameter(shape, rows.get_element_type())
    rest = [ops.parameter(value.get_partial_shape(), value.get_element_type()) for value in others]
    result = ops.result(maps(part.output(0), *(parameter.output(0) for parameter in rest)))
    loop = ops.tensor_iterator()
    loop.set_function(ov.Model([result], [part, *rest], "rows"))
    loop.set_sliced_input(part, rows, 0, chunk, chunk, -1, axis)
    for parameter, value in zip(rest, others, strict=True):
        loop.set_invariant_input(parameter, value)
    return loop.get_concatenated_slices(result.output(0), 0, chunk, chunk, -1, 1)


# --------------------------------------------------------------------------------------------------------------------
# Small tensors
# --------------------------------------------------------------------------------------------------------------------


def _length(output: ov.Output, axis: int) -> Length:
    size = (dimensions(output) or [])[axis]
    return size if size is not None else size_of(output, axis)


def _equal(first: Length, second: Length) -> bool:
    """Whether both are known, and the same."""
    return isinstance(first, int) and isinstance(second, int) and first == second


def as_tensor(length: Length) -> ov.Output:
    """Return a length as an ``i64`` tensor of shape (1,)."""
    return integers(length) if isinstance(length, int) else length


def _count(length: Length) -> ov.Output:
    """Return 0, 1, … below a length, ``float32``."""
    if isinstance(length, int):
        # integers, since models are saved in half precision, which does not hold 2049
        return ops.convert(ops.constant(np.arange(length, dtype=np.int32)), "f32").output(0)
    stop = squeezed(length, 0)
    zero, one = (ops.constant(np.int64(number)) for number in (0, 1))
    return ops.range(zero, stop, one, "f32").output(0)


def integers(*values: int) -> ov.Output:
    """Return whole numbers, ``i64``."""
    return ops.constant(np.array(values, np.int64)).output(0)


def _number(value: float) -> ov.Output:
    return ops.constant(np.array([value], np.float32)).output(0)


def squeezed(output: ov.Output, axis: int) -> ov.Output:
    """Return a tensor without an axis of length 1."""
    return ops.squeeze(output, integers(axis)).output(0)
