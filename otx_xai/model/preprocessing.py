"""A model as it was read → one that takes plain images: static shapes, and pre-processing inside the graph."""

from __future__ import annotations

import openvino as ov
from openvino.preprocess import ColorFormat, PrePostProcessor

from otx_xai.errors import ModelError
from otx_xai.graph.input_layout import channels_of, image_input
from otx_xai.graph.view import View
from otx_xai.model.class_scores import find_logits
from otx_xai.model.image_layout import input_layout
from otx_xai.openvino_core import first_line
from otx_xai.records import ModelFacts, Task


def effective_batch(model: ov.Model, task: Task = Task.CLASSIFICATION) -> int | None:
    """How many images a model takes at once; ``None`` if any number.

    An export can leave the batch of the input open and yet fix the one of the logits, ``[?,3,224,224]`` to
    ``[1,1000]``: such a classifier takes one image. A detector takes one where it leaves the batch open: its boxes may
    have no batch axis.
    """
    layout = input_layout(model)
    images = [image_input(model).output(0).partial_shape[layout.index("N")]] if layout else []
    if not task.is_classification:
        return next((int(size.get_length()) for size in images if size.is_static), 1)
    batches = [*images, find_logits(model).port.partial_shape[0]]
    return next((int(size.get_length()) for size in batches if size.is_static), None)


def fix_shapes(model: ov.Model, info: ModelFacts, batch: int | None) -> ov.Model:
    """Clone a model and make its input static where it is dynamic; what is static stays.

    Args:
        model: the model as it was read, in ``info.input_layout``.
        info: its description.
        batch: images at a time where the model leaves it open (see :func:`effective_batch`); ``None`` leaves it so.

    Returns:
        A clone whose height and width are ``info.geometry.size``, and whose channels are those that its weights read.

    Raises:
        ModelError: the graph cannot take such an input.
    """
    clone = model.clone()
    image = image_input(clone).output(0)
    height, width = info.geometry.size
    wanted = {"N": effective_batch(clone, info.task) or batch, "H": height, "W": width}
    if image.partial_shape[info.input_layout.index("C")].is_dynamic:
        wanted["C"] = channels_of(View(clone))
    shape = ov.PartialShape(
        [
            ov.Dimension(wanted[axis]) if size.is_dynamic and wanted.get(axis) is not None else size
            for axis, size in zip(info.input_layout, image.partial_shape, strict=True)
        ]
    )
    if shape == image.partial_shape:
        return clone
    try:
        clone.reshape({image: shape})
    except RuntimeError as error:
        raise ModelError(
            f"The model cannot take an input {shape} ({info.input_layout}): {first_line(error)}. "
            "Pass the --input.size that it was trained on, or run one image at a time."
        ) from error
    if info.task.is_classification:
        _check_batch(clone, shape[info.input_layout.index("N")])
    return clone


def embed_preprocessing(model: ov.Model, info: ModelFacts) -> ov.Model:
    """Clone a model and put type, channel order, normalisation and layout of its input into the graph.

    Names, order and shapes of the outputs, the name of the input and all ``rt_info`` stay.

    Args:
        model: the model as it was read or as :func:`fix_shapes` returns it, in ``info.input_layout``.
        info: its description.

    Returns:
        A clone whose one input takes ``uint8`` RGB images ``(N, height, width, 3)`` of exactly
        ``info.geometry.size``. A model of grey images gets them converted.

    Raises:
        ModelError: the graph cannot take an input of this size.
    """
    clone = fix_shapes(model, info, batch=None)
    channels = image_input(clone).output(0).partial_shape[info.input_layout.index("C")].get_length()
    processor = PrePostProcessor(clone)
    image = processor.input(0)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout(info.input_layout))
    if channels == 1:
        image.tensor().set_color_format(ColorFormat.RGB)
        image.preprocess().convert_color(ColorFormat.GRAY)
    if info.reverse_input_channels and channels > 1:
        image.preprocess().reverse_channels()
    if info.mean or info.scale:
        image.preprocess().convert_element_type(ov.Type.f32)
    if info.mean:
        image.preprocess().mean(list(info.mean))
    if info.scale:
        image.preprocess().scale(list(info.scale))
    return processor.build()


def _check_batch(model: ov.Model, batch: ov.Dimension) -> None:
    """Raise ``ModelError`` if the logits do not follow the batch of the input: the graph has mixed its images."""
    logits = find_logits(model).port.partial_shape
    if not logits[0].compatible(batch):
        raise ModelError(
            f"The model gives class scores {logits} for a batch of {batch} images; expected one row for each image. "
            "Its graph has a fixed batch inside: export it with a dynamic batch, or run one image at a time."
        )
