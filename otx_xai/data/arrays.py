"""Arrays of numbers → images: which axis holds the channels, and what black and white are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError
from otx_xai.records import UInt8Array


def decode_array(data: bytes, path: str | Path) -> NDArray[Any]:
    """Read a ``.npy`` file.

    Raises:
        ImageError: it is broken, or holds Python objects.
    """
    try:
        values: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ImageError(
            f"The array {str(path)!r} cannot be read: {error}. Expected the numbers of an image, as numpy.save writes "
            "them."
        ) from error
    return values


def as_channels(values: NDArray[Any], channels: int, path: str | Path) -> UInt8Array:
    """Turn an array into an image with the channels that a network takes.

    Args:
        values: ``(H, W, C)`` or ``(C, H, W)``; ``(H, W)`` is one channel. See :func:`to_range` for its values.
        channels: of the network. For 1 and 3, grey and RGB, the image may be either.
        path: for errors.

    Returns:
        ``uint8`` ``(H, W, channels)``, contiguous; ``(H, W, 3)`` for a network of one channel.

    Raises:
        ImageError: it has another number of channels or axes, or values without a known range.
    """
    allowed = (3, 1) if channels in (1, 3) else (channels,)
    image = values[..., None] if values.ndim == 2 else values
    if image.ndim == 3 and image.shape[2] not in allowed and image.shape[0] in allowed:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in allowed or not image.size:
        raise ImageError(
            f"The image {str(path)!r} is an array {values.shape}, and the network takes {channels} channels. Expected "
            f"(height, width, {channels}) or ({channels}, height, width): leave out what the network does not take."
        )
    scaled = to_range(image, f"The image {str(path)!r}")
    return np.ascontiguousarray(np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled)


def to_range(values: NDArray[Any], image: str) -> UInt8Array:
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

    Raises:
        ImageError: the values have no known range.
    """
    kind = values.dtype
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
            "from 0 to 255: scale them, and save it again."
        )
    return np.asarray(np.rint(values * 255 if high <= 1 else values), np.uint8)
