"""What a rule is given and what it gives: one operation, the gradients of its outputs, and those of its inputs.

Several seeds share one forward pass, so gradients have an axis of seeds that the tensors of the graph have not. It
takes one of three *fronts*:

- ``plain``: there is none; a gradient has the shape of its tensor.
- ``stacked``: it stands in front, ``(S, *shape)``.
- ``folded``: the first axis of the tensor is one image, and its place is taken, ``(S, *shape[1:])``. Convolutions,
  poolings and attention take the seeds as a batch then, and no reshape is needed.

A rule that counts axes from the last one, and broadcasts against the tensors of the forward pass, need not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import openvino as ov

from otx_xai.graph.surgery import size_of
from otx_xai.graph.view import dimensions

Front = Literal["plain", "stacked", "folded"]
Size: TypeAlias = int | ov.Output


@dataclass(frozen=True)
class Step:
    """One operation on the way back.

    Args:
        node: the operation.
        ups: for each of its outputs the gradient of what is differentiated, ``None`` where there is none.
        wanted: numbers of the inputs whose gradients are asked for.
        front: how gradients relate to the shapes of their tensors.
        count: how many seeds there are, 1 in a plain front.
    """

    node: ov.Node
    ups: tuple[ov.Output | None, ...]
    wanted: frozenset[int]
    front: Front
    count: Size

    @property
    def up(self) -> ov.Output:
        """The gradient of the first output."""
        return self.ups[0]

    @property
    def x(self) -> ov.Output:
        """The first input of the operation."""
        return self.node.input_value(0)

    @property
    def y(self) -> ov.Output:
        """The first output of the operation."""
        return self.node.output(0)

    @property
    def lead(self) -> int:
        """How many axes gradients have in front of those of their tensors."""
        return int(self.front == "stacked")


Gradients = Mapping[int, ov.Output]


def _leaves(_node: ov.Node, _wanted: frozenset[int]) -> bool:
    return False


def always(_node: ov.Node, _wanted: frozenset[int]) -> bool:
    """Keep the axis of seeds apart, whatever the operation is told."""
    return True


def _accepts(_node: ov.Node, _wanted: frozenset[int]) -> str | None:
    return None


@dataclass(frozen=True)
class Rule:
    """How gradients pass one kind of operation.

    Args:
        apply: gives the gradients of the wanted inputs. Where axes of a gradient have length 1 and those of the
            tensor have not, it stands for all of them alike.
        inputs: numbers of the inputs that gradients reach; ``None``: all whose numbers are real.
        pointwise: each element of the output depends on those at the same place alone.
        first_axis: whether it does more to the first axis than to treat it as a batch.
        refusal: says why it knows no gradient of one use of the operation; ``None``: it does.
    """

    apply: Callable[[Step], Gradients]
    inputs: tuple[int, ...] | None = None
    pointwise: bool = False
    first_axis: Callable[[ov.Node, frozenset[int]], bool] = _leaves
    refusal: Callable[[ov.Node, frozenset[int]], str | None] = _accepts


def sizes(step: Step, tensor: ov.Output) -> list[Size]:
    """Return the size of each axis of the gradient of a tensor in the front of a step.

    Raises:
        TypeError: the rank of the tensor is dynamic; the sweep refuses such tensors before.
    """
    own = tensor_sizes(tensor)
    if step.front == "plain":
        return own
    return [step.count, *(own if step.front == "stacked" else own[1:])]


def tensor_sizes(tensor: ov.Output) -> list[Size]:
    """Return the size of each axis of a tensor: a number where it is static, else an ``i64`` tensor of shape (1,)."""
    dims = dimensions(tensor)
    if dims is None:
        raise TypeError(f"{tensor} has a dynamic rank")
    return [size_of(tensor, axis) if size is None else size for axis, size in enumerate(dims)]


def rank(tensor: ov.Output) -> int:
    """Return the number of axes of a tensor."""
    return len(tensor.get_partial_shape())
