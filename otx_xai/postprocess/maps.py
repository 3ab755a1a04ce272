"""The scale of maps: min-max to [0, 1], and the one rounding to 8 bits."""

from __future__ import annotations

import cv2
import numpy as np

from otx_xai.records import FloatArray, UInt8Array

CONSTANT_RANGE = 1e-6
"""A map is constant if its range is at most this part of its largest magnitude: the noise of ``float32``."""


def min_max(maps: FloatArray) -> FloatArray:
    """Scale every map to [0, 1].

    Args:
        maps: ``float32`` ``(..., h, w)``, finite.

    Returns:
        ``float32`` of the same shape: the smallest value of every map is 0 and its largest 1. A constant map says
        nothing about any place, and becomes all zeros.

    Raises:
        ValueError: a value is NaN or infinite, which is a fault of the model that no scaling should hide.
    """
    maps = np.asarray(maps, np.float32)
    if maps.size == 0:
        return maps.copy()
    low = maps.min(axis=(-2, -1), keepdims=True)
    high = maps.max(axis=(-2, -1), keepdims=True)
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.all():
        broken = int((~finite).sum())
        raise ValueError(
            f"{broken} of {finite.size} maps hold NaN or infinite values; expected finite numbers. The model "
            "overflows: run it in float32, and check its weights and its pre-processing."
        )
    # Halved, the range of any finite float32 map is finite too.
    half_range = high / 2 - low / 2
    noise = np.maximum(CONSTANT_RANGE * np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float32).tiny)
    constant = half_range <= noise / 2
    scaled: FloatArray = (maps / 2 - low / 2) / np.where(constant, 1, half_range)
    scaled[np.broadcast_to(constant, maps.shape)] = 0
    return scaled


def to_uint8(maps: FloatArray) -> UInt8Array:
    """Scale [0, 1] to 0-255 and round, halves to even; what lies outside of [0, 1] is clipped.

    Args:
        maps: ``float32`` of any shape, finite.

    Returns:
        ``uint8`` of the same shape.
    """
    flat = np.ascontiguousarray(maps, np.float32).reshape(-1, maps.shape[-1] if maps.ndim else 1)
    if not flat.size:
        return np.empty(maps.shape, np.uint8)
    # The fastest way there is: the second step rounds and saturates, and would take a negative value for its magnitude
    not_negative = cv2.threshold(flat, 0, 0, cv2.THRESH_TOZERO)[1]
    rounded: UInt8Array = cv2.convertScaleAbs(not_negative, alpha=255)
    return rounded.reshape(maps.shape)
