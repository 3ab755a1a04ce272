"""Masks of cells, each made from its number alone, and what they look like in a smooth basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.perturb.basis import Basis
from otx_xai.records import Doubles, FloatArray, Size

_DRAWN_AT_ONCE = 32
"""Grids of one generator: to set one up takes longer than to draw them."""


class Masks(Protocol):
    """Masks by number. Mask ``i`` depends on a seed and ``i`` only.

    So any of them can be made at any time, in any thread, and none has to be kept.
    """

    def mask(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Return a mask, ``float32`` ``(height, width)`` in [0, 1], made in ``out`` where that is given."""

    def project(self, indices: Sequence[int], basis: Basis) -> Doubles:
        """Return ``basis.y @ mask @ basis.x.T`` of many masks, without making them.

        A mask is bilinear in its grid, so that a few small products do what would take every pixel of every mask.

        Returns:
            ``float64`` ``(len(indices), rows of y, rows of x)``.
        """


@dataclass(frozen=True)
class CellMasks:
    """Masks of RISE (arXiv 1806.07421, section 3.2): random grids of on and off, enlarged bilinearly and shifted.

    Args:
        size: ``(height, width)`` of the masks.
        cells: rows and columns of the grid.
        prob: probability of a cell to be on, in (0, 1).
        seed: of the random numbers, at least 0.

    Raises:
        ConfigError: a value is out of range.
    """

    size: Size
    cells: Size
    prob: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.size, self.cells, self.seed)
        if not 0 < self.prob < 1:
            raise ConfigError(f"prob is {self.prob}; expected a number between 0 and 1, both excluded.")

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
        block, place = divmod(index, _DRAWN_AT_ONCE)
        grids, shifts = _draw(self.seed, block, self.cells, self.prob, self.cell_size)
        return grids[place], shifts[place]

    def mask(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Return a mask; see :class:`Masks`."""
        grid, (y, x) = self.grid(index)
        down, right = self._enlargement
        return _enlarged(grid, down[y : y + self.size[0]], right[x : x + self.size[1]], out)

    def project(self, indices: Sequence[int], basis: Basis) -> Doubles:
        """Return masks in a basis; see :class:`Masks`."""
        down, right = self._projections(basis)
        grids, shifts = zip(*(self.grid(index) for index in indices), strict=True)
        y, x = np.array(shifts).T
        projected: Doubles = down[y] @ np.stack(grids) @ right[x].transpose(0, 2, 1)
        return projected

    def _projections(self, basis: Basis) -> tuple[Doubles, Doubles]:
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
    def _cache(self) -> dict[Basis, tuple[Doubles, Doubles]]:
        return {}


@dataclass(frozen=True)
class OrthogonalMasks:
    """Masks that tell the cells apart with as little noise as can be: an orthogonal array, folded over.

    Masks come in pairs, a grid and its complement: together they show every pixel once, and what cells do jointly, two
    by two, cancels in their difference. The grids of a block of pairs are rows of a Hadamard matrix: over a whole block
    any two cells are both on, both off, one or the other in as many masks, so that the effect of one never passes for
    that of another (Plackett and Burman 1946; folding over: Box and Wilson 1951). Random grids have that on average
    only. Each block has rows and columns in an order, signs, and from the second one on a shift of its own; what is
    shifted out at one edge comes back in at the other.

    Args:
        size: ``(height, width)`` of the masks.
        cells: rows and columns of the grid.
        seed: of the random numbers, at least 0.

    Raises:
        ConfigError: a value is out of range.
    """

    size: Size
    cells: Size
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.size, self.cells, self.seed)

    @property
    def block(self) -> int:
        """Number of masks in a block."""
        return 2 * (hadamard_order(self.cells[0] * self.cells[1]) - 1)

    def grids(self, indices: Sequence[int]) -> FloatArray:
        """Return the grids of masks of the same block, ``float32`` ``(len(indices), rows, columns)`` of 0 and 1."""
        block = self._block(indices[0])
        places = np.asarray(indices) % self.block
        bits = block.rows[places // 2][:, None] & block.columns
        on = _parity(bits) ^ block.flipped ^ (places % 2).astype(np.uint32)[:, None]
        return on.astype(np.float32).reshape(-1, *self.cells)

    def mask(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Return a mask; see :class:`Masks`."""
        block = self._block(index)
        return _enlarged(self.grids([index])[0], block.down, block.right, out)

    def project(self, indices: Sequence[int], basis: Basis) -> Doubles:
        """Return masks in a basis; see :class:`Masks`."""
        parts = []
        for _, part in groupby(indices, lambda index: index // self.block):
            members = list(part)
            block = self._block(members[0])
            parts.append((basis.y @ block.down) @ self.grids(members) @ (basis.x @ block.right).T)
        return np.concatenate(parts)

    def _block(self, index: int) -> _Block:
        return _orthogonal_block(self.size, self.cells, self.seed, index // self.block)


def hadamard_order(cells: int) -> int:
    """Return the order of the smallest Hadamard matrix of Sylvester's with a column for each cell besides the first."""
    return 1 << max(1, cells.bit_length())


@dataclass(frozen=True)
class _Block:
    """What the pairs of masks of a block have in common.

    Args:
        rows: ``uint32``: of each pair the row of the Hadamard matrix.
        columns: ``uint32``: of each cell the column.
        flipped: ``uint32``, 0 or 1: cells that change their sign.
        down: ``float32`` ``(height, rows)``: what an enlargement takes of each cell.
        right: ``float32`` ``(width, columns)``.
    """

    rows: NDArray[np.uint32]
    columns: NDArray[np.uint32]
    flipped: NDArray[np.uint32]
    down: FloatArray
    right: FloatArray


@lru_cache(maxsize=16)
def _orthogonal_block(size: Size, cells: Size, seed: int, number: int) -> _Block:
    """Draw a block; it may be called by threads."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number))))
    count = cells[0] * cells[1]
    lines = np.arange(1, hadamard_order(count), dtype=np.uint32)
    rows, columns = random.permutation(lines), random.permutation(lines)[:count]
    flipped = random.integers(0, 2, count, dtype=np.uint32)
    shift = random.random(2) if number else (0.0, 0.0)
    down, right = (_periodic(number, side, part) for number, side, part in zip(cells, size, shift, strict=True))
    return _Block(rows, columns, flipped, down, right)


@lru_cache(maxsize=16)
def _draw(seed: int, block: int, cells: Size, prob: float, cell_size: Size) -> tuple[FloatArray, list[Size]]:
    """Draw the grids ``float32`` ``(B, rows, columns)`` and shifts of a block of masks; it may be called by threads."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, block))))
    on = random.random((_DRAWN_AT_ONCE, *cells)) < prob
    shifts = random.integers(0, cell_size, (_DRAWN_AT_ONCE, 2)).tolist()
    return on.astype(np.float32), [(y, x) for y, x in shifts]


def _check(size: Size, cells: Size, seed: int) -> None:
    if not all(1 <= count <= side for count, side in zip(cells, size, strict=True)):
        raise ConfigError(f"num_cells is {cells}; expected from 1 to the size of the input, {size}.")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or more.")


def _parity(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return whether numbers have an odd number of bits: the entries of Sylvester's matrix at row & column."""
    for shift in (16, 8, 4, 2, 1):
        bits = bits ^ (bits >> np.uint32(shift))
    return bits & np.uint32(1)


def _enlarged(grid: FloatArray, down: FloatArray, right: FloatArray, out: FloatArray | None) -> FloatArray:
    # faster than cv2.resize, which does the same
    window: FloatArray = np.matmul(down, grid @ right.T, out=out)
    return np.clip(window, 0, 1, out=window)


def _bilinear(cells: int, length: int) -> FloatArray:
    positions = np.clip((np.arange(length) + 0.5) * (cells / length) - 0.5, 0, cells - 1)
    distance = np.abs(positions[:, None] - np.arange(cells))
    weights: FloatArray = np.clip(1 - distance, 0, None).astype(np.float32)
    return weights


def _periodic(cells: int, length: int, shift: float) -> FloatArray:
    """Return bilinear weights ``(length, cells)`` of cells that repeat, shifted by a part of a cell."""
    positions = (np.arange(length) + 0.5) * (cells / length) - 0.5 + shift
    first = np.floor(positions).astype(int)
    weights = np.zeros((length, cells), np.float32)
    places = np.arange(length)
    weights[places, first % cells] = 1 - (positions - first)
    weights[places, (first + 1) % cells] += positions - first
    return weights
