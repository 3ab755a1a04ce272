"""Random masks of cells, each made from its number alone, and what they look like in a smooth basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.records import FloatArray, Size

_DRAWN_AT_ONCE = 32
"""Grids of one generator: to set one up takes longer than to draw them."""


@dataclass(frozen=True)
class CellMasks:
    """Masks of RISE (arXiv 1806.07421, section 3.2): random grids of on and off, enlarged bilinearly and shifted.

    Mask ``i`` depends on ``seed`` and ``i`` only: any of them can be made at any time, in any thread, and none has to
    be kept.

    Args:
        size: ``(height, width)`` of the masks.
        cells: rows and columns of the grid.
        prob: probability of a cell to be on, in (0, 1).
        seed: of the random numbers, at least 0.
        paired: every odd mask is one minus the mask before it (antithetic), so that a pair covers every pixel once.

    Raises:
        ConfigError: a value is out of range.
    """

    size: Size
    cells: Size
    prob: float = 0.5
    seed: int = 0
    paired: bool = False

    def __post_init__(self) -> None:
        if not all(1 <= cells <= side for cells, side in zip(self.cells, self.size, strict=True)):
            raise ConfigError(f"num_cells is {self.cells}; expected from 1 to the size of the input, {self.size}.")
        if not 0 < self.prob < 1:
            raise ConfigError(f"prob is {self.prob}; expected a number between 0 and 1, both excluded.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; expected 0 or more.")

    @property
    def cell_size(self) -> Size:
        """Pixels a cell, rounded up."""
        return math.ceil(self.size[0] / self.cells[0]), math.ceil(self.size[1] / self.cells[1])

    @property
    def canvas(self) -> Size:
        """Size of an enlarged grid: one cell more than the input has, for the shift."""
        return (self.cells[0] + 1) * self.cell_size[0], (self.cells[1] + 1) * self.cell_size[1]

    def grid(self, index: int) -> tuple[FloatArray, Size]:
        """Return the grid of a mask, ``float32`` of 0 and 1, and its shift down and right in pixels."""
        number, odd = divmod(index, 2) if self.paired else (index, 0)
        block, place = divmod(number, _DRAWN_AT_ONCE)
        grids, shifts = _draw(self.seed, block, self.cells, self.prob, self.cell_size)
        grid: FloatArray = 1 - grids[place] if odd else grids[place]
        return grid, shifts[place]

    def mask(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Return a mask, ``float32`` ``(height, width)`` in [0, 1], made in ``out`` where that is given."""
        grid, (y, x) = self.grid(index)
        down, right = self._enlargement
        # faster than cv2.resize, which does the same
        window: FloatArray = np.matmul(down[y : y + self.size[0]], grid @ right[x : x + self.size[1]].T, out=out)
        return np.clip(window, 0, 1, out=window)

    def project(self, indices: Sequence[int], basis: Basis) -> NDArray[np.float64]:
        """Return ``basis.y @ mask @ basis.x.T`` of many masks, without making them.

        A mask is bilinear in its grid, so that a few small products do what would take every pixel of every mask.

        Returns:
            ``float64`` ``(len(indices), rows of y, rows of x)``.
        """
        down, right = self._projections(basis)
        grids, shifts = zip(*(self.grid(index) for index in indices), strict=True)
        y, x = np.array(shifts).T
        projected: NDArray[np.float64] = down[y] @ np.stack(grids) @ right[x].transpose(0, 2, 1)
        return projected

    def _projections(self, basis: Basis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return for every shift along an axis what the basis sees of each cell."""
        if basis not in self._cache:
            self._cache[basis] = tuple(  # type: ignore[assignment]
                np.stack([functions @ weights[shift : shift + length] for shift in range(step)])
                for functions, weights, length, step in zip(
                    (basis.y, basis.x), self._enlargement, self.size, self.cell_size, strict=True
                )
            )
        return self._cache[basis]

    @cached_property
    def _enlargement(self) -> tuple[FloatArray, FloatArray]:
        """Return for both axes the matrix (pixels of the canvas, cells) of what bilinear resizing does."""
        return _bilinear(self.cells[0], self.canvas[0]), _bilinear(self.cells[1], self.canvas[1])

    @cached_property
    def _cache(self) -> dict[Basis, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        return {}


@lru_cache(maxsize=16)
def _draw(seed: int, block: int, cells: Size, prob: float, cell_size: Size) -> tuple[FloatArray, list[Size]]:
    """Draw the grids ``float32`` ``(B, rows, columns)`` and shifts of a block of masks; it may be called by threads."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, block))))
    on = random.random((_DRAWN_AT_ONCE, *cells)) < prob
    shifts = random.integers(0, cell_size, (_DRAWN_AT_ONCE, 2)).tolist()
    return on.astype(np.float32), [(y, x) for y, x in shifts]


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


def _bilinear(cells: int, length: int) -> FloatArray:
    positions = np.clip((np.arange(length) + 0.5) * (cells / length) - 0.5, 0, cells - 1)
    distance = np.abs(positions[:, None] - np.arange(cells))
    weights: FloatArray = np.clip(1 - distance, 0, None).astype(np.float32)
    return weights
