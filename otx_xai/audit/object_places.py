"""Where the annotated objects of an image lie in the network's input."""

from __future__ import annotations

import numpy as np

from otx_xai.audit.evidence_table import Evidence
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.postprocess.geometry import place
from otx_xai.records import BoolArray, FloatArray, Size


def object_boxes(evidence: Evidence, image: int, target: int | None = None) -> FloatArray:
    """Return the annotated boxes of an image.

    Args:
        evidence: of the audit.
        image: its row.
        target: leave out boxes of other classes; all boxes by default.

    Returns:
        ``float32`` ``(B, 4)``, xyxy in pixels of the network's input; none where the data have no boxes.
    """
    if evidence.objects is None:
        return np.zeros((0, 4), np.float32)
    rows = evidence.objects.of(image)
    boxes = evidence.objects.xyxy[rows]
    if target is not None:
        boxes = boxes[evidence.objects.target[rows] == target]
    return boxes_in_input(evidence, image, boxes)


def boxes_in_input(evidence: Evidence, image: int, boxes: FloatArray) -> FloatArray:
    """Return boxes of an image in pixels of the network's input.

    Args:
        evidence: of the audit.
        image: its row.
        boxes: ``float32`` ``(B, 4)``, xyxy in pixels of the image; those that are not finite are left out.
    """
    return boxes_on_input(boxes[np.isfinite(boxes).all(axis=1)], _size(evidence, image), evidence.geometry)


def object_mask(evidence: Evidence, image: int, target: int | None = None, *, margin: int = 0) -> BoolArray:
    """Return which pixels of the network's input an annotated box covers, ``(H, W)``.

    Args:
        evidence: of the audit.
        image: its row.
        target: leave out boxes of other classes; all boxes by default.
        margin: pixels by which each box is widened.
    """
    mask = np.zeros(evidence.geometry.size, np.bool_)
    for left, top, right, bottom in object_boxes(evidence, image, target).tolist():
        rows = slice(max(0, int(np.floor(top)) - margin), max(0, int(np.ceil(bottom)) + margin))
        columns = slice(max(0, int(np.floor(left)) - margin), max(0, int(np.ceil(right)) + margin))
        mask[rows, columns] = True
    return mask


def image_mask(evidence: Evidence, image: int) -> BoolArray:
    """Return which pixels of the network's input show the image rather than padding, ``(H, W)``."""
    placement = place(_size(evidence, image), evidence.geometry)
    mask = np.zeros(evidence.geometry.size, np.bool_)
    (top, rows), (left, columns) = placement.y.covered, placement.x.covered
    mask[top : top + rows, left : left + columns] = True
    return mask


def _size(evidence: Evidence, image: int) -> Size:
    height, width = evidence.sizes[image].tolist()
    return height, width
