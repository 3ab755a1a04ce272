"""LayerCAM: the positive part of the gradient, place by place, as the weight of each channel.

``S_k = ReLU(Σ_c ReLU(∂y_k / ∂F_c) · F_c)``; Jiang et al., *LayerCAM: Exploring hierarchical class activation maps for
localization*, IEEE TIP 2021. ``y`` is the score before soft-max. Unlike Grad-CAM it says something at earlier layers
too, which are finer. Maps of several layers are fused as published: each is divided by its maximum, those of shallow
layers go through a scaled hyperbolic tangent, ``tanh(γ · S / max S)`` with ``γ = 2``, and the largest counts at every
place. On VGG16 the first three of five stages are shallow, so that a layer counts as shallow here that is more than
twice as fine as the coarsest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.features import Anatomy, Features
from otx_xai.graph.view import port_of
from otx_xai.methods.alignment import moved
from otx_xai.methods.class_gradients import Slope, layer_of_name
from otx_xai.methods.gradient_branch import LayerMaps, last_layer, spec_of
from otx_xai.methods.heads import Site

GAMMA = 2.0
"""Scale of the hyperbolic tangent of shallow layers."""

_SHALLOW = 2.1
"""How many times finer than the coarsest layer a shallow one is, at least."""


def layercam(slope: Slope) -> ov.Output:
    """Return maps ``(N, K, M)`` of one layer, unscaled."""
    weighted = ops.multiply(ops.relu(slope.gradient), slope.value)
    return ops.relu(slope.over_channels(weighted.output(0))).output(0)


def fused(site: Site, slopes: Sequence[Slope]) -> ov.Output:
    """Return maps ``(N, K, M)`` of several layers as one, on the places of the first, unscaled."""
    first = slopes[0].features
    coarsest = max(_step(site.anatomy, slope.features) for slope in slopes)
    result = None
    for slope in slopes:
        own = _of_largest(layercam(slope))
        if _step(site.anatomy, slope.features) * _SHALLOW < coarsest:
            own = ops.tanh(ops.multiply(own, ops.constant(np.float32(GAMMA)))).output(0)
        own = moved(site, own, slope.features, first)
        result = own if result is None else ops.maximum(result, own).output(0)
    assert result is not None
    return result


def _of_largest(maps: ov.Output) -> ov.Output:
    """Divide maps by their largest values; those that are zero all over stay."""
    largest = ops.reduce_max(maps, ops.constant(np.array([-1])), keep_dims=True)
    return ops.divide(maps, ops.maximum(largest, ops.constant(np.finfo(np.float32).tiny))).output(0)


def _layers(anatomy: Anatomy, names: Sequence[str]) -> Sequence[Features]:
    """Return the layers that are named, the finest first."""
    if len(names) < 2:
        return last_layer(anatomy, names)
    return sorted((layer_of_name(anatomy, name) for name in names), key=lambda layer: _step(anatomy, layer))


def _step(anatomy: Anatomy, layer: Features) -> float:
    """Return how coarse a layer is: pixels from one place to the next, or a number that is as large in proportion."""
    grid = anatomy.grids.get(port_of(layer.output))
    return 1 / (layer.grid[0] or 1) if grid is None else grid.step[0]


def _draw(site: Site, slopes: Sequence[Slope]) -> ov.Output:
    return layercam(slopes[0]) if len(slopes) == 1 else fused(site, slopes)


SPEC = spec_of(
    LayerMaps("layercam", _draw, _layers),
    "LayerCAM: channels weighted by positive gradients, place by place; several layers are fused",
)
