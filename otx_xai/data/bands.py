"""TIFF files: how many channels they have, and reading the ones that are no pictures."""

from __future__ import annotations

import io
import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 258, 262, 277, 284, 338
_GREY, _RGB = (0, 1), 2
_SEPARATE = 2
_ALPHA = ((1,), (2,))
_MOST = 2**31
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of tags that are whole numbers."""


@dataclass(frozen=True)
class TiffLayout:
    """What the first picture of a TIFF file consists of.

    Args:
        samples: numbers a pixel.
        is_picture: they are grey, colours, or a palette's index, with or without an alpha channel.
        is_rgba: they are colours and an alpha channel, pixel by pixel.
        is_transparent: there is an alpha channel of 8 bits that the colours are not multiplied with.
        is_separate: each sample lies in a plane of its own, in more than 8 bits.
    """

    samples: int
    is_picture: bool
    is_rgba: bool
    is_transparent: bool
    is_separate: bool


def tiff_layout(data: bytes) -> TiffLayout | None:
    """Read the tags of a TIFF file; ``None`` where they cannot be read."""
    try:
        tags = _tags(data)
    except (struct.error, IndexError, OverflowError):
        return None
    samples = _first(tags, _SAMPLES, 1)
    photometric, extra = _first(tags, _PHOTOMETRIC, 1), tags.get(_EXTRA, ())
    if photometric in _GREY:
        is_picture = samples == 1 or (samples == 2 and extra[:1] in _ALPHA)
    else:
        is_picture = photometric != _RGB or samples in (3, 4)
    bits, has_planes = _first(tags, _BITS, 1), _first(tags, _PLANAR, 1) == _SEPARATE and samples > 1
    return TiffLayout(
        samples,
        is_picture,
        is_rgba=photometric == _RGB and samples == 4 and not has_planes,
        is_transparent=is_picture and bits == 8 and extra[:1] == _ALPHA[1],
        is_separate=has_planes and bits > 8,
    )


def _first(tags: dict[int, tuple[int, ...]], tag: int, default: int) -> int:
    return next(iter(tags.get(tag, ())), default)


def _tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the whole numbers in the first directory of a TIFF or BigTIFF file."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    number, count, room = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    (start,) = struct.unpack_from(order + number, data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + count, data, start)
    start += struct.calcsize(count)
    tags = {}
    for at in range(start, start + entries * (4 + 2 * room), 4 + 2 * room):
        tag, kind, length = struct.unpack_from(f"{order}HH{number}", data, at)
        if kind in _NUMBERS and tag in (_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA):
            form = f"{order}{length}{_NUMBERS[kind]}"
            is_inside = struct.calcsize(form) <= room
            place = at + 4 + room if is_inside else struct.unpack_from(order + number, data, at + 4 + room)[0]
            tags[tag] = struct.unpack_from(form, data, place)
    return tags


def decode_bands(data: bytes, path: str | Path) -> NDArray[Any]:
    """Read all samples of the first picture of a TIFF file.

    Returns:
        ``(H, W, C)``, or ``(H, W)`` where there is one channel, of the file's own type.

    Raises:
        ImageError: it is broken, or compressed in a way that needs another package.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a broken file is reported once, by an exception
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            if math.prod(page.shape) > _MOST:
                raise ImageError(
                    f"The TIFF image {str(path)!r} is {page.shape}: too large (2^31 numbers are the limit), or broken. "
                    "Save it again smaller, or remove it."
                )
            values: NDArray[Any] = page.asarray()
            return np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
    except (KeyError, ImportError) as error:
        raise ImageError(_needs_text(path, error)) from error
    except (ValueError, TypeError, IndexError, OSError, struct.error, zlib.error, RuntimeError) as error:
        if "imagecodecs" in str(error):
            raise ImageError(_needs_text(path, error)) from error
        raise ImageError(
            f"The image {str(path)!r} is a broken TIFF file: {error}. Fetch or save it again, or remove it."
        ) from error


def _needs_text(path: str | Path, error: Exception) -> str:
    return (
        f"The TIFF image {str(path)!r} is compressed in a way that is not read: {error}. Run pip install imagecodecs, "
        "or save it without compression or with deflate."
    )
