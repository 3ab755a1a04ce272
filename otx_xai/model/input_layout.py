"""Which axis of the image input is batch, channel, height and width, derived from what operations mean.

OpenVINO's convolutions and poolings are NCHW by definition. The axes of the input are followed forward through
operations that keep them apart, and the first of these operations that they reach names them. Where none does, and
nobody declares the layout, the axis with as many entries as pictures have channels decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.model.model_info import model_info

Axes = tuple[int | None, ...]
"""For each axis of a tensor the axis of the input that it is; ``None`` for one that is none of them."""

_LETTERS = "NCHW"
_CHANNELS = (1, 3)

_READS_NCHW = frozenset(
    {
        "AdaptiveAvgPool",
        "AdaptiveMaxPool",
        "AvgPool",
        "BinaryConvolution",
        "Convolution",
        "DeformableConvolution",
        "DepthToSpace",
        "GroupConvolution",
        "MaxPool",
        "SpaceToDepth",
    }
)
_KEEPS_AXES = frozenset(
    {
        "Abs",
        "BatchNormInference",
        "Clamp",
        "Convert",
        "ConvertLike",
        "Elu",
        "Exp",
        "FakeQuantize",
        "Floor",
        "Gelu",
        "HSwish",
        "Interpolate",
        "Log",
        "MVN",
        "Negative",
        "NormalizeL2",
        "Pad",
        "PRelu",
        "Relu",
        "Reverse",
        "Roll",
        "Round",
        "Sigmoid",
        "Slice",
        "Split",
        "Sqrt",
        "Swish",
        "Tanh",
        "VariadicSplit",
    }
)
_ELEMENTWISE = frozenset({"Add", "Divide", "Maximum", "Minimum", "Multiply", "Power", "Subtract"})


def image_input(model: ov.Model) -> ov.Node:
    """The one Parameter of the model.

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
    if rank.is_dynamic or rank.get_length() != len(_LETTERS):
        raise ModelError(
            f"The model's input is {described}; expected four axes: batch, channels, height and width. "
            "Export the model with an image input."
        )
    return parameters[0]


def input_layout(model: ov.Model) -> str | None:
    """The axes of the image input, a permutation of ``NCHW``; ``None`` if they cannot be known.

    The graph's operations are asked first, then the layout that the input or ``model_info/layout`` declares, then the
    number of channels.

    Raises:
        ModelError: the model has no single input of four axes.
    """
    return layout_of_operations(model) or declared_layout(model) or layout_of_channels(model)


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
    return sorted(text) == sorted(_LETTERS)


def is_unit(size: ov.Dimension) -> bool:
    """Whether an axis surely has length 1."""
    return bool(size.is_static and size.get_length() == 1)


def layout_of_operations(model: ov.Model) -> str | None:
    """The layout that the graph's operations prove, or ``None``."""
    image = image_input(model).output(0)
    known: dict[ov.Output, Axes] = {image: (0, 1, 2, 3)}
    for node in model.get_ordered_ops():
        sources = [known.get(value) for value in node.input_values()]
        if not any(sources):
            continue
        if node.get_type_name() in _READS_NCHW:
            # What reaches such an operation anywhere but at its data input is no picture.
            layout = _name_axes(sources[0], image.partial_shape) if sources[0] else None
            if layout:
                return layout
            continue
        axes = _follow(node, sources)
        if axes is not None:
            known.update({output: axes for output in node.outputs() if _rank(output) == len(axes)})
    return None


def _name_axes(axes: Axes, shape: ov.PartialShape) -> str | None:
    """Read the input's layout off the axes that an NCHW operation sees.

    One axis that was lost on the way is known by elimination. Two are, when both have length 1: whichever is the
    batch, memory is the same, and the batch is taken to come first.
    """
    if len(axes) != len(_LETTERS):
        return None
    names = {axis: letter for axis, letter in zip(axes, _LETTERS, strict=True) if axis is not None}
    lost_axes = [axis for axis in range(len(_LETTERS)) if axis not in names]
    lost_letters = [letter for letter in _LETTERS if letter not in names.values()]
    is_plain = len(lost_axes) <= 1 or all(is_unit(shape[axis]) for axis in lost_axes)
    if len(lost_axes) != len(lost_letters) or not is_plain:
        return None
    names.update(zip(lost_axes, lost_letters, strict=True))
    return "".join(names[axis] for axis in range(len(_LETTERS)))


def _follow(node: ov.Node, sources: Sequence[Axes | None]) -> Axes | None:
    """Axes of the node's output, or ``None`` where the node mixes or rearranges what is in them."""
    kind = node.get_type_name()
    data = sources[0]
    if kind in _ELEMENTWISE or kind == "Concat":
        return _merge([source for source in sources if source is not None])
    if data is None:
        return None
    if kind in _KEEPS_AXES:
        return data
    rule = _RULES.get(kind)
    return rule(node, data) if rule else None


def _merge(sources: Sequence[Axes]) -> Axes | None:
    """The axes of tensors that are combined position by position, if they agree."""
    if len({len(source) for source in sources}) != 1:
        return None
    columns = [{axis for axis in column if axis is not None} for column in zip(*sources, strict=True)]
    if any(len(column) > 1 for column in columns):
        return None
    return tuple(next(iter(column), None) for column in columns)


def _transpose(node: ov.Node, data: Axes) -> Axes | None:
    order = _constant(node, 1)
    if order is None:
        return None
    return tuple(data[axis] for axis in order) if len(order) else data[::-1]


def _gather(node: ov.Node, data: Axes) -> Axes | None:
    """Picking entries along one axis keeps it, picking a single one by a scalar drops it."""
    axis, indices = _constant(node, 2), node.input_value(1).partial_shape
    if axis is None or indices.rank.is_dynamic or indices.rank.get_length() > 1:
        return None
    position = int(axis[0]) % len(data)
    return data if indices.rank.get_length() == 1 else data[:position] + data[position + 1 :]


def _strided_slice(node: ov.Node, data: Axes) -> Axes | None:
    """A slice keeps its axes unless it adds or drops some."""
    attributes: dict[str, Any] = node.get_attributes()
    reshapes = any(attributes["new_axis_mask"]) or any(attributes["shrink_axis_mask"])
    return None if reshapes else data


def _unsqueeze(node: ov.Node, data: Axes) -> Axes | None:
    added = _constant(node, 1)
    if added is None:
        return None
    rank = len(data) + len(added)
    positions = {int(axis) % rank for axis in added}
    rest = iter(data)
    return tuple(None if position in positions else next(rest) for position in range(rank))


def _squeeze(node: ov.Node, data: Axes) -> Axes | None:
    dropped = _constant(node, 1) if node.get_input_size() > 1 else None
    if dropped is None:
        return None
    positions = {int(axis) % len(data) for axis in dropped}
    return tuple(axis for position, axis in enumerate(data) if position not in positions)


def _reshape(node: ov.Node, data: Axes) -> Axes | None:
    """A reshape that only adds, drops or moves axes of length 1 keeps the other axes, in their order."""
    before, after = node.input_value(0).partial_shape, node.output(0).partial_shape
    if after.rank.is_dynamic:
        return None
    if before == after and before.is_static:
        return data
    kept = [(str(size), axis) for size, axis in zip(before, data, strict=True) if not is_unit(size)]
    wide = [str(size) for size in after if not is_unit(size)]
    if [size for size, _ in kept] != wide or wide.count("?") > 1:
        return None
    rest = iter(axis for _, axis in kept)
    return tuple(None if is_unit(size) else next(rest) for size in after)


_RULES: dict[str, Callable[[ov.Node, Axes], Axes | None]] = {
    "Gather": _gather,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _constant(node: ov.Node, index: int) -> list[int] | None:
    """Integers that a Constant gives to input ``index``, or ``None`` if something else feeds it."""
    source = node.input_value(index).get_node()
    if source.get_type_name() != "Constant":
        return None
    return [int(value) for value in np.atleast_1d(source.data)]


def _rank(output: ov.Output) -> int | None:
    rank = output.partial_shape.rank
    return None if rank.is_dynamic else int(rank.get_length())
