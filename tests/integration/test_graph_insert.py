"""What an inserted branch leaves as it was, what it survives, what it costs, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import openvino as ov
import pytest
from branches import default_method, insert_branch, insert_scores
from doors import dissect, find_logits
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError
from otx_xai.graph.logits import Logits
from otx_xai.methods import heads
from otx_xai.openvino_core import core
from otx_xai.records import Method

INFO = {
    "model_info": {"labels": "a b", "nested": {"deep": {"deeper": "1 2 3"}}, "label_info": json.dumps({"é": [1]})},
    "conversion_parameters": {"framework": "pytorch"},
}


def has_saliency_map(model: ov.Model) -> bool:
    """Whether a model has an output of this name."""
    return any("saliency_map" in output.get_names() for output in model.outputs)


def write_info(model: ov.Model, info: dict[str, object], *path: str) -> None:
    for key, value in info.items():
        if isinstance(value, dict):
            write_info(model, value, *path, key)
        else:
            model.set_rt_info(value, [*path, key])


def read_info(model: ov.Model, info: dict[str, object], *path: str) -> dict[str, object]:
    return {
        key: read_info(model, value, *path, key) if isinstance(value, dict) else model.get_rt_info([*path, key]).value
        for key, value in info.items()
    }


def serialised(model: ov.Model, path: Path) -> tuple[bytes, bytes]:
    ov.serialize(model, path.with_suffix(".xml"), path.with_suffix(".bin"))
    return path.with_suffix(".xml").read_bytes(), path.with_suffix(".bin").read_bytes()


def ports_of(model: ov.Model) -> list[tuple[object, ...]]:
    return [
        (port.get_names(), str(port.get_partial_shape()), str(port.get_element_type()))
        for port in [*model.inputs, *model.outputs]
    ]


def earlier_layer(model: ov.Model) -> str:
    """Of a ResNet: the output of its second stage."""
    names = [it.get_friendly_name() for it in model.get_ordered_ops() if it.get_type_name() == "Relu"]
    return next(name for name in reversed(names) if "layer2" in name)


def two_heads() -> ov.Model:
    """A classifier with several outputs, aliases of names, and a second input of its own."""
    image = ops.parameter([-1, 3, 32, 48], np.float32, name="image")
    image.output(0).set_names({"image", "input:0"})
    rng = np.random.default_rng(0)
    x = ops.relu(
        ops.convolution(image, rng.normal(size=(5, 3, 4, 4)).astype(np.float32), [4, 4], [0, 0], [0, 0], [1, 1])
    )
    vector = ops.reduce_mean(x, np.array([2, 3]))
    outputs = {
        "logits": ops.matmul(vector, ops.constant(rng.normal(size=(5, 4)).astype(np.float32)), False, False),
        "embedding": ops.tanh(x),
        "other": ops.matmul(vector, ops.constant(rng.normal(size=(5, 2)).astype(np.float32)), False, False),
    }
    for name, node in outputs.items():
        node.output(0).set_names({name, f"{name}:0"})
    return ov.Model([outputs[name] for name in ("embedding", "other", "logits")], [image], "two_heads")


@pytest.fixture(params=["two_heads", "resnet18", "loop", "separate_qkv", "timm_vit_fused", "swin"])
def explained_pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[ov.Model, dict]:
    """A model, and how to explain it."""
    if request.param == "two_heads":
        return two_heads(), {}
    if request.param == "loop":
        monkeypatch.setattr(heads, "MEMORY_LIMIT", 8_000_000)
        model = networks.reshaped(networks.case("resnet18").dynamic, (2, 3, 64, 96))
        return model, {"target_layer": earlier_layer(model)}
    return networks.case(request.param).dynamic.clone(), {}


def test_branch_survives_saving_and_plain_openvino(explained_pair: tuple[ov.Model, dict], tmp_path: Path):
    model, options = explained_pair
    write_info(model, INFO)
    before = ports_of(model)
    xml_and_weights = serialised(model, tmp_path / "before")
    method = default_method(dissect(model, find_logits(model)))
    explained = insert_branch(model, find_logits(model), classes=2, feature_vector=True, scores="softmax", **options)

    assert serialised(model, tmp_path / "after") == xml_and_weights, "the given model was changed"
    count = len(before)
    assert ports_of(explained)[:count] == before
    assert [port.get_any_name() for port in explained.outputs[len(model.outputs) :]] == [
        "saliency_map",
        "saliency_targets",
        "feature_vector",
        "saliency_scores",
    ]
    assert has_saliency_map(explained)
    assert not has_saliency_map(model)
    assert read_info(explained, INFO) == INFO

    ov.save_model(explained, tmp_path / "explained.xml", compress_to_fp16=False)
    saved = core().read_model(tmp_path / "explained.xml")
    assert ports_of(saved)[:count] == before
    assert read_info(saved, INFO) == INFO
    known = {node.get_friendly_name() for node in model.get_ops()}
    prefix = f"xai/{method.value}/"
    strange = [
        node.get_friendly_name()
        for node in saved.get_ops()
        if node.get_type_name() not in ("Constant", "Result")
        and node.get_friendly_name() not in known
        and not node.get_friendly_name().startswith(prefix)
    ]
    assert strange == []

    shape = [2 if size.is_dynamic else size.get_length() for size in model.inputs[0].get_partial_shape()]
    images = networks.contrasting_images(tuple(shape[2:]), shape[0])
    direct, reread, plain = (networks.infer(it, images) for it in (explained, saved, model))
    for name, values in direct.items():
        np.testing.assert_allclose(reread[name], values, atol=1e-3 if name == "saliency_map" else 1e-5, err_msg=name)
    for name, values in plain.items():
        np.testing.assert_allclose(direct[name], values, atol=1e-4, rtol=1e-4, err_msg=name)

    # weights are shared, not copied: what the branch adds is small
    added = (tmp_path / "explained.bin").stat().st_size - len(xml_and_weights[1])
    assert added < 64_000, added


def test_branch_survives_saving_as_16_bit(tmp_path: Path):
    case = networks.case("two_pools")
    explained = insert_branch(case.dynamic, find_logits(case.dynamic))
    ov.save_model(explained, tmp_path / "half.xml")
    maps = networks.infer(core().read_model(tmp_path / "half.xml"), case.images)["saliency_map"]
    np.testing.assert_allclose(maps, networks.infer(explained, case.images)["saliency_map"], atol=2.0)


def test_scores_alone():
    case = networks.case("two_pools")
    scored = insert_scores(case.dynamic, find_logits(case.dynamic), "sigmoid")
    scores = networks.infer(scored, case.images)["saliency_scores"]
    results = core().compile_model(case.dynamic, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(case.images.numpy())
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-results[0])), atol=1e-5)


MEASURE = """
import numpy as np, openvino as ov
from openvino import opset13 as ops
from otx_xai import insert_xai

rng = np.random.default_rng(0)

def peak():
    '''Megabytes of this process alone; the peak that getrusage gives counts the parent's.'''
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

def weight(*shape):
    return ops.constant(rng.normal(size=shape).astype(np.float32))

image = ops.parameter([1, 3, 256, 256], np.float32)
features = ops.relu(ops.convolution(image, weight(48, 3, 4, 4), [4, 4], [0, 0], [0, 0], [1, 1]))
features.set_friendly_name("features")
x = ops.relu(ops.convolution(features, weight(8, 48, 4, 4), [8, 8], [0, 0], [0, 0], [1, 1]))
x = ops.matmul(ops.reduce_mean(x, np.array([2, 3])), weight(8, 5), False, False)
model = ov.Model([x], [image])
explained = insert_xai(model, target_layer="features", targets="predicted")
images = rng.normal(size=(1, 3, 256, 256)).astype(np.float32)
peaks = []
for each in (model, explained):
    results = ov.Core().compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    peaks.append(peak())
assert results["saliency_map"].shape == (1, 1, 64, 64) and results["saliency_map"].max() > 254
print(peaks[1] - peaks[0])
"""


def test_memory_of_large_maps_is_bounded():
    """4096 places of 48 channels at stride 4: all masked features at once would take 3 GB."""
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 100 < float(done.stdout.split()[-1]) < 512


def refusal(model: ov.Model, logits: Logits | None = None, **options: object) -> str:
    with pytest.raises(GraphError) as caught:
        insert_branch(model, logits or find_logits(model), **options)
    return str(caught.value)


def flat_network() -> ov.Model:
    """Pixels → flatten → linear: nothing between has places."""
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    weight = ops.constant(rng.normal(size=(192, 6)).astype(np.float32))
    x = ops.matmul(ops.reshape(image, np.array([1, 192]), False), weight, False, False)
    x = ops.matmul(ops.relu(x), ops.constant(rng.normal(size=(6, 4)).astype(np.float32)), False, False)
    return ov.Model([x], [image], "flat")


@pytest.mark.parametrize("layout", [None, "NCHW"])
def test_networks_without_places_are_refused(layout: str | None):
    """Pixels are no features, even where the layout of the image is known."""
    message = refusal(flat_network(), layout=layout)
    assert "'flat'" in message
    assert "height and width" in message
    assert "--target_layer" in message


def test_recipro_cam_on_class_tokens_is_refused():
    model = networks.case("timm_vit_fused").dynamic
    message = refusal(model, method=Method.RECIPROCAM)
    assert "reads only class tokens" in message
    assert str(Method.VITRECIPROCAM) in message


@pytest.mark.parametrize("name", ["two_pools", "swin", "beit_style_pooled"])
def test_vit_recipro_cam_without_class_token_is_refused(name: str):
    message = refusal(networks.case(name).dynamic, method=Method.VITRECIPROCAM)
    assert "class token" in message
    assert str(Method.RECIPROCAM) in message


def test_black_box_methods_are_refused():
    model = networks.case("two_pools").dynamic
    with pytest.raises(ConfigError, match="rise is no whitebox method"):
        insert_branch(model, find_logits(model), method=Method.RISE)


def test_unknown_layer_lists_candidates():
    model = networks.case("resnet18").dynamic
    message = refusal(model, target_layer="layer9")
    assert "'layer9'" in message
    assert "no layer or tensor of the model has this name" in message
    candidates = message.split("backwards: ")[1].split(", ")
    assert len(candidates) >= 10
    for candidate in (candidates[0], candidates[3]):
        insert_branch(model, find_logits(model), target_layer=candidate.strip("'"))


def test_layer_beside_the_way_of_all_features_is_refused():
    model = networks.case("two_pools").dynamic
    name = next(node.get_friendly_name() for node in model.get_ops() if node.get_type_name() == "ReduceMax")
    message = refusal(model, target_layer=name)
    assert "no tensor with places" in message
    assert "ReduceMax" in message


def test_layer_behind_the_last_block_is_refused_for_class_tokens():
    model = networks.case("timm_vit_fused").dynamic
    last = [node for node in model.get_ordered_ops() if node.get_type_name() == "MVN"][-1]
    message = refusal(model, target_layer=last.get_friendly_name())
    assert "no self-attention behind this layer" in message


def test_layers_are_found_by_tensor_name_too():
    model = two_heads()
    conv = next(node for node in model.get_ops() if node.get_type_name() == "Convolution")
    conv.output(0).set_names({"my_features"})
    assert has_saliency_map(insert_branch(model, find_logits(model), target_layer="my_features"))
