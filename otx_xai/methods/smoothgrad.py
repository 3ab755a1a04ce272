"""SmoothGrad: the gradient of the score with respect to the pixels, averaged over noisy versions of the image.

``S_k = Σ_c | mean over n of ∂y_k / ∂x (x + N(0, σ²)) |``; Smilkov et al., *SmoothGrad: removing noise by adding noise*,
2017 (arXiv:1706.03825). ``y`` is the score before soft-max, ``σ`` a part of the range of the image, and the noise the
same for every image: one field of it, moved to another place for every version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError
from otx_xai.graph.features import Features
from otx_xai.graph.surgery import cut, reshape
from otx_xai.methods.class_gradients import Slope
from otx_xai.methods.input_gradients import Versions, fit_of_pixels, insert_pixel_branch
from otx_xai.methods.spec import CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.records import FloatArray, IntArray

NAME = "smoothgrad"


@dataclass(frozen=True)
class SmoothGradOptions:
    """Options of SmoothGrad.

    Args:
        num_steps: noisy versions of an image, each of which takes a forward and a backward pass.
        noise: standard deviation of the noise, as a part of the range of the image; the paper's 0.1 to 0.2.
        seed: of the noise.

    Raises:
        ConfigError: a value is out of range.
    """

    num_steps: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps is {self.num_steps}; expected a whole number from 1 on.")
        if not self.noise >= 0:
            raise ConfigError(f"noise is {self.noise}; expected a part of the image's range, such as 0.15.")


def noise_field(shape: Sequence[int], steps: int, places: tuple[int, int], seed: int) -> tuple[FloatArray, IntArray]:
    """Return a field of noise of an image's shape, and how far it is moved along the axes of places for each version.

    Moved by different steps, fields of independent numbers are independent at each pixel.
    """
    rng = np.random.default_rng(seed)
    field: FloatArray = rng.standard_normal(shape).astype(np.float32)
    rows, columns = shape[places[0]], shape[places[1]]
    numbers = rng.choice(rows * columns, steps, replace=steps > rows * columns)
    moves: IntArray = np.stack([numbers // columns, numbers % columns], axis=1).astype(np.int64)
    return field, moves


def _versions(image: ov.Output, pixels: Features, options: SmoothGradOptions) -> Versions:
    shape = [size if axis != pixels.batch_axis else 1 for axis, size in enumerate(pixels.dims)]
    if None in shape:
        raise GraphError(f"{NAME} needs an input of known size, and this one is {image.get_partial_shape()}.")
    places = pixels.places[0], pixels.places[1]
    field, moves = noise_field([size or 1 for size in shape], options.num_steps, places, options.seed)
    axes = ops.constant(np.array([axis for axis in range(len(shape)) if axis != pixels.batch_axis]))
    low, high = (reduce(image, axes, keep_dims=True) for reduce in (ops.reduce_min, ops.reduce_max))
    share = ops.convert_like(ops.constant(np.float32(options.noise)), image)
    spread = ops.multiply(ops.subtract(high, low), share).output(0)

    def change(own: ov.Output, row: ov.Output, given: Sequence[ov.Output]) -> tuple[ov.Output, ov.Output]:
        move = ops.convert(reshape(cut(row, 1, 0, 2), (2,)), "i64")
        noise = ops.roll(ops.constant(field), move, ops.constant(np.array(places)))
        version = ops.add(own, ops.multiply(ops.convert_like(noise, own), given[0]))
        weight = ops.convert_like(ops.constant(np.array([1 / options.num_steps], np.float32)), own)
        return version.output(0), weight.output(0)

    return Versions(moves.astype(np.float32), change, [spread])


def _read(slope: Slope) -> ov.Output:
    return slope.over_channels(ops.abs(slope.gradient).output(0))


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    return fit_of_pixels(model, target_layers, NAME)


def _insert(model: Model, order: Order) -> Branch:
    options = order.options or SmoothGradOptions()
    return insert_pixel_branch(model, order, NAME, lambda image, pixels: _versions(image, pixels, options), _read)


SPEC = MethodSpec(
    NAME,
    "SmoothGrad: gradients of pixels, averaged over noisy images; any classifier that gradients can pass",
    CLASSIFIERS,
    _fits,
    options=SmoothGradOptions,
    insert=_insert,
    each_class_costs=True,
)
