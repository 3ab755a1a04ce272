"""Ways to write a box in four numbers, and what they mean in pixels. Pure functions on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from otx_xai.records import FloatArray, Size


@dataclass(frozen=True)
class BoxCoding:
    """How a model writes its boxes.

    Args:
        order: corners ``xyxy`` or ``yxyx``, or ``cxcywh``: centre, width and height.
        shares: they are shares of the input's width and height rather than pixels.
    """

    order: Literal["xyxy", "yxyx", "cxcywh"] = "xyxy"
    shares: bool = False


CORNERS = BoxCoding()
"""Corners in pixels of the network's input."""


def decoded(boxes: FloatArray, coding: BoxCoding, size: Size) -> FloatArray:
    """Return boxes as ``float32`` ``(P, 4)`` xyxy in pixels of the network's input.

    Args:
        boxes: ``(P, 4)``.
        coding: how they are written.
        size: ``(height, width)`` of the network's input.
    """
    boxes = np.asarray(boxes, np.float32)
    if coding.order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif coding.order == "cxcywh":
        boxes = corners(boxes)
    height, width = size
    return boxes * np.array([width, height, width, height], np.float32) if coding.shares else boxes


def corners(boxes: FloatArray) -> FloatArray:
    """Turn centres and sizes ``(P, 4)`` into corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
