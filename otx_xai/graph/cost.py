"""What a part of a graph costs, in multiplications: enough to compare parts of one network with each other."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import openvino as ov

from otx_xai.graph.traits import trait
from otx_xai.graph.view import dimensions, kind


def cost(nodes: Iterable[ov.Node]) -> int | None:
    """Return how many multiplications operations make for one image; ``None`` where sizes are dynamic.

    A dynamic batch counts as one image. What holds no weights counts as one multiplication an element.
    """
    parts = [_cost(node) for node in nodes]
    return None if None in parts else sum(part or 0 for part in parts)


def _cost(node: ov.Node) -> int | None:
    own = trait(kind(node))
    sizes = [_sizes(value) for value in (*node.input_values(), *node.outputs())]
    if None in sizes:
        return None if own.axes in ("image", "matmul", "attention") else 0
    inputs = [size or [] for size in sizes[: len(node.inputs())]]
    after = [size or [] for size in sizes[len(node.inputs()) :]]
    if own.window is not None and own.window.weights is not None:
        places = inputs[0] if own.window.shape == "transposed" else after[0]
        return places[0] * prod(places[2:]) * prod(inputs[own.window.weights])
    if own.axes == "matmul":
        inner = inputs[0][-2 if node.get_attributes()["transpose_a"] else -1] if inputs[0] else 1
        return prod(after[0]) * inner
    if own.axes == "attention":
        return prod(inputs[0]) * inputs[1][-2] + prod(after[0]) * inputs[1][-2]
    return sum(prod(size) for size in after)


def _sizes(output: ov.Output) -> list[int] | None:
    """Return the sizes of a tensor for one image; ``None`` where they are dynamic behind the batch."""
    dims = dimensions(output)
    return None if dims is None or None in dims[1:] else [size or 1 for size in dims]
