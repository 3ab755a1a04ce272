"""Whether a network's first layer was trained on pixels of 0 to 255, read off its weights before any image is seen."""

from __future__ import annotations

from math import prod

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.graph.constants import evaluate
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.traits import BINARY, CONVOLUTIONS
from otx_xai.graph.view import View, dimensions, kind, port_of

WIDEST_SPREAD = 10.0
"""A trained first layer spreads by about 1 (0.3 to 1.5 of real networks), and by some 70 where it is fed values that
are 255 times too large."""

_OPEN_SIDE = 64
_MOST_VALUES = 2**26
"""Of an input that is looked at, 256 MB: more is not worth a glance, and may be a wrong size in a broken file."""
_MEAN, _DEVIATION = 120.0, 60.0
"""Of grey levels of photographs, about."""


HOW_TO_NORMALISE = (
    "Pass --input.mean and --input.scale (for ImageNet's 123.675,116.28,103.53 and 58.395,57.12,57.375; for values of "
    "0 to 1 --input.scale 255)."
)


def warning_of_first_layer(view: View, layout: str) -> str | None:
    """Return a warning where a first layer answers pixels of 0 to 255 as none does that was trained on them.

    Args:
        view: see :func:`spread_of_first_layer`.
        layout: see there.
    """
    spread = spread_of_first_layer(view, layout)
    if spread is None or spread < WIDEST_SPREAD:
        return None
    return (
        f"Nobody says how the input of the model is normalised, so it is fed pixels of 0 to 255; but its first layer "
        f"answers them with values that spread by {spread:.0f}, where those of a trained network spread by about 1. It "
        f"was probably trained on normalised images, and these results mean nothing. {HOW_TO_NORMALISE} If 0 to 255 is "
        "right, --input.scale 1 says so."
    )


def spread_of_first_layer(view: View, layout: str) -> float | None:
    """Return how far a first convolution spreads over a picture of grey levels from 0 to 255.

    Normalisation and scaling behind it count as part of it. The picture is drawn by lot with the spectrum of
    photographs (amplitude falls with frequency), the same one each time.

    Args:
        view: of the model, with one input of four axes that is fed pixels as they are.
        layout: of its input, a permutation of ``NCHW``.

    Returns:
        The standard deviation over places, median over channels; ``None`` where the model begins with another layer, or
        its input is too large for a glance.
    """
    layer = next(
        (node for node in view.nodes if kind(node) in CONVOLUTIONS and view.is_data(node.input_value(0))), None
    )
    parameter = image_input(view.model)
    if layer is None or layer.input_value(1).get_node().get_name() not in view.constant:
        return None
    sizes = dimensions(parameter.output(0)) or [None] * len(layout)
    usual = {"N": 1, "C": 3, "H": _OPEN_SIDE, "W": _OPEN_SIDE}
    shape = {axis: size or usual[axis] for axis, size in zip(layout, sizes, strict=True)}
    if prod(shape.values()) > _MOST_VALUES:
        return None
    picture = np.broadcast_to(_picture(shape["H"], shape["W"]), [shape[axis] for axis in "NCHW"])
    image = picture.transpose(["NCHW".index(axis) for axis in layout])
    values = evaluate([_scaled(view, layer).output(0)], {parameter: np.ascontiguousarray(image)})[0]
    return float(np.median(values.std(axis=(2, 3))))


def _scaled(view: View, layer: ov.Node) -> ov.Node:
    """Return the last of the operations behind a layer that only add and multiply constants."""
    while len(readers := view.consumers.get(port_of(layer.output(0)), [])) == 1:
        reader, port = readers[0]
        others = [value for i, value in enumerate(reader.input_values()) if i != port]
        if kind(reader) not in BINARY or not all(value.get_node().get_name() in view.constant for value in others):
            break
        layer = reader
    return layer


def _picture(height: int, width: int) -> NDArray[np.float32]:
    """Draw grey levels ``(height, width)`` from 0 to 255 with the spectrum of photographs."""
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    waves = np.random.default_rng(0).standard_normal((*frequencies.shape, 2)) @ np.array([1, 1j])
    drawn = np.fft.irfft2(waves / np.maximum(frequencies, 1 / max(height, width)), s=(height, width))
    levels = _MEAN + _DEVIATION * (drawn - drawn.mean()) / max(float(drawn.std()), 1e-6)
    return np.asarray(np.clip(levels, 0, 255), np.float32)
