"""The image that is perturbed: one input of a network, and what its hidden pixels become."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.records import FloatArray, ModelFacts, Size


@dataclass(frozen=True)
class Subject:
    """One input of a network whose parts are hidden.

    A hidden pixel becomes ``fill``. As published (arXiv 1806.07421), masks multiply the *normalised* image, so that
    what is hidden becomes the mean colour that normalisation subtracts. For an input that is normalised already that is
    0, the default; for an image that is normalised in the graph it is the model's mean, see :func:`image_subject`.

    Args:
        image: the input without its batch axis, of any type that the network takes.
        layout: its axes: ``HWC``, ``CHW`` or any other order of these.
        fill: what hidden pixels become, one number for all channels or one each, on the scale of ``image``.

    Raises:
        ConfigError: layout or fill do not fit the image.
    """

    image: NDArray[Any]
    layout: str = "HWC"
    fill: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if sorted(self.layout) != ["C", "H", "W"] or self.image.ndim != 3:
            raise ConfigError(
                f"The image to perturb has shape {list(self.image.shape)} and layout {self.layout!r}; expected one "
                f"image of three axes, without the batch, and their order, such as 'HWC' or 'CHW'."
            )
        if len(self.fill) not in (1, self.channels):
            raise ConfigError(
                f"fill has {len(self.fill)} values; expected one, or {self.channels}, one for each channel."
            )
        object.__setattr__(self, "image", np.ascontiguousarray(self.image))  # as the runtime shares it with OpenVINO

    @property
    def size(self) -> Size:
        """Height and width."""
        shape = dict(zip(self.layout, self.image.shape, strict=True))
        return int(shape["H"]), int(shape["W"])

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.image.shape[self.layout.index("C")])


def image_subject(image: NDArray[np.uint8], info: ModelFacts) -> Subject:
    """Make a subject of an image for a model with its pre-processing inside.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``, fitted into the network's input.
        info: the model. What is hidden becomes the colour that its normalisation, in front of the graph or inside,
            turns into 0: its mean; black where it subtracts none.
    """
    zero = np.asarray(info.zero or (0.0,))
    fill = zero * np.asarray(info.scale or (1.0,)) + np.asarray(info.mean or (0.0,))
    fill = np.clip(fill, 0, 255)
    if info.reverse_input_channels:
        fill = fill[::-1]
    if len(fill) not in (1, image.shape[2]):  # a network of grey images
        fill = fill.mean(keepdims=True)
    return Subject(image, "HWC", tuple(float(value) for value in fill))


def masking(subject: Subject) -> Callable[[FloatArray], NDArray[Any]]:
    """Prepare an image to be masked many times.

    Returns:
        A function from a mask, ``float32`` ``(H, W)`` in [0, 1], to ``fill + mask · (image - fill)``, computed in
        ``float32``, of the image's type and shape, contiguous; of integers rounded (halves to even) and clipped to
        their range. It may be called from several threads.
    """
    kind, layout = subject.image.dtype, subject.layout
    values = np.broadcast_to(np.array(subject.fill, np.float32), subject.channels)
    even = bool((values == values[0]).all())
    fill = values.reshape([-1 if axis == "C" else 1 for axis in layout])
    contrast = np.ascontiguousarray(subject.image.astype(np.float32) - fill)
    # in full, as adding it to all pixels is much faster than broadcasting a few channels
    fill = np.ascontiguousarray(np.broadcast_to(fill, contrast.shape))
    spread = tuple(slice(None) if axis != "C" else None for axis in layout)
    is_image = layout == "HWC" and kind == np.uint8 and values.min() >= 0 and values.max() <= 255
    rows_first = layout.index("H") < layout.index("W")
    # large arrays that are made anew cost more time than the arithmetic: the system has to clear their pages
    scratch = threading.local()

    def masked(mask: FloatArray) -> NDArray[Any]:
        if not hasattr(scratch, "weights"):
            scratch.weights, scratch.result = np.empty_like(contrast), np.empty_like(contrast)
        result = scratch.result if kind != np.float32 else np.empty_like(contrast)
        if layout == "HWC" and subject.channels > 1:
            # OpenCV is twice as fast as a mask that is broadcast over a few channels, and lets other threads run
            cv2.multiply(contrast, cv2.merge([mask] * subject.channels, scratch.weights), result)
        else:
            np.multiply(contrast, (mask if rows_first else mask.T)[spread], out=result)
        if not even or values[0]:
            result += values[0] if even else fill
        if is_image:
            shaded: NDArray[Any] = cv2.convertScaleAbs(result)  # rounds and clips
            return shaded.reshape(contrast.shape)
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            np.clip(np.rint(result, out=result), limits.min, limits.max, out=result)
        return result.astype(kind, copy=False)

    return masked
