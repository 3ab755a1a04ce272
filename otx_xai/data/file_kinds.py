"""What a file is: told by its first bytes, by its suffix where these say nothing, and whether it is a file at all."""

from __future__ import annotations

import os
import re
import stat

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""What images are called, in any case; files with other suffixes, or none, are told by their content."""

OTHER_SUFFIXES = (
    *(".arw", ".bin", ".cr2", ".csv", ".dng", ".doc", ".html", ".json", ".lst", ".log", ".md", ".nef", ".npz", ".onnx"),
    *(".orf", ".parquet", ".pdf", ".pickle", ".pkl", ".pt", ".pth", ".py", ".rw2", ".svg", ".tsv", ".txt", ".xml"),
    *(".yaml", ".yml", ".zip"),
)
"""What files are called that are never opened to see whether they are images. Raw files of cameras are among them: they
begin like TIFF files and hold, as such, a thumbnail."""

HEAD = 192
"""First bytes of a file that tell its kind: as many as the header of an array has."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x93NUMPY", "NumPy"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"8BPS", "Photoshop"),
)
_PATTERNS = (
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WebP"),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6][ \t\r\n]+[#0-9]"), "PNM"),
    (re.compile(rb"\x00\x00\x01\x00[\x01-\xff]\x00.{3}\x00[\x00\x01]\x00", re.DOTALL), "ICO"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb".{128}DICM", re.DOTALL), "DICOM"),
)
_ARRAY = re.compile(rb"'descr': '[<>|]([biuf])\d+'.*'shape': \(\d+, \d+(, \d+)?\)")


def kind_of(head: bytes) -> str:
    """Tell the kind of an image by the first bytes of its file.

    Args:
        head: at least :data:`HEAD` bytes, or the whole file.

    Returns:
        ``"JPEG"``, ``"PNG"``, …; empty where no kind that is known begins like this. A TGA file has no such mark.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head)), "")


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is an image, be its kind read or not.

    So are arrays of three axes, and of two axes if their numbers are unsigned: a matrix of other numbers is rarely a
    picture.
    """
    kind = kind_of(head)
    if kind != "NumPy":
        return kind != ""
    array = _ARRAY.search(head[:HEAD])
    return array is not None and (array[2] is not None or array[1] in b"bu")


def suffix_of(path: str) -> str:
    """Return the suffix of a path in lower case."""
    return os.path.splitext(path)[1].lower()


def irregular(path: str) -> str:
    """Say what stands at a path where no file, folder, or link to one does; empty otherwise.

    Opening a named pipe, or reading a device, may wait for ever.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return f"a link to {os.readlink(path)!r}, which leads nowhere" if os.path.islink(path) else ""
    names = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))
    return next((name for fits, name in (*names, (stat.S_ISBLK, "a device")) if fits(mode)), "")
