"""What is seen of an image as a whole: how bright, contrasted and sharp it is, and a small picture of it."""

from __future__ import annotations

import cv2
import numpy as np

from otx_xai.records import UInt8Array

LOOKS = ("brightness", "contrast", "sharpness")

_LOOKED_AT = 200
"""Pixels that the longer side of an image has at least, and less than twice, where it is looked at as a whole."""
LEAST_SIDE = 2 * _LOOKED_AT
"""Pixels that the longer side of a large image has at least, for its looks and its thumbnail."""
_THUMBNAIL = 160
_THUMBNAIL_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 70)


def looked_at(image: UInt8Array) -> UInt8Array:
    """Return an image small enough for what is seen of it as a whole: of large ones every so many pixels, then halves.

    Means of two by two pixels are what OpenCV is fastest at.
    """
    height, width = image.shape[:2]
    skip = max(height, width) // (2 * _LOOKED_AT)
    if skip > 1:
        size = (max(1, width // skip), max(1, height // skip))
        image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
        height, width = image.shape[:2]
    if skip and min(height, width) > 1:
        even = image[: height // 2 * 2, : width // 2 * 2]
        image = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return image


def looks_of(image: UInt8Array) -> tuple[float, float, float]:
    """Return mean and standard deviation of the grey levels, and the logarithm of the variance of the Laplacian."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    mean, spread = (float(value.item()) / 255 for value in cv2.meanStdDev(grey))
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return mean, spread, float(np.log10(1 + edges.item() ** 2))


def thumbnail(image: UInt8Array) -> bytes:
    """Return a JPEG file of an image, its longer side of at most 160 pixels."""
    scale = _THUMBNAIL / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) if scale < 1 else image
    shown = cv2.cvtColor(small, cv2.COLOR_RGB2BGR) if small.ndim == 3 else small
    return bytes(cv2.imencode(".jpg", shown, _THUMBNAIL_OPTIONS)[1])
