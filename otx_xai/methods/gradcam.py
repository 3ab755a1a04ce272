"""Grad-CAM: channels of a layer, weighted by the mean of the class's gradient over all places.

``S_k = ReLU(Σ_c α_kc · F_c)`` with ``α_kc = mean over places of ∂y_k / ∂F_c``; Selvaraju et al., *Grad-CAM: Visual
explanations from deep networks via gradient-based localization*, ICCV 2017 (arXiv:1610.02391). ``y`` is the score
before soft-max. Meant for the last layer with places: at earlier ones the mean over places says little.
"""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov
from openvino import opset13 as ops

from otx_xai.methods.class_gradients import Slope
from otx_xai.methods.gradient_branch import LayerMaps, spec_of
from otx_xai.methods.heads import Site


def gradcam(slope: Slope) -> ov.Output:
    """Return maps ``(N, K, M)``, unscaled."""
    weighted = ops.multiply(slope.mean_over_places(), slope.value)
    return ops.relu(slope.over_channels(weighted.output(0))).output(0)


def _draw(_site: Site, slopes: Sequence[Slope]) -> ov.Output:
    return gradcam(slopes[0])


SPEC = spec_of(
    LayerMaps("gradcam", _draw),
    "Grad-CAM: channels weighted by their mean gradients; any classifier that gradients can pass",
)
