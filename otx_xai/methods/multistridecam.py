"""Multi-stride CAM: the geometric mean of what places add to the score at the last stage and at the one before.

A combination of ours of published maps. With ``F`` the last layer with places and ``G`` the stream of features of the
stage in front of it, which is finer (most often 16 pixels a place rather than 32)::

    coarse = Σ_c ∂y_k / ∂F_c · F_c                      HiResCAM; behind a global pooling, Recipro-CAM
    fine   = smooth(Σ_c ReLU(∂y_k / ∂G_c · G_c))        LayerCAM, where G is positive
    S_k    = √((unit(coarse) + ε) · (unit(fine) + ε))

``y`` is the score before soft-max, ``unit`` scales a map to [0, 1], ``coarse`` is looked up where the places of ``G``
lie, ``smooth`` is a Gaussian of half a place, and ``ε`` is 0.05. The coarse map knows which object, the fine one where
it ends. The root changes no order of places, and leaves as much of the object lit as either map does. How the
combination was chosen, and what it is worth, is in ``docs/how-to/choose-a-method.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, Features
from otx_xai.graph.strides import stages
from otx_xai.methods.alignment import moved, smoothed
from otx_xai.methods.class_branch import title
from otx_xai.methods.class_gradients import Slope, layer_of_name
from otx_xai.methods.gradient_branch import LayerMaps, last_layer, spec_of
from otx_xai.methods.heads import Site
from otx_xai.methods.hirescam import contributions
from otx_xai.methods.scaling import scale_maps
from otx_xai.records import Preset

EPSILON = 0.05
"""What is added to each map: so much of one is left where the other is 0."""

SIGMA = 0.5
"""Standard deviation of the Gaussian that smooths the fine map, in its places."""


def multistridecam(site: Site, fine: Slope, coarse: Slope) -> ov.Output:
    """Return maps ``(N, K, M)`` on the places of the fine layer, in [ε, 1 + ε]."""
    placed = moved(site, contributions(coarse), coarse.features, fine.features)
    return ops.sqrt(ops.multiply(_unit(fine_maps(site, fine)), _unit(placed))).output(0)


def fine_maps(site: Site, fine: Slope) -> ov.Output:
    """Return the maps of the fine layer alone, ``(N, K, M)``, unscaled."""
    return smoothed(site, positive_contributions(fine), fine.features, SIGMA)


def positive_contributions(slope: Slope) -> ov.Output:
    """Return what the channels of each place that speak for the class add to its score, ``(N, K, M)``."""
    return slope.over_channels(ops.relu(ops.multiply(slope.gradient, slope.value)).output(0))


def _unit(maps: ov.Output) -> ov.Output:
    share = ops.multiply(scale_maps(maps), ops.constant(np.float32(1 / 255)))
    return ops.add(share, ops.constant(np.float32(EPSILON))).output(0)


def two_layers(anatomy: Anatomy, names: Sequence[str]) -> Sequence[Features]:
    """Return the fine and the coarse layer."""
    if len(names) == 2:
        first, second = (layer_of_name(anatomy, name) for name in names)
        return [first, second]
    if names:
        raise GraphError(f"target_layer names {len(names)} layers; multistridecam takes two: the fine one, the coarse.")
    (coarse,) = last_layer(anatomy, ())
    for fine in islice(stages(anatomy), 1):
        return [fine, coarse]
    raise GraphError(
        f"Two strides are needed, and no layer of a finer one than {title(coarse)} was found that every "
        "path to the class scores runs through."
    )


def _draw(site: Site, slopes: Sequence[Slope]) -> ov.Output:
    fine, coarse = slopes
    return multistridecam(site, fine, coarse)


SPEC = spec_of(
    LayerMaps("multistridecam", _draw, two_layers),
    "multi-stride CAM: the mean of gradients times features at two strides; networks of several stages",
    presets=frozenset({Preset.BALANCE}),
)
