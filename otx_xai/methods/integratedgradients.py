"""Integrated gradients: what each pixel adds to the score on the way from an empty image.

``A_k = (x - x₀) · ∫₀¹ ∂y_k / ∂x (x₀ + α (x - x₀)) dα``; Sundararajan et al., *Axiomatic attribution for deep networks*,
ICML 2017 (arXiv:1703.01365). ``y`` is the score before soft-max, and ``x₀`` the pixel that becomes 0 behind the
network's normalisation, as Captum's zeros are of a normalised image. The integral is a Gauss-Legendre sum, as there.
``A`` adds up to ``y(x) - y(x₀)``. The map is the sum over channels, its positive part: what speaks for the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError
from otx_xai.gradients.formulas import typed
from otx_xai.graph.features import Features
from otx_xai.graph.surgery import cut, reshape
from otx_xai.methods.class_gradients import Slope
from otx_xai.methods.input_gradients import Versions, fit_of_pixels, insert_pixel_branch
from otx_xai.methods.spec import CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.records import FloatArray

NAME = "integratedgradients"


@dataclass(frozen=True)
class IntegratedGradientsOptions:
    """Options of integrated gradients.

    Args:
        num_steps: images on the way, each of which takes a forward and a backward pass.

    Raises:
        ConfigError: there is none.
    """

    num_steps: int = 50

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps is {self.num_steps}; expected a whole number from 1 on.")


def attributions(slope: Slope, empty: ov.Output) -> ov.Output:
    """Return what each pixel adds, all channels together, ``(N, K, M)``, with its sign."""
    away = ops.subtract(slope.value, empty)
    return slope.over_channels(ops.multiply(slope.gradient, away).output(0))


def _versions(steps: int, empty: FloatArray) -> Versions:
    places, weights = np.polynomial.legendre.leggauss(steps)
    table = np.stack([(places + 1) / 2, weights / 2], axis=1).astype(np.float32)

    def change(image: ov.Output, row: ov.Output, _: Sequence[ov.Output]) -> tuple[ov.Output, ov.Output]:
        part, weight = (reshape(cut(row, 1, i, i + 1), (1,)) for i in range(2))
        start = _constant(empty, image)
        part, weight = (typed(value, image) for value in (part, weight))
        version = ops.add(start, ops.multiply(part, ops.subtract(image, start)))
        return version.output(0), weight

    return Versions(table, change)


def _constant(values: FloatArray, like: ov.Output) -> ov.Output:
    return typed(ops.constant(values).output(0), like)


def _empty(model: Model, pixels: Features) -> FloatArray:
    """Return the pixel that counts as nothing, in the axes of the graph's input: 0 where it is normalised outside."""
    facts = model.facts
    zero = np.zeros(1) if facts.mean or not facts.zero else np.asarray(facts.zero)
    shape = [1] * len(pixels.dims)
    shape[pixels.channel_axis] = len(zero)
    empty: FloatArray = zero.astype(np.float32).reshape(shape)
    return empty


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    return fit_of_pixels(model, target_layers, NAME)


def _insert(model: Model, order: Order) -> Branch:
    options = order.options or IntegratedGradientsOptions()
    found: list[FloatArray] = []

    def versions(_: ov.Output, pixels: Features) -> Versions:
        found.append(_empty(model, pixels))
        return _versions(options.num_steps, found[0])

    def read(slope: Slope) -> ov.Output:
        return ops.relu(attributions(slope, _constant(found[0], slope.value))).output(0)

    return insert_pixel_branch(model, order, NAME, versions, read)


SPEC = MethodSpec(
    NAME,
    "integrated gradients: what pixels add to the score on the way from an empty image; any classifier",
    CLASSIFIERS,
    _fits,
    options=IntegratedGradientsOptions,
    insert=_insert,
    each_class_costs=True,
)
