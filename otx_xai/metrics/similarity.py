"""How alike two maps are: rank correlation and structural similarity. Pure functions on arrays.

Sanity checks (Adebayo et al. 2018, arXiv 1810.03292) compare the map of a trained network with that of a network whose
weights are random: a map that stays what it was says nothing about what the network has learned.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.records import Doubles, FloatArray

_WINDOW = 11
_SIGMA = 1.5
_MEAN_CONSTANT, _SPREAD_CONSTANT = 0.01**2, 0.03**2
"""Of Wang et al. 2004, for values in [0, 1]."""


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Return Spearman's rank correlation of two maps.

    Args:
        first: ``(h, w)``, finite.
        second: of the same shape.

    Returns:
        In [-1, 1]; 1 where both order all places alike. Places of equal value share their mean rank. NaN where a map
        is constant, which orders nothing.
    """
    ranks = [_ranks(np.asarray(one)) for one in (first, second)]
    centred = [one - one.mean() for one in ranks]
    spread = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float((centred[0] * centred[1]).sum() / spread) if spread > 0 else float("nan")


def structural_similarity(first: FloatArray, second: FloatArray) -> float:
    """Return the structural similarity (SSIM) of two maps in [0, 1] (Wang et al. 2004).

    A Gaussian window of 11 pixels with a standard deviation of 1.5, as published; only places whose window lies inside
    count, all of them where the maps are smaller than a window.

    Args:
        first: ``(h, w)`` in [0, 1].
        second: of the same shape.

    Returns:
        In [-1, 1]; 1 for equal maps.
    """
    x, y = (np.ascontiguousarray(one, np.float64) for one in (first, second))
    mean_x, mean_y = _smooth(x), _smooth(y)
    spread_x, spread_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    shared = _smooth(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _MEAN_CONSTANT) * (2 * shared + _SPREAD_CONSTANT)
    alike /= (mean_x**2 + mean_y**2 + _MEAN_CONSTANT) * (spread_x + spread_y + _SPREAD_CONSTANT)
    edge = _WINDOW // 2
    inside = alike[edge:-edge, edge:-edge] if min(alike.shape) >= _WINDOW else alike
    return float(inside.mean())


def _ranks(values: NDArray[Any]) -> Doubles:
    _, place, count = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]


def _smooth(values: Doubles) -> Doubles:
    smooth: Doubles = cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT)
    return smooth
