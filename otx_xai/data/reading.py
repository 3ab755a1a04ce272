"""Image files → RGB arrays. What OpenCV would decode to half a picture, or guess at, is an error here."""

from __future__ import annotations

import re
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


def read_image(path: str | Path) -> UInt8Array:
    """Read and decode one image.

    Grey and palette images become RGB, CMYK is converted, an alpha channel is dropped, 16 bits a channel are scaled to
    8, and the orientation in the EXIF data is applied. Of a file with several images the first is taken.

    Args:
        path: a JPEG, PNG, BMP, WebP or TIFF file (or any other kind that this build of OpenCV decodes).

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, contiguous.

    Raises:
        ImageError: the file is missing, unreadable, empty, no image, cut short, or holds values that have no agreed
            range (signed, 32-bit and floating-point TIFF).
    """
    data = _read_bytes(path)
    kind = _kind(data)
    if kind == "PNG":
        data = _clean_png(data, path)
    elif kind == "JPEG" and not _jpeg_is_complete(data):
        raise ImageError(_broken_text(path, "JPEG", "its end marker is missing, so the file is cut short"))
    with _silent_cv2:
        image = _decode_tiff(data, path) if kind == "TIFF" else _decode(data, cv2.IMREAD_COLOR, path)
    if image is None:
        raise ImageError(_undecoded_text(path, data, kind))
    rgb: UInt8Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return rgb


_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker other than the ones that stand inside of compressed data (stuffed zeros and restart markers)."""


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


def _read_bytes(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(
            f"The image {str(path)!r} does not exist. Check the path, and where it is relative to."
        ) from error
    except IsADirectoryError as error:
        raise ImageError(
            f"{str(path)!r} is a folder, expected an image. Give the folder itself as data_root."
        ) from error
    except OSError as error:
        raise ImageError(f"The image {str(path)!r} cannot be read: {error.strerror}. Check its permissions.") from error
    if not data:
        raise ImageError(f"The image {str(path)!r} is an empty file (0 bytes). Fetch it again, or remove it.")
    return data


def _kind(data: bytes) -> str:
    """Tell the kind of an image file by its first bytes; empty where they are not known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), "")


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
            raise ImageError(_broken_text(path, "PNG", f"it ends in the middle of a chunk, after {len(data)} bytes"))
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError(
                _broken_text(path, "PNG", f"the checksum of its {kind.decode('ascii', 'replace')} chunk is wrong")
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


def _decode_tiff(data: bytes, path: str | Path) -> NDArray[Any] | None:
    """Decode a TIFF without OpenCV's own scaling to 8 bits, which guesses a range for the kinds that have none."""
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, path)
    if image is None:
        image = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if image is None or image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise ImageError(
            f"The TIFF image {str(path)!r} holds {image.dtype} values, which have no agreed range. Expected unsigned "
            "values of 8 or 16 bits: scale its values to 0-255 and save it as uint8."
        )
    scaled: UInt8Array = cv2.convertScaleAbs(image, alpha=1 / 257)
    return scaled


def _decode(data: bytes, flags: int, path: str | Path) -> NDArray[Any] | None:
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(
            f"The image {str(path)!r} cannot be decoded: OpenCV says {error.err!r}. It may be too large (2^30 pixels "
            "are the limit) or broken; open it in a viewer, and save it again smaller or as PNG."
        ) from error
    return image


def _broken_text(path: str | Path, kind: str, reason: str) -> str:
    return f"The image {str(path)!r} is a broken {kind} file: {reason}. Fetch or save it again, or remove it."


def _undecoded_text(path: str | Path, data: bytes, kind: str) -> str:
    if not kind:
        return (
            f"{str(path)!r} is not an image: no kind of image begins with the bytes {data[:8].hex(' ')}. Expected a "
            "JPEG, PNG, BMP, WebP or TIFF file; remove it from the data, or convert it."
        )
    return _broken_text(path, kind, "its content cannot be decoded")
