"""How many images a model takes at once, and whether its outputs tell them apart."""

from __future__ import annotations

from dataclasses import replace

import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.view import View
from otx_xai.model.class_scores import class_scores_at
from otx_xai.model.identity import Identity
from otx_xai.model.preprocessing import fix_shapes
from otx_xai.records import XAI_OUTPUTS, Size


def images_at_once(model: ov.Model, layout: str, identity: Identity) -> int | None:
    """Return how many images a model takes at once; ``None``: any number.

    An export can leave the batch of the input open and yet fix the one of the logits, ``[?,3,224,224]`` to
    ``[1,1000]``: such a classifier takes one image. A detector takes one where it leaves the batch open: its boxes may
    have no batch axis.
    """
    sizes = [image_input(model).output(0).get_partial_shape()[layout.index("N")]]
    if identity.class_scores is None:
        return next((int(size.get_length()) for size in sizes if size.is_static), 1)
    sizes.append(identity.class_scores.port.get_partial_shape()[0])
    return next((int(size.get_length()) for size in sizes if size.is_static), None)


def with_batch(
    graph: ov.Model, view: View, identity: Identity, layout: str, size: Size, batch: int
) -> tuple[ov.Model, View, Identity]:
    """Fix the batch of a model where it is open.

    Raises:
        ModelError: it gives no row of class scores for each image.
    """
    fixed = fix_shapes(graph, layout, size, batch)
    if fixed is graph:
        if identity.class_scores is not None:
            _check_batch(identity.class_scores.port.get_partial_shape(), batch)
        return graph, view, identity
    if identity.class_scores is not None:
        scores = class_scores_at(fixed, identity.class_scores.result_index)
        _check_batch(scores.port.get_partial_shape(), batch)
        identity = replace(identity, class_scores=scores)
    return fixed, View(fixed, XAI_OUTPUTS), identity


def _check_batch(scores: ov.PartialShape, batch: int) -> None:
    """Raise ``ModelError`` if class scores do not follow the batch of the input: the graph has mixed its images."""
    if not scores[0].compatible(ov.Dimension(batch)):
        raise ModelError(
            f"The model gives class scores {scores} for a batch of {batch} images; expected one row for each image. "
            "Its graph mixes images, or has a fixed batch inside: export it with a dynamic batch, or run one image at "
            "a time."
        )


def single_image_graph(graph: ov.Model, layout: str, identity: Identity) -> ov.Model:
    """Return a copy that takes one image where a detector takes several and puts their boxes into one list.

    Args:
        graph: the model; it is not changed.
        layout: the axes of its input.
        identity: what it does.

    Returns:
        The model itself where its outputs have an axis of images, or where it takes one or any number of them.

    Raises:
        ModelError: its graph can take no other number of images.
    """
    image = image_input(graph).output(0)
    count = image.get_partial_shape()[layout.index("N")]
    if identity.boxes is None or count.is_dynamic or count.get_length() == 1:
        return graph
    read = set(identity.boxes.match.roles.values())
    joined = [output for output in graph.outputs if output.get_names() & read and not _has_axis_of(output, count)]
    if not joined:
        return graph
    shape, clone = image.get_partial_shape(), graph.clone()
    shape[layout.index("N")] = ov.Dimension(1)
    try:
        clone.reshape({image_input(clone).output(0): shape})
    except RuntimeError as error:
        raise ModelError(
            f"The detector takes {count} images at once, and its output {describe_outputs(joined)} has no axis for "
            f"them; expected one row of boxes for each image, or a batch of 1. Its graph has a fixed batch inside: "
            "export it for single images, or with a dynamic batch."
        ) from error
    return clone


def _has_axis_of(output: ov.Output, images: ov.Dimension) -> bool:
    """Whether the first axis holds images; an open one of two may as well hold all boxes."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return True
    return len(shape) > 0 and bool(shape[0] == images or (shape[0].is_dynamic and len(shape) > 2))
