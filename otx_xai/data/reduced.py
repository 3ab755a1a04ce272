"""Large JPEG files at a half, a quarter or an eighth of their size, which their format gives for less."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2

from otx_xai.data.decoders import checked, rgb_by_opencv
from otx_xai.data.file_kinds import kind_of
from otx_xai.data.reading import decode_image, read_file, read_image
from otx_xai.postprocess import fit
from otx_xai.postprocess.geometry import spare_size
from otx_xai.records import Decode, InputGeometry, ModelFacts, Size, UInt8Array

FACTORS = (8, 4, 2)
"""How much smaller a JPEG can be decoded, the most first."""

_FLAGS = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a segment that tells the size of a picture."""


def read_for_network(
    path: str | Path, facts: ModelFacts, decode: Decode = Decode.EXACT, longest: int | None = None
) -> tuple[UInt8Array, int]:
    """Read and decode one image, as it is, or no larger than a network and the pictures of it need.

    Args:
        path: of the image.
        facts: of the network; images that it wants as tiles are never made smaller.
        decode: whether images may be.
        longest: pixels that the longer side of pictures has at least; 0: as many as the image; ``None``: there are no
            pictures.

    Returns:
        As of :func:`read_reduced`.

    Raises:
        ImageError: as of :func:`~otx_xai.data.reading.read_image`.
    """
    if decode is Decode.EXACT or facts.tiling is not None:
        return read_image(path, facts.channels), 1
    return read_reduced(path, facts.channels, partial(_most, facts.geometry, longest))


def read_fitted(path: str | Path, facts: ModelFacts, decode: Decode = Decode.EXACT) -> tuple[UInt8Array, Size]:
    """Read one image, and fit it into a network's input as a whole.

    Args:
        path: of the image.
        facts: of the network.
        decode: whether it may be decoded smaller than it is.

    Returns:
        The input, ``uint8`` ``(h, w, channels)``, and the ``(height, width)`` of the image.

    Raises:
        ImageError: as of :func:`~otx_xai.data.reading.read_image`.
    """
    image, reduced = read_for_network(path, facts, decode)
    return fit(image, facts.geometry, reduced), (image.shape[0] * reduced, image.shape[1] * reduced)


def _most(geometry: InputGeometry, longest: int | None, size: Size) -> float:
    """Return how much smaller an image of a size may be."""
    spare = spare_size(size, geometry)
    if longest is None:
        return spare
    return min(spare, max(size) / longest) if longest else 1.0


def read_reduced(path: str | Path, channels: int, most: Callable[[Size], float]) -> tuple[UInt8Array, int]:
    """Read and decode one image, a JPEG no larger than it need be.

    A pixel of a smaller picture is the mean of a block of ``factor * factor`` pixels, up to rounding. Pictures whose
    sides are no multiple of the factor are not made smaller by it, so that these blocks cover them exactly.

    Args:
        path: of any image; see :func:`~otx_xai.data.reading.read_image`.
        channels: of the network, likewise.
        most: how much smaller an image of this ``(height, width)`` may be.

    Returns:
        The image, ``uint8`` ``(H, W, 3)`` in RGB or ``(H, W, channels)``, and how much smaller it is: 1, 2, 4 or 8.

    Raises:
        ImageError: as of :func:`~otx_xai.data.reading.read_image`.
    """
    data = read_file(path)
    size = jpeg_size(data) if channels in (1, 3) and kind_of(data) == "JPEG" else None
    if size is not None:
        limit = min(most(size), most(size[::-1]))  # whichever way it is turned by its EXIF data
        factor = next((one for one in FACTORS if one <= limit and not (size[0] % one or size[1] % one)), 1)
        image = rgb_by_opencv(checked(data, "JPEG", path), _FLAGS[factor], path) if factor > 1 else None
        if image is not None and sorted(side * factor for side in image.shape[:2]) == sorted(size):
            return image, factor
    return decode_image(data, path, channels), 1


def jpeg_size(data: bytes) -> Size | None:
    """Return the ``(height, width)`` that a JPEG file says it has, before it is turned; ``None`` where it says none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (position + 5, position + 7))
            return (height, width) if height and width else None
        # Before a marker any number of bytes 0xFF may stand
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if marker == 0xFF else 2 + length
    return None
