"""A model as it was read → one that takes plain images: static shapes, and pre-processing inside the graph."""

from __future__ import annotations

import openvino as ov
from openvino.preprocess import ColorFormat, PrePostProcessor

from otx_xai.errors import ModelError
from otx_xai.graph.input_layout import channels_of, image_input
from otx_xai.graph.view import View
from otx_xai.openvino_core import first_line
from otx_xai.records import ModelFacts, Size


def fix_shapes(model: ov.Model, layout: str, size: Size, batch: int | None = None) -> ov.Model:
    """Make the input of a model static where it is dynamic; what is static stays.

    Args:
        model: the model as it was read; it is not changed.
        layout: the axes of its input.
        size: ``(height, width)`` of its input.
        batch: images at a time; ``None`` leaves it as it is.

    Returns:
        A copy whose height, width and batch are these, and whose channels are those that its weights read; the model
        itself where nothing is dynamic.

    Raises:
        ModelError: the graph cannot take such an input.
    """
    image = image_input(model).output(0)
    wanted = {"N": batch, "H": size[0], "W": size[1]}
    if image.partial_shape[layout.index("C")].is_dynamic:
        wanted["C"] = channels_of(View(model))
    shape = ov.PartialShape(
        [
            ov.Dimension(wanted[axis]) if own.is_dynamic and wanted.get(axis) is not None else own
            for axis, own in zip(layout, image.partial_shape, strict=True)
        ]
    )
    if shape == image.partial_shape:
        return model
    clone = model.clone()
    try:
        clone.reshape({image_input(clone).output(0): shape})
    except RuntimeError as error:
        raise ModelError(
            f"The model cannot take an input {shape} ({layout}): {first_line(error)}. "
            "Pass the --input.size that it was trained on, or run one image at a time."
        ) from error
    return clone


def embed_preprocessing(model: ov.Model, facts: ModelFacts) -> ov.Model:
    """Clone a model and put type, channel order, normalisation and layout of its input into the graph.

    Names, order and shapes of the outputs, the name of the input and all ``rt_info`` stay.

    Args:
        model: the model as it was read or as :func:`fix_shapes` returns it, in ``facts.input_layout``.
        facts: what is known of it.

    Returns:
        A clone whose one input takes ``uint8`` RGB images ``(N, height, width, 3)`` of exactly
        ``facts.geometry.size``. A model of grey images gets them converted; one of any other number of channels takes
        images that have as many.

    Raises:
        ModelError: the graph cannot take an input of this size.
    """
    fixed = fix_shapes(model, facts.input_layout, facts.geometry.size)
    clone = fixed.clone() if fixed is model else fixed
    channels = image_input(clone).output(0).partial_shape[facts.input_layout.index("C")].get_length()
    processor = PrePostProcessor(clone)
    image = processor.input(0)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout(facts.input_layout))
    if channels == 1:
        image.tensor().set_color_format(ColorFormat.RGB)
        image.preprocess().convert_color(ColorFormat.GRAY)
    if facts.reverse_input_channels and channels > 1:
        image.preprocess().reverse_channels()
    if facts.mean or facts.scale:
        image.preprocess().convert_element_type(ov.Type.f32)
    if facts.mean:
        image.preprocess().mean(list(facts.mean))
    if facts.scale:
        image.preprocess().scale(list(facts.scale))
    try:
        return processor.build()
    except RuntimeError as error:
        height, width = facts.geometry.size
        raise ModelError(
            f"The model takes images of {height}x{width} pixels, which cannot be prepared in its graph: "
            f"{first_line(error)}. Expected a size that fits into memory; export it for another, or pass --input.size."
        ) from error
