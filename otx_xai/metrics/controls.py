"""Maps that know nothing of the image: what a score is worth shows beside theirs."""

from __future__ import annotations

import numpy as np

from otx_xai.postprocess import min_max
from otx_xai.records import FloatArray

Shape = tuple[int, int, int]


def random_maps(shape: Shape, seed: int) -> FloatArray:
    """Draw maps of independent uniform noise.

    Draw them as coarse as the maps that they are compared with: noise of single pixels breaks an image like nothing
    else, and so deletes a class better than many an explanation.

    Args:
        shape: ``(M, h, w)``.
        seed: of the noise.

    Returns:
        ``float32`` ``(M, h, w)``, each from 0 to 1.
    """
    return min_max(np.random.default_rng(seed).random(shape, np.float32))


def centre_maps(shape: Shape, spread: float = 0.25) -> FloatArray:
    """Return maps with one Gaussian in the middle, where photographers put what they take pictures of.

    Args:
        shape: ``(M, h, w)``.
        spread: standard deviation, as a part of height and of width.

    Returns:
        ``float32`` ``(M, h, w)``, each from 0 to 1.
    """
    count, height, width = shape
    rows, columns = (np.square(((np.arange(side) + 0.5) / side - 0.5) / spread) for side in (height, width))
    one = np.exp(-(rows[:, None] + columns) / 2, dtype=np.float32)
    return np.tile(min_max(one), (count, 1, 1))
