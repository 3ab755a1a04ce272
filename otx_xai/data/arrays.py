"""Arrays of numbers → images: which axis holds the channels, and what black and white are."""

from __future__ import annotations

import io
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError
from otx_xai.records import UInt8Array


class Banded(Protocol):
    """What a PIL image is known by."""

    def getbands(self) -> tuple[str, ...]:
        """Return the names of its channels."""


class Detachable(Protocol):
    """What a torch tensor is known by."""

    def detach(self) -> Any:
        """Return it without its history."""


AnyImage = NDArray[Any] | Banded | Detachable
"""An image, or a batch, as an array, a PIL image or a torch tensor."""


def decode_array(data: bytes, path: str | Path) -> NDArray[Any]:
    """Read a ``.npy`` file.

    Raises:
        ImageError: it is broken, or holds Python objects.
    """
    try:
        values: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, TokenError) as error:
        reason = " ".join(str(error).split())
        raise ImageError(
            f"The array {str(path)!r} cannot be read: {reason}. Expected the numbers of an image, as numpy.save writes "
            "them."
        ) from error
    return values


def as_channels(values: NDArray[Any], channels: int, image: str) -> UInt8Array:
    """Turn an array into an image with the channels that a network takes.

    Args:
        values: ``(H, W, C)`` or ``(C, H, W)``; ``(H, W)`` is one channel. See :func:`to_range` for its values.
        channels: of the network. For 1 and 3, grey and RGB, the image may be either.
        image: what the image is called, for errors.

    Returns:
        ``uint8`` ``(H, W, channels)``, contiguous; ``(H, W, 3)`` for a network of one channel.

    Raises:
        ImageError: it has another number of channels or axes, or values without a known range.
    """
    allowed = (3, 1) if channels in (1, 3) else (channels,)
    pixels = values[..., None] if values.ndim == 2 else values
    if pixels.ndim == 3 and pixels.shape[2] not in allowed and pixels.shape[0] in allowed:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in allowed or not pixels.size:
        raise ImageError(
            f"{image} is an array {values.shape}, and the network takes {channels} channels. Expected (height, width, "
            f"{channels}) or ({channels}, height, width): leave out what the network does not take."
        )
    scaled = to_range(pixels, image)
    return np.ascontiguousarray(np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled)


def to_range(values: NDArray[Any], image: str, fix: str = "scale them, and save it again") -> UInt8Array:
    """Bring values to 0-255.

    =============  ================================================================================================
    ``uint8``      stay as they are
    ``uint16``     0 to 65535 is black to white
    ``bool``       black and white
    floating       0 to 1 is black to white where no value of the image is above 1, else 0 to 255; rounded
    other types    have no agreed range
    =============  ================================================================================================

    Args:
        values: of any shape.
        image: what holds them, for errors.
        fix: what to do about values beyond any range.

    Raises:
        ImageError: the values have no known range.
    """
    kind = values.dtype.newbyteorder("=")
    if kind == np.uint8:
        return values
    if kind == np.uint16:
        return np.asarray((values.astype(np.uint32) + 128) // 257, np.uint8)
    if kind == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(kind, np.floating):
        raise ImageError(
            f"{image} holds {kind} values, which have no agreed range. Expected unsigned values of 8 "
            "or 16 bits, or floating-point values from 0 to 1: scale its values to 0-255 and save it as uint8."
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise ImageError(
            f"{image} holds {kind} values from {low:g} to {high:g}. Expected values from 0 to 1, or "
            f"from 0 to 255: {fix}."
        )
    return np.asarray(np.rint(values * 255 if high <= 1 else values), np.uint8)


def as_image_array(data: Any, channels: int = 3) -> NDArray[Any]:
    """Turn what people hold images in into an array: a PIL image, a torch tensor, or whatever numpy can look into.

    Args:
        data: an image, or a batch, the network's input, which is taken as it is. An image may be

            * a PIL image of any mode, whose pixels are taken as they lie in memory: its EXIF data turn nothing.
            * a tensor ``(C, H, W)`` or ``(H, W, C)`` or ``(H, W)``. See :func:`to_range` for its values.
            * an array of these shapes: ``uint16`` and ``bool`` become ``uint8``, others stay what they are, as
              floating-point numbers may as well be the network's input.
        channels: of the network. PIL images become RGB, unless they have as many bands, such as ``RGBA`` for 4.

    Returns:
        ``uint8`` ``(H, W, C)`` or ``(H, W)`` of an image, ``(C, H, W)`` where an array has that; otherwise an array of
        the shape of ``data``.

    Raises:
        ImageError: the values of an image have no known range, or it has another number of channels.
    """
    if hasattr(data, "getbands") and hasattr(data, "convert"):
        return _from_pil(data, channels)
    if hasattr(data, "detach"):
        return _from_tensor(data.detach().cpu(), channels)
    values = np.asarray(data)
    is_image = values.ndim in (2, 3) and values.dtype.newbyteorder("=") in (np.bool_, np.uint16)
    return to_range(values, "The data") if is_image else values


_NO_BATCH = "scale them, or add the batch axis if this is the network's input, normalised already"


def _from_tensor(tensor: Any, channels: int) -> NDArray[Any]:
    """Return a tensor as an array, and an image channels last: as torch has them, they come first where possible."""
    values = np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
    if values.ndim not in (2, 3):
        return values
    if values.ndim == 3 and values.shape[0] in (1, 3, channels):
        values = values.transpose(1, 2, 0)
    return as_channels(to_range(values, "The tensor", _NO_BATCH) if values.size else values, channels, "The tensor")


def _from_pil(image: Any, channels: int) -> NDArray[Any]:
    """Return the pixels of a PIL image: of its 16 and 32 bits a pixel the 8 upper ones, of its bands RGB, or all."""
    mode = str(image.mode)
    if mode == "F":
        return to_range(np.asarray(image), "The PIL image of mode F")
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"The PIL image of mode {mode} holds values from {values.min()} to {values.max()}. Expected values "
                "from 0 to 255, or from 0 to 65535."
            )
        is_bytes = mode == "I" and values.max() <= 255
        return to_range(values.astype(np.uint8 if is_bytes else np.uint16), "The PIL image")
    bands = len(image.getbands())
    if channels not in (1, 3) and bands == channels and mode in ("LA", "RGBA"):
        return np.array(image)
    if mode == "L":
        return np.array(image)
    # premultiplied grey is converted to grey with alpha alone; transparent colours of a palette ask for it by a warning
    through = {"La": "LA", "P": "RGBA", "PA": "RGBA"}.get(mode)
    return np.array((image.convert(through) if through else image).convert("RGB"))
