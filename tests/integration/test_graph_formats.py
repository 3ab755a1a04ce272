"""Models of every origin and kind of number: ONNX, NHWC, 16 bit, 8 bit, dynamic sizes, activations inside."""

from __future__ import annotations

from pathlib import Path

import networks
import nncf
import numpy as np
import openvino as ov
import pytest
import reference
import torch
from branches import insert_branch
from doors import dissect, find_logits
from nncf.quantization.advanced_parameters import OverflowFix
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor
from torch import nn

from otx_xai.graph.features import prefix_picks
from otx_xai.methods.attention import attention_block
from otx_xai.openvino_core import core

TOLERANCE = 1e-4 * 255


def explain(model: ov.Model, images: torch.Tensor | np.ndarray, **options: object) -> np.ndarray:
    return networks.infer(insert_branch(model, find_logits(model), **options), images)["saliency_map"]


def assert_maps(maps: np.ndarray, literal: np.ndarray) -> None:
    assert maps.shape == literal.shape
    np.testing.assert_allclose(maps, reference.scaled(literal), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "static"])
@pytest.mark.parametrize("name", ["two_pools", "convnext", "vit_b_style", "timm_vit_decomposed", "separate_qkv"])
def test_onnx(name: str, dynamic: bool, tmp_path: Path):
    """ONNX of torch spells ViTs in elementary operations; they must still take the fast form, without a loop."""
    case = networks.case(name)
    model = networks.to_onnx(case.model, case.images, tmp_path / "model.onnx", dynamic=dynamic)
    assert model.inputs[0].get_partial_shape()[0].is_dynamic is dynamic
    explained = insert_branch(model, find_logits(model))
    if name != "convnext":  # its exporter writes the batch size into a Gather behind the pooling
        assert "TensorIterator" not in networks.operations(explained)
    assert_maps(networks.infer(explained, case.images)["saliency_map"], case.literal)


@pytest.mark.parametrize("name", ["resnet18", "vgg", "swin", "timm_vit_fused"])
def test_nhwc_input(name: str):
    """A Transpose stands in front, as PrePostProcessor writes it."""
    case = networks.case(name)
    processor = PrePostProcessor(networks.reshaped(case.dynamic, (4, 3, *case.network.size)))
    processor.input().tensor().set_layout(ov.Layout("NHWC"))
    processor.input().model().set_layout(ov.Layout("NCHW"))
    model = processor.build()
    assert list(model.inputs[0].shape) == [4, *case.network.size, 3]
    assert_maps(explain(model, case.images.permute(0, 2, 3, 1).contiguous()), case.literal)


def tflite_like(batch: int, head: str) -> ov.Model:
    """As OpenVINO reads TFLite: every convolution between two Transposes, everything else in NHWC, soft-max inside."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> ov.op.Constant:
        return ops.constant(rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32))

    def convolution(x: ov.Node, filters: ov.op.Constant, stride: int, pad: int) -> ov.Node:
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
        x = ops.convolution(x, filters, [stride, stride], [pad, pad], [pad, pad], [1, 1])
        x = ops.transpose(x, np.array([0, 2, 3, 1]))
        return ops.clamp(ops.add(x, weight(1, 1, 1, filters.shape[0])), 0, 6)

    image = ops.parameter([batch, 32, 48, 3], np.float32, name="image")
    x = convolution(image, weight(8, 3, 4, 4), 4, 0)
    x = convolution(x, weight(12, 8, 3, 3), 2, 1)
    x.set_friendly_name("features")
    if head == "mean":
        x = ops.reduce_mean(x, np.array([1, 2]), keep_dims=False)
        x = ops.add(ops.matmul(x, weight(7, 12), False, True), weight(1, 7))
    elif head == "pooling and convolution":
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
        x = ops.avg_pool(x, [1, 1], [0, 0], [0, 0], [4, 6], True)
        x = ops.transpose(
            ops.hswish(ops.convolution(x, weight(16, 12, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])), np.array([0, 2, 3, 1])
        )
        x = convolution(x, weight(7, 16, 1, 1), 1, 0)
        x = ops.reshape(x, np.array([-1, 7]), special_zero=False)
    else:
        x = ops.reshape(x, np.array([-1, 4 * 6 * 12]), special_zero=False)
        x = ops.add(ops.matmul(x, weight(7, 288), False, True), weight(1, 7))
    return ov.Model([ops.softmax(x, 1)], [image], "tflite")


@pytest.mark.parametrize("batch", [-1, 1, 4])
@pytest.mark.parametrize("head", ["mean", "pooling and convolution", "flatten"])
def test_tflite_like(head: str, batch: int):
    model = tflite_like(batch, head)
    images = networks.contrasting_images((32, 48), abs(batch)).permute(0, 2, 3, 1).numpy()
    fixed = networks.reshaped(model, images.shape)
    literal = reference.recipro_cam_of_graph(fixed, "features", find_logits(fixed).port, images, places=(1, 2))
    assert_maps(explain(model, images), literal)


def explain_beside_literal(model: ov.Model, images: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps, and literal maps of the graph itself, whose weights are not those of the torch network any more.

    Both are of the same features: 8 bit are rounded anew by each compilation.
    """
    anatomy = dissect(model, find_logits(model))
    features = [anatomy.features]
    if prefix_picks(anatomy):
        block = attention_block(anatomy)
        features = [block.residual, block.normed]
    layers = [it.output.get_node().get_friendly_name() for it in features]
    resized = networks.reshaped(model, (batch, *images.shape[1:]))
    explained = insert_branch(resized, find_logits(resized))
    added = explained.add_outputs([(layer, 0) for layer in layers])
    for output, layer in zip(added, layers, strict=True):
        output.get_tensor().add_names({f"value of {layer}"})
    results = networks.infer(explained, images)
    values = [results[f"value of {layer}"] for layer in layers]
    if len(layers) == 1:
        literal = reference.recipro_cam_of_graph(
            model, *layers, anatomy.logits.port, images, places=anatomy.features.places, values=values
        )
    else:
        literal = reference.vit_recipro_cam_of_graph(model, *layers, anatomy.logits.port, images, (4, 6), values=values)
    return results["saliency_map"], literal


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vgg", "swin", "timm_vit_fused", "separate_qkv"])
def test_weights_of_16_bit(name: str, tmp_path: Path):
    case = networks.case(name)
    model = networks.reshaped(case.dynamic, (4, 3, *case.network.size))
    ov.save_model(model, tmp_path / "half.xml", compress_to_fp16=True)
    model = core().read_model(tmp_path / "half.xml")
    weights = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert any(node.get_element_type() == ov.Type.f16 for node in weights)
    assert_maps(*explain_beside_literal(model, case.images.numpy(), batch=4))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg", "timm_vit_fused", "separate_qkv"])
def test_weights_and_activations_of_8_bit(name: str):
    """Quantised after training. Quantisers of activations are no part of the head that sees one place alone."""
    case = networks.case(name)
    fixed = networks.reshaped(case.dynamic, (4, 3, *case.network.size))
    kind = nncf.ModelType.TRANSFORMER if name in ("timm_vit_fused", "separate_qkv") else None
    # half the range of weights: processors without VNNI add products of 8 bit in 16, and saturate
    exact = nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
    data = nncf.Dataset([case.images.numpy()])
    model = nncf.quantize(fixed, data, subset_size=1, model_type=kind, advanced_parameters=exact)
    assert networks.operations(model).count("FakeQuantize") > 4
    for batch in (4, -1):
        assert_maps(*explain_beside_literal(model, case.images.numpy(), batch))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet", "convnext", "swin"])
def test_dynamic_height_and_width(name: str):
    case = networks.case(name)
    shape = (-1, 3, -1, -1)
    model = networks.convert(case.model, shape) if name == "swin" else networks.reshaped(case.dynamic, shape)
    explained = insert_branch(model, find_logits(model))
    assert networks.grid_of(explained) == [None, None]
    compiled = core().compile_model(explained, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size, count in (((64, 96), 2), ((96, 64), 1)):
        images = networks.contrasting_images(size, count)
        literal = case.network.literal(case.model, images)
        assert_maps(np.array(compiled(images.numpy())["saliency_map"]), literal)


@pytest.mark.parametrize(
    "activation", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()], ids=lambda it: type(it).__name__
)
@pytest.mark.parametrize("name", ["two_pools", "timm_vit_fused"])
def test_activation_inside_the_model_changes_nothing(name: str, activation: nn.Module):
    """Maps are of the scores before soft-max, wherever that is; sigmoid stands for multi-label models."""
    case = networks.case(name)
    model = networks.convert(nn.Sequential(case.model, activation).eval(), (-1, 3, *case.network.size))
    logits = find_logits(model)
    assert logits.activation == ("sigmoid" if isinstance(activation, nn.Sigmoid) else "softmax")
    results = networks.infer(insert_branch(model, logits, scores=logits.activation), case.images)
    assert_maps(results["saliency_map"], case.literal)
    with torch.no_grad():
        scores = case.model(case.images)
    expected = scores.sigmoid() if isinstance(activation, nn.Sigmoid) else scores.softmax(1)
    np.testing.assert_allclose(results["saliency_scores"], expected.numpy(), atol=1e-5)
