"""Which axis of the image input is which: asked of the graph, of what the model declares, and of sizes, in turn."""

from __future__ import annotations

import openvino as ov

from otx_xai.graph.input_layout import LETTERS, image_input, layout_of
from otx_xai.graph.view import View
from otx_xai.model.model_info import model_info

_CHANNELS = (1, 3)


def input_layout(model: ov.Model, view: View | None = None) -> str | None:
    """The axes of the image input, a permutation of ``NCHW``; ``None`` if they cannot be known.

    The graph's operations are asked first, then the layout that the input or ``model_info/layout`` declares, then the
    number of channels.

    Args:
        model: the model.
        view: of the model, where the caller has it.

    Raises:
        ModelError: the model has no single input of four axes.
    """
    return layout_of(view or View(model)) or declared_layout(model) or layout_of_channels(model)


def declared_layout(model: ov.Model) -> str | None:
    """The layout written in the input itself or in ``model_info/layout`` (``NHWC`` or ``image:NHWC``)."""
    texts = [image_input(model).layout.to_string(), model_info(model).get("layout", "").rpartition(":")[2]]
    plain = [text.strip(" []").replace(",", "").replace(" ", "").upper() for text in texts]
    return next((text for text in plain if is_layout(text)), None)


def layout_of_channels(model: ov.Model) -> str | None:
    """``NCHW`` or ``NHWC``, where one of the axes behind the batch and at the end surely has 1 or 3 entries, not both.

    No network takes pictures that are 1 or 3 pixels high or wide, so that axis holds the channels.
    """
    shape = image_input(model).output(0).partial_shape
    first, last = (shape[axis].is_static and shape[axis].get_length() in _CHANNELS for axis in (1, 3))
    if first is last:
        return None
    return "NCHW" if first else "NHWC"


def is_layout(text: str) -> bool:
    """Whether ``text`` is a permutation of ``NCHW``."""
    return sorted(text) == sorted(LETTERS)
