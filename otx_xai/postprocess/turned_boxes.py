"""Boxes that are turned about their centres: the upright ones around them, how much they share, and which to keep.

Pure functions on arrays. A turned box is five numbers: centre, width and height before it is turned, angle in radians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, IntArray

_ROWS = 256
"""Boxes that are compared with all better ones at a time."""

_LEAST = 1e-6
"""Variance at least, in square pixels: a line overlaps by the thickness of a thousandth of a pixel."""


def upright(boxes: FloatArray) -> FloatArray:
    """Return the upright boxes around turned ones ``(P, 5)``, ``float32`` ``(P, 4)`` xyxy."""
    x, y, width, height, angles = boxes.T
    cosine, sine = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    across, down = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    return np.stack([x - across, y - down, x + across, y + down], axis=1).astype(np.float32)


def scaled(boxes: FloatArray, scale: tuple[float, float], offset: tuple[float, float]) -> FloatArray:
    """Bring turned boxes ``(P, 5)`` from one raster of pixels to another: ``new = scale * old + offset``.

    Args:
        boxes: centre, width, height, angle.
        scale: vertical and horizontal one.
        offset: likewise.

    Returns:
        ``float32`` ``(P, 5)``. Where the scales differ, a box becomes a parallelogram: the box with the mean and the
        covariance of that stands for it. Which side is called the width may change, with the angle.
    """
    x, y, width, height, angle = np.asarray(boxes, np.float64).T
    (down, across), (below, aside) = scale, offset
    cosine, sine = np.cos(angle), np.sin(angle)
    xx = (width**2 * cosine**2 + height**2 * sine**2) * across**2
    yy = (width**2 * sine**2 + height**2 * cosine**2) * down**2
    xy = (width**2 - height**2) * cosine * sine * across * down
    half, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    sides = np.sqrt(half + apart), np.sqrt(np.maximum(half - apart, 0))
    result = np.stack([x * across + aside, y * down + below, *sides, np.arctan2(2 * xy, xx - yy) / 2], axis=1)
    return result.astype(np.float32)


def likeness(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return how alike turned boxes are, each of ``(M, 5)`` with each of ``(P, 5)``: ``float32`` ``(M, P)`` in [0, 1].

    Each box stands for the normal distribution with its mean and covariance; they are as alike as the Hellinger
    distance of these leaves them: ProbIoU of Llerena et al. (2021), https://arxiv.org/abs/2106.06072.
    """
    one, other = _moments(first), _moments(second)
    apart_x, apart_y = (a[:, None] - b for a, b in zip(one[:2], other[:2], strict=True))
    xx, yy, xy = ((a[:, None] + b) / 2 for a, b in zip(one[2:], other[2:], strict=True))
    determinant = xx * yy - xy * xy
    mahalanobis = (apart_x * apart_x * yy + apart_y * apart_y * xx - 2 * apart_x * apart_y * xy) / determinant
    own, others = (moments[2] * moments[3] - moments[4] ** 2 for moments in (one, other))
    bhattacharyya = mahalanobis / 8 + np.log(determinant**2 / (own[:, None] * others)) / 4
    hellinger = np.sqrt(np.maximum(1 - np.exp(-np.maximum(bhattacharyya, 0)), 0))
    result: FloatArray = (1 - hellinger).astype(np.float32)
    return result


def suppress_turned(
    boxes: FloatArray, labels: IntArray, scores: FloatArray, *, iou_threshold: float
) -> NDArray[np.intp]:
    """Keep of every class the turned boxes that are like no better one, whether that is kept or not (Fast NMS).

    It is how Ultralytics, which exports such boxes, suppresses them: https://arxiv.org/abs/1904.02689.

    Args:
        boxes: ``float32`` ``(P, 5)``.
        labels: ``int64`` ``(P,)``.
        scores: ``float32`` ``(P,)``.
        iou_threshold: likeness above which the lesser of two boxes of a class is dropped.

    Returns:
        Indices of the boxes that are kept, best first; of equal scores the first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.ones(len(order), bool)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels[order] == label)
        kept[own] = _unlike_better_ones(boxes[order[own]], iou_threshold)
    return order[kept]


def _unlike_better_ones(boxes: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Return which of the boxes, the best first, are like none in front of them."""
    kept = np.ones(len(boxes), bool)
    for begin in range(0, len(boxes), _ROWS):
        end = min(begin + _ROWS, len(boxes))
        alike = likeness(boxes[begin:end], boxes[:end]) > threshold
        kept[begin:end] = ~np.tril(alike, begin - 1).any(axis=1)
    return kept


def _moments(boxes: FloatArray) -> tuple[NDArray[np.float64], ...]:
    """Return mean and covariance of points in boxes, ``(P,)`` each: x, y, and then xx, yy, xy."""
    x, y, width, height, angle = np.asarray(boxes, np.float64).T
    along, across = np.maximum(width**2 / 12, _LEAST), np.maximum(height**2 / 12, _LEAST)
    cosine, sine = np.cos(angle), np.sin(angle)
    xx, yy = along * cosine**2 + across * sine**2, along * sine**2 + across * cosine**2
    return x, y, xx, yy, (along - across) * cosine * sine
