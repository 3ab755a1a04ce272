"""Min-max scaling of maps inside the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

CONSTANT_RANGE = 1e-6
"""A map whose range is at most this fraction of its largest magnitude is rounding noise on a constant."""

SMALLEST_RANGE = np.finfo(np.float32).tiny
"""Smaller numbers are denormal: processors that round them to zero would divide zero by zero."""


def scale_maps(maps: ov.Output, axes: Sequence[int] = (-1,)) -> ov.Output:
    """Scale each map to [0, 255].

    Args:
        maps: ``(…, M)``, one map along the last axis, or along ``axes``.
        axes: what a map lies along: ``(-2, -1)`` for ``(…, h, w)``.

    Returns:
        ``float32`` of the same shape; a constant map becomes all zeros.
    """
    places = ops.constant(np.array(axes, np.int64))
    low, high = (reduce(maps, places, keep_dims=True) for reduce in (ops.reduce_min, ops.reduce_max))
    span = ops.subtract(high, low)
    noise = ops.multiply(ops.maximum(ops.abs(high), ops.abs(low)), ops.constant(np.float32(CONSTANT_RANGE)))
    noise = ops.maximum(noise, ops.constant(SMALLEST_RANGE))
    span = ops.select(ops.greater(span, noise), span, ops.constant(np.float32(np.inf)))
    return ops.multiply(ops.divide(ops.subtract(maps, low), span), ops.constant(np.float32(255))).output(0)
