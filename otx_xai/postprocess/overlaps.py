"""Boxes that share a place: how much they do, and which of them to keep. Pure functions on arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, IntArray


def overlaps(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of each box of ``(M, 4)`` with each of ``(P, 4)``: ``float32`` ``(M, P)``.

    Boxes are xyxy. It is 0 where both are empty.
    """
    # by columns, as sums and products over a last axis of two take three times as long
    (left, top, right, bottom), others = first.T[:, :, None], second.T
    width = np.minimum(right, others[2]) - np.maximum(left, others[0])
    height = np.minimum(bottom, others[3]) - np.maximum(top, others[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _areas(first)[:, None] + _areas(second) - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def suppress(boxes: FloatArray, labels: IntArray, scores: FloatArray, *, iou_threshold: float) -> NDArray[np.intp]:
    """Keep of every class the best of boxes that overlap (non-maximum suppression).

    Args:
        boxes: ``float32`` ``(P, 4)`` xyxy.
        labels: ``int64`` ``(P,)``.
        scores: ``float32`` ``(P,)``, of any size; all count.
        iou_threshold: overlap above which the lesser of two boxes of a class is dropped.

    Returns:
        Indices of the boxes that are kept, best first; of equal scores the first.
    """
    if not len(boxes):
        return np.zeros(0, np.intp)
    order = np.argsort(-scores, kind="stable")
    # OpenCV drops scores that are not above its threshold, and moves classes apart by the largest coordinate
    falling = np.arange(len(order), 0, -1, dtype=np.float32)
    placed = np.asarray(boxes, np.float64)[order]
    placed = np.concatenate([placed[:, :2] - placed[:, :2].min(axis=0), placed[:, 2:] - placed[:, :2]], axis=1)
    batched: Any = cv2.dnn.NMSBoxesBatched  # its type hints know lists only
    kept = batched(placed, falling, labels[order].astype(np.int32), 0.0, iou_threshold)
    return order[np.asarray(kept, np.intp)]


def _areas(boxes: FloatArray) -> FloatArray:
    left, top, right, bottom = boxes.T
    areas: FloatArray = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    return areas
