"""Boxes and outlines of masks over a picture, legible on any heat map. RGB ``uint8`` throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.postprocess.detections import pasted_mask
from otx_xai.records import (
    PER_IMAGE_TARGET,
    Detections,
    FloatArray,
    InputGeometry,
    Prediction,
    Size,
    UInt8Array,
)
from otx_xai.report.text import LARGEST_PART, Colour, band_height, letter_size, shorten, text_width, write

Outline = NDArray[np.int32]

_DARK: Colour = (24, 24, 28)
_COLOURS: tuple[Colour, ...] = (
    (255, 255, 255),
    (255, 122, 255),
    (190, 255, 190),
    (255, 214, 160),
    (200, 220, 255),
    (255, 170, 190),
)
"""Light colours, which a dark rim sets off from every colour of JET."""


@dataclass(frozen=True)
class Frame:
    """One detection to be drawn.

    Args:
        box: ``(4,)`` xyxy in pixels of the picture.
        caption: label and score.
        target: class index, which decides the colour.
        outlines: of its mask, each ``int32`` ``(P, 1, 2)``, corners as ``(x, y)`` in pixels.
    """

    box: FloatArray
    caption: str
    target: int
    outlines: tuple[Outline, ...] = ()


def frames_of(
    predictions: Sequence[Prediction], found: Detections, target: Prediction, image_size: Size, geometry: InputGeometry
) -> list[Frame]:
    """Return what a map is about: one box, the boxes of one class, or all of them for a map that knows no classes.

    Args:
        predictions: one for each detection.
        found: what was found.
        target: of the map.
        image_size: ``(height, width)`` of the original image.
        geometry: how it was fitted into the network's input.
    """
    return [
        Frame(
            box=found.boxes[i],
            caption=f"{prediction.label} {prediction.score:.2f}",
            target=prediction.target,
            outlines=() if found.masks is None else _outlines(found, i, image_size, geometry),
        )
        for i, prediction in enumerate(predictions)
        if target.number == i or (target.number is None and target.target in (prediction.target, PER_IMAGE_TARGET))
    ]


def resized(frame: Frame, image_size: Size, picture_size: Size) -> Frame:
    """Return a frame for a picture of another size than the image."""
    if image_size == picture_size:
        return frame
    (height, width), (new_height, new_width) = image_size, picture_size
    scale = np.array([new_width / width, new_height / height] * 2, np.float32)
    outlines = tuple(np.round(outline * scale[:2]).astype(np.int32) for outline in frame.outlines)
    return replace(frame, box=frame.box * scale, outlines=outlines)


def draw_frames(picture: UInt8Array, frames: Sequence[Frame]) -> UInt8Array:
    """Draw detections over a picture, in place: a light line with a dark rim, and a caption on a dark tag.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, contiguous; it is drawn on.
        frames: best first; those are drawn last.

    Returns:
        The picture.
    """
    side = min(picture.shape[:2])
    thickness = max(1, round(side / 200))
    for frame in reversed(frames):
        colour = _COLOURS[frame.target % len(_COLOURS)]
        corners = np.round(frame.box.reshape(2, 2)).astype(int).tolist()
        for ink, width in ((_DARK, thickness + 2), (colour, thickness)):
            if frame.outlines:
                cv2.polylines(picture, frame.outlines, True, ink, width, cv2.LINE_AA)
            cv2.rectangle(picture, corners[0], corners[1], ink, width)
    for frame in reversed(frames):
        _tag(picture, frame, _COLOURS[frame.target % len(_COLOURS)], letter_size(side))
    return picture


def _outlines(found: Detections, index: int, image_size: Size, geometry: InputGeometry) -> tuple[Outline, ...]:
    """Return the outlines of a mask at 0.5. Only its box is filled, as the image may be large and the masks many."""
    left, top, right, bottom = found.boxes[index].tolist()
    window = (int(top), int(left), min(int(bottom) + 1, image_size[0]), min(int(right) + 1, image_size[1]))
    inside = (pasted_mask(found, index, image_size, geometry, window) >= 0.5).astype(np.uint8)
    lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(window[1], window[0]))
    return tuple(np.asarray(line, np.int32) for line in lines)


def _tag_top(box: FloatArray, tag_height: int, height: int, band: int) -> int:
    """Return the first row of a tag: outside of the box, where that is possible, since it would hide what is in it."""
    top, bottom = round(float(box[1])), round(float(box[3])) + 1
    if top - tag_height >= band:
        return top - tag_height
    if bottom + tag_height <= height:
        return bottom
    return int(np.clip(top, 0, height - tag_height))


def _tag(picture: UInt8Array, frame: Frame, colour: Colour, size: int) -> None:
    """Write the caption on a dark tag above the box, or below it, where there is room; else inside of its top.

    It is shifted so that all of it is visible, and keeps out of the band of the picture's own caption.
    """
    height, width = picture.shape[:2]
    pad = max(2, size // 4)
    text = shorten(frame.caption, width - 2 * pad, size)
    tag_width, tag_height = text_width(text, size) + 2 * pad, size + 2 * pad
    if not text or tag_height > LARGEST_PART * height:
        return
    left = int(np.clip(frame.box[0], 0, width - tag_width))
    top = _tag_top(frame.box, tag_height, height, band_height(min(height, width)))
    tag = picture[top : top + tag_height, left : left + tag_width]
    tag[:] = _DARK
    write(tag, text, pad, size, colour)
