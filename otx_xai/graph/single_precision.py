"""Models that compute in half or double precision, computed in single precision: what every branch is written in.

OpenVINO's CPU plugin computes in single precision anyway, unless it is told otherwise.
"""

from __future__ import annotations

import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.view import kind

_OTHERS = (ov.Type.f16, ov.Type.bf16, ov.Type.f64)
_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_WITH_BODIES = ("If", "Loop", "TensorIterator")
"""Operations whose inner graphs have types of their own: a model with one stays as it is."""


def compute_in_single(model: ov.Model) -> bool:
    """Turn numbers of other precisions into single ones where layers compute with them, in place.

    Weights stay as they are stored, and so does the type of inputs: conversions stand behind them. Outputs become
    ``float32``. A model whose layers compute in single precision stays as it is.

    Args:
        model: as it was read.

    Returns:
        Whether anything was changed.
    """
    nodes = model.get_ordered_ops()
    if any(kind(node) in _WITH_BODIES for node in nodes) or not any(
        kind(node) in _LAYERS and node.get_output_element_type(0) in _OTHERS for node in nodes
    ):
        return False
    for node in nodes:
        if kind(node) in ("Parameter", "Constant") and node.get_output_element_type(0) in _OTHERS:
            _put_behind(node, ops.convert(node, "f32"))
        elif kind(node) == "Convert" and node.get_output_element_type(0) in _OTHERS:
            _replace(node, ops.convert(node.input_value(0), "f32"))
    model.validate_nodes_and_infer_types()
    return True


def _put_behind(node: ov.Node, conversion: ov.Node) -> None:
    conversion.set_friendly_name(f"{node.get_friendly_name()}/f32")
    for reader in node.output(0).get_target_inputs():
        if reader.get_node().get_name() != conversion.get_name():
            reader.replace_source_output(conversion.output(0))


def _replace(node: ov.Node, other: ov.Node) -> None:
    name, names = node.get_friendly_name(), node.output(0).get_names()
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(other.output(0))
    other.set_friendly_name(name)
    other.output(0).get_tensor().set_names(names)
