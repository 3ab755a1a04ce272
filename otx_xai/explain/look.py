"""How a map is shown to the caller: its size, its colours, and the image below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai import report
from otx_xai.errors import ConfigError
from otx_xai.postprocess import fit, min_max, to_image, to_uint8
from otx_xai.records import Colormap, FloatArray, InputGeometry, MapGrid, Size, UInt8Array


@dataclass(frozen=True)
class Look:
    """How maps are shown.

    Args:
        output_size: ``(height, width)`` of what is shown; that of the image by default.
        resize: show maps at that size (else at the network's own resolution). Overlays always are.
        colormap: in colours rather than grey: ``True``, or the word for them; see :class:`otx_xai.records.Colormap`.
        overlay: over the image.
        overlay_weight: of the map where it is high, in [0, 1]; the image gets the rest.

    Raises:
        ConfigError: a size or weight is out of range, or there are no such colours.
    """

    output_size: Size | None = None
    resize: bool = True
    colormap: bool | Colormap | str = True
    overlay: bool = False
    overlay_weight: float = 0.5

    def __post_init__(self) -> None:
        size = self.output_size
        if size is not None and (len(size) != 2 or any(side < 1 or side != int(side) for side in size)):
            raise ConfigError(f"output_size is {size}; expected (height, width) in pixels, both at least 1.")
        if not 0 <= self.overlay_weight <= 1:
            raise ConfigError(f"overlay_weight is {self.overlay_weight}; expected a number from 0 to 1.")
        if isinstance(self.colormap, str):
            object.__setattr__(self, "colormap", Colormap(self.colormap))

    @property
    def colours(self) -> Colormap:
        """The colours of maps, those of overlays whatever ``colormap`` is."""
        return self.colormap if isinstance(self.colormap, Colormap) else Colormap.TURBO


@dataclass(frozen=True)
class Canvas:
    """What maps are laid over.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        image_size: ``(height, width)`` of the image that was fitted into the network's input.
        geometry: how it was fitted in; ``None`` where maps cover the picture.
        grid: where the places of maps lie in the network's input; ``None`` where they divide it evenly.
    """

    picture: UInt8Array
    image_size: Size
    geometry: InputGeometry | None = None
    grid: MapGrid | None = None


def show(maps: FloatArray, canvas: Canvas, look: Look) -> Iterator[UInt8Array]:
    """Turn maps into pictures, one at a time.

    Args:
        maps: ``float32`` ``(M, h, w)`` in [0, 1], over the whole of the network's input.
        canvas: what they are laid over.
        look: how.

    Yields:
        ``uint8``: RGB ``(H, W, 3)`` of a coloured map or an overlay, else grey ``(H, W)``.
    """
    height, width = look.output_size or canvas.picture.shape[:2]
    size = int(height), int(width)
    below = fit(canvas.picture, InputGeometry(size)) if look.overlay else None
    for saliency_map in maps:
        shown = _resized(saliency_map, canvas, size) if look.resize or look.overlay else saliency_map
        if below is not None:
            yield report.overlay(below, shown, look.overlay_weight, look.colours)
        else:
            yield report.colormap(shown, look.colours) if look.colormap else to_uint8(shown)


def _resized(saliency_map: FloatArray, canvas: Canvas, size: Size) -> FloatArray:
    """Undo the fit into the network's input, and stretch to ``size``, in one step."""
    geometry = canvas.geometry or InputGeometry(canvas.image_size)
    resized: FloatArray = to_image(saliency_map[None], canvas.image_size, geometry, grid=canvas.grid, size=size)[0]
    return resized


def as_picture(image: NDArray[Any], channels: int = 3) -> UInt8Array:
    """Turn an image of any usual kind into one to look at.

    Args:
        image: RGB ``(H, W, 3)``, RGBA (its alpha is dropped), grey ``(H, W)`` or ``(H, W, 1)``, or with the channels
            first. Of ``uint8``, or any numbers: those in [0, 1] or [0, 255] are taken to mean black to white, others
            (normalised images) are stretched from their smallest to their largest.
        channels: of the network: the image may have as many. The first three are shown, of two the first as grey.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, contiguous.

    Raises:
        ConfigError: the shape is none of these.
    """
    shape, counts = image.shape, (1, 3, 4, channels)
    if image.ndim == 2:
        image = image[..., None]
    elif image.ndim == 3 and shape[2] not in counts and shape[0] in counts:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in counts or not image.size:
        others = "" if channels in (1, 3, 4) else f", or the {channels} channels of the network"
        raise ConfigError(
            f"The image has shape {shape}; expected RGB (height, width, 3), or grey (height, width){others}."
        )
    image = image[..., :1] if image.shape[2] == 2 else image[..., :3]
    if image.dtype != np.uint8:
        image = _as_uint8(np.asarray(image, np.float32))
    if image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB))
    return np.ascontiguousarray(image)


def _as_uint8(values: FloatArray) -> UInt8Array:
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return to_uint8(values)
    if low >= 0 and high <= 255:
        return to_uint8(values / np.float32(255))
    return to_uint8(min_max(values.reshape(1, -1)).reshape(values.shape))
