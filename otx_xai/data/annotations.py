"""Boxes and masks of annotated images, moved into the network's input with the placement that moves the image.

Boxes are ``xyxy`` in pixels, outlines ``(x, y)`` points; pixel ``i`` of an axis covers ``[i, i + 1]``. A pixel belongs
to a mask if its centre lies inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import DataError
from otx_xai.postprocess.geometry import Placement
from otx_xai.records import FloatArray, Size, UInt8Array

_MOST_PIXELS = 2**28
_SMALLEST_SIDE = 1.0


@dataclass(frozen=True, eq=False)
class RunLengths:
    """A mask as COCO writes it: numbers of pixels, off and on in turn, column by column.

    Args:
        size: ``(height, width)`` of the mask, that of the image.
        counts: ``int64``; their sum is the number of pixels.
    """

    size: Size
    counts: NDArray[np.int64]


Segment = RunLengths | tuple[FloatArray, ...]
"""The mask of one object: run lengths, or one or more outlines ``float32`` ``(P, 2)`` whose insides are joined."""


def parse_run_lengths(size: Sequence[int], counts: str | Sequence[int], where: str) -> RunLengths:
    """Check run lengths of an annotation file, and decompress them.

    Args:
        size: ``[height, width]``.
        counts: numbers, or COCO's compressed text.
        where: words for the error: which annotation of which file.

    Raises:
        DataError: they are damaged, or do not fill the size.
    """
    plausible = len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    numbers = _decompress(counts) if isinstance(counts, str) else list(counts)
    valid = plausible and numbers is not None and all(type(number) is int and number >= 0 for number in numbers)
    if not valid or numbers is None or size[0] * size[1] > _MOST_PIXELS or sum(numbers) != size[0] * size[1]:
        raise DataError(
            f"The run-length mask of {where} is damaged: its size is {list(size)!r}, and its counts do not fill it. "
            "Expected counts of pixels, off and on in turn, whose sum is height times width. Export the annotations "
            "again, or remove this one."
        )
    return RunLengths((size[0], size[1]), np.array(numbers, np.int64))


def _decompress(text: str) -> list[int] | None:
    """Read COCO's text form: groups of 5 bits, the third and later numbers as differences; None where it is torn."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts if shift == 0 else None


def fill_run_lengths(mask: RunLengths) -> UInt8Array:
    """Return a run-length mask as pixels, ``uint8`` ``(H, W)``, 0 or 1."""
    height, width = mask.size
    values = (np.arange(len(mask.counts)) % 2).astype(np.uint8)
    pixels: UInt8Array = np.repeat(values, mask.counts).reshape(width, height).T
    return np.ascontiguousarray(pixels)


def fill_outlines(outlines: Sequence[FloatArray], size: Size) -> UInt8Array:
    """Return what lies inside of any of the outlines.

    Args:
        outlines: closed lines, each ``(P, 2)`` of ``(x, y)`` in pixels; where one crosses itself, the even-odd rule
            holds.
        size: ``(height, width)`` of the mask; outlines may reach beyond it.

    Returns:
        ``uint8`` ``(H, W)``: 1 where the centre of a pixel is inside.
    """
    mask = np.zeros(size, np.uint8)
    for outline in outlines:
        mask |= _fill(outline.astype(np.float64), size)
    return mask


def _fill(outline: NDArray[np.float64], size: Size) -> UInt8Array:
    """Flip the first pixel right of every crossing of an edge with a row's centre line; then run along the rows."""
    height, width = size
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.intp)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.intp)
    counts = last - first
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    slopes = (x1 - x0)[edges] / (y1 - y0)[edges]
    crossings = x0[edges] + (rows + 0.5 - y0[edges]) * slopes
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.intp)
    flips = np.zeros((height, width + 1), np.uint8)
    np.add.at(flips, (rows, columns), 1)
    crossed: UInt8Array = np.cumsum(flips, axis=1, dtype=np.uint8)
    return crossed[:, :width] & np.uint8(1)


def move_boxes(boxes: FloatArray, placement: Placement) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Move boxes from the image into the network's input, and cut off what the input does not show.

    Args:
        boxes: ``float32`` ``(M, 4)`` ``xyxy`` in pixels of the image.
        placement: where the image lies in the input.

    Returns:
        ``float32`` ``(M, 4)`` ``xyxy`` in pixels of the input, and ``bool`` ``(M,)``: false for boxes of which less
        than a pixel is left, in height or width.
    """
    y, x = placement.y, placement.x
    scale, offset = np.array([x.scale, y.scale] * 2), np.array([x.offset, y.offset] * 2)
    lowest = np.array([x.covered[0], y.covered[0]] * 2)
    highest = lowest + np.array([x.covered[1], y.covered[1]] * 2)
    cut: FloatArray = np.clip(boxes * scale + offset, lowest, highest).astype(np.float32)
    kept: NDArray[np.bool_] = np.min(cut[:, 2:] - cut[:, :2], axis=1) >= _SMALLEST_SIDE
    return cut, kept


def move_segment(segment: Segment, placement: Placement) -> UInt8Array:
    """Move one mask from the image into the network's input.

    Outlines are moved as points and filled at the input's own resolution, so nothing is lost; run lengths are filled
    at the image's resolution and resized.

    Args:
        segment: the mask, in pixels of the image.
        placement: where the image lies in the input.

    Returns:
        ``uint8`` ``(H, W)`` over the input, 0 or 1; 0 on padding.
    """
    y, x = placement.y, placement.x
    rows, columns = slice(y.covered[0], sum(y.covered)), slice(x.covered[0], sum(x.covered))
    mask = np.zeros((y.input, x.input), np.uint8)
    if isinstance(segment, RunLengths):
        seen = fill_run_lengths(segment)[y.seen[0] : sum(y.seen), x.seen[0] : sum(x.seen)]
        shrinks = y.scale < 1 or x.scale < 1
        resized = cv2.resize(
            seen.astype(np.float32),
            (x.covered[1], y.covered[1]),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        mask[rows, columns] = resized >= 0.5
    else:
        scale, offset = np.array([x.scale, y.scale]), np.array([x.offset, y.offset])
        moved = [(outline * scale + offset).astype(np.float32) for outline in segment]
        mask[rows, columns] = fill_outlines(moved, (y.input, x.input))[rows, columns]
    return mask
