"""Smooth functions over an image, in which masks are looked at and maps are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import Size


@dataclass(frozen=True, eq=False)
class Basis:
    """Functions over an image, products of one along each axis.

    Args:
        y: ``float64`` ``(number, H)``, along the height.
        x: ``float64`` ``(number, W)``, along the width.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]


def cosines(size: Size, modes: Size) -> Basis:
    """Return the first cosines along both axes: their mean over the image of a product with itself is 1.

    Divided by the number of pixels, so that a projection is the mean over the image of the product.
    """
    return Basis(*(waves(length, number) / length for length, number in zip(size, modes, strict=True)))


def waves(length: int, number: int) -> NDArray[np.float64]:
    """Return ``number`` cosines sampled at ``length`` pixel centres, orthonormal in the mean: ``(number, length)``."""
    centres = (np.arange(length) + 0.5) / length
    values: NDArray[np.float64] = np.cos(np.pi * np.arange(number)[:, None] * centres)
    values[1:] *= math.sqrt(2)
    return values


def boxes(size: Size, cells: Size) -> Basis:
    """Return the means over equal parts of each axis: a projection is the mask at the resolution ``cells``."""
    return Basis(*(_averages(length, number) for length, number in zip(size, cells, strict=True)))


def _averages(length: int, number: int) -> NDArray[np.float64]:
    """Return the matrix ``(number, length)`` that averages over equal parts, pixels on a border shared."""
    borders = np.arange(number + 1) * (length / number)
    pixels = np.arange(length)
    low, high = borders[:-1, None], borders[1:, None]
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    weights: NDArray[np.float64] = overlap / overlap.sum(axis=1, keepdims=True)
    return weights
