"""Image files → arrays. What would be decoded to half a picture, or guessed at, is an error here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from otx_xai.data.arrays import as_channels, decode_array, to_range
from otx_xai.data.bands import TiffLayout, decode_bands, tiff_layout
from otx_xai.data.decoders import broken_text, by_opencv, by_pillow, checked, colours, decode_picture
from otx_xai.data.file_kinds import irregular, kind_of, suffix_of
from otx_xai.errors import ImageError
from otx_xai.records import UInt8Array
from otx_xai.storage import is_url, read_bytes

_WITH_ALPHA = {2: "LA", 4: "RGBA"}
"""What pictures of so many channels are called."""

_CAMERA_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".orf", ".rw2")


def read_image(path: str | Path, channels: int = 3) -> UInt8Array:
    """Read and decode one image.

    Grey and palette images become RGB, CMYK is converted, an alpha channel is dropped, 16 bits a channel are scaled to
    8, floating-point values too (see :func:`otx_xai.data.arrays.to_range`), and the orientation in the EXIF data is
    applied. Of a file with several images the first is taken.

    Args:
        path: path or URL of a JPEG, PNG, BMP, WebP, TIFF, PNM, JPEG 2000, GIF, AVIF, ICO or TGA file, told by its
            content; or of an array that ``numpy.save`` wrote: ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``.
        channels: of the network. With 1 and 3 the image is read as RGB. With any other number it must have as many: an
            array, a TIFF file, or for 2 and 4 a picture with an alpha channel.

    Returns:
        ``uint8`` ``(H, W, 3)`` in RGB, or ``(H, W, channels)``, contiguous.

    Raises:
        ImageError: the file is missing, no regular file, unreadable, empty, no image, cut short, has another number of
            channels, or holds values that have no agreed range (signed or 32-bit whole numbers).
    """
    return decode_image(read_file(path), path, channels)


def decode_image(data: bytes, path: str | Path, channels: int = 3) -> UInt8Array:
    """Decode the content of an image file; see :func:`read_image`."""
    kind = kind_of(data) or ("TGA" if suffix_of(str(path)) == ".tga" else "")
    if kind == "NumPy":
        return as_channels(decode_array(data, path), channels, _called(path))
    if kind == "TIFF":
        return _read_tiff(data, channels, path)
    if not kind:
        raise ImageError(
            f"{str(path)!r} is not an image: no kind of image begins with the bytes {data[:8].hex(' ')}. Expected a "
            "JPEG, PNG, BMP, WebP or TIFF file; remove it from the data, or convert it."
        )
    if channels not in (1, 3):
        return _read_with_alpha(data, kind, channels, path)
    return decode_picture(data, kind, path)


def read_file(path: str | Path) -> bytes:
    """Return the content of an image file.

    Raises:
        ImageError: it is missing, no regular file, unreadable or empty.
    """
    if not is_url(path) and (what := irregular(str(path))):
        raise ImageError(f"The image {str(path)!r} is {what}. Expected a regular file; remove it from the data.")
    try:
        data = read_bytes(path)
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


def _read_tiff(data: bytes, channels: int, path: str | Path) -> UInt8Array:
    """Read a TIFF file: a picture as OpenCV decodes it, anything else sample by sample."""
    layout = tiff_layout(data)
    if suffix_of(str(path)) in _CAMERA_SUFFIXES:
        raise ImageError(
            f"The image {str(path)!r} is a raw file of a camera, which is not read. Convert it to TIFF or JPEG."
        )
    if layout is None:
        raise ImageError(broken_text(path, "TIFF", "its content cannot be decoded"))
    if channels in (1, 3) and layout.is_picture:
        return _read_colours(data, layout, path)
    if layout.samples != channels:
        raise ImageError(_other_channels_text(path, f"{layout.samples} channels", channels))
    if layout.is_rgba and layout.is_transparent:
        return np.array(by_pillow(data, "TIFF", path))
    if layout.is_rgba:
        return np.asarray(cv2.cvtColor(_decoded(data, (cv2.IMREAD_UNCHANGED,), path), cv2.COLOR_BGRA2RGBA), np.uint8)
    return as_channels(decode_bands(data, path), channels, _called(path))


def _read_colours(data: bytes, layout: TiffLayout, path: str | Path) -> UInt8Array:
    """Read a TIFF picture without OpenCV's own scaling to 8 bits, which guesses a range for kinds that have none."""
    if layout.is_separate:  # OpenCV mixes up planes of more than 8 bits
        return as_channels(decode_bands(data, path)[..., :3], 3, _called(path))
    if layout.is_transparent:  # OpenCV darkens what is transparent
        return colours(by_pillow(data, "TIFF", path))
    image = _decoded(data, (cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, cv2.IMREAD_UNCHANGED), path)
    code = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB}[image.ndim]
    return np.asarray(cv2.cvtColor(image[..., :3] if image.ndim == 3 else image, code), np.uint8)


def _decoded(data: bytes, flags: Sequence[int], path: str | Path) -> UInt8Array:
    """Decode a TIFF picture by the first flags that OpenCV takes, in its own order of channels."""
    tries = (by_opencv(data, flag, path) for flag in flags)
    image = next((image for image in tries if image is not None), None)
    if image is None:
        raise ImageError(broken_text(path, "TIFF", "its content cannot be decoded"))
    return to_range(image, f"The TIFF image {str(path)!r}")


def _called(path: str | Path) -> str:
    return f"The image {str(path)!r}"


def _read_with_alpha(data: bytes, kind: str, channels: int, path: str | Path) -> UInt8Array:
    """Read a picture for a network of 2 or 4 channels: grey or RGB, and alpha."""
    if kind not in ("PNG", "WebP", "GIF", "AVIF", "ICO", "TGA", "JPEG 2000", "DDS", "QOI"):
        decode_picture(data, kind, path)
        raise ImageError(_other_channels_text(path, f"no alpha channel ({kind or 'no image'})", channels))
    image = by_pillow(checked(data, kind, path), kind, path)
    if image.mode != _WITH_ALPHA.get(channels):
        raise ImageError(_other_channels_text(path, f"{len(image.getbands())} channels ({image.mode})", channels))
    return np.array(image)


def _other_channels_text(path: str | Path, what: str, channels: int) -> str:
    return (
        f"The image {str(path)!r} has {what}, and the network takes {channels}. Expected as many: an array (.npy) or a "
        f"TIFF file of {channels} channels."
    )
