"""The combination of two strides against the same written with torch, and which layers it takes."""

from __future__ import annotations

import branches
import networks
import numpy as np
import openvino as ov
import pytest
import torch
from doors import find_logits
from openvino import opset13 as ops
from torch import nn

from otx_xai.errors import ImageError
from otx_xai.explain.targets import Wanted, choose
from otx_xai.graph.strides import stages
from otx_xai.methods.multistridecam import EPSILON, SIGMA
from otx_xai.methods.spec import Order
from otx_xai.methods.table import find_method
from otx_xai.model.opened import Model
from otx_xai.records import Method

SIZE = (48, 64)
SPEC = find_method("multistridecam")


class Residual(nn.Module):
    """Two stages of a shortcut each, and an expansion behind the first that is no part of its stream."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Tanh())
        self.stream = nn.Identity()
        self.expanded = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(16, 12, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(12, networks.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.stream(x + self.inner(x))
        return self.head(self.last(self.expanded(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Residual:
    return Residual().eval()


@pytest.fixture(scope="module")
def dynamic(net: Residual) -> ov.Model:
    return networks.convert(net, (-1, 3, *SIZE))


def opened(model: ov.Model) -> Model:
    return branches.classifier(model, find_logits(model), "NCHW", "softmax")


def literal(net: Residual, images: torch.Tensor, target: int) -> np.ndarray:
    """Places of the stream lie at 0.5 + 4 i, those of the last stage at 0.5 + 8 i."""
    seen: list[torch.Tensor] = []
    for layer in (net.stream, net.last):
        layer.register_forward_hook(lambda *parts: seen.append(parts[2]))
    score = net(images)[:, target].sum()
    fine, coarse = (value * gradient for value, gradient in zip(seen, torch.autograd.grad(score, seen), strict=True))
    fine, coarse = fine.relu().sum(1).detach().double(), coarse.sum(1).detach().double()
    rows, columns = (gaussian(length) for length in fine.shape[1:])
    smooth = rows @ fine @ columns.T
    moved = torch.stack(
        [
            torch.stack([torch.stack([looked_up(own, y / 2, x / 2) for x in range(16)]) for y in range(12)])
            for own in coarse
        ]
    )
    return ((unit(smooth) + EPSILON) * (unit(moved) + EPSILON)).sqrt().numpy()


def gaussian(length: int) -> torch.Tensor:
    places = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum(1, keepdim=True)


def looked_up(values: torch.Tensor, y: float, x: float) -> torch.Tensor:
    y, x = min(y, values.shape[0] - 1), min(x, values.shape[1] - 1)
    top, left = min(int(y), values.shape[0] - 2), min(int(x), values.shape[1] - 2)
    rows = torch.tensor([1 - (y - top), y - top], dtype=torch.float64)
    columns = torch.tensor([1 - (x - left), x - left], dtype=torch.float64)
    return rows @ values[top : top + 2, left : left + 2] @ columns


def unit(maps: torch.Tensor) -> torch.Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("batch", [-1, 1])
def test_the_map_is_the_geometric_mean_of_two_strides(net: Residual, dynamic: ov.Model, batch: int) -> None:
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    images = networks.contrasting_images(SIZE, 1 if batch == 1 else 3)
    assert SPEC.insert is not None
    branch = SPEC.insert(opened(model), Order(classes=(3, 5), embed_scaling=False))
    given = networks.infer(branch.model, images)["saliency_map"]
    for slot, target in enumerate((3, 5)):
        np.testing.assert_allclose(given[:, slot], literal(net, images, target), atol=1e-4)
    assert branch.grid is not None
    assert (branch.grid.start, branch.grid.step) == ((0.5, 0.5), (4.0, 4.0))


def test_the_size_of_the_image_may_be_open(net: Residual, dynamic: ov.Model) -> None:
    images = networks.contrasting_images(SIZE, 1)
    fixed, free = (
        networks.infer(
            branches.insert_branch(
                model, find_logits(model), method=Method.MULTISTRIDECAM, classes=1, layout="NCHW", embed_scaling=False
            ),
            images,
        )["saliency_map"]
        for model in (dynamic, networks.convert(net, (-1, 3, -1, -1)))
    )
    np.testing.assert_allclose(free, fixed, atol=1e-4)


STAGES = {
    "resnet18": ["Add", "Add", "Add"],
    "mobilenet_v3_small": ["Add"],
    "efficientnet_b0": ["Add", "Add", "Add"],
    "swin": ["Add"],
}


@pytest.mark.parametrize("name", STAGES)
def test_the_stream_of_each_stage_is_found(name: str) -> None:
    size = networks.NETWORKS[name].size
    model = networks.convert(networks.build(name), (1, 3, *size))
    anatomy = opened(model).structure.anatomy
    found = list(stages(anatomy))
    kinds = [layer.output.get_node().get_type_name() for layer in found]
    assert kinds[: len(STAGES[name])] == STAGES[name]
    sides = [anatomy.features.grid[1], *(layer.grid[1] for layer in found)]
    assert sides == [sides[0] * 2**i for i in range(len(sides))]


def test_a_network_of_one_stride_is_refused() -> None:
    model = networks.convert(networks.build("vit_average_pooled"), (1, 3, 64, 96))
    fit = SPEC.fits(opened(model), ())
    assert not fit.fits
    assert "no layer of a finer one" in fit.reason


def test_two_layers_are_named(dynamic: ov.Model) -> None:
    model = opened(dynamic)
    fine, coarse = (
        layer.output.get_node().get_friendly_name()
        for layer in (next(stages(model.structure.anatomy)), model.structure.anatomy.features)
    )
    assert SPEC.insert is not None
    images = networks.contrasting_images(SIZE, 1)
    named, found = (
        networks.infer(SPEC.insert(model, Order(layers, classes=1)).model, images)["saliency_map"]
        for layers in ((fine, coarse), ())
    )
    np.testing.assert_array_equal(named, found)
    assert "names 1 layers; multistridecam takes two" in SPEC.fits(model, (fine,)).reason


def behind(model: ov.Model, last: str) -> ov.Model:
    """Put an operation behind the class scores."""
    scores = model.outputs[0].get_node().input_value(0)
    if last == "relu":
        ended = ops.relu(ops.subtract(scores, ops.constant(np.float32(1e3))))
    else:  # the slope of a root is infinite at 0
        nothing = np.zeros((networks.CLASSES, networks.CLASSES), np.float32)
        ended = ops.sqrt(ops.matmul(scores, nothing, False, False))
    return ov.Model([ended], model.get_parameters(), "classifier")


def outputs_of(model: ov.Model) -> dict[str, np.ndarray]:
    found = find_logits(model)
    inserted = branches.insert_branch(
        model, found, method=Method.MULTISTRIDECAM, classes=(3,), scores="sigmoid", layout="NCHW"
    )
    outputs = networks.infer(inserted, networks.contrasting_images(SIZE, 1))
    return {name: values[0] for name, values in outputs.items()}


LABELS = [str(i) for i in range(networks.CLASSES)]


def test_a_class_that_is_dead_behind_a_relu_is_told(dynamic: ov.Model) -> None:
    model = behind(networks.reshaped(dynamic, (1, 3, *SIZE)), "relu")
    choice = choose(outputs_of(model), LABELS, Wanted((3,), 0.3), scaled=True)
    assert not choice.maps.any()
    assert any("the map is constant, and says nothing about any place" in warning for warning in choice.warnings)


def test_gradients_that_are_not_finite_are_told(dynamic: ov.Model) -> None:
    model = behind(networks.reshaped(dynamic, (1, 3, *SIZE)), "sqrt")
    with pytest.raises(ImageError, match="saliency maps are NaN or infinite"):
        choose(outputs_of(model), LABELS, Wanted((3,), 0.3), scaled=True)
