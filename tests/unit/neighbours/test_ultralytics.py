"""Metadata as Ultralytics and YOLOv5 write it: into ONNX, and into ``metadata.yaml`` beside an IR."""

from __future__ import annotations

import onnx
import openvino as ov
import pytest
import yaml
from onnx import TensorProto, helper

from otx_xai.errors import ModelError
from otx_xai.model.image_input import describe_input
from otx_xai.model.model_info import model_info
from otx_xai.neighbours import read_hints
from otx_xai.openvino_core import core
from otx_xai.records import InputGeometry, InputOptions, ResizeType, Task

METADATA = {
    "description": "Ultralytics YOLOv8n model trained on coco.yaml",
    "author": "Ultralytics",
    "date": "2025-06-01T10:11:12.131415",
    "version": "8.3.160",
    "license": "AGPL-3.0 License",
    "stride": 32,
    "task": "detect",
    "batch": 1,
    "imgsz": [48, 64],
    "names": {0: "traffic light", 1: 'it\'s a "dog"', 2: "été"},
    "args": {"batch": 1, "half": False, "nms": True},
    "channels": 3,
}


def onnx_model(path, metadata, outputs=((1, 7, 10),)):
    """A file of one convolution, whose outputs have the wanted shapes, with metadata as text."""
    nodes, infos, constants = [helper.make_node("Conv", ["images", "w"], ["c"])], [], []
    constants.append(helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 1.0, 1.0]))
    nodes.append(helper.make_node("ReduceMean", ["c"], ["m"], axes=[0, 1, 2, 3], keepdims=0))
    for index, shape in enumerate(outputs):
        constants.append(helper.make_tensor(f"s{index}", TensorProto.INT64, [len(shape)], shape))
        nodes.append(helper.make_node("Expand", ["m", f"s{index}"], [f"output{index}"]))
        infos.append(helper.make_tensor_value_info(f"output{index}", TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "main", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    onnx.save(model, path)
    return core().read_model(path)


def test_onnx_metadata(tmp_path):
    model = onnx_model(tmp_path / "yolo.onnx", METADATA)
    hints = read_hints(tmp_path / "yolo.onnx", model)
    assert hints.labels == ("traffic light", 'it\'s a "dog"', "été")
    assert (hints.task, hints.size, hints.resize_type) == (
        Task.DETECTION,
        (48, 64),
        ResizeType.FIT_TO_WINDOW_LETTERBOX,
    )
    assert (hints.mean, hints.scale, hints.pad_value, hints.reverse_input_channels) == ((0,), (255,), 114, False)
    assert (hints.source, hints.files) == ("ONNX metadata (Ultralytics)", ())
    wanted = {"exporter": "ultralytics", "task": "detect", "stride": "32", "nms": "True"}
    assert wanted.items() <= hints.said.items()


def test_yaml_of_texts(tmp_path):
    told = METADATA | {"imgsz": ["48", "64"], "stride": "32", "names": str(METADATA["names"])}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    hints = read_hints(tmp_path / "yolo.xml", ov.Model([], [], "empty"))
    assert (hints.labels[1], hints.size) == ('it\'s a "dog"', (48, 64))


def test_metadata_stays_in_an_ir_that_was_made_of_onnx(tmp_path):
    ov.save_model(onnx_model(tmp_path / "yolo.onnx", METADATA), tmp_path / "yolo.xml")
    model = core().read_model(tmp_path / "yolo.xml")
    assert read_hints(tmp_path / "yolo.xml", model).labels == tuple(METADATA["names"].values())


@pytest.mark.parametrize("name", ["metadata.yaml", "yolo.yaml"])
def test_yaml_beside_an_ir(tmp_path, name):
    model = onnx_model(tmp_path / "yolo.onnx", {})
    (tmp_path / name).write_text(yaml.safe_dump(METADATA, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (tmp_path / "other.yaml").write_text("names: {0: wrong}\nstride: 32\n")
    for source in (tmp_path / "yolo.xml", tmp_path) if name == "metadata.yaml" else (tmp_path / "yolo.xml",):
        hints = read_hints(source, model)
        assert hints.labels == tuple(METADATA["names"].values())
        assert (hints.source, hints.files) == (name, (str(tmp_path / name),))
        assert hints.said["nms"] == "True"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("segment", Task.INSTANCE_SEGMENTATION),
        ("pose", Task.DETECTION),
        ("obb", Task.DETECTION),
        ("classify", Task.CLASSIFICATION),
        ("semantic", None),
    ],
)
def test_tasks(tmp_path, task, expected):
    model = onnx_model(tmp_path / "yolo.onnx", METADATA | {"task": task, "kpt_shape": [17, 3]})
    hints = read_hints(None, model)
    assert hints.task is expected
    assert (hints.said["task"], hints.said["kpt_shape"]) == (task, "[17, 3]")
    if task == "classify":
        assert (hints.resize_type, hints.scale, hints.mean, hints.crop) == (ResizeType.CROP, (255,), (0,), None)


def test_their_rt_detr_is_fed_stretched_images(tmp_path):
    model = onnx_model(tmp_path / "m.onnx", METADATA | {"description": "Ultralytics rt-detr-l model"})
    assert read_hints(None, model).resize_type is ResizeType.STANDARD


def test_yolov5_names_no_task(tmp_path):
    metadata = {"stride": 32, "names": {0: "cat", 1: "dog"}}
    hints = read_hints(None, onnx_model(tmp_path / "detector.onnx", metadata))
    assert (hints.task, hints.scale, hints.resize_type) == (None, (255,), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    hints = read_hints(None, onnx_model(tmp_path / "classifier.onnx", metadata, outputs=((1, 2),)))
    assert (hints.task, hints.resize_type) == (Task.CLASSIFICATION, ResizeType.CROP)
    assert hints.mean == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255])
    assert hints.scale == pytest.approx([0.229 * 255, 0.224 * 255, 0.225 * 255])
    listed = read_hints(None, onnx_model(tmp_path / "list.onnx", {"stride": 32, "names": ["cat", "dog"]}))
    assert listed.labels == ("cat", "dog")


@pytest.mark.parametrize(
    "metadata", [{}, {"names": "{0: 'a'}"}, {"task": "detect", "stride": 32}, {"model_info labels": "a b"}]
)
def test_metadata_of_others_says_nothing(tmp_path, metadata):
    hints = read_hints(tmp_path / "m.onnx", onnx_model(tmp_path / "m.onnx", metadata))
    assert (hints.labels, hints.mean, hints.source) == (None, None, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a\n", r"metadata\.yaml, which lies beside the model, is no YAML .*Correct it, or take it away"),
        ("- a\n", r"metadata\.yaml, .* holds \['a'\]; expected named values"),
        ("names: 3\nstride: 32\n", r"names of metadata\.yaml is 3; expected class names"),
        ("names: {a: b}\nstride: 32\n", r"names of metadata\.yaml has the key 'a'; expected the index"),
        ("names: {0: b}\nstride: 32\nimgsz: [1, 2, 3]\n", r"imgsz of metadata\.yaml is \[1, 2, 3\]; expected height"),
        ("names: {0: b, 4000000000: c}\nstride: 32\n", r"has the key 4000000000"),
        ("names: {0: b}\nstride: !!python/object/apply:os.getcwd []\n", "is no YAML"),
    ],
)
def test_broken_files(tmp_path, text, words):
    model = onnx_model(tmp_path / "m.onnx", {})
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(ModelError, match=words):
        read_hints(tmp_path / "m.xml", model)


def test_broken_metadata_inside_the_file(tmp_path):
    names = "{0: __import__('os').getcwd()}"  # is not executed
    with pytest.raises(ModelError, match=r"names of ONNX metadata \(Ultralytics\) is .*expected class names"):
        read_hints(None, onnx_model(tmp_path / "m.onnx", METADATA | {"names": names}))


def test_their_irs_are_fed_rgb_though_model_info_reverses_channels(tmp_path):
    """Theirs reverses what Model API reads as BGR; OTX, whose images are RGB, means BGR by the same key."""
    model = onnx_model(tmp_path / "m.onnx", {})
    written = {"model_type": "YOLO", "reverse_input_channels": True, "pad_value": 114, "scale_values": [255.0]}
    for key, value in (written | {"iou_threshold": 0.7, "resize_type": "fit_to_window_letterbox"}).items():
        model.set_rt_info(value, ["model_info", key])
    ov.save_model(model, tmp_path / "m.xml")
    for read in (model, core().read_model(tmp_path / "m.xml")):
        options, info = InputOptions(size="48,64"), model_info(read)
        assert describe_input(read, info, options).reverse_channels
        image = describe_input(read, info, options, read_hints(None, read))
        assert not image.reverse_channels
        assert image.scale == (255,) * 3
    model.set_rt_info("YOLOX", ["model_info", "model_type"])  # as OTX calls its own
    assert describe_input(model, model_info(model), options, read_hints(None, model)).reverse_channels


def test_the_input_is_described_without_an_option(tmp_path):
    model = onnx_model(tmp_path / "m.onnx", METADATA)
    image = describe_input(model, {}, InputOptions(), read_hints(tmp_path / "m.onnx", model))
    assert image.geometry == InputGeometry((48, 64), ResizeType.FIT_TO_WINDOW_LETTERBOX, 114)
    assert (image.mean, image.scale, image.reverse_channels) == ((), (255,) * 3, False)
    source = "ONNX metadata (Ultralytics)"
    assert image.source == f"size: {source}; layout: graph; resize: {source}"
    assert image.normalisation_source == f"mean 0 ({source}), scale 255 ({source})"
