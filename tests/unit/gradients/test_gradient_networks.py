"""Gradients of whole networks against torch autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
import timm
import torch
import torchvision
from openvino import opset13 as ops

from otx_xai.gradients.gradient import gradients, missing_rules
from otx_xai.graph.view import View, kind
from otx_xai.openvino_core import core

SIZE = 64

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=7),
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=SIZE, depth=2, num_classes=7),
    "convnext": lambda: timm.create_model("convnext_atto", depths=(1, 1, 2, 1), num_classes=7),
    "swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=SIZE, window_size=4, depths=(2, 2), num_heads=(3, 6), num_classes=7
    ),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of tracing
@pytest.mark.parametrize(("name", "is_open"), [*((name, False) for name in NETWORKS), ("mobilenet_v2", True)])
def test_a_network_is_differentiated_as_by_autograd(name: str, is_open: bool) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    images = 2 if is_open else 1
    x = torch.randn(images, 3, SIZE, SIZE, requires_grad=True)
    shape = [-1 if is_open else 1, 3, SIZE, SIZE]
    model = ov.convert_model(net, example_input=x.detach(), input=shape)
    image, logits = model.inputs[0].get_node(), View(model).outputs[0]
    seeds = np.random.default_rng(0).normal(size=(3, images, 7)).astype(np.float32)

    plain = gradients([(logits, ops.constant(seeds[0]).output(0))], [image.output(0)])
    several = gradients([(logits, ops.constant(seeds).output(0))], [image.output(0)], several=True)
    edited = ov.Model([ops.result(value) for value in (*plain, *several)], [image])
    results = core().compile_model(edited, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x.detach().numpy()])

    y = net(x)
    wanted = [torch.autograd.grad((y * torch.tensor(seed)).sum(), x, retain_graph=True)[0].numpy() for seed in seeds]
    assert_same(results[0], wanted[0])
    assert_same(results[1].reshape(3, *x.shape), np.stack(wanted))


def assert_same(given: np.ndarray, wanted: np.ndarray) -> None:
    """Compare all but 0.1 % of the places, since a ReLU may flip on rounding."""
    assert given.shape == wanted.shape
    assert np.quantile(np.abs(given - wanted), 0.999) < 1e-4 * np.abs(wanted).max()


@pytest.mark.filterwarnings("ignore")
def test_k_seeds_share_one_forward_pass() -> None:
    """The graph for several seeds has not one operation of the forward pass more."""
    net = NETWORKS["mobilenet_v2"]().eval()
    model = ov.convert_model(net, example_input=torch.zeros(1, 3, SIZE, SIZE), input=[1, 3, SIZE, SIZE])
    view = View(model)
    logits = view.outputs[0]
    before = {node.get_name() for node in view.nodes}
    first = next(node for node in view.nodes if kind(node) == "Convolution").output(0)
    assert missing_rules([logits], [first]) == []
    seeds = ops.constant(np.eye(7, dtype=np.float32)).output(0)
    (value,) = gradients([(logits, seeds)], [first], several=True)
    assert list(value.get_shape()) == [7, *list(first.get_shape())[1:]]
    nodes = ov.Model([ops.result(value)], model.get_parameters()).get_ordered_ops()
    layers = [node for node in nodes if kind(node).endswith("Convolution") or "Backprop" in kind(node)]
    old = [node for node in layers if node.get_name() in before]
    assert all(node.output(0).get_shape()[0] == 1 for node in old)
    assert all(node.output(0).get_shape()[0] == 7 for node in layers if node not in old)
