"""What the way back from the scores of boxes starts from and ends with, whether it has the whole image or windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino import opset15

from otx_xai.graph.features import Features
from otx_xai.graph.surgery import reshape, size_of
from otx_xai.records import FloatArray

NOISE = 1e-4
"""Part of the contribution of another level below which a level is left out."""


@dataclass(frozen=True)
class Seed:
    """A number that the score of a box comes from.

    Args:
        leaf: number of the leaf that holds it.
        element: which of its elements.
        slope: by how much the score grows with it.
    """

    leaf: int
    element: int
    slope: float


def seed_parameters() -> tuple[ov.Node, ov.Node]:
    """Return the inputs that tell of seeds: elements ``int64`` ``(S, n)``, and their slopes ``float32`` ``(S, n)``."""
    return ops.parameter([-1, -1], np.int64), ops.parameter([-1, -1], np.float32)


def seed_inputs(boxes: Sequence[Sequence[Seed]], leaf: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Return what these inputs are given for one leaf."""
    own = [[seed for seed in seeds if seed.leaf == leaf] for seeds in boxes]
    most = max([1, *map(len, own)])
    elements, slopes = np.zeros((len(boxes), most), np.int64), np.zeros((len(boxes), most), np.float32)
    for row, seeds in enumerate(own):
        for column, seed in enumerate(seeds):
            elements[row, column], slopes[row, column] = seed.element, seed.slope
    return elements, slopes


def seeds_at(parameters: tuple[ov.Node, ov.Node], shape: ov.Node, like: ov.Output) -> ov.Output:
    """Return seeds ``(S, *shape)`` that are slopes at some elements, and 0 elsewhere.

    Args:
        parameters: :func:`seed_parameters`.
        shape: ``int64``, that of one seed.
        like: has the type that seeds are to have.
    """
    elements, slopes = parameters
    first, zero = ops.constant(np.array([0], np.int64)), ops.constant(np.float32(0))
    count = ops.reduce_prod(shape, first, keep_dims=True)
    seeds = size_of(elements.output(0), 0)
    nothing = ops.broadcast(zero, ops.concat([seeds, count], 0))
    axis = ops.constant(np.int64(1))
    flat = opset15.scatter_elements_update(nothing, elements, slopes, axis, reduction="sum", use_init_val=True)
    value = ops.reshape(flat, ops.concat([seeds, shape], 0), special_zero=False).output(0)
    kind = like.get_element_type()
    return value if kind == ov.Type.f32 else ops.convert(value, kind).output(0)


def layer_cam(
    features: Features, tensor: ov.Output, gradient: ov.Output, empty: ov.Output, grid: tuple[int, int]
) -> ov.Output:
    """Return maps ``(S, h, w)`` of features and their gradients, but for the outer ReLU.

    They are LayerCAM of what features have more than those of an empty image: ``Σ relu(gradient) · (F - empty)``. What
    is not finite stays so, which it would not in a ReLU: ``relu(g) = (g + |g|) / 2``.

    Args:
        features: what they are.
        tensor: their values, of one image or of each seed.
        gradient: one of each seed.
        empty: :func:`channel_means` of an empty image.
        grid: rows and columns of the maps.
    """
    weighted = ops.multiply(ops.add(gradient, ops.abs(gradient)), ops.subtract(tensor, empty))
    channels = ops.constant(np.array([features.channel_axis], np.int64))
    maps = _without_prefix(features, ops.reduce_sum(weighted, channels, keep_dims=False).output(0))
    maps = reshape(maps, (-1, *grid))
    return maps if maps.get_element_type() == ov.Type.f32 else ops.convert(maps, "f32").output(0)


def channel_means(features: Features, tensor: ov.Output) -> ov.Output:
    """Return the mean of each channel over the places of an image, with axes of length 1."""
    places = ops.constant(np.array(features.places, np.int64))
    return ops.reduce_mean(_without_prefix(features, tensor), places, keep_dims=True).output(0)


def empty_parameter(features: Features) -> ov.Node:
    """Return the input that tells :func:`channel_means` of an empty image."""
    shape = [1 if axis in features.places else size or 1 for axis, size in enumerate(features.dims)]
    return ops.parameter(shape, features.output.get_element_type())


def _without_prefix(features: Features, value: ov.Output) -> ov.Output:
    """Leave out the tokens in front of those of the image, along the axis behind that of images; mostly nothing."""
    if not features.prefix:
        return value
    ahead, everything = ops.constant(np.array([features.prefix], np.int64)), ops.constant(np.array([2**62]))
    one = ops.constant(np.array([1], np.int64))
    return ops.slice(value, ahead, everything, one, one).output(0)
