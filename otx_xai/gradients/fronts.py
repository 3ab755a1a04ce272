"""How the gradient of a tensor lies between two rules: seeds take the place of a batch of one, or stand before it."""

from __future__ import annotations

import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.formulas import ints, vector
from otx_xai.gradients.step import Size, rank, tensor_sizes
from otx_xai.graph.view import dimensions


def is_one_image(tensor: ov.Output) -> bool:
    """Whether the first axis of a tensor surely has length 1."""
    dims = dimensions(tensor)
    return bool(dims) and dims is not None and dims[0] == 1


def canonical(tensor: ov.Output, seed: ov.Output) -> ov.Output:
    """Return several seeds of an output as the way back takes them.

    Args:
        tensor: the output.
        seed: ``(S, *shape)``, or ``(S, *shape[1:])`` where the first axis of the output has length 1.

    Raises:
        GraphError: the seeds have another rank.
    """
    extra = rank(seed) - rank(tensor)
    if extra == 1 or (extra == 0 and is_one_image(tensor)):
        return folded(tensor, seed) if extra else seed
    raise GraphError(
        f"Seeds of shape {seed.get_partial_shape()} do not fit an output of shape {tensor.get_partial_shape()}; "
        "expected one axis more, in front."
    )


def folded(tensor: ov.Output, value: ov.Output) -> ov.Output:
    """Turn a stacked gradient ``(S, 1, …)`` of a tensor of one image into ``(S, …)``; any other stays."""
    return ops.squeeze(value, ints([1])).output(0) if is_one_image(tensor) else value


def unfolded(tensor: ov.Output, value: ov.Output) -> ov.Output:
    """Undo :func:`folded`."""
    return ops.unsqueeze(value, ints([1])).output(0) if is_one_image(tensor) else value


def filled(tensor: ov.Output, value: ov.Output, count: Size | None) -> ov.Output:
    """Return a gradient that is the same along some axes with all their places.

    Args:
        tensor: whose gradient it is.
        value: the gradient.
        count: how many seeds there are; ``None``: gradients have no axis for them.
    """
    dims, own = dimensions(tensor) or [], dimensions(value) or []
    skipped = 0 if count is None else 1  # the axis of seeds is always there
    places = dims[1:] if count is not None and is_one_image(tensor) else dims
    if all(size != 1 or place == 1 for size, place in zip(own[skipped:], places, strict=True)):
        return value
    target = tensor_sizes(tensor)
    if count is not None:
        target = [count, *(target[1:] if is_one_image(tensor) else target)]
    return ops.broadcast(value, vector(target)).output(0)
