"""Pixels of one size from pixels of another, by Pillow as training scripts do it; what OTX does is OpenCV's."""

from __future__ import annotations

import numpy as np

from otx_xai.records import InputGeometry, Interpolation, ResizeType, Size, UInt8Array

_PILLOW = {
    Interpolation.NEAREST: 0,
    Interpolation.LANCZOS: 1,
    Interpolation.BILINEAR: 2,
    Interpolation.BICUBIC: 3,
    Interpolation.BOX: 4,
    Interpolation.HAMMING: 5,
}
"""What Pillow and transformers call them, by number."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels, also between them."""


def by_number(number: int) -> Interpolation | None:
    """Return the interpolation of a number of ``PIL.Image.Resampling``; ``None`` where it is none."""
    return next((word for word, own in _PILLOW.items() if own == number), None)


def resized(image: UInt8Array, box: Box, size: Size, interpolation: Interpolation) -> UInt8Array:
    """Resize a part of an image as Pillow does.

    Args:
        image: ``uint8`` ``(H, W, C)``.
        box: the part of it that is resized; filters look beyond it where the image goes on.
        size: ``(height, width)`` of the result.
        interpolation: any but ``linear``.

    Returns:
        ``uint8`` ``(height, width, C)``; ``image`` itself where it is that already.
    """
    if image.shape[:2] == size and box == (0.0, 0.0, float(size[1]), float(size[0])):
        return image
    from PIL import Image

    def plane(pixels: UInt8Array) -> UInt8Array:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        return np.array(picture.resize(size[::-1], Image.Resampling(_PILLOW[interpolation]), box))

    if image.shape[2:] == (3,):
        return plane(image)
    return np.stack([plane(image[..., channel]) for channel in range(image.shape[2])], -1)


def cropped_box(image_size: Size, geometry: InputGeometry) -> Box | None:
    """Say which part of an image training scripts see, which resize it to whole pixels first, and cut afterwards.

    Args:
        image_size: ``(H, W)`` of the image.
        geometry: the network's input.

    Returns:
        What becomes the input, less than a pixel of the input from what :func:`~otx_xai.postprocess.place` says; that
        is whole pixels of the image. ``None`` where nothing is cut.
    """
    wanted = tuple(round(side / geometry.crop) for side in geometry.size)
    match geometry.resize_type:
        case ResizeType.CROP:
            scale = max(new / side for new, side in zip(wanted, image_size, strict=True))
            scaled = [scale * side for side in image_size]
            # torchvision cuts the longer side to whole pixels; timm, whose inputs may be oblong, rounds it there
            fitted = [int(side + 1e-6) if geometry.size[0] == geometry.size[1] else round(side) for side in scaled]
            whole = tuple(max(least, side) for least, side in zip(wanted, fitted, strict=True))
        case ResizeType.STANDARD if geometry.crop < 1:
            whole = wanted
        case _:
            return None
    top, left = (round((new - side) / 2) for new, side in zip(whole, geometry.size, strict=True))
    down, across = (side / new for side, new in zip(image_size, whole, strict=True))
    return (left * across, top * down, (left + geometry.size[1]) * across, (top + geometry.size[0]) * down)
