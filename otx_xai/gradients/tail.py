"""The part of a graph that gradients pass, as a model of its own: it starts from tensors of the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.sweep import find_way
from otx_xai.graph.surgery import Twin
from otx_xai.graph.view import Port, View, kind, port_of


@dataclass(frozen=True)
class Tail:
    """A copy of what lies between some tensors and some outputs, in a clone of the whole model.

    Args:
        twin: the clone; what is written into it may read any of its tensors behind the starts.
        starts: tensors of the viewed model that the part reads, in the order of ``parameters``.
        parameters: what stands for them in the clone.
        ends: the copies of the outputs.
        wrt: the copies of the tensors whose gradients are asked for.
    """

    twin: Twin
    starts: tuple[ov.Output, ...]
    parameters: tuple[ov.Node, ...]
    ends: tuple[ov.Output, ...]
    wrt: tuple[ov.Output, ...]


def tail_of(view: View, ends: Sequence[ov.Output], wrt: Sequence[ov.Output]) -> Tail:
    """Cut off what gradients of outputs pass on their way back to some tensors.

    Everything else that the part reads, such as the numbers of chosen boxes, or a way around these tensors, is a start
    of its own: the part computes nothing that no gradient passes, and chooses nothing anew.

    Args:
        view: the whole model; it is not changed.
        ends: outputs that are to be differentiated.
        wrt: tensors whose gradients are asked for. One that depends on others is computed by the part.
    """
    way = find_way(ends, wrt)
    inside, twin = {node.get_name() for node in way.nodes}, Twin(view)
    starts: dict[Port, tuple[ov.Output, ov.Node]] = {}

    def start(value: ov.Output) -> ov.Output:
        if port_of(value) not in starts:
            parameter = ops.parameter(value.get_partial_shape(), value.get_element_type())
            starts[port_of(value)] = value, parameter
        return starts[port_of(value)][1].output(0)

    todo, seen = list(way.nodes), set(inside)
    while todo:
        node = todo.pop()
        for i, value in enumerate(node.input_values()):
            source = value.get_node()
            if source.get_name() in inside | view.constant:
                continue
            if source.get_name() in view.data:
                twin.node(node).input(i).replace_source_output(start(value))
            elif kind(source) == "ShapeOf" and source.input_value(0).get_partial_shape().is_static:
                sizes = np.array(source.input_value(0).get_shape(), source.output(0).get_element_type().to_dtype())
                twin.node(node).input(i).replace_source_output(ops.constant(sizes).output(0))
            elif source.get_name() not in seen:
                seen.add(source.get_name())
                todo.append(source)
    own = [twin.output(value) if value.get_node().get_name() in inside else start(value) for value in wrt]
    first, second = zip(*starts.values(), strict=True)
    return Tail(twin, first, second, tuple(map(twin.output, ends)), tuple(own))
