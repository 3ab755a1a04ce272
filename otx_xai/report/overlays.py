"""A map over its image, with the boxes that it is about and the words that stand below it."""

from __future__ import annotations

from otx_xai.records import PER_IMAGE_TARGET, ExplainConfig, FloatArray, Prediction, UInt8Array
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.frames import draw_frames, frames_of
from otx_xai.report.pictures import overlay

WHOLE_IMAGE = Prediction(PER_IMAGE_TARGET, "", 1.0)
"""What a map is about that knows no classes."""


def overlay_of(
    explained: ExplainedImage, target: Prediction, on_image: FloatArray, config: ExplainConfig
) -> UInt8Array:
    """Lay a map over its image, and draw the detections that it is about.

    Args:
        explained: the image.
        target: what the map explains.
        on_image: the map, ``float32`` ``(H, W)`` in [0, 1].
        config: how strong the map is.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, a new array.
    """
    return draw_detections(overlay(explained.image, on_image, config.overlay_weight), explained, target)


def draw_detections(picture: UInt8Array, explained: ExplainedImage, target: Prediction) -> UInt8Array:
    """Draw the detections that a map is about over a picture of the image's size, in place; none of a classifier.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, contiguous.
        explained: the image.
        target: what the map explains.

    Returns:
        The picture.
    """
    found, placed = explained.detections, explained.placed
    if found is None:
        return picture
    return draw_frames(picture, frames_of(explained.predictions, found, target, placed.image_size, placed.geometry))


def caption(target: Prediction) -> str:
    """Return what stands below the map of a target: label and score."""
    if target.target == PER_IMAGE_TARGET:
        return target.label or "activation map"
    return f"{target.label} {target.score:.2f}"
