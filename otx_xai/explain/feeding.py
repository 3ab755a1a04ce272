"""What callers hand to an Explainer, made into what the network is fed and what the maps are laid over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.data.arrays import AnyImage, as_channels, as_image_array
from otx_xai.errors import ConfigError
from otx_xai.explain.look import Canvas, as_picture
from otx_xai.explain.plan import Plan
from otx_xai.postprocess import sigmoid, softmax
from otx_xai.records import FloatArray, ModelFacts, Tiling, UInt8Array


@dataclass(frozen=True)
class Inputs:
    """What is fed to the model, and what the maps are laid over.

    Args:
        tensor: channels last, ``(N, H, W, C)``.
        canvases: one an image.
        as_images: ``tensor`` holds ``uint8`` images of the right size; the rest of the pre-processing is ours.
        tiling: how to tile ``tensor``, which is then one image of any size, over which its maps lie.
    """

    tensor: NDArray[Any]
    canvases: Sequence[Canvas]
    as_images: bool = False
    tiling: Tiling | None = None


def as_given(data: AnyImage, facts: ModelFacts) -> NDArray[Any]:
    """Return an image, or the model's input, as an array; see :func:`otx_xai.data.arrays.as_image_array`.

    Raises:
        ImageError: an image has values without a known range.
        ConfigError: a tensor may be an image or the model's input.
    """
    tensor: Any = data if hasattr(data, "detach") and getattr(data, "ndim", 0) == 3 else None
    if tensor is not None and tensor.is_floating_point() and not facts.normalisation_known:
        raise ConfigError(
            f"The data is a tensor {tuple(tensor.shape)} of floating-point numbers, and it is not known how the model "
            "wants its input normalised. Expected the model's input with its batch axis, data[None], a uint8 image, or "
            "input=InputOptions(mean=..., scale=...) on the scale of 0-255."
        )
    return as_image_array(data, facts.channels)


def fed_image(data: NDArray[Any], channels: int) -> UInt8Array:
    """Return the image that a network of so many channels is fed: RGB for 1 and 3, else all channels of ``data``.

    Raises:
        ConfigError, ImageError: ``data`` has another number of channels or axes.
    """
    return as_picture(data) if channels in (1, 3) else as_channels(data, channels, "The data")


def canvas_of(image: NDArray[Any], channels: int) -> Canvas:
    """Lay maps over an image of any usual kind, or of the network's channels, which was fitted in by the caller."""
    picture = as_picture(image, channels)
    return Canvas(picture, (picture.shape[0], picture.shape[1]))


def over(images: AnyImage | Sequence[AnyImage] | None, inputs: Inputs, channels: int) -> Inputs:
    """Lay maps over other images: one for all, or a sequence of one each."""
    if images is None:
        return inputs
    count = len(inputs.canvases)
    is_one = hasattr(images, "getbands") or getattr(images, "ndim", 4) < 4
    each: list[Any] = [images] * count if is_one else list(cast("Sequence[AnyImage]", images))
    if len(each) != count:
        raise ConfigError(f"original_input_image holds {len(each)} images; expected one, or {count}, as data does.")
    pictures = [as_picture(as_image_array(image, channels), channels) for image in each]
    return replace(
        inputs, canvases=[replace(old, picture=new) for old, new in zip(inputs.canvases, pictures, strict=True)]
    )


def channels_last(tensor: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """Return the model's input, given with channels first or last, as ``(N, H, W, C)``."""
    port, layout = plan.model.inputs[0], plan.facts.input_layout
    shape = dict(zip(layout, port.get_partial_shape(), strict=True))
    for given in dict.fromkeys((layout, "NCHW", "NHWC")):
        if (
            tensor.ndim == 4
            and len(tensor)
            and all(
                axis == "N" or shape[axis].compatible(ov.Dimension(size))
                for axis, size in zip(given, tensor.shape, strict=True)
            )
        ):
            return tensor.transpose([given.index(axis) for axis in "NHWC"])
    raise ConfigError(
        f"The model's input is {port.get_partial_shape()} ({layout}), what it is given is {list(tensor.shape)}. Pass "
        f"a uint8 image (height, width, 3) of any size, or resize it and add the batch axis, or give a preprocess_fn "
        f"that does."
    )


def as_scores(values: Any, shape: tuple[int, ...], *, independent: bool) -> FloatArray:
    """Return scores ``(N, K)`` in [0, 1] of what ``postprocess_fn`` gave: scores, or logits where any is outside."""
    scores: FloatArray = np.asarray(values, dtype=np.float32)
    if scores.size != np.prod(shape):
        raise ConfigError(
            f"postprocess_fn returned {list(scores.shape)}; expected class scores or logits {list(shape)}."
        )
    scores = scores.reshape(shape)
    if scores.min() >= 0 and scores.max() <= 1:
        return scores
    return sigmoid(scores) if independent else softmax(scores)
