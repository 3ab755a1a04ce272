"""Pictures for people: a map in colours, a map over its image, a caption, a contact sheet. RGB ``uint8`` throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from otx_xai.postprocess import to_uint8
from otx_xai.records import FloatArray, Size, UInt8Array
from otx_xai.report.text import LARGEST_PART, Colour, band_height, letter_size, shorten, write

TILE_SIZE: Size = (240, 240)
"""``(height, width)`` of the pictures on a contact sheet."""

_JET_RGB: UInt8Array = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8).reshape(256, 1), cv2.COLORMAP_JET)[:, :, ::-1]
)
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (40, 44, 52)
_PAPER: Colour = (246, 247, 249)
_MARGIN = 12


def colormap(map: FloatArray) -> UInt8Array:
    """Colour a map with JET: 0 is dark blue, 0.5 green, 1 dark red.

    Args:
        map: ``float32`` ``(H, W)`` in [0, 1].

    Returns:
        RGB ``uint8`` ``(H, W, 3)``.
    """
    coloured: UInt8Array = cv2.applyColorMap(to_uint8(map), _JET_RGB)
    return coloured


def overlay(image: UInt8Array, map: FloatArray, weight: float = 0.5) -> UInt8Array:
    """Lay a coloured map over its image.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        map: ``float32`` ``(H, W)`` in [0, 1], of the size of the image.
        weight: of the map, in [0, 1]; the image gets the rest.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, a new array.

    Raises:
        ValueError: the sizes differ.
    """
    if image.shape[:2] != map.shape:
        raise ValueError(
            f"The map is {map.shape} and the image {image.shape[:2]}; expected one size. "
            "Bring the map onto the image with to_image first."
        )
    coloured = colormap(map)
    blended: UInt8Array = cv2.addWeighted(coloured, weight, image, 1 - weight, 0, dst=coloured)
    return blended


def annotate(picture: UInt8Array, text: str, *, in_place: bool = False) -> UInt8Array:
    """Write a caption over the top of a picture: white on a darkened band.

    The letters grow with the square root of the picture's shorter side. A text that is too long gets an ellipsis, so
    that a score at its end stays. Letters that the font does not have appear as ``?``; with OpenCV 4, which draws
    ASCII only, accents are dropped before that.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        text: one line.
        in_place: write over ``picture`` itself rather than a copy.

    Returns:
        The picture with the caption; without it where nothing fits, or it would hide the picture.
    """
    annotated = picture if in_place else picture.copy()
    height, width = picture.shape[:2]
    size = letter_size(min(height, width))
    pad = max(2, size // 2)
    band = annotated[: band_height(min(height, width))]
    shown = shorten(text, width - 2 * pad, size)
    if shown and len(band) <= LARGEST_PART * height:
        cv2.convertScaleAbs(band, dst=band, alpha=0.35)
        write(band, shown, pad, size, _WHITE)
    return annotated


def sheet(
    tiles: Sequence[tuple[UInt8Array, str]], columns: int | None = None, tile_size: Size = TILE_SIZE
) -> UInt8Array:
    """Arrange pictures with captions below them on one light page, row by row.

    Args:
        tiles: at least one picture, RGB ``uint8`` of any size, and its caption; ``\\n`` separates lines of a caption.
        columns: pictures a row; by default up to four, and a page slightly wider than high for more.
        tile_size: ``(height, width)`` that every picture is fitted into, its aspect ratio kept.

    Returns:
        RGB ``uint8``, the page.

    Raises:
        ValueError: there is no tile, or ``columns`` is less than 1.
    """
    if not tiles:
        raise ValueError("A contact sheet of no tiles was asked for; expected at least one picture.")
    if columns is None:
        columns = _balanced_columns(len(tiles))
    if columns < 1:
        raise ValueError(f"A contact sheet of {columns} columns was asked for; expected at least 1.")
    rows = [
        [(shrink(picture, tile_size), caption.splitlines()) for picture, caption in tiles[first : first + columns]]
        for first in range(0, len(tiles), columns)
    ]
    width = min(columns, len(tiles)) * (tile_size[1] + _MARGIN) + _MARGIN
    return np.concatenate([*(_sheet_row(row, width, tile_size) for row in rows), _paper(_MARGIN, width)])


def _balanced_columns(count: int) -> int:
    """Return how many pictures to lay in a row: all of up to four, else so that the page is slightly wide."""
    if count <= 4:
        return count
    rows = math.ceil(count / math.ceil(math.sqrt(count * 1.2)))
    return math.ceil(count / rows)


def _sheet_row(row: Sequence[tuple[UInt8Array, list[str]]], width: int, tile_size: Size) -> UInt8Array:
    """Draw one row of a sheet, as high as its tallest picture and its longest caption need."""
    letters = letter_size(min(tile_size))
    line_height = letters * 3 // 2
    picture_height = max(picture.shape[0] for picture, _ in row)
    lines = max(len(caption) for _, caption in row)
    strip = _paper(_MARGIN + picture_height + lines * line_height, width)
    for column, (picture, caption) in enumerate(row):
        bottom, left = _MARGIN + picture_height, _MARGIN + column * (tile_size[1] + _MARGIN)
        strip[bottom - picture.shape[0] : bottom, left : left + picture.shape[1]] = picture
        for number, line in enumerate(caption):
            top = bottom + number * line_height
            cell = strip[top : top + line_height, left : left + tile_size[1]]
            write(cell, shorten(line, tile_size[1], letters), 0, letters, _INK)
    return strip


def _paper(height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), _PAPER, np.uint8)


def shrink(picture: UInt8Array, size: Size) -> UInt8Array:
    """Make a picture as large as fits into ``size`` ``(height, width)``, its aspect ratio kept; small ones grow."""
    height, width = picture.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    new_size = max(1, round(width * scale)), max(1, round(height * scale))
    resized: UInt8Array = cv2.resize(picture, new_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return resized
