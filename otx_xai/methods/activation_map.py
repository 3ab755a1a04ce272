"""Activation map: the mean of the features over channels. One map an image, whatever the class."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.features import Features
from otx_xai.methods.heads import Site
from otx_xai.methods.places import rows_of_places


def activation_map(site: Site, features: Features) -> ov.Output:
    """Return maps ``(N, M)``, unscaled, of the given features."""
    rows = rows_of_places(site.main.output(features.output), features)
    return ops.reduce_mean(rows, ops.constant(np.array([2], np.int64)), keep_dims=False).output(0)
