"""Files that are whole or absent: pictures and JSON, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2

from otx_xai.errors import OutputError
from otx_xai.records import ImageFormat, UInt8Array
from otx_xai.storage import Url, write_whole
from otx_xai.storage.local import replace_whole, write_in_folder

MAP_FOLDER = "saliency_map"
"""Folder of a run that holds the pictures and numbers of its images."""

_PNG_FILTER = 19
"""``cv2.IMWRITE_PNG_FILTER``, which OpenCV 4.10 does not know, and ignores; its values are those of libpng."""
_PNG_FILTER_SUB, _PNG_FILTER_AVG = 16, 64


def _png_options(strategy: int, row_filter: int) -> tuple[int, ...]:
    return (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, _PNG_FILTER, row_filter)


# Measured on overlays and maps: two thirds of the time of plain level 1, and smaller.
_PNG_COLOUR = _png_options(cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, _PNG_FILTER_AVG)
_PNG_GREY = _png_options(cv2.IMWRITE_PNG_STRATEGY_DEFAULT, _PNG_FILTER_SUB)
_PNG_DRAWING = (cv2.IMWRITE_PNG_COMPRESSION, 9)
"""An eighth of the size of a plot, at three times the time."""
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90)


def write_atomic(path: str | Path | Url, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, even if the process is killed.

    Folders are created as needed. An existing file is replaced.

    Args:
        path: where to, on this machine or in a store.
        data: the content.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputError(unwritable_text(path, error)) from error


def write_lines(path: str | Path, lines: Iterable[bytes]) -> None:
    """Write a file of lines on this machine, which need not fit into memory, likewise.

    Args:
        path: where to.
        lines: with their ends; what this raises leaves no file.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        replace_whole(path, lines)
    except OSError as error:
        raise OutputError(unwritable_text(path, error)) from error


def write_file(path: str | Path, data: bytes) -> None:
    """Write a file where nobody reads it until it is moved to its place.

    Folders are created as needed. An existing file is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        write_in_folder(path, data)
    except OSError as error:
        raise OutputError(unwritable_text(path, error)) from error


def encode(picture: UInt8Array, image_format: ImageFormat = ImageFormat.PNG) -> bytes:
    """Encode a picture.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``, or grey ``(H, W)``.
        image_format: PNG (exact, lightly compressed) or JPEG (quality 90).

    Raises:
        OutputError: the picture cannot be encoded.
    """
    is_colour = picture.ndim == 3
    options = _JPEG if image_format is ImageFormat.JPG else _PNG_COLOUR if is_colour else _PNG_GREY
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if is_colour else picture
    try:
        encoded, data = cv2.imencode(f".{image_format}", bgr, options)
    except cv2.error as error:
        raise OutputError(_unencodable_text(picture, image_format)) from error
    if not encoded:
        raise OutputError(_unencodable_text(picture, image_format))
    return data.tobytes()


def write_drawing(path: str | Path, drawing: UInt8Array) -> None:
    """Write a drawing of even areas, such as a plot, as a small PNG, atomically.

    Args:
        path: where to.
        drawing: RGB ``uint8`` ``(H, W, 3)``.

    Raises:
        OutputError: the file cannot be written.
    """
    data = cv2.imencode(".png", cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR), _PNG_DRAWING)[1]
    write_atomic(path, data.tobytes())


def write_picture(path: str | Path, picture: UInt8Array, image_format: ImageFormat = ImageFormat.PNG) -> None:
    """Encode a picture (see :func:`encode`) and write it atomically.

    Args:
        path: where to; its suffix is not looked at.
        picture: RGB ``uint8`` ``(H, W, 3)``, or grey ``(H, W)``.
        image_format: PNG or JPEG.

    Raises:
        OutputError: the picture cannot be encoded or written.
    """
    write_atomic(path, encode(picture, image_format))


def write_json(path: str | Path | Url, obj: object) -> None:
    """Write an object as indented JSON (UTF-8), atomically.

    Args:
        path: where to.
        obj: what :mod:`json` can write.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, utf8(json.dumps(obj, indent=2, ensure_ascii=False) + "\n"))


def utf8(text: str) -> bytes:
    """Encode text that may hold file names."""
    # File names that are no UTF-8 come as lone surrogates. As escapes they stay valid JSON, and survive reading it.
    return text.encode("utf-8", "backslashreplace")


def unwritable_text(path: str | Path | Url, error: OSError) -> str:
    """Say that a file cannot be written, and what to do."""
    return (
        f"The file {str(path)!r} cannot be written: {error.strerror}. Expected a folder with write permission and free "
        "space; free it, or give another --work_dir."
    )


def _unencodable_text(picture: UInt8Array, image_format: ImageFormat) -> str:
    return (
        f"A picture, {picture.dtype} {picture.shape}, cannot be encoded as {image_format}. Expected uint8 "
        "(H, W, 3) or (H, W) with sides of 1 to 65500 pixels; make it smaller, or write PNG."
    )
