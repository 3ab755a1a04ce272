"""ONNX files over which OpenVINO's reader ends the process are refused before it sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from otx_xai.errors import ModelError
from otx_xai.model.model_files import read_model
from otx_xai.model.onnx_nodes import unreadable_operation

IMAGE = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
OUT = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
WEIGHTS = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weights")


def saved(path: Path, nodes: Sequence[Any], opset: int = 17) -> Path:
    graph = helper.make_graph(list(nodes), "net", [IMAGE], [OUT], [WEIGHTS])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ours", 1)])
    path.write_bytes(onnx.ModelProto.SerializeToString(model))
    return path


def branch(operation: str, inputs: Sequence[str]) -> Any:
    """An operation in a body of another one."""
    body = helper.make_graph([helper.make_node(operation, inputs, ["inner"], name="deep")], "body", [], [OUT])
    return helper.make_node("If", ["image"], ["out"], then_branch=body, else_branch=body)


@pytest.mark.parametrize(
    ("node", "opset", "words"),
    [
        (helper.make_node("Conv", ["image"], ["out"], name="first"), 17, r"'first' \(Conv\) has 1 inputs; .* 2"),
        (helper.make_node("Conv", [], ["out"]), 17, r"'' \(Conv\) has 0 inputs"),
        (helper.make_node("Pad", ["image"], ["out"]), 11, r"'' \(Pad\) has 1 inputs"),
        (helper.make_node("GlobalAveragePool", [], ["out"]), 17, r"'' \(GlobalAveragePool\) has 0 inputs; .* 1"),
        (helper.make_node("Sum", [], ["out"]), 17, r"'' \(Sum\) has 0 inputs"),
        (branch("Conv", ["image"]), 17, r"'deep' \(Conv\) has 1 inputs"),
    ],
)
def test_operations_without_their_inputs_are_refused(tmp_path: Path, node: Any, opset: int, words: str) -> None:
    path = saved(tmp_path / "model.onnx", [node], opset)
    assert unreadable_operation(path)  # or the reader would end this process
    with pytest.raises(ModelError, match=rf"is broken: its operation {words}"):
        read_model(path)


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        (helper.make_node("Conv", ["image", "weights"], ["out"]), 17),
        (helper.make_node("Pad", ["image"], ["out"], pads=[0] * 8), 10),
        (helper.make_node("RandomNormal", [], ["out"], shape=[2]), 17),
        (helper.make_node("Constant", [], ["out"], value=WEIGHTS), 17),
        (helper.make_node("Source", [], ["out"], domain="ours"), 17),
        (branch("Relu", ["image"]), 17),
    ],
)
def test_what_is_right_passes(tmp_path: Path, node: Any, opset: int) -> None:
    assert unreadable_operation(saved(tmp_path / "model.onnx", [node], opset)) == ""


@pytest.mark.parametrize("end", [1, 20, 60, -30])
def test_what_is_no_protobuf_is_left_to_the_reader(tmp_path: Path, end: int) -> None:
    path = saved(tmp_path / "model.onnx", [helper.make_node("Conv", ["image", "weights"], ["out"])])
    path.write_bytes(path.read_bytes()[:end])
    assert unreadable_operation(path) == ""
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(path)
    assert unreadable_operation(tmp_path / "absent.onnx") == ""
