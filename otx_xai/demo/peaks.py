"""The peak of a map, found and marked: the pointing game.

Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018 (https://arxiv.org/abs/1608.00507).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.records import UInt8Array

_ZOOM = 2


def find_peak(grey_map: UInt8Array) -> tuple[int, int]:
    """Find the brightest pixel of a map.

    Enlarged maps have a flat top of several equally bright pixels; the one nearest to their middle counts.

    Args:
        grey_map: ``uint8`` ``(H, W)``.

    Returns:
        ``(row, column)``.
    """
    top = np.argwhere(grey_map == grey_map.max())
    row, column = top[np.square(top - top.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return row, column


def mark_peak(picture: UInt8Array, mask: NDArray[np.bool_], peak: tuple[int, int]) -> UInt8Array:
    """Return a picture, enlarged, with the outline of what the map should hit and a ring around its peak.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        mask: ``bool`` ``(H, W)``.
        peak: ``(row, column)``.
    """
    large: UInt8Array = cv2.resize(picture, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_LINEAR)
    large_mask = cv2.resize(mask.astype(np.uint8), None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST)
    outlines = cv2.findContours(large_mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(large, outlines, -1, (255, 255, 255), 1, cv2.LINE_AA)
    row, column = (position * _ZOOM + _ZOOM // 2 for position in peak)
    for radius, grey in ((7, 0), (6, 255), (4, 0)):
        cv2.circle(large, (column, row), radius, (grey, grey, grey), 1, cv2.LINE_AA)
    return large
