"""Which axis of the image input is batch, channel, height and width: a question to the interpreter of axes.

The axes of the input begin with names of their own, and travel through the graph like any others. The first operation
that reads batch, channels, height and width by definition tells which is which.
"""

from __future__ import annotations

import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.graph.axes import label_node
from otx_xai.graph.labels import Labels
from otx_xai.graph.traits import trait
from otx_xai.graph.view import Port, View, is_unit, kind, port_of

LETTERS = "NCHW"
_UNGROUPED = ("Convolution", "BinaryConvolution")
_REGROUPING = ("concat", "cut", "split", "reshape", "matmul", "lost")
_UNKNOWN: Labels = ("first", "second", "third", "fourth")


def image_input(model: ov.Model) -> ov.Node:
    """Return the one Parameter of a model.

    Raises:
        ModelError: there are several, or it does not have four axes.
    """
    parameters = model.get_parameters()
    described = ", ".join(f"{node.get_friendly_name()} {node.output(0).partial_shape}" for node in parameters)
    if len(parameters) != 1:
        raise ModelError(
            f"The model has {len(parameters)} inputs ({described or 'none'}); expected one, a batch of images. "
            "Export the model with the other inputs frozen as constants."
        )
    rank = parameters[0].output(0).partial_shape.rank
    if rank.is_dynamic or rank.get_length() != len(LETTERS):
        raise ModelError(
            f"The model's input is {described}; expected four axes: batch, channels, height and width. "
            "Export the model with an image input."
        )
    return parameters[0]


def layout_of(view: View) -> str | None:
    """Return the axes of the image input that the graph's operations prove, a permutation of ``NCHW``, or ``None``.

    Raises:
        ModelError: the model has no single input of four axes.
    """
    read = _first_reading(view)
    return None if read is None else read[0]


def channels_of(view: View) -> int | None:
    """Return how many channels the first operation on the image reads, where it has weights that tell.

    An input may leave the axis open, ``[?,?,?,?]``, and a Convolution's weights ``(O, C, kh, kw)`` still have one
    slice a channel. ``None`` where something between the input and the operation makes more or fewer channels.

    Raises:
        ModelError: the model has no single input of four axes.
    """
    read = _first_reading(view)
    if read is None:
        return None
    node = read[1]
    if kind(node) not in _UNGROUPED or not _keeps_channels(view, node):
        return None
    channels = node.input_value(1).get_partial_shape()[1]
    return None if channels.is_dynamic else int(channels.get_length())


def _keeps_channels(view: View, node: ov.Node) -> bool:
    """Whether nothing on the way from the input to an operation joins or cuts tensors."""
    way = view.ordered(view.ancestors([node.input_value(0)]))
    return not any(trait(kind(step)).axes in _REGROUPING for step in way if kind(step) != "Parameter")


def _first_reading(view: View) -> tuple[str, ov.Node] | None:
    """Return the layout that the first image operation tells which names all axes of the input, and the operation."""
    image = image_input(view.model).output(0)
    labels: dict[Port, Labels] = {port_of(image): _UNKNOWN}
    for node in view.nodes:
        if trait(kind(node)).axes == "image":
            # What reaches such an operation anywhere but at its data input is no picture.
            layout = _named(labels.get(port_of(node.input_value(0)), ()), image.partial_shape)
            if layout:
                return layout, node
        label_node(view, node, labels)
    return None


def _named(own: Labels, shape: ov.PartialShape) -> str | None:
    """Read the input's layout off the axes that an image operation sees.

    One axis that was lost on the way is known by elimination. Two are, when both have length 1: whichever is the
    batch, memory is the same, and the batch is taken to come first.
    """
    if len(own) != len(LETTERS):
        return None
    names = {label: letter for label, letter in zip(own, LETTERS, strict=True) if label in _UNKNOWN}
    lost_axes = [axis for axis, label in enumerate(_UNKNOWN) if label not in names]
    lost_letters = [letter for letter in LETTERS if letter not in names.values()]
    is_plain = len(lost_axes) <= 1 or all(is_unit(shape[axis]) for axis in lost_axes)
    if len(lost_axes) != len(lost_letters) or not is_plain:
        return None
    names.update(zip((_UNKNOWN[axis] for axis in lost_axes), lost_letters, strict=True))
    return "".join(names[label] for label in _UNKNOWN)
