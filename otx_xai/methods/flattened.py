"""Heads that begin with a linear layer of flattened places, such as those of AlexNet and VGG.

What such a layer gives is a sum over places, each of which has columns of its own in the weights:
``W · flatten(F) = Σ_p W_p F_p``. Where all places but one are masked, one term is left. So the layer runs once for all
masks, in the time that it takes for the image, and its own output is the sum of its terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.features import Anatomy, Features
from otx_xai.graph.surgery import as_type, batch_obstacle, reshape, transpose
from otx_xai.graph.view import dimensions, kind, port_of
from otx_xai.methods.heads import Site, last_linear
from otx_xai.methods.places import rows_of_places


@dataclass(frozen=True)
class Flattened:
    """A linear layer of flattened places.

    Args:
        node: its product, in the viewed model, ``(N, O)``.
        weight: the constant that holds its weights, ``(O, C·h·w)``, or ``(C·h·w, O)``.
        rows_are_outputs: which of the two.
    """

    node: ov.Node
    weight: ov.Node
    rows_are_outputs: bool


def flattened_layer(anatomy: Anatomy) -> Flattened | None:
    """Return the linear layer of flattened places that a head begins with; ``None`` where it begins otherwise.

    The last linear layer is none of them: of that, only the rows of wanted classes are computed.
    """
    features, view = anatomy.features, anatomy.view
    order = (features.batch_axis, features.channel_axis, *features.places)
    if features.tokens is not None or None in features.dims[1:] or order != (0, 1, 2, 3):
        return None
    flat = _only_reader(anatomy, features.output)
    if flat is None or kind(flat) != "Reshape" or (dimensions(flat.output(0)) or [])[1:] != [_size(features)]:
        return None
    node = _only_reader(anatomy, flat.output(0))
    if node is None or kind(node) != "MatMul" or view.is_data(node.input_value(1)):
        return None
    weight, attributes = _constant(node.input_value(1)), node.get_attributes()
    last = last_linear(view, anatomy.logits.port)
    is_last = last is not None and port_of(last.features) == port_of(flat.output(0))
    starts = [node.output(0)]
    if (
        weight is None
        or attributes["transpose_a"]
        or is_last
        or port_of(node.output(0)) == port_of(anatomy.logits.port)
    ):
        return None
    if batch_obstacle(view, starts, [anatomy.logits.port]) is not None:
        return None
    return Flattened(node, weight, bool(attributes["transpose_b"]))


def _only_reader(anatomy: Anatomy, output: ov.Output) -> ov.Node | None:
    """Return the node that reads a tensor, where there is one only; what asks for its shape does not count."""
    readers = [node for node, _ in anatomy.view.consumers.get(port_of(output), ()) if kind(node) != "ShapeOf"]
    return readers[0] if len(readers) == 1 and readers[0].get_name() in anatomy.head else None


def _size(features: Features) -> int:
    return int(np.prod([size or 0 for size in features.dims[1:]]))


def _constant(value: ov.Output) -> ov.Node | None:
    """Return the constant that holds plain weights; ``None`` where they are computed, as those of 8 bits are."""
    node = value.get_node()
    if kind(node) == "Convert":
        node = node.input_value(0).get_node()
    is_plain = kind(node) == "Constant" and node.get_element_type() in (ov.Type.f32, ov.Type.f16)
    return node if is_plain and len(dimensions(node.output(0)) or ()) == 2 else None


def terms_of_places(site: Site, layer: Flattened) -> ov.Output:
    """Return the terms that places add to a layer, ``(N, M, O)``, and let their sum be its output."""
    features = site.anatomy.features
    channels = features.dims[1] or 1
    weight = site.main.node(layer.weight).output(0)
    if not layer.rows_are_outputs:
        weight = transpose(weight, (1, 0))
    outputs = (dimensions(layer.node.output(0)) or [1])[-1] or 1
    by_place = as_type(transpose(reshape(weight, (outputs, channels, -1)), (2, 1, 0)), ov.Type.f32)  # (M, C, O)
    places = transpose(rows_of_places(site.main.output(features.output), features), (1, 0, 2))  # (M, N, C)
    terms = transpose(ops.matmul(places, by_place, False, False).output(0), (1, 0, 2))
    whole = ops.reduce_sum(terms, ops.constant(np.array([1], np.int64)), keep_dims=False)
    old = site.main.node(layer.node)
    whole.set_friendly_name(old.get_friendly_name())
    whole.output(0).get_tensor().set_names(old.output(0).get_names())
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(whole.output(0))
    return terms
