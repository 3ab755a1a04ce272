"""Boxes that share a way back: their scores are differentiated as one sum, whose map is divided among them by places.

The gradient of a sum is the sum of gradients, so where boxes lie apart, each has its own gradients around it, as if it
were alone. What belongs to a box are the places that are nearer to it than to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, IntArray, Size

Groups = Sequence[Sequence[int]]
"""Numbers of the boxes that share a way back, each box in one group."""

_APART = 0.05
"""Boxes lie apart where the gap between them is at least this part of the mean side of the network's input."""


def alone(count: int) -> list[list[int]]:
    """Return groups of one box each."""
    return [[box] for box in range(count)]


def sharing(boxes: FloatArray, labels: IntArray, size: Size) -> list[list[int]]:
    """Group boxes for maps of classes: those of one class share wherever they lie, others where they lie apart.

    Args:
        boxes: ``float32`` ``(M, 4)``, xyxy, the best first: each goes into the first group that has room for it.
        labels: their classes, ``int64`` ``(M,)``.
        size: ``(height, width)`` of the network's input, in whose pixels they are.
    """
    clash = _near(boxes, size) & (labels[:, None] != labels[None])
    groups: list[list[int]] = []
    for box in range(len(boxes)):
        room = next((group for group in groups if not clash[box, group].any()), None)
        if room is None:
            groups.append([box])
        else:
            room.append(box)
    return groups


def divided(level: FloatArray, groups: Groups, boxes: FloatArray, size: Size) -> FloatArray:
    """Return a map of each box, of those of groups.

    Args:
        level: ``float32`` ``(G, h, w)``, a map a group, over the whole of the network's input.
        groups: which boxes share them.
        boxes: ``float32`` ``(M, 4)``, xyxy in pixels of the network's input.
        size: ``(height, width)`` of this input.

    Returns:
        ``float32`` ``(M, h, w)``: of each box its group's map where it is the nearest box of the group, and 0
        elsewhere; what is not finite stays so.
    """
    maps = np.zeros((len(boxes), *level.shape[1:]), np.float32)
    for one, group in zip(level, groups, strict=True):
        if len(group) == 1:
            maps[group[0]] = one
            continue
        owner = _distances(boxes[list(group)], level.shape[1:], size).argmin(axis=0)
        for number, box in enumerate(group):
            maps[box] = one * (owner == number)
    return maps


def _near(boxes: FloatArray, size: Size) -> NDArray[np.bool_]:
    """Tell which boxes do not lie apart, ``(M, M)``."""
    middles, halves = _middles(boxes), _halves(boxes)
    gaps = np.abs(middles[:, None] - middles[None]) - halves[:, None] - halves[None]
    near: NDArray[np.bool_] = gaps.max(axis=2) < _APART * (size[0] * size[1]) ** 0.5
    return near


def _distances(boxes: FloatArray, shape: tuple[int, ...], size: Size) -> FloatArray:
    """Return how many pixels each place lies outside of each box; inside, below 0.001, how far from its middle.

    Returns:
        ``float32`` ``(M, h, w)``.
    """
    rows, columns = ((np.arange(count) + 0.5) * (length / count) for count, length in zip(shape, size, strict=True))
    (x, y), (across, down) = _middles(boxes).T[..., None], np.maximum(_halves(boxes), 1).T[..., None]
    vertical, horizontal = np.abs(rows - y)[:, :, None], np.abs(columns - x)[:, None]
    outside = np.hypot(np.maximum(vertical - down[:, :, None], 0), np.maximum(horizontal - across[:, None], 0))
    inside = np.maximum(vertical / down[:, :, None], horizontal / across[:, None])
    return np.asarray(outside + 1e-3 * inside, np.float32)


def _middles(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)


def _halves(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]) / 2, np.float32)
