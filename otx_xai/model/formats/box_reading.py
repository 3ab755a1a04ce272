"""From the outputs of a detector to boxes on the image, and to all that it proposes, in the format of the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from otx_xai.model.formats.box_format import Arrays, Candidates, Found
from otx_xai.postprocess.detections import boxes_on_image, turned_on_image
from otx_xai.postprocess.overlaps import suppress
from otx_xai.postprocess.proposals import Proposals, one_hot
from otx_xai.postprocess.turned_boxes import suppress_turned
from otx_xai.records import Detections, FloatArray, InputGeometry, Size

_CANDIDATES = 3000
"""Boxes that enter non-maximum suppression at most, the best ones."""
_SHARES = 2.0
"""Boxes of pixels are not all inside so few pixels of the corner; shares of the image are."""
_LEAST_SIDE = 32
"""Smaller inputs have boxes of few pixels."""


def read_detections(
    arrays: Arrays,
    found: Found,
    image_size: Size,
    geometry: InputGeometry,
    *,
    threshold: float = 0.5,
    iou_threshold: float = 0.5,
    first_label: int = 0,
) -> Detections:
    """Read the boxes that a detector or instance segmenter finds in one image.

    Args:
        arrays: outputs of one image by name, with their batch axis where the model gives one.
        found: the format of the model's outputs.
        image_size: ``(height, width)`` of the original image.
        geometry: how it was fitted into the network's input.
        threshold: score from which a box counts.
        iou_threshold: overlap above which the lesser one of two boxes of a class is dropped, where the model has not
            done so itself.
        first_label: what the model calls class 0: 1 where its labels start with one for nothing.

    Returns:
        Boxes inside the image, best first; those of labels in front of ``first_label`` are dropped.

    Raises:
        ModelError: the outputs do not belong together, or what should be scores is none.
    """
    candidates = found.format.decode(arrays, found.match, geometry.size, threshold)
    if found.match.suppressed:
        candidates = replace(candidates, labels=candidates.labels - first_label)
        kept = _best(candidates, threshold)
    else:
        kept = _suppressed(candidates, _best(candidates, threshold)[:_CANDIDATES], iou_threshold)
    doubt = doubt_of(candidates.boxes[kept], geometry.size)
    return replace(_on_image(candidates, kept, image_size, geometry), doubt=doubt)


def doubt_of(boxes: FloatArray, size: Size) -> str:
    """Say why boxes look as if they were written otherwise than they were read; mostly nothing.

    Args:
        boxes: of one image that count, ``(M, 4)``, xyxy in pixels of the network's input.
        size: ``(height, width)`` of the network's input.
    """
    if not len(boxes) or min(size) < _LEAST_SIDE:
        return ""
    if np.abs(boxes).max() <= _SHARES:
        return (
            f"all boxes lie in the first {_SHARES:g} pixels of the network's input: they seem to be shares of it (0 to "
            "1), and were read as pixels"
        )
    if (boxes[:, 2:] <= boxes[:, :2]).any(axis=1).mean() > 0.5:
        return "most boxes have no area: they seem to be written otherwise than by corners x1, y1, x2, y2"
    return ""


def read_proposals(
    arrays: Arrays,
    found: Found,
    size: Size,
    num_classes: int,
    *,
    threshold: float = 0.05,
    first_label: int = 0,
) -> Proposals:
    """Read all that a detector proposes in one image, without non-maximum suppression where the model has none.

    Dense predictions give class scores in full, and the best one stands for a missing objectness. Boxes of one label
    each know one class only: its score is 1, those of others 0, and the score of the box stands for the objectness.

    Args:
        arrays: outputs of one image by name.
        found: the format of the model's outputs.
        size: ``(height, width)`` of the network's input.
        num_classes: number of classes.
        threshold: objectness from which a proposal counts.
        first_label: what the model calls class 0.

    Returns:
        Boxes in pixels of the network's input, class scores ``(P, num_classes)``, and objectness.

    Raises:
        ModelError: the outputs do not belong together, or what should be scores is none.
    """
    if found.format.proposals is not None:
        proposals = found.format.proposals(arrays, found.match, size, threshold)
        return replace(proposals, classes=proposals.classes[:, :num_classes])
    boxes = read_detections(arrays, found, size, InputGeometry(size), threshold=threshold, first_label=first_label)
    known = boxes.labels < num_classes
    return Proposals(boxes.boxes[known], one_hot(boxes.labels[known], num_classes), boxes.scores[known])


def _best(candidates: Candidates, threshold: float) -> NDArray[np.intp]:
    """Return which candidates count, best first; of equal scores the first."""
    kept = np.flatnonzero((candidates.scores >= threshold) & (candidates.labels >= 0))
    return kept[np.argsort(-candidates.scores[kept], kind="stable")]


def _suppressed(candidates: Candidates, kept: NDArray[np.intp], iou_threshold: float) -> NDArray[np.intp]:
    """Return which of some candidates are left by non-maximum suppression, best first."""
    labels, scores = candidates.labels[kept], candidates.scores[kept]
    if candidates.turned is not None:
        return kept[suppress_turned(candidates.turned[kept], labels, scores, iou_threshold=iou_threshold)]
    return kept[suppress(candidates.boxes[kept], labels, scores, iou_threshold=iou_threshold)]


def _on_image(candidates: Candidates, kept: NDArray[np.intp], image_size: Size, geometry: InputGeometry) -> Detections:
    """Bring candidates onto the image and drop those of which nothing lies there."""
    height, width = image_size
    exact = boxes_on_image(candidates.boxes[kept], image_size, geometry)
    clipped = np.clip(exact, 0, np.array([width, height, width, height], np.float32))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    kept, exact = kept[inside], exact[inside]
    masks = None if candidates.masks is None else candidates.masks(kept)
    return Detections(
        boxes=clipped[inside],
        labels=candidates.labels[kept],
        scores=np.clip(candidates.scores[kept], 0, 1).astype(np.float32),
        masks=masks,
        mask_boxes=None if masks is None else exact,
        masks_fill_boxes=candidates.masks_fill_boxes,
        origins=tuple(origin.of(kept) for origin in candidates.origins),
        turned=None if candidates.turned is None else turned_on_image(candidates.turned[kept], image_size, geometry),
    )
