"""Random weights in the place of learned ones, layer by layer from the output backwards."""

from __future__ import annotations

import numpy as np
import openvino as ov

from otx_xai.graph.surgery import Twin
from otx_xai.graph.traits import LAYERS
from otx_xai.graph.view import View, kind


def weight_layers(view: View) -> list[ov.Node]:
    """Return the layers of a model that have weights of their own, the one nearest to the output first.

    Layers are convolutions and products of matrices one operand of which no image reaches. Their order is that of the
    graph, turned round. Biases and normalisations stay what they are.
    """
    nodes = [node for node in view.nodes if kind(node) in LAYERS and node.get_name() in view.data]
    return [node for node in reversed(nodes) if _weights_of(view, node)]


def shuffle_weights(twin: Twin, layers: list[ov.Node], seed: int) -> None:
    """Put the elements of each weight tensor of some layers into a random order, in a clone.

    The values stay, so that types and scales do, int8 included, and nothing over- or underflows that did not before;
    what a layer has learned, which weight goes where, is lost.

    Args:
        twin: the clone, which is changed.
        layers: of the viewed model, as :func:`weight_layers` lists them. The order of a layer's weights depends on its
            place in this list and on the seed alone, so that a longer list changes more, and the same as a shorter one.
        seed: of all orders.
    """
    for number, node in enumerate(layers):
        for port, constant in _weights_of(twin.view, node):
            rng = np.random.default_rng((seed, number, port))
            copy = twin.node(constant)
            values = np.array(copy.data)
            mixed = rng.permutation(values.reshape(-1)).reshape(values.shape)
            tensor = ov.Tensor(mixed, copy.get_output_shape(0), copy.get_element_type())
            drawn = ov.op.Constant(tensor, shared_memory=False)
            drawn.set_friendly_name(copy.get_friendly_name())
            for reader in copy.output(0).get_target_inputs():
                reader.replace_source_output(drawn.output(0))


def _weights_of(view: View, node: ov.Node) -> list[tuple[int, ov.Node]]:
    """Return the numbers of a layer's operands that no image reaches, and the largest constant that each is made of."""
    found = []
    for port, value in enumerate(node.input_values()):
        if value.get_node().get_name() in view.constant:
            constants = _constants_before(value.get_node())
            largest = max(constants, key=lambda one: int(np.prod(one.get_output_shape(0))), default=None)
            if largest is not None and np.prod(largest.get_output_shape(0)) > 1:
                found.append((port, largest))
    return found


def _constants_before(node: ov.Node) -> list[ov.Node]:
    if kind(node) == "Constant":
        return [node]
    return [one for value in node.input_values() for one in _constants_before(value.get_node())]
