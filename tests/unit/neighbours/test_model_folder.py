"""A folder as a checkpoint."""

from __future__ import annotations

import os

import pytest

from otx_xai.errors import ModelError
from otx_xai.model import read_model
from otx_xai.neighbours import find_model_file


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("openvino_model.xml", "openvino_model.bin", "model.onnx", "model.safetensors"), "openvino_model.xml"),
        (("model.onnx", "model_quantized.onnx", "config.json"), "model.onnx"),
        (("openvino_model.xml", "model.onnx"), "model.onnx"),
        (("onnx/model.onnx", "model.safetensors", "config.json"), "onnx/model.onnx"),
        (("yolov8n.xml", "yolov8n.bin", "metadata.yaml"), "yolov8n.xml"),
        (("a.xml", "b.XML", "b.bin"), "b.XML"),
        (("net.tflite", "last.ckpt"), "net.tflite"),
        (("model.safetensors", "config.json"), "model.safetensors"),
        (("best.pth",), "best.pth"),
    ],
)
def test_one_model(tmp_path, names, found):
    touch(tmp_path, *names)
    assert find_model_file(tmp_path) == tmp_path / found


def test_several_models_are_listed(tmp_path):
    touch(tmp_path, "a.onnx", "b.xml", "b.bin", "c.ckpt")
    with pytest.raises(ModelError, match=r"a folder with 2 models: a\.onnx, b\.xml; .*Name the file"):
        find_model_file(tmp_path)
    touch(tmp_path, *(f"{index}.onnx" for index in range(100)))
    with pytest.raises(ModelError, match=r"102 models: 0\.onnx, 1\.onnx, .*, …;"):
        find_model_file(tmp_path)


def test_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"a folder without a model; expected a folder with one \.xml, \.onnx"):
        find_model_file(tmp_path)
    touch(tmp_path, "net.xml", "image.png")
    with pytest.raises(ModelError, match=r"without a model \(net\.xml has no \.bin beside it\)"):
        find_model_file(tmp_path)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        find_model_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saved_model.pb", r"OpenVINO converts it: ovc {folder} --output_model model\.xml\."),
        ("frozen.pb", r"ovc {folder}/frozen\.pb --output_model model\.xml\."),
        ("net.keras", r"Keras exports it: keras\.saving\.load_model\('{folder}/net\.keras'\)\.export\("),
        ("net.pt2", r"openvino\.convert_model\(torch\.export\.load\('{folder}/net\.pt2'\)\)"),
    ],
)
def test_models_of_other_kinds_are_refused_with_what_converts_them(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"something")
    words = words.format(folder=tmp_path)
    with pytest.raises(ModelError, match=f"has the suffix .*{words}"):
        read_model(tmp_path / name)
    with pytest.raises(ModelError, match=f"a folder without a model.*{words}"):
        find_model_file(tmp_path)
