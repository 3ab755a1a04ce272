from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import reference
import torch
import torchvision
from doors import describe
from torch import nn

from otx_xai.conversion import model_info_of, to_openvino
from otx_xai.errors import ConfigError, ModelError, OutputError
from otx_xai.export import export_model
from otx_xai.methods.inst_seg_explain_algo import insert_instance_maps
from otx_xai.model import read_model
from otx_xai.models import Detector, InstanceSegmenter, MulticlassClassifier, MultilabelClassifier
from otx_xai.openvino_core import core
from otx_xai.records import Task

LABELS = ["cat", "big dog", "é"]
SIZE = (64, 96)


def small_classifier() -> MulticlassClassifier:
    """A classifier that is quickly exported."""
    torch.manual_seed(0)
    model = MulticlassClassifier("squeezenet1_1", LABELS, input_size=SIZE, resize_type="crop", pad_value=3)
    layers = [nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 4), nn.ReLU()]
    model.network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(LABELS)))
    return model


@pytest.fixture(scope="module")
def classifier() -> MulticlassClassifier:
    return small_classifier()


@pytest.fixture(scope="module")
def segmenter() -> InstanceSegmenter:
    torch.manual_seed(0)
    options = {"box_detections_per_img": 20}
    model = InstanceSegmenter("maskrcnn_resnet18", LABELS, input_size=SIZE, network_options=options)
    torch.nn.init.constant_(model.network.roi_heads.box_predictor.cls_score.bias[1:], 2.0)  # it shall find something
    return model


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 3, *SIZE)).astype(np.float32)


def run(model: ov.Model, batch: np.ndarray) -> dict[str, np.ndarray]:
    results = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch)
    return {name: results[output] for output in results for name in output.get_names()}


def torch_logits(model: MulticlassClassifier, batch: np.ndarray) -> np.ndarray:
    mean, scale = (torch.tensor(values).reshape(3, 1, 1) for values in (model.mean, model.scale))
    network = model.network.eval()
    with torch.no_grad():
        return network((torch.from_numpy(batch) - mean) / scale).numpy()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --------------------------------------------------------------------------------------------------------------------
# To OpenVINO
# --------------------------------------------------------------------------------------------------------------------


def test_a_dynamic_batch():
    torch.manual_seed(0)
    classifier = MulticlassClassifier("squeezenet1_1", LABELS, input_size=SIZE)
    model = to_openvino(classifier)
    assert [(port.get_names(), str(port.partial_shape)) for port in (*model.inputs, *model.outputs)] == [
        ({"image"}, "[?,3,64,96]"),
        ({"logits"}, "[?,3]"),
    ]
    for count in (1, 3):
        batch = images(count)
        np.testing.assert_allclose(run(model, batch)["logits"], torch_logits(classifier, batch), atol=1e-4)


def test_a_static_batch(classifier):
    model = to_openvino(classifier, batch=3)
    assert [str(port.partial_shape) for port in (*model.inputs, *model.outputs)] == ["[3,3,64,96]", "[3,3]"]
    np.testing.assert_allclose(run(model, images(3))["logits"], torch_logits(classifier, images(3)), atol=1e-4)


def test_a_vision_transformer():
    torch.manual_seed(0)
    model = MulticlassClassifier("squeezenet1_1", 3, input_size=64)
    model.network = torchvision.models.VisionTransformer(64, 16, 2, 3, 24, 48, num_classes=3)
    nn.init.normal_(model.network.heads.head.weight)
    batch = np.random.default_rng(1).integers(0, 256, (3, 3, 64, 64)).astype(np.float32)
    found = run(to_openvino(model), batch)["logits"]
    wanted = torch_logits(model, batch)
    assert np.ptp(wanted, axis=0).max() > 1e-2
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_the_model_keeps_its_mode(classifier):
    classifier.train()
    classifier.network[0].eval()
    to_openvino(classifier)
    assert classifier.training
    assert classifier.network.training
    assert not classifier.network[0].training


def test_instance_segmentation(segmenter):
    model = to_openvino(segmenter)
    assert [min(output.get_names()) for output in model.outputs] == ["boxes", "labels", "masks"]
    assert str(model.inputs[0].partial_shape) == "[1,3,64,96]"
    found = run(model, images(1))
    with torch.no_grad():
        wanted = segmenter.eval()(torch.from_numpy(images(1)))[0]
    count = len(wanted["scores"])
    assert count > 1
    assert found["boxes"].shape == (1, count, 5)
    assert found["masks"].shape[:2] == (1, count)
    assert found["labels"].dtype == np.int64
    np.testing.assert_allclose(found["boxes"][0, :, 4], wanted["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][0, :, :4], wanted["boxes"], atol=1e-2)
    np.testing.assert_array_equal(found["labels"][0], wanted["labels"])
    explained = run(insert_instance_maps(model, num_classes=3, embed_scaling=False), images(1))
    boxes, masks = explained["boxes"][0], explained["masks"][0]
    maps = reference.instance_maps(boxes[:, :4], explained["labels"][0], boxes[:, 4], masks, 3, SIZE)
    assert explained["saliency_map"].shape == (1, 3, *SIZE)
    np.testing.assert_allclose(explained["saliency_map"][0], maps, atol=1e-4 * max(maps.max(), 1e-6))


@pytest.mark.parametrize("batch", [0, -1, "2"])
def test_a_wrong_batch(classifier, batch):
    with pytest.raises(ConfigError, match=r"batch is .*; expected a number of images"):
        to_openvino(classifier, batch=batch)


def test_detectors_take_one_image(segmenter):
    with pytest.raises(ConfigError, match=r"batch is 2; .* one image"):
        to_openvino(segmenter, batch=2)


# --------------------------------------------------------------------------------------------------------------------
# model_info
# --------------------------------------------------------------------------------------------------------------------


def test_model_info_of_a_classifier(classifier):
    assert model_info_of(classifier) == {
        "model_type": "Classification",
        "task_type": "classification",
        "labels": "cat big_dog é",
        "label_ids": "cat big_dog é",
        "label_info": json.dumps({"label_names": LABELS, "label_ids": LABELS, "label_groups": [LABELS]}),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "True",
        "mean_values": "0.0 0.0 0.0",
        "scale_values": "1.0 1.0 1.0",
        "resize_type": "crop",
        "pad_value": "3",
        "reverse_input_channels": "False",
    }


def test_model_info_of_the_other_tasks(segmenter):
    info = model_info_of(MultilabelClassifier("squeezenet1_1", ["a", "b"], input_size=64))
    assert (info["multilabel"], info["confidence_threshold"]) == ("True", "0.5")
    assert json.loads(info["label_info"])["label_groups"] == [["a"], ["b"]]
    info = model_info_of(Detector("ssdlite_slim", ["a"]))
    assert (info["model_type"], info["task_type"], info["iou_threshold"]) == ("ssd", "detection", "0.5")
    info = model_info_of(segmenter)
    assert (info["model_type"], info["task_type"]) == ("MaskRCNN", "instance_segmentation")
    assert "multilabel" not in info


# --------------------------------------------------------------------------------------------------------------------
# To a file
# --------------------------------------------------------------------------------------------------------------------


def test_an_exported_model_needs_nothing_else(tmp_path, classifier):
    report = export_model(classifier, tmp_path / "new" / "folder")
    assert report.path == tmp_path / "new" / "folder" / "exported_model.xml"
    assert files(report.path.parent) == ["exported_model.bin", "exported_model.xml"]
    assert report.outputs == ("logits",)
    assert 0 <= report.max_difference < 1e-4
    assert "largest difference of a score" in report.summary()
    model = read_model(report.path)
    info = describe(model)
    assert (info.task, info.labels) == (Task.MULTI_CLASS_CLS, tuple(LABELS))
    assert (info.geometry, info.mean, info.scale) == (classifier.geometry, (), ())
    np.testing.assert_allclose(run(model, images(2))["logits"], torch_logits(classifier, images(2)), atol=1e-4)


def test_half_precision(tmp_path, classifier):
    full = export_model(classifier, tmp_path / "full.xml")
    half = export_model(classifier, tmp_path / "half.xml", precision="fp16")
    sizes = [report.path.with_suffix(".bin").stat().st_size for report in (half, full)]
    assert sizes[0] < 0.6 * sizes[1]
    assert half.max_difference < 1e-2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx(tmp_path, classifier, precision):
    report = export_model(classifier, tmp_path, export_format="onnx", precision=precision)
    assert files(tmp_path) == ["exported_model.onnx"]
    proto = onnx.load(report.path)
    onnx.checker.check_model(proto)
    properties = {item.key: item.value for item in proto.metadata_props}
    assert properties["model_info task_type"] == "classification"
    kinds = {weights.data_type for weights in proto.graph.initializer if np.prod(weights.dims) > 100}
    assert kinds == {onnx.TensorProto.FLOAT if precision == "fp32" else onnx.TensorProto.FLOAT16}
    model = read_model(report.path)
    assert describe(model).labels == tuple(LABELS)
    tolerance = 1e-4 if precision == "fp32" else 5e-2
    for count in (1, 3):
        wanted = torch_logits(classifier, images(count))
        np.testing.assert_allclose(run(model, images(count))["logits"], wanted, atol=tolerance)


def test_onnx_of_a_detector(tmp_path, segmenter):
    report = export_model(segmenter, tmp_path / "model.onnx", export_format="onnx")
    assert report.outputs == ("boxes", "labels", "masks")
    assert report.max_difference < 1e-3
    assert report.box_difference is not None
    assert report.box_difference < 0.1


def test_the_explain_branch(tmp_path, classifier):
    report = export_model(classifier, tmp_path / "model.xml", explain=True)
    assert report.outputs == ("logits", "saliency_map", "feature_vector")
    results = run(read_model(report.path), images(2))
    assert results["saliency_map"].shape[:2] == (2, len(LABELS))
    np.testing.assert_allclose(results["logits"], torch_logits(classifier, images(2)), atol=1e-4)


def test_options_that_contradict_each_other(tmp_path, classifier, segmenter):
    with pytest.raises(ConfigError, match="export_format is 'tflite'; expected one of openvino, onnx"):
        export_model(classifier, tmp_path, export_format="tflite")
    with pytest.raises(ConfigError, match="precision is 'int8'; expected fp32 or fp16"):
        export_model(classifier, tmp_path, precision="int8")
    with pytest.raises(ConfigError, match=r"model\.onnx ends in \.onnx, but export_format openvino writes \.xml"):
        export_model(classifier, tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="explain is on, and export_format is onnx"):
        export_model(classifier, tmp_path, export_format="onnx", explain=True)
    assert not files(tmp_path)


def test_weights_that_are_no_numbers_are_not_exported(tmp_path, classifier):
    (tmp_path / "exported_model.xml").write_text("the one before")
    broken = small_classifier()
    nn.init.constant_(broken.network[-1].weight, float("nan"))
    with pytest.raises(ModelError, match=r"differs from torch: a score by nan.*Nothing was written"):
        export_model(broken, tmp_path)
    assert files(tmp_path) == ["exported_model.xml"]
    assert (tmp_path / "exported_model.xml").read_text() == "the one before"


def test_too_coarse_a_precision_is_told(tmp_path, caplog, classifier):
    coarse = small_classifier()
    with torch.no_grad():  # smaller than what half precision holds, and then larger again
        for layer, factor in ((0, 1e-9), (2, 1e4), (-1, 1e5)):
            coarse.network[layer].weight.mul_(factor)
            coarse.network[layer].bias.zero_()
    with caplog.at_level(logging.WARNING, "otx_xai"):
        report = export_model(coarse, tmp_path, export_format="onnx", precision="fp16")
    assert report.max_difference > 1e-2
    assert "Half precision may be too coarse for its weights; fp32 is exact" in caplog.text
    assert files(tmp_path) == ["exported_model.onnx"]


def test_a_folder_that_cannot_be_written(tmp_path, classifier):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"exported_model\.xml' cannot be written: .*choose another path"):
        export_model(classifier, tmp_path / "file" / "below")


def test_a_file_in_the_way(tmp_path, classifier):
    (tmp_path / "model.bin").mkdir()
    with pytest.raises(OutputError, match=r"model\.xml' cannot be written: Is a directory"):
        export_model(classifier, tmp_path / "model.xml")
    assert files(tmp_path) == ["model.bin"]
