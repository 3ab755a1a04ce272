"""The map of a box as the sum of its maps at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from otx_xai.methods.box_seeds import NOISE
from otx_xai.postprocess import to_image
from otx_xai.records import FloatArray, InputGeometry, MapGrid, Size

_BLUR = 0.035
"""Standard deviation of the smoothing, as a part of the mean side of the input: 11 pixels of 320."""


def combined(levels: Sequence[FloatArray], size: Size, grids: Sequence[MapGrid | None]) -> FloatArray:
    """Add up maps of several resolutions, each smoothed and scaled by its largest value.

    Args:
        levels: ``float32`` ``(M, h, w)`` each, over the whole of the network's input; what is negative counts as 0,
            but for boxes that have nothing else. Each is what its places contribute to a score, so that those of a box
            compare: one that is nothing but rounding noise beside another is left out.
        size: ``(height, width)`` of the network's input in pixels.
        grids: where the places of each level look; ``None``: they divide the input evenly.

    Returns:
        ``float32`` ``(M, h, w)`` over the input, in the finest resolution of all; all zeros where a box has nothing but
        zeros, and NaN where a level is not finite. Of a box that has nothing positive, the map is of its negative
        numbers, and not positive.
    """
    signs = np.where(np.stack([(level > 0).any(axis=(1, 2)) for level in levels]).any(axis=0), 1, -1)[:, None, None]
    levels = [np.maximum(signs * level, 0) for level in levels]
    weights = np.stack([level.sum(axis=(1, 2)) for level in levels])
    counts = weights > NOISE * weights.max(axis=0)
    rows, columns = max((level.shape[1:] for level in levels), key=lambda shape: shape[0] * shape[1])
    blur = _BLUR * (size[0] * size[1]) ** 0.5
    spread = {"sigmaX": blur * columns / size[1], "sigmaY": blur * rows / size[0]}
    total = np.zeros((len(levels[0]), rows, columns), np.float32)
    total[~np.isfinite(weights).all(axis=0)] = np.nan
    for level, used, grid in zip(levels, counts, grids, strict=True):
        enlarged = to_image(level[used], (rows, columns), InputGeometry(size), grid=grid)
        for number, one in zip(np.flatnonzero(used), enlarged, strict=True):
            smooth = cv2.GaussianBlur(one, (0, 0), borderType=cv2.BORDER_REPLICATE, **spread)
            total[number] += smooth / max(float(smooth.max()), np.finfo(np.float32).tiny)
    return np.asarray(signs * total, np.float32)
