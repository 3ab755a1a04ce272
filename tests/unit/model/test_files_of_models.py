from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from otx_xai.errors import ModelError
from otx_xai.model.model_files import first_line, hash_files, read_model


@pytest.fixture
def ir(tmp_path, build_classifier) -> Path:
    path = tmp_path / "model.xml"
    ov.save_model(build_classifier(model_info={"labels": "a b c d"}), path, compress_to_fp16=False)
    return path


@pytest.fixture
def onnx_model() -> onnx.ModelProto:
    kernel = numpy_helper.from_array(np.ones((4, 3, 8, 8), np.float32), "kernel")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"]),
        helper.make_node("Flatten", ["features"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "classifier", [image], [logits], [kernel])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def test_reads_an_ir_given_as_text_or_path(ir):
    for checkpoint in (ir, str(ir)):
        model = read_model(checkpoint)
        assert model.outputs[0].get_names() == {"logits"}
        assert model.get_rt_info(["model_info", "labels"]).value == "a b c d"


def test_clones_a_model_in_memory(build_classifier):
    original = build_classifier()
    model = read_model(original)
    model.reshape([2, 3, 8, 12])
    model.set_rt_info("x", ["model_info", "labels"])
    assert original.inputs[0].partial_shape == ov.PartialShape([1, 3, 8, 12])
    assert not original.has_rt_info(["model_info"])


def test_onnx_metadata_becomes_model_info(tmp_path, onnx_model):
    helper.set_model_props(onnx_model, {"model_info labels": "a b", "model_info task_type": "classification", "x": "y"})
    onnx.save(onnx_model, tmp_path / "model.onnx")
    model = read_model(tmp_path / "model.onnx")
    assert model.get_rt_info(["model_info"]).value == {"labels": "a b", "task_type": "classification"}


def test_onnx_without_metadata_has_no_model_info(tmp_path, onnx_model):
    onnx.save(onnx_model, tmp_path / "model.onnx")
    assert not read_model(tmp_path / "model.onnx").has_rt_info(["model_info"])


@pytest.mark.parametrize("checkpoint", ["missing.xml", Path("missing.onnx")])
def test_missing_file(checkpoint):
    with pytest.raises(ModelError, match=r"missing.* does not exist"):
        read_model(checkpoint)


def test_folder(tmp_path):
    with pytest.raises(ModelError, match="is a folder"):
        read_model(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH"])
def test_torch_checkpoint(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"torch checkpoint.*`otx export`"):
        read_model(path)


def test_wrong_suffix(ir):
    with pytest.raises(
        ModelError, match=r"suffix '\.bin'; expected \.xml, \.onnx, \.tflite; .*also take \.pth.* Pass .*model\.xml"
    ):
        read_model(ir.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"suffix ''"):
        read_model(ir.rename(ir.with_suffix("")))


@pytest.mark.parametrize("suffix", [".xml", ".onnx", ".tflite"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>not found</html>", "no OpenVINO IR|no TensorFlow Lite|no ONNX model"),
        (b"0000TFL3" + b"\xff" * 64, "no OpenVINO IR|no ONNX model|cannot be read"),
    ],
)
def test_files_that_are_no_model(tmp_path, suffix, content, words):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_model(path)


def test_truncated_xml(ir):
    ir.write_bytes(ir.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"cannot be read: .*broken, incomplete"):
        read_model(ir)


def test_names_that_are_no_text(tmp_path, ir, onnx_model):
    ir.write_bytes(ir.read_bytes().replace(b'type="Convolution"', b'type="Con\xb6olution"'))
    with pytest.raises(ModelError, match=r"cannot be read: it holds names that are no UTF-8 text\. The file is broken"):
        read_model(ir)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.SerializeToString().replace(b"Flatten", b"Fl\xfftten"))
    with pytest.raises(ModelError, match=r"cannot be read: it holds names that are no UTF-8 text\. The file is broken"):
        read_model(path)


def test_metadata_that_is_no_text(tmp_path, onnx_model):
    helper.set_model_props(onnx_model, {"model_info labels": "a b"})
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.SerializeToString().replace(b"a b", b"a\xffb"))
    with pytest.raises(ModelError, match="holds names that are no UTF-8 text"):
        read_model(path)


def test_a_name_in_the_graph_that_is_no_text(tmp_path, ir):
    content = ir.read_bytes()
    assert b'name="image"' in content
    ir.write_bytes(content.replace(b'name="image"', b'name="im\x99ge"'))
    with pytest.raises(ModelError, match="holds names that are no UTF-8 text"):
        read_model(ir)


def test_files_that_cannot_be_hashed(tmp_path, ir):
    gone = hash_files([ir, tmp_path / "gone"])
    assert gone == hash_files([ir])
    with pytest.raises(ModelError, match=r"The file .* of the model cannot be read: Is a directory"):
        hash_files([ir, tmp_path])


def test_truncated_onnx(tmp_path, onnx_model):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.SerializeToString()[:-200])
    with pytest.raises(ModelError, match=r"cannot be read: OpenVINO does not recognise it\. The file is broken"):
        read_model(path)


def test_onnx_without_its_external_data(tmp_path, onnx_model):
    path = tmp_path / "model.onnx"
    onnx.save(onnx_model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"model\.data"):
        read_model(path)


def test_missing_weights(ir):
    ir.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"weights of .* are missing: .*model\.bin does not exist"):
        read_model(ir)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights(ir, share):
    weights = ir.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=f"incomplete: .* has {int(len(content) * share)} bytes, .* {len(content)}"):
        read_model(ir)


def test_first_line_drops_source_locations():
    text = "Exception from src/a.cpp:1:\nCheck 'x' failed at b.cpp:2:\nFrontEnd API failed with X:\nIt is broken.\n\n"
    assert first_line(RuntimeError(text)) == "It is broken"


def test_the_package_does_not_import_torch_or_onnx():
    code = "import otx_xai.model, sys; assert not {'torch', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_written_into_a_model_and_is_no_text(ir: Path) -> None:
    data = ir.read_bytes()
    assert data.count(b"a b c d") == 1
    ir.write_bytes(data.replace(b"a b c d", b"a b\xcb c d"))
    with pytest.raises(ModelError, match="no UTF-8 text"):
        read_model(ir)
