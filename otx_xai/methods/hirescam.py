"""HiResCAM: the gradient of the class times the layer, place by place and channel by channel.

``S_k = ReLU(Σ_c ∂y_k / ∂F_c · F_c)``; Draelos and Carin, *Use HiResCAM instead of Grad-CAM for faithful explanations
of convolutional neural networks*, 2020 (arXiv:2011.08891). ``y`` is the score before soft-max. Behind a head that is
linear in the layer the map sums up to what the layer adds to the score; with a global pooling it equals Grad-CAM, and
Recipro-CAM but for the places that speak against the class. At earlier layers it says little: signs cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov
from openvino import opset13 as ops

from otx_xai.methods.class_gradients import Slope
from otx_xai.methods.gradient_branch import LayerMaps, spec_of
from otx_xai.methods.heads import Site


def contributions(slope: Slope) -> ov.Output:
    """Return what each place adds to the score, to first order, ``(N, K, M)``: HiResCAM with its signs."""
    return slope.over_channels(ops.multiply(slope.gradient, slope.value).output(0))


def _draw(_site: Site, slopes: Sequence[Slope]) -> ov.Output:
    return ops.relu(contributions(slopes[0])).output(0)


SPEC = spec_of(
    LayerMaps("hirescam", _draw),
    "HiResCAM: gradients times features, place by place; any classifier that gradients can pass",
)
