"""Min-max scaling of maps inside the graph."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

CONSTANT_RANGE = 1e-6
"""A map whose range is at most this fraction of its largest magnitude is rounding noise on a constant."""


def scale_maps(maps: ov.Output) -> ov.Output:
    """Scale each map to [0, 255].

    Args:
        maps: ``(…, M)``, one map along the last axis.

    Returns:
        ``float32`` of the same shape; a constant map becomes all zeros.
    """
    last = ops.constant(np.array([-1], np.int64))
    low, high = (reduce(maps, last, keep_dims=True) for reduce in (ops.reduce_min, ops.reduce_max))
    span = ops.subtract(high, low)
    noise = ops.multiply(ops.maximum(ops.abs(high), ops.abs(low)), ops.constant(np.float32(CONSTANT_RANGE)))
    span = ops.select(ops.greater(span, noise), span, ops.constant(np.float32(np.inf)))
    return ops.multiply(ops.divide(ops.subtract(maps, low), span), ops.constant(np.float32(255))).output(0)
