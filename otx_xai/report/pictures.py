"""Pictures for people: a map in colours, a map over its image, a caption, a contact sheet. RGB ``uint8`` throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from otx_xai.postprocess import to_uint8
from otx_xai.records import Colormap, FloatArray, Size, UInt8Array
from otx_xai.report.text import LARGEST_PART, Colour, band_height, letter_size, shorten, text_width, write

TILE_SIZE: Size = (240, 240)
"""``(height, width)`` of the pictures on a contact sheet."""

_FULL = 0.6
"""Value of a map from which on an overlay is as strong as it gets: below, its strength follows the map."""
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (40, 44, 52)
_PAPER: Colour = (246, 247, 249)
_MARGIN = 12
_ENDS = ("low", "high")


def colormap(map: FloatArray, colours: Colormap = Colormap.TURBO) -> UInt8Array:
    """Colour a map; with turbo 0 is dark blue, 0.5 green, 1 dark red.

    Args:
        map: ``float32`` ``(H, W)`` in [0, 1].
        colours: of its values.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``.
    """
    coloured: UInt8Array = cv2.applyColorMap(to_uint8(map), _palette(colours))
    return coloured


@lru_cache(maxsize=8)
def _palette(colours: Colormap) -> UInt8Array:
    """Return the colours of 256 levels, RGB ``(256, 1, 3)``."""
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return np.ascontiguousarray(cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colours.name}"))[:, :, ::-1])


@lru_cache(maxsize=8)
def _blending(colours: Colormap, weight: float) -> tuple[UInt8Array, UInt8Array]:
    """Return what 256 levels of a map add to an image, RGB ``(256, 1, 3)``, and what they leave of it, ``(256,)``."""
    rise = np.clip(np.arange(256) / (255 * _FULL), 0, 1)
    strength = weight * rise**2 * (3 - 2 * rise)
    left = np.rint(255 * (1 - strength))
    added = np.rint(_palette(colours) * (1 - left / 255)[:, None, None])
    return added.astype(np.uint8), left.astype(np.uint8)


def overlay(image: UInt8Array, map: FloatArray, weight: float = 0.5, colours: Colormap = Colormap.TURBO) -> UInt8Array:
    """Lay a coloured map over its image, as strongly as it is high: where it says nothing the image stays as it is.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        map: ``float32`` ``(H, W)`` in [0, 1], of the size of the image.
        weight: of the map where it is 0.6 or more, in [0, 1]; below, it falls smoothly, to 0 where the map is 0. The
            image gets the rest.
        colours: of the values of the map.

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
    added, left = _blending(colours, weight)
    levels = to_uint8(map)
    coloured = cv2.applyColorMap(levels, added)
    share = cv2.LUT(levels, left)
    kept = cv2.multiply(image, cv2.merge((share, share, share)), scale=1 / 255)
    blended: UInt8Array = cv2.add(coloured, kept, dst=coloured)
    return blended


def annotate(picture: UInt8Array, text: str, *, in_place: bool = False, scale: Colormap | None = None) -> UInt8Array:
    """Write a caption over the top of a picture: white on a darkened band.

    The letters grow with the square root of the picture's shorter side. A text that is too long gets an ellipsis, so
    that a score at its end stays. Letters that the font does not have appear as ``?``; with OpenCV 4, which draws
    ASCII only, accents are dropped before that.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        text: one line.
        in_place: write over ``picture`` itself rather than a copy.
        scale: the colours of the map on it, shown from low to high at the end of the band where there is room.

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
        if scale is not None:
            _add_scale(band, pad + text_width(shown, size), pad, size * 3 // 4, scale)
    return annotated


def _add_scale(band: UInt8Array, taken: int, pad: int, letters: int, colours: Colormap) -> None:
    """Show the scale of colours at the right end of a band, unless it would come near what is taken of its left."""
    scale, mask = _small_scale(colours, letters)
    top, left = (len(band) - len(scale)) // 2, band.shape[1] - pad - scale.shape[1]
    if top >= 0 and left >= taken + 2 * pad:
        cv2.copyTo(scale, mask, band[top : top + len(scale), left : left + scale.shape[1]])


@lru_cache(maxsize=8)
def _small_scale(colours: Colormap, letters: int) -> tuple[UInt8Array, UInt8Array]:
    """Return a scale with white words, RGB on black, and a mask of what belongs to it, ``(h, w)``."""
    width = 6 * letters + sum(text_width(word, letters) for word in _ENDS)
    scale = np.zeros((letters * 5 // 4, width, 3), np.uint8)
    _draw_scale(scale, 0, width, letters, _WHITE, colours, thickness=max(2, letters // 4))
    return scale, scale.max(axis=2)


def _draw_scale(
    line: UInt8Array, left: int, right: int, letters: int, ink: Colour, colours: Colormap, thickness: int
) -> bool:
    """Draw the scale of colours into a line, with words at its ends; return whether there is room for it."""
    low, high = (text_width(word, letters) for word in _ENDS)
    start, end = left + low + letters // 2, right - high - letters // 2
    if end - start < 2 * letters:
        return False
    write(line, _ENDS[0], left, letters, ink)
    write(line, _ENDS[1], end + letters // 2, letters, ink)
    top = (len(line) - thickness) // 2
    line[top : top + thickness, start:end] = colormap(np.linspace(0, 1, end - start, dtype=np.float32)[None], colours)
    return True


def sheet(
    tiles: Sequence[tuple[UInt8Array, str]],
    columns: int | None = None,
    tile_size: Size = TILE_SIZE,
    scale: Colormap | None = None,
) -> UInt8Array:
    """Arrange pictures with captions below them on one light page, row by row.

    Args:
        tiles: at least one picture, RGB ``uint8`` of any size, and its caption; ``\\n`` separates lines of a caption.
        columns: pictures a row; by default up to four, and a page slightly wider than high for more.
        tile_size: ``(height, width)`` that every picture is fitted into, its aspect ratio kept.
        scale: the colours of maps on it, shown below all pictures from low to high.

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
    strips = [_sheet_row(row, width, tile_size) for row in rows]
    if scale is not None:
        strips.append(_scale_row(scale, width, tile_size))
    return np.concatenate([*strips, _paper(_MARGIN, width)])


def _scale_row(colours: Colormap, width: int, tile_size: Size) -> UInt8Array:
    """Draw the scale of colours, as wide as a tile, with words at its ends."""
    letters = letter_size(min(tile_size)) * 4 // 5
    strip = _paper(_MARGIN + letters * 3 // 2, width)
    thickness = letters * 3 // 2 - letters // 2 * 2
    fits = _draw_scale(strip[_MARGIN:], _MARGIN, _MARGIN + tile_size[1], letters, _INK, colours, thickness=thickness)
    return strip if fits else _paper(0, width)


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


def limited_size(image_size: Size, longest: int) -> Size:
    """Return the ``(height, width)`` of a picture of an image whose longer side is limited; 0 is no limit."""
    scale = longest / max(image_size)
    if not longest or scale >= 1:
        return image_size
    height, width = (max(1, round(side * scale)) for side in image_size)
    return height, width


def limited(picture: UInt8Array, size: Size) -> UInt8Array:
    """Make a picture smaller.

    It is halved as often as it stays large enough, which OpenCV is fastest at, and only then brought to its size.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        size: ``(height, width)`` that it gets; see :func:`limited_size`.

    Returns:
        The picture, itself where it has this size.
    """
    height, width = size
    while picture.shape[0] >= 2 * height and picture.shape[1] >= 2 * width:
        halves = picture.shape[1] // 2, picture.shape[0] // 2
        even = picture[: 2 * halves[1], : 2 * halves[0]]
        picture = cv2.resize(even, halves, interpolation=cv2.INTER_AREA)
    if picture.shape[:2] == (height, width):
        return picture
    resized: UInt8Array = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def shrink(picture: UInt8Array, size: Size) -> UInt8Array:
    """Make a picture as large as fits into ``size`` ``(height, width)``, its aspect ratio kept; small ones grow."""
    height, width = picture.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    new_size = max(1, round(width * scale)), max(1, round(height * scale))
    resized: UInt8Array = cv2.resize(picture, new_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return resized
