"""A map over its image, with the boxes that it is about and the words that stand below it.

Whatever shows an overlay, the files of a run, contact sheets, notebooks, is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence

from otx_xai.records import (
    PER_IMAGE_TARGET,
    Detections,
    ExplainConfig,
    FloatArray,
    InputGeometry,
    Prediction,
    Size,
    UInt8Array,
)
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.frames import draw_frames, frames_of
from otx_xai.report.pictures import overlay

WHOLE_IMAGE = Prediction(PER_IMAGE_TARGET, "", 1.0)
"""What a map is about that knows no classes."""


def overlay_of(
    explained: ExplainedImage, target: Prediction, picture: UInt8Array, laid: FloatArray, config: ExplainConfig
) -> UInt8Array:
    """Lay a map over a picture of its image, and draw the detections that it is about.

    Args:
        explained: the image.
        target: what the map explains.
        picture: of the image, RGB ``uint8`` ``(H, W, 3)``, of any size.
        laid: the map, ``float32`` ``(H, W)`` in [0, 1], of the size of the picture.
        config: the colours of the map, and how strong it is.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, a new array.
    """
    drawn = overlay(picture, laid, config.overlay_weight, config.colormap)
    return draw_detections(drawn, explained, target)


def draw_detections(picture: UInt8Array, explained: ExplainedImage, target: Prediction) -> UInt8Array:
    """Draw the detections that a map is about over a picture of the image, in place; none of a classifier.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, contiguous, of any size.
        explained: the image.
        target: what the map explains.

    Returns:
        The picture.
    """
    placed = explained.placed
    return draw_found(picture, target, explained.predictions, explained.detections, placed.image_size, placed.geometry)


def draw_found(
    picture: UInt8Array,
    target: Prediction,
    predictions: Sequence[Prediction],
    found: Detections | None,
    image_size: Size,
    geometry: InputGeometry,
) -> UInt8Array:
    """Draw what was found over a picture of the image, in place, as far as a map is about it.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, contiguous, of any size.
        target: what the map explains.
        predictions: one for each detection.
        found: what was found; ``None`` of a classifier: nothing is drawn.
        image_size: ``(height, width)`` of the original image.
        geometry: how it was fitted into the network's input.

    Returns:
        The picture.
    """
    if found is None:
        return picture
    size = picture.shape[0], picture.shape[1]
    return draw_frames(picture, frames_of(predictions, found, target, image_size, geometry, size))


def caption(target: Prediction) -> str:
    """Return what stands below the map of a target: label and score."""
    if target.target == PER_IMAGE_TARGET:
        return target.label or "activation map"
    return f"{target.label} {target.score:.2f}"
