"""Boxes and outlines of masks over a picture, legible on any heat map. RGB ``uint8`` throughout."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.postprocess.detections import boxes_on_image, pasted_mask
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
Rectangle = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels."""

_DARK: Colour = (24, 24, 28)
_DARKENED = 0.3
"""What is left of the light below a tag."""
_COLOURS: tuple[Colour, ...] = (
    (255, 255, 255),
    (255, 122, 255),
    (190, 255, 190),
    (255, 214, 160),
    (200, 220, 255),
    (255, 170, 190),
)
"""Light colours, which a dark rim sets off from every colour of a map."""


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


@dataclass(frozen=True)
class _Tag:
    """The caption of a detection, and where it stands."""

    text: str
    target: int
    place: Rectangle


def frames_of(
    predictions: Sequence[Prediction],
    found: Detections,
    target: Prediction,
    image_size: Size,
    geometry: InputGeometry,
    picture_size: Size | None = None,
) -> list[Frame]:
    """Return what a map is about: one box, the boxes of one class, or all of them for a map that knows no classes.

    Args:
        predictions: one for each detection.
        found: what was found.
        target: of the map.
        image_size: ``(height, width)`` of the original image.
        geometry: how it was fitted into the network's input.
        picture_size: ``(height, width)`` of the picture that they are drawn on; by default that of the image.
    """
    size = picture_size or image_size
    found = _on_picture(found, image_size, geometry, size)
    return [
        Frame(
            box=found.boxes[i],
            caption=f"{prediction.label} {prediction.score:.2f}",
            target=prediction.target,
            outlines=() if found.masks is None else _outlines(found, i, size, geometry),
        )
        for i, prediction in enumerate(predictions)
        if target.number == i or (target.number is None and target.target in (prediction.target, PER_IMAGE_TARGET))
    ]


def _on_picture(found: Detections, image_size: Size, geometry: InputGeometry, picture_size: Size) -> Detections:
    """Return boxes in pixels of a picture of another size than the image, and what their masks fill there."""
    if image_size == picture_size:
        return found
    (height, width), (new_height, new_width) = image_size, picture_size
    scale = np.array([new_width / width, new_height / height] * 2, np.float32)
    if found.masks is None or found.mask_boxes is None:
        return replace(found, boxes=found.boxes * scale)
    filled = found.mask_boxes
    if not found.masks_fill_boxes:
        whole = np.array([[0, 0, geometry.size[1], geometry.size[0]]], np.float32)
        filled = np.repeat(boxes_on_image(whole, image_size, geometry), len(found), axis=0)
    return replace(found, boxes=found.boxes * scale, mask_boxes=filled * scale, masks_fill_boxes=True)


def draw_frames(picture: UInt8Array, frames: Sequence[Frame]) -> UInt8Array:
    """Draw detections over a picture, in place: a light line with a dark rim, and a caption on a darkened tag.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, contiguous; it is drawn on.
        frames: best first; their lines are drawn last, and the tags of others go where there is room.

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
    size = letter_size(side)
    tags: list[_Tag] = []
    for frame in frames:
        tags += _tag_of(frame, (picture.shape[0], picture.shape[1]), size, [tag.place for tag in tags])
    for tag in tags:
        top, left, bottom, right = tag.place
        area = picture[top:bottom, left:right]
        cv2.convertScaleAbs(area, dst=area, alpha=_DARKENED)
        write(area, tag.text, max(2, size // 4), size, _COLOURS[tag.target % len(_COLOURS)])
    return picture


def _outlines(found: Detections, index: int, image_size: Size, geometry: InputGeometry) -> tuple[Outline, ...]:
    """Return the outlines of a mask at 0.5. Only its box is filled, as the image may be large and the masks many."""
    left, top, right, bottom = found.boxes[index].tolist()
    window = (int(top), int(left), min(int(bottom) + 1, image_size[0]), min(int(right) + 1, image_size[1]))
    inside = (pasted_mask(found, index, image_size, geometry, window) >= 0.5).astype(np.uint8)
    lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(window[1], window[0]))
    return tuple(np.asarray(line, np.int32) for line in lines)


def _tag_of(frame: Frame, picture_size: Size, size: int, taken: Sequence[Rectangle]) -> list[_Tag]:
    """Find a place for the caption of a box, which hides no other, and nothing of the box where there is room.

    All of it is visible, and it keeps out of the band of the picture's own caption. There is none where it would cover
    too much of the picture, or others have all places.
    """
    height, width = picture_size
    pad = max(2, size // 4)
    text = shorten(frame.caption, width - 2 * pad, size)
    tag_width, tag_height = text_width(text, size) + 2 * pad, size + 2 * pad
    if not text or tag_height > LARGEST_PART * height:
        return []
    columns = [int(np.clip(edge, 0, width - tag_width)) for edge in (frame.box[0], frame.box[2] + 1 - tag_width)]
    rows = _tag_rows(frame.box, tag_height, height, band_height(min(height, width)))
    places = [(top, left, top + tag_height, left + tag_width) for top in rows for left in columns]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    return [_Tag(text, frame.target, place) for place in itertools.islice(free, 1)]


def _tag_rows(box: FloatArray, tag_height: int, height: int, band: int) -> list[int]:
    """Return rows that a tag may begin in, the best first: above its box, below it, and from its top downwards."""
    top, bottom = round(float(box[1])), round(float(box[3])) + 1
    above = [top - tag_height] if top - tag_height >= band else []
    below = [bottom] if bottom + tag_height <= height else []
    highest = int(np.clip(top, 0, height - tag_height))
    lowest = int(np.clip(bottom - tag_height, highest, height - tag_height))
    return [*above, *below, *range(highest, lowest + 1, max(1, tag_height // 2))]


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
