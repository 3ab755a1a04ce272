"""The bytes of a picture → RGB, by OpenCV or Pillow, whichever reads its kind whole or not at all."""

from __future__ import annotations

import io
import math
import re
import struct
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError
from otx_xai.records import UInt8Array

_RGB = 256
"""``cv2.IMREAD_COLOR_RGB``, which OpenCV 4.10 does not know."""
_GIVES_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
_OPENCV = ("JPEG", "PNG", "BMP", "WebP", "PNM", "JPEG 2000")
_PILLOW = ("GIF", "AVIF", "ICO", "TGA", "DDS", "QOI")


def decode_picture(data: bytes, kind: str, path: str | Path) -> UInt8Array:
    """Decode a picture of a kind that always has 1, 3 or 4 channels.

    Args:
        data: the file.
        kind: of it; see :func:`otx_xai.data.file_kinds.kind_of`.
        path: for errors.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``.

    Raises:
        ImageError: it is broken, cut short, or of a kind that nothing here decodes.
    """
    if kind in _OPENCV:
        image = rgb_by_opencv(checked(data, kind, path), cv2.IMREAD_COLOR, path)
        if image is None:
            raise ImageError(broken_text(path, kind, "its content cannot be decoded"))
        return image
    if kind in _PILLOW:
        return colours(by_pillow(data, kind, path))
    raise ImageError(
        f"The image {str(path)!r} is a {kind} file, of a kind that is not read. Convert it to PNG or JPEG."
    )


def checked(data: bytes, kind: str, path: str | Path) -> bytes:
    """Return a file that OpenCV decodes as a whole or not at all: a JPEG without its end becomes half a grey picture.

    Raises:
        ImageError: it is cut short, or a checksum in it is wrong.
    """
    if kind == "PNG":
        return _clean_png(data, path)
    if kind == "JPEG" and not _jpeg_is_complete(data):
        raise ImageError(broken_text(path, "JPEG", "its end marker is missing, so the file is cut short"))
    return data


def rgb_by_opencv(data: bytes, flags: int, path: str | Path) -> UInt8Array | None:
    """Decode a picture with OpenCV to RGB; ``None`` where it cannot.

    Args:
        data: the file.
        flags: for BGR: ``cv2.IMREAD_COLOR``, or one of those that reduce the size. OpenCV is asked for RGB where it can
            give it, since turning the channels of large pictures costs a third of their decoding.
        path: for errors.

    Raises:
        ImageError: it is too large.
    """
    image = by_opencv(data, flags & ~cv2.IMREAD_COLOR | _RGB if _GIVES_RGB else flags, path)
    return image if image is None or _GIVES_RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def by_opencv(data: bytes, flags: int, path: str | Path) -> NDArray[Any] | None:
    """Decode a picture with OpenCV, whose log stays silent; ``None`` where it cannot.

    Raises:
        ImageError: it is too large.
    """
    try:
        with _silent_cv2:
            image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(
            f"The image {str(path)!r} cannot be decoded: OpenCV says {error.err!r}. It may be too large (2^30 pixels "
            "are the limit) or broken; open it in a viewer, and save it again smaller or as PNG."
        ) from error
    return image


def by_pillow(data: bytes, kind: str, path: str | Path) -> Any:
    """Decode a picture with Pillow, turned as its EXIF data say: the first of several.

    Raises:
        ImageError: it is broken or too large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW_NAMES.get(kind, kind)]) as image:
            if kind == "GIF" and math.prod(image.size) > max(_SMALL, _MOST_OF_GIF * len(data)):
                size = " x ".join(map(str, image.size))
                raise ImageError(broken_text(path, kind, f"{len(data)} bytes cannot hold its {size} pixels"))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except Image.DecompressionBombError as error:
        raise ImageError(f"The image {str(path)!r} is too large: {error} Save it again smaller.") from error
    except _PILLOW_ERRORS as error:
        reason = f"its content cannot be decoded ({str(error).split(chr(10))[0]})"
        raise ImageError(broken_text(path, kind, reason)) from error


def colours(image: Any) -> UInt8Array:
    """Turn a picture of Pillow into RGB band by band: as a whole it takes three times its memory meanwhile.

    Returns:
        ``uint8`` ``(H, W, 3)``.
    """
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // max(1, width))
    for top in range(0, height, step):
        end = min(top + step, height)
        rgb[top:end] = image.crop((0, top, width, end)).convert("RGB")
    return rgb


_BAND = 2**20
"""Pixels that are turned into RGB at once."""
_SMALL = 2**24
"""Pixels whose memory does not matter: the first picture of a GIF may be a small part of its area."""
_MOST_OF_GIF = 2731
"""Pixels that a byte of a GIF may stand for: codes have up to 12 bits, and no string is longer than there are codes."""
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError, struct.error, Warning)
"""What Pillow raises for broken files, a warning where those are errors."""
_PILLOW_NAMES = {"WebP": "WEBP", "JPEG 2000": "JPEG2000", "PNM": "PPM"}


class _SilentCv2:
    """Keeps OpenCV's log off stderr while any thread is inside: a broken file is reported once, by an exception."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0
        self._log = getattr(cv2.utils, "logging", cv2)  # the functions moved in OpenCV 5

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._level = self._log.getLogLevel()
                self._log.setLogLevel(0)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._log.setLogLevel(self._level)


_silent_cv2 = _SilentCv2()


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker other than the ones that stand inside of compressed data (stuffed zeros and restart markers)."""


def _clean_png(data: bytes, path: str | Path) -> bytes:
    """Check the chunks of a PNG and keep the ones that make the picture.

    libpng writes its complaints straight to stderr: on broken files, and on harmless colour profiles that OpenCV does
    not use anyway. Neither reaches it from here.
    """
    view = memoryview(data)
    kept = [view[:8]]
    start, kind = 8, b""
    while kind != b"IEND":
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            raise ImageError(broken_text(path, "PNG", f"it ends in the middle of a chunk, after {len(data)} bytes"))
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError(
                broken_text(path, "PNG", f"the checksum of its {kind.decode('ascii', 'replace')} chunk is wrong")
            )
        if is_critical or kind == b"eXIf":
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the picture's end marker is there: of a file without it, OpenCV 4 makes a half grey picture."""
    if data.endswith(b"\xff\xd9"):
        return True
    # Something follows the picture, as in camera files, or its end is missing. Walk the segments, so that neither the
    # end marker of an embedded thumbnail nor anything behind the picture is mistaken for the picture's own.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[0] == b"\xff\xd9":
            return True
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False


def broken_text(path: str | Path, kind: str, reason: str) -> str:
    """Say that a file is broken, and why."""
    return f"The image {str(path)!r} is a broken {kind} file: {reason}. Fetch or save it again, or remove it."
