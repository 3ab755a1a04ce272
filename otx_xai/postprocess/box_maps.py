"""A map for one box, out of the map of its class: every place weighted by its vote for the box."""

from __future__ import annotations

import numpy as np

from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import Detections, FloatArray, InputGeometry, Size


def box_maps(class_maps: FloatArray, found: Detections, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Make a map of each box from the maps of classes.

    A one-stage detector sets boxes around the places that score them, so a place far from a box has no say in it. The
    vote of a place is the intersection over union of the box with itself when moved so that its middle lies at that
    place: 1 in the middle, 0 from one side length away. The map of a box is the map of its class times these votes. It
    says where the class is seen that this box may have been made of; it does not say what would happen to the box
    without these pixels, which only a perturbation of the image can (D-RISE).

    Args:
        class_maps: ``float32`` ``(K, h, w)``, over the whole of the network's input, not negative.
        found: ``M`` boxes.
        image_size: ``(height, width)`` of the original image.
        geometry: how it was fitted into the network's input.

    Returns:
        ``float32`` ``(M, h, w)``, unscaled.
    """
    height, width = geometry.size
    rows, columns = class_maps.shape[1:]
    boxes = boxes_on_input(found.boxes, image_size, geometry)
    votes_y, side_y = _overlap(boxes[:, 1], boxes[:, 3], height, rows)
    votes_x, side_x = _overlap(boxes[:, 0], boxes[:, 2], width, columns)
    shared = votes_y[:, :, None] * votes_x[:, None, :]
    union = 2 * (side_y * side_x)[:, None, None] - shared
    return class_maps[found.labels] * (shared / union).astype(np.float32)


def _overlap(low: FloatArray, high: FloatArray, length: int, cells: int) -> tuple[FloatArray, FloatArray]:
    """Return along one axis how much intervals overlap with themselves when centred on cells, ``(M, cells)``, and
    their lengths, which are at least two cells, so that one cell at least is reached."""
    cell = length / cells
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * cell
    sides = np.maximum(high - low, 2 * cell)
    moved = np.abs(centres - (low + high)[:, None] / 2)
    return np.maximum(sides[:, None] - moved, 0).astype(np.float32), sides.astype(np.float32)
