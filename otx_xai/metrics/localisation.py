"""Localisation: whether maps lie on the object. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, Size


def pointing_game(
    maps: FloatArray, boxes: Sequence[FloatArray], tolerance: float = 15, frame: Size | None = None
) -> FloatArray:
    """Tell whether the peaks of maps lie on their objects (Zhang et al., arXiv 1608.00507).

    Where several pixels are equally high, the hit is the part of them that hits: what a peak drawn among them at random
    would score on average. So a constant map gets the part of the frame that its boxes cover, the level of chance.

    Args:
        maps: ``float32`` ``(M, h, w)``, finite; each covers the whole frame, at any resolution.
        boxes: one array ``(B, 4)`` a map: all boxes of its class, xyxy in pixels of the frame.
        tolerance: a peak this many pixels away from a box still hits; 15 in the paper.
        frame: ``(height, width)`` in pixels of what boxes and maps lie over, the image or the network's input; by
            default the size of the maps.

    Returns:
        ``float32`` ``(M,)`` in [0, 1], almost always 0 or 1; NaN for a map without boxes.

    Raises:
        ValueError: there are not as many arrays of boxes as maps.
    """
    padded = _padded(boxes, len(maps))
    rows, columns = _centres(maps, frame)
    # distance along one axis (M, B, h) from every row of pixels to every box, 0 inside; padding is infinitely far
    below = _gap(rows, padded[..., 1], padded[..., 3])
    beside = _gap(columns, padded[..., 0], padded[..., 2])
    hit = np.zeros(maps.shape, np.bool_)
    for box in range(padded.shape[1]):
        hit |= np.square(below[:, box, :, None]) + np.square(beside[:, box, None, :]) <= tolerance**2
    peaks = maps == maps.max(axis=(1, 2), keepdims=True)
    share = (peaks & hit).sum(axis=(1, 2)) / peaks.sum(axis=(1, 2))
    return _nan_without_boxes(share, boxes)


def energy_in_box(maps: FloatArray, boxes: Sequence[FloatArray], frame: Size | None = None) -> FloatArray:
    """Return the part of the sum of every map that lies in its boxes (energy-based pointing game, arXiv 1910.01279).

    Boxes that overlap count once. A pixel lies in a box if its centre does.

    Args:
        maps: ``float32`` ``(M, h, w)``, finite, not negative; each covers the whole frame, at any resolution.
        boxes: one array ``(B, 4)`` a map: all boxes of its class, xyxy in pixels of the frame.
        frame: see :func:`pointing_game`.

    Returns:
        ``float32`` ``(M,)`` in [0, 1]; NaN for a map without boxes. A map of zeros says nothing about any place and
        counts as any other constant map: the part of the frame that its boxes cover.

    Raises:
        ValueError: there are not as many arrays of boxes as maps.
    """
    padded = _padded(boxes, len(maps))
    rows, columns = _centres(maps, frame)
    in_rows = _gap(rows, padded[..., 1], padded[..., 3]) == 0
    in_columns = _gap(columns, padded[..., 0], padded[..., 2]) == 0
    inside = in_rows.swapaxes(1, 2).astype(np.float32) @ in_columns.astype(np.float32) > 0
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    share = np.where(inside, maps, 0).sum(axis=(1, 2), dtype=np.float64) / np.where(total > 0, total, 1)
    return _nan_without_boxes(np.where(total > 0, share, inside.mean(axis=(1, 2))), boxes)


def _padded(boxes: Sequence[FloatArray], count: int) -> NDArray[np.float64]:
    """Return ``(M, B, 4)``, filled up with boxes that nothing is near."""
    if len(boxes) != count:
        raise ValueError(f"There are {count} maps and {len(boxes)} arrays of boxes; expected one array (B, 4) a map.")
    padded = np.full((count, max(map(len, boxes), default=0), 4), np.inf)
    for row, own in zip(padded, boxes, strict=True):
        row[: len(own)] = own
    return padded


def _centres(maps: FloatArray, frame: Size | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the centres of the maps' rows and columns lie in the frame."""
    sides = maps.shape[1:] if frame is None else frame
    rows, columns = ((np.arange(cells) + 0.5) * side / cells for cells, side in zip(maps.shape[1:], sides, strict=True))
    return rows, columns


def _gap(centres: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each centre lies outside of each span, ``(M, B, cells)``."""
    with np.errstate(invalid="ignore"):  # inf - inf of two paddings
        gap = np.maximum(low[..., None] - centres, centres - high[..., None])
    return np.maximum(gap, 0)


def _nan_without_boxes(values: NDArray[np.floating], boxes: Sequence[FloatArray]) -> FloatArray:
    known = np.array([len(own) > 0 for own in boxes], np.bool_)
    return np.where(known, values, np.nan).astype(np.float32)
