"""Large JPEG files at a half, a quarter or an eighth of their size, which their format gives for less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2

from otx_xai.data.decoders import by_opencv, checked
from otx_xai.data.file_kinds import kind_of
from otx_xai.data.reading import decode_image, read_file
from otx_xai.records import Size, UInt8Array

FACTORS = (8, 4, 2)
"""How much smaller a JPEG can be decoded, the most first."""

_FLAGS = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a segment that tells the size of a picture."""


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
        image = by_opencv(checked(data, "JPEG", path), _FLAGS[factor], path) if factor > 1 else None
        if image is not None and sorted(side * factor for side in image.shape[:2]) == sorted(size):
            rgb: UInt8Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            return rgb, factor
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
