"""Patterns that drawn shapes bear, one a class: as of real objects, it is what a small network learns first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, Size

_CONTRAST = 36
"""In grey levels, up and down."""
_WIDTH = 3
"""Of a stripe, in pixels: what is wider is learned later."""

Bands = NDArray[np.int64]


def draw_pattern(rng: np.random.Generator, size: Size, label: str) -> FloatArray:
    """Return what the pattern of a class adds to each pixel, ``float32`` ``(H, W)`` in grey levels.

    Args:
        rng: shifts the pattern.
        size: ``(height, width)`` of the picture.
        label: a name of :data:`otx_xai.data.shapes.SHAPE_LABELS`.
    """
    rows, columns = np.indices(size) + rng.uniform(0, 4 * _WIDTH, (2, 1, 1))
    light = _PATTERNS[label]((rows // _WIDTH).astype(np.int64), (columns // _WIDTH).astype(np.int64))
    return np.where(light, _CONTRAST, -_CONTRAST).astype(np.float32)


def _across(rows: Bands, columns: Bands) -> Bands:
    return rows % 2


def _upright(rows: Bands, columns: Bands) -> Bands:
    return columns % 2


def _checks(rows: Bands, columns: Bands) -> Bands:
    return (rows + columns) % 2


def _slanted(rows: Bands, columns: Bands) -> Bands:
    return (rows + columns) % 4 // 2


def _dots(rows: Bands, columns: Bands) -> Bands:
    return (rows % 2) & (columns % 2)


def _holes(rows: Bands, columns: Bands) -> Bands:
    return 1 - _dots(rows, columns)


_PATTERNS: dict[str, Callable[[Bands, Bands], Bands]] = {
    "circle": _across,
    "cross": _upright,
    "heart": _slanted,
    "square": _dots,
    "star": _checks,
    "triangle": _holes,
}
