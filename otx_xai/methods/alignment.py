"""Maps of different strides on one grid: each place of the finer one is looked up in the coarser map, where it lies."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.features import Features
from otx_xai.graph.surgery import reshape
from otx_xai.graph.view import dimensions, port_of
from otx_xai.methods.class_branch import laid_out
from otx_xai.methods.heads import Site
from otx_xai.methods.places import grid_sizes
from otx_xai.records import MapGrid


def moved(site: Site, maps: ov.Output, source: Features, target: Features) -> ov.Output:
    """Bring maps onto the places of other features, bilinearly between the centres of their own places.

    Beyond the outermost centres a map is constant, as where it is laid over an image. Where it is not known what the
    places of either look at, both grids divide the input evenly.

    Args:
        site: the model under surgery.
        maps: ``(N, K, M)`` on the places of ``source``.
        source: whose places the maps have.
        target: whose places they are to have.

    Returns:
        ``(N, K, M')``.
    """
    if source is target:
        return maps
    grids = [site.anatomy.grids.get(port_of(features.output)) for features in (source, target)]
    before, after = grid_sizes(site.main, source), grid_sizes(site.main, target)
    rows, columns = (_looked_up(before[i], after[i], *_line(grids, before, after, i)) for i in range(2))
    return _flat(_between(rows, laid_out(site, source, maps), columns))


def smoothed(site: Site, maps: ov.Output, features: Features, sigma: float) -> ov.Output:
    """Smooth maps ``(N, K, M)`` by a Gaussian that sums up to 1 over the places that there are.

    Args:
        site: the model under surgery.
        maps: on the places of ``features``.
        features: whose places they are.
        sigma: standard deviation, in places.
    """
    rows, columns = (_gaussian(size, sigma) for size in grid_sizes(site.main, features))
    return _flat(_between(rows, laid_out(site, features, maps), columns))


def _between(rows: ov.Output, maps: ov.Output, columns: ov.Output) -> ov.Output:
    """Return ``rows · map · columnsᵀ`` of each map."""
    tall = ops.matmul(rows, maps, transpose_a=False, transpose_b=False)
    return ops.matmul(tall, columns, transpose_a=False, transpose_b=True).output(0)


def _flat(maps: ov.Output) -> ov.Output:
    """Return maps ``(N, K, h, w)`` as ``(N, K, M)``."""
    dims = dimensions(maps) or []
    if None not in dims[:2]:
        return reshape(maps, (*(size or 1 for size in dims[:2]), -1))
    return ops.reshape(maps, ops.constant(np.array([0, 0, -1])), special_zero=True).output(0)


def _line(
    grids: list[MapGrid | None], before: tuple[ov.Output, ov.Output], after: tuple[ov.Output, ov.Output], axis: int
) -> tuple[ov.Output, ov.Output]:
    """Return where target place 0 lies among the source's places along an axis, and the step from one to the next."""
    source, target = grids
    if source is not None and target is not None:
        step = target.step[axis] / source.step[axis]
        first = (target.start[axis] - source.start[axis]) / source.step[axis]
        return _number(first), _number(step)
    wide = ops.divide(ops.convert(before[axis], "f32"), ops.convert(after[axis], "f32")).output(0)
    half = _number(0.5)
    return ops.subtract(ops.multiply(half, wide), half).output(0), wide


def _looked_up(before: ov.Output, after: ov.Output, first: ov.Output, step: ov.Output) -> ov.Output:
    """Return bilinear weights ``(after, before)`` along one axis."""
    last = ops.subtract(ops.convert(before, "f32"), _number(1))
    places = ops.add(first, ops.multiply(step, _numbers(after)))
    inside = ops.minimum(ops.maximum(places, _number(0)), last)
    distance = ops.abs(ops.subtract(_column(inside.output(0)), _numbers(before)))
    return ops.relu(ops.subtract(_number(1), distance)).output(0)


def _gaussian(size: ov.Output, sigma: float) -> ov.Output:
    """Return the weights ``(size, size)`` of a Gaussian around each place; each row sums up to 1."""
    places = _numbers(size)
    distance = ops.divide(ops.subtract(_column(places), places), _number(sigma))
    weights = ops.exp(ops.multiply(_number(-0.5), ops.multiply(distance, distance)))
    return ops.divide(weights, ops.reduce_sum(weights, ops.constant(np.array([1])), keep_dims=True)).output(0)


def _numbers(size: ov.Output) -> ov.Output:
    """Return ``0 … size - 1`` as ``float32`` of a size ``(1,)``."""
    zero, one = ops.constant(np.int64(0)), ops.constant(np.int64(1))
    return ops.convert(ops.range(zero, ops.squeeze(size, ops.constant(0)), one, "i64"), "f32").output(0)


def _column(line: ov.Output) -> ov.Output:
    return ops.unsqueeze(line, ops.constant(1)).output(0)


def _number(value: float) -> ov.Output:
    return ops.constant(np.array([value], np.float32)).output(0)
