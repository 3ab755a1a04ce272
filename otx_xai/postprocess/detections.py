"""Boxes and masks between the network's input and the original image. Pure functions on arrays, one image at a time."""

from __future__ import annotations

import cv2
import numpy as np

from otx_xai.postprocess.geometry import Placement, place
from otx_xai.postprocess.turned_boxes import scaled
from otx_xai.records import Detections, FloatArray, InputGeometry, Size

Window = tuple[int, int, int, int]


def boxes_on_image(boxes: FloatArray, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Map boxes ``(M, 4)`` from pixels of the network's input to pixels of the original image, unclipped."""
    placement = place(image_size, geometry)
    offset, scale = _xyxy(placement)
    return ((boxes - offset) / scale).astype(np.float32)


def turned_on_image(turned: FloatArray, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Map turned boxes ``(M, 5)`` from pixels of the network's input to pixels of the original image, unclipped."""
    placement = place(image_size, geometry)
    down, across = (1 / scale for scale in placement.scale)
    return scaled(turned, (down, across), (-placement.offset[0] * down, -placement.offset[1] * across))


def boxes_on_input(boxes: FloatArray, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Map boxes ``(M, 4)`` from pixels of the original image to pixels of the network's input, unclipped."""
    offset, scale = _xyxy(place(image_size, geometry))
    return (boxes * scale + offset).astype(np.float32)


def pasted_mask(
    detections: Detections, index: int, image_size: Size, geometry: InputGeometry, window: Window | None = None
) -> FloatArray:
    """Return the mask of one detection over the original image, ``float32`` ``(H, W)`` in [0, 1].

    One at a time, since all masks of an image in full size may not fit into memory.

    Args:
        detections: what was found.
        index: which of them.
        image_size: ``(H, W)`` of the original image.
        geometry: how it was fitted into the network's input.
        window: ``(top, left, bottom, right)`` of the part of the image that is wanted, in pixels; all of it by default.

    Raises:
        ValueError: the detections have no masks.
    """
    if detections.masks is None or detections.mask_boxes is None:
        raise ValueError("These detections have no masks; expected those of an instance segmentation model.")
    mask = detections.masks[index]
    if detections.masks_fill_boxes:
        left, top, right, bottom = (float(value) for value in detections.mask_boxes[index])
    else:
        whole = np.array([[0, 0, geometry.size[1], geometry.size[0]]], np.float32)
        left, top, right, bottom = (float(value) for value in boxes_on_image(whole, image_size, geometry)[0])
    first_row, first_column, last_row, last_column = window or (0, 0, *image_size)
    height, width = last_row - first_row, last_column - first_column
    sizes = mask.shape[1] / max(right - left, 1e-6), mask.shape[0] / max(bottom - top, 1e-6)
    # pixel centres lie half a pixel inside; outside of the box the mask is 0
    shift = [(0.5 + first_column - left) * sizes[0] - 0.5, (0.5 + first_row - top) * sizes[1] - 0.5]
    inverse = np.array([[sizes[0], 0, shift[0]], [0, sizes[1], shift[1]]], np.float64)
    pasted: FloatArray = cv2.warpAffine(
        mask.astype(np.float32), inverse, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return pasted


def _xyxy(placement: Placement) -> tuple[FloatArray, FloatArray]:
    (scale_y, scale_x), (offset_y, offset_x) = placement.scale, placement.offset
    offset = np.array([offset_x, offset_y, offset_x, offset_y], np.float32)
    return offset, np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
