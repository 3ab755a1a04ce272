"""Places of a feature tensor: how many, in which order, and the masks that keep one of them."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.features import Features
from otx_xai.graph.surgery import Twin, cut, reshape, size_of, transpose

SINGLE = (1.0,)
"""Weights along one axis that keep one place alone."""

GAUSSIAN = (0.5, 0.25)
"""Weights at distance 0 and 1 along one axis: their products are the 3×3 kernel of ViT Recipro-CAM."""


def grid_sizes(main: Twin, features: Features) -> tuple[ov.Output, ov.Output]:
    """Return rows and columns of the grid of places as ``i64`` tensors of shape (1,) in the main graph."""
    rows, columns = features.grid
    if rows is not None and columns is not None:
        height, width = (ops.constant(np.array([size], np.int64)).output(0) for size in (rows, columns))
        return height, width
    if features.tokens is None or features.tokens.source is None:
        value = main.output(features.output)
        return size_of(value, features.places[0]), size_of(value, features.places[1])
    name, index = features.tokens.source
    source = main.output(main.view.nodes[main.view.position[name]].output(index))
    first, second = features.tokens.source_axes
    return size_of(source, first), size_of(source, second)


def place_count(main: Twin, features: Features) -> ov.Output:
    """Return the number of places as an ``i64`` tensor of shape (1,)."""
    rows, columns = features.grid
    if rows is not None and columns is not None:
        return ops.constant(np.array([rows * columns], np.int64)).output(0)
    tokens = features.dims[features.places[0]] if features.tokens else None
    if tokens is not None:
        return ops.constant(np.array([tokens - features.prefix], np.int64)).output(0)
    return ops.multiply(*grid_sizes(main, features)).output(0)


def rows_of_places(value: ov.Output, features: Features) -> ov.Output:
    """Return the features as ``(N, M, C)``, places in row-major order, prefix tokens left out."""
    rows = transpose(value, (features.batch_axis, *features.places, features.channel_axis))
    if features.tokens is not None:
        return cut(rows, 1, features.prefix, None) if features.prefix else rows
    channels = features.dims[features.channel_axis]
    assert channels is not None
    images = features.dims[features.batch_axis]
    return reshape(rows, (size_of(rows, 0) if images is None else images, -1, channels))


def place_masks(
    places: ov.Output, sizes: tuple[ov.Output, ov.Output], features: Features, weights: tuple[float, ...]
) -> ov.Output:
    """Return one mask for each of the given places, to multiply the features of one image with.

    Args:
        places: ``i64`` ``(c,)``, numbers of places in row-major order.
        sizes: rows and columns of the grid, ``i64`` ``(1,)`` each, in the same graph as ``places``.
        features: what is masked.
        weights: of the places at distance 0, 1, … along each axis; farther ones are 0. Prefix tokens are kept.

    Returns:
        ``float32`` ``(c, …)``: behind ``c`` the axes of the features without the batch, the channel axis of size 1.
    """
    height, width = sizes
    rows = ops.divide(places, width).output(0)
    columns = ops.mod(places, width).output(0)
    vertical = ops.unsqueeze(_near(rows, height, weights), ops.constant(2))
    horizontal = ops.unsqueeze(_near(columns, width, weights), ops.constant(1))
    masks = ops.multiply(vertical, horizontal).output(0)  # (c, h, w)
    if features.tokens is not None:
        masks = _with_prefix_columns(reshape(masks, (*_static(size_of(places, 0)), -1)), features.prefix)
    rest = [axis for axis in range(len(features.dims)) if axis != features.batch_axis]
    return ops.unsqueeze(masks, ops.constant(1 + rest.index(features.channel_axis))).output(0)


def gaussian_masks(main: Twin, features: Features) -> ov.Output:
    """Return masks ``(T, T)`` over tokens: row ``t`` keeps a 3×3 Gaussian neighbourhood of the place at token ``t``.

    Prefix tokens are kept by every mask; the rows of prefix tokens keep everything.
    """
    masks = place_masks(every_place(main, features), grid_sizes(main, features), features, GAUSSIAN)
    masks = ops.squeeze(masks, ops.constant(2 if features.channel_axis > features.places[0] else 1)).output(0)
    if not features.prefix:
        return masks
    prefix = ops.constant(np.array([features.prefix], np.int64)).output(0)
    shape = ops.concat([prefix, size_of(masks, 1)], axis=0)
    top = ops.broadcast(ops.constant(np.float32(1)), shape)
    return ops.concat([top, masks], axis=0).output(0)


def every_place(main: Twin, features: Features) -> ov.Output:
    """Return the numbers of all places, ``i64`` ``(M,)``."""
    return _line(place_count(main, features), "i64")


def _line(size: ov.Output, element_type: str) -> ov.Output:
    zero, one = ops.constant(np.int64(0)), ops.constant(np.int64(1))
    return ops.range(zero, ops.squeeze(size, ops.constant(0)), one, element_type).output(0)


def _static(*sizes: ov.Output) -> list[int | ov.Output]:
    """Turn constant sizes into integers."""
    return [int(size.get_node().data[0]) if size.get_node().get_type_name() == "Constant" else size for size in sizes]


def _with_prefix_columns(masks: ov.Output, prefix: int) -> ov.Output:
    if not prefix:
        return masks
    shape = ops.concat([size_of(masks, 0), ops.constant(np.array([prefix], np.int64))], axis=0)
    ones = ops.broadcast(ops.constant(np.float32(1)), shape)
    return ops.concat([ones, masks], axis=1).output(0)


def _near(positions: ov.Output, size: ov.Output, weights: tuple[float, ...]) -> ov.Output:
    """Return ``weights[|position - i|]`` for ``i < size``, 0 beyond: ``float32`` ``(c, size)``."""
    line = ops.unsqueeze(_line(size, "i64"), ops.constant(0))
    distances = ops.abs(ops.subtract(ops.unsqueeze(positions, ops.constant(1)), line))
    result = ops.constant(np.float32(0)).output(0)
    for distance, weight in enumerate(weights):
        hit = ops.equal(distances, ops.constant(np.int64(distance)))
        result = ops.select(hit, ops.constant(np.float32(weight)), result).output(0)
    return result
