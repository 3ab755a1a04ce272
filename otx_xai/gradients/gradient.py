"""The gradient of any output of an ``ov.Model``, with respect to any of its tensors, as a part of the graph.

The backward pass of a network that only infers is itself a network: that of a convolution is a transposed
convolution, and so on. What is appended runs wherever the model runs, and needs nothing that the model was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.formulas import number
from otx_xai.gradients.sweep import find_way, obstacle, sweep
from otx_xai.graph.compiler_faults import own_factors
from otx_xai.graph.surgery import Twin, add_outputs
from otx_xai.graph.view import View

_PREFIX = "gradient"


def gradients(
    seeded: Sequence[tuple[ov.Output, ov.Output]], wrt: Sequence[ov.Output], *, several: bool = False
) -> list[ov.Output]:
    """Write the way back from outputs to tensors into their graph, and return the gradients.

    Nothing that is there changes; new operations read the tensors of the forward pass. Without ``several`` the
    gradient of ``Σ output · seed`` is returned, which, for images that do not see one another, holds the gradient of
    each image's own sum. With ``several``, each of S seeds gets a gradient of its own from one forward pass.

    Args:
        seeded: tensors to differentiate, each with its seed, a tensor of its type: of its shape, or, with
            ``several``, ``(S, *shape)``; ``(S, *shape[1:])`` will do where the first axis is known to have length 1.
        wrt: tensors of real numbers that these depend on.
        several: seeds have an axis of their own.

    Returns:
        A gradient for each of ``wrt``, in order and of its type: of its shape, or, with ``several``,
        ``(S, *shape[1:])`` where its first axis is known to have length 1, and ``(S, *shape)`` else.

    Raises:
        GraphError: gradients cannot pass an operation between, or no way of real numbers leads there.
    """
    found = sweep(seeded, wrt, stacked=several)
    own_factors(found)
    return found


def missing_rules(outputs: Iterable[ov.Output], wrt: Iterable[ov.Output]) -> list[str]:
    """Tell, without writing anything, what gradients of outputs cannot pass on their way to tensors.

    Args:
        outputs: tensors to differentiate.
        wrt: tensors whose gradients are asked for.

    Returns:
        A line for each such operation, with its kind, its friendly name and the reason; none where all can be passed.
    """
    way = find_way(outputs, wrt)
    return [reason for node in way.nodes if (reason := obstacle(node, way.wanted[node.get_name()])) is not None]


def ones(output: ov.Output) -> ov.Output:
    """Return the seed of ones for an output: its elements are summed up."""
    return ops.broadcast(number(1, output), ops.shape_of(output)).output(0)


def add_gradient(
    model: ov.Model,
    output: ov.Output,
    wrt: Sequence[ov.Output],
    *,
    seed: Callable[[ov.Output], ov.Output] = ones,
    several: bool = False,
) -> ov.Model:
    """Return a copy of a model that gives, behind its outputs, the gradient of one tensor with respect to others.

    Args:
        model: the model; it is not changed.
        output: a tensor of it, the one to differentiate.
        wrt: tensors of it.
        seed: makes the seed of the copied output; ones by default. See :func:`gradients` for its shape.
        several: seeds have an axis of their own.

    Returns:
        A model with the same inputs, outputs, names, shapes and ``rt_info``, and one output ``gradient/<i>`` for each
        of ``wrt``, of the shape that :func:`gradients` tells.

    Raises:
        GraphError: gradients cannot pass an operation between, or no way of real numbers leads there.
    """
    twin = Twin(View(model))
    known = {node.get_name() for node in twin.model.get_ordered_ops()}
    end = twin.output(output)
    found = gradients([(end, seed(end))], [twin.output(tensor) for tensor in wrt], several=several)
    named = {f"{_PREFIX}/{i}": ops.convert(value, value.get_element_type()).output(0) for i, value in enumerate(found)}
    return add_outputs(model, twin.model, named, known, _PREFIX)
