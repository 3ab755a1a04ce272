"""The hot places of maps: which cells count as hot, and windows of cells that are as hot as another.

A window is given by its upper left cell; its size is the same for all of one question.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.cells import cell_rectangle
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.interventions import Region
from otx_xai.records import BoolArray, FloatArray, Size, UInt8Array

HOT = 0.05
"""Part of the cells of a map that counts as hot."""

Cell = tuple[int, int]


def hot_cells(grids: UInt8Array) -> BoolArray:
    """Return the hottest twentieth of the cells of each map, at least one, ``(M, h, w)``; none of a flat map.

    Cells that are as hot as the last of them count as well, unless that makes them twice as many.

    Args:
        grids: maps, ``uint8`` ``(M, h, w)``.
    """
    if not grids.size:
        return np.zeros(grids.shape, np.bool_)
    flat = grids.reshape(len(grids), -1)
    number = max(1, round(HOT * flat.shape[1]))
    limit = np.sort(flat, axis=1)[:, -number, None]
    hot = flat >= limit
    hot &= (hot.sum(axis=1) <= 2 * number)[:, None] | (flat > limit)
    return hot.reshape(grids.shape)


def window_means(grid: UInt8Array | FloatArray, size: Size) -> NDArray[np.float64]:
    """Return the mean of a map over each window, ``(h - rows + 1, w - columns + 1)``."""
    total = np.pad(grid.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = size
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    means: NDArray[np.float64] = sums / (rows * columns)
    return means


def hottest_window(grid: UInt8Array | FloatArray, cell: Cell, size: Size) -> Cell:
    """Return the hottest window that holds a cell."""
    means = window_means(grid, size)
    first = [max(0, place - length + 1) for place, length in zip(cell, size, strict=True)]
    part = means[first[0] : cell[0] + 1, first[1] : cell[1] + 1]
    row, column = np.unravel_index(int(part.argmax()), part.shape)
    return first[0] + int(row), first[1] + int(column)


def other_windows(
    grid: UInt8Array | FloatArray, taken: Cell, size: Size, number: int, allowed: BoolArray | None = None
) -> list[Cell]:
    """Return the hottest windows beside one: they do not touch it, and share less than half with each other.

    Args:
        grid: map ``(h, w)``.
        taken: the window that they are beside.
        size: of all windows.
        number: of windows at most.
        allowed: which windows may be taken, of the shape of :func:`window_means`; all by default.
    """
    means = window_means(grid, size)
    free = np.ones(means.shape, np.bool_) if allowed is None else allowed.copy()
    free &= ~_near(means.shape, taken, size)
    found: list[Cell] = []
    while free.any() and len(found) < number:
        row, column = np.unravel_index(int(np.where(free, means, -1).argmax()), means.shape)
        found.append((int(row), int(column)))
        free &= ~_near(means.shape, found[-1], ((size[0] + 1) // 2, (size[1] + 1) // 2))
    return found


def _near(shape: tuple[int, ...], window: Cell, size: Size) -> BoolArray:
    """Return which windows are less than ``size`` away along both axes."""
    near = [np.abs(np.arange(length) - place) < part for length, place, part in zip(shape, window, size, strict=True)]
    return near[0][:, None] & near[1]


def window_region(evidence: Evidence, window: Cell, size: Size) -> Region:
    """Return the pixels of the network's input that a window covers."""
    cells = (evidence.maps.grids.shape[1], evidence.maps.grids.shape[2])
    first = cell_rectangle(*window, evidence.geometry, evidence.grid, cells)
    last = cell_rectangle(window[0] + size[0] - 1, window[1] + size[1] - 1, evidence.geometry, evidence.grid, cells)
    return Region(first[0], first[2], last[1], last[3])
