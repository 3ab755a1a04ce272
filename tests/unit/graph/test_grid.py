"""Where places lie, read off the graph, compared with where the places of the running graph respond to the input."""

from __future__ import annotations

from collections.abc import Callable

import networks
import numpy as np
import openvino as ov
import pytest
import torch
import torchvision
from branches import branch_grid, default_method
from doors import dissect, find_logits
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import nn
from torch.nn import functional

from otx_xai.graph.axes import label_axes
from otx_xai.graph.grid import map_grids
from otx_xai.graph.view import View, port_of
from otx_xai.openvino_core import core
from otx_xai.records import MapGrid, Method

SIZE = (96, 80)


def grid_of(model: ov.Model, layout: str = "NCHW") -> MapGrid | None:
    view = View(model)
    output = model.get_results()[0].input_value(0)
    return map_grids(view, label_axes(view, layout), [output]).get(port_of(output))


def convert(net: nn.Module, size: tuple[int, int] = SIZE, channels: int = 1) -> ov.Model:
    return networks.convert(net.eval(), (1, channels, *size))


def symmetric(net: nn.Module) -> nn.Module:
    """Make all kernels positive, of one sum and symmetric, so that responses are centred."""
    torch.manual_seed(0)
    for weight in net.parameters():
        kernel = torch.rand(weight.shape[2:]) + 0.1
        kernel = kernel + kernel.flip(-1)
        weight.data = (kernel + kernel.flip(-2)).expand_as(weight) / (kernel.sum() * 2)
    return net


def responses(compiled: ov.CompiledModel, axis: int, layout: str) -> NDArray[np.float64]:
    """How much each place along an axis answers to each line of pixels: (pixels, places)."""
    where = layout.index("HW"[axis])
    shape = list(compiled.inputs[0].shape)
    rows = []
    for line in range(shape[where]):
        image = np.zeros(shape, np.float32)
        np.moveaxis(image, where, 0)[line] = 1
        answer = next(iter(compiled(image).values()))[0].sum(axis=layout[1:].index("C"))
        rows.append(answer.sum(axis=1 - axis))
    return np.array(rows, np.float64)


def check(model: ov.Model, layout: str = "NCHW") -> MapGrid:
    """Compare with centroids of responses, far from the border and two neighbours at a time, as enlarging repeats."""
    grid = grid_of(model, layout)
    assert grid is not None
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for axis in range(2):
        table = responses(compiled, axis, layout)
        assert (table > 0).any(axis=0).all()
        centres = (table * (np.arange(len(table)) + 0.5)[:, None]).sum(axis=0) / table.sum(axis=0)
        places = np.arange(len(centres) // 4, len(centres) - len(centres) // 4)
        assert len(places) >= 4
        found, expected = centres[places], grid.start[axis] + grid.step[axis] * places
        np.testing.assert_allclose(found[1:] + found[:-1], expected[1:] + expected[:-1], atol=0.02)
    return grid


class Sum(nn.Module):
    """Two branches that join."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.second(x)


class Apply(nn.Module):
    """A function of a tensor."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def conv(kernel, stride=1, padding=0, dilation=1, channels=(1, 1)) -> nn.Conv2d:
    return nn.Conv2d(*channels, kernel, stride, padding, dilation, bias=False)


def focus(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def unrolled(x: torch.Tensor) -> torch.Tensor:
    """Move the places of 2 x 2 blocks together twice, average over one block of each kind, and lay out what is left."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1)
    for level in (1, 2):
        x = x.reshape(-1, height // 2**level, 2, width // 2**level, 2, channels).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(-1, height // 2**level, width // 2**level, channels)
    x = x.reshape(batch, height * width, channels)
    for level in (1, 2):
        x = x.reshape(batch, 4, height * width // 4**level, channels).mean(1)
    return x.reshape(batch, height // 4, width // 4, channels).permute(0, 3, 1, 2)


def windows(x: torch.Tensor) -> torch.Tensor:
    """Cut a map into windows of 4 x 4 places, which become a batch, and put it together again."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
    x = 2 * x.reshape(-1, 16, channels)
    x = x.reshape(batch, height // 4, width // 4, 4, 4, channels).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, channels, height, width)


NETS = {
    "unrolled tokens": lambda: (conv(3, 2, 1), Apply(unrolled)),
    "windows": lambda: (conv(3, 2, 1), Apply(windows), conv(3, 2, 1)),
    "padded odd kernels": lambda: (conv(7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(3, 2, 1)),
    "no padding": lambda: (conv(3, 2), nn.MaxPool2d(3, 2, ceil_mode=True), conv(3)),
    "average pooling and dilation": lambda: (nn.AvgPool2d(2), conv(3, 1, 2, 2), conv(3, 2, 2, 2), nn.AvgPool2d(3, 1)),
    "one axis differs": lambda: (conv((3, 5), (2, 1), (0, 2)), conv((1, 4), (1, 4)), conv((4, 1), 1, (1, 0))),
    "pixels added and cut off": lambda: (Apply(lambda x: functional.pad(x, (0, 1, 0, 2))[:, :, 3:, 6:-1]), conv(3, 2)),
    "residual": lambda: (conv(7, 2, 3), Sum(nn.Sequential(conv(3, 2, 1), conv(3, 1, 1)), conv(1, 2))),
    "transposed convolution": lambda: (conv(3, 4, 1), nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False)),
    "focus": lambda: (Apply(focus), conv(3, 2, 1, channels=(4, 1))),
    "pixels into channels": lambda: (conv(3, 2, 1), nn.PixelUnshuffle(2), conv(1, 1, channels=(4, 1))),
    "nearest neighbours": lambda: (conv(3, 4, 1), nn.Upsample(scale_factor=2, mode="nearest")),
    "linear resize": lambda: (conv(3, 4, 1), nn.Upsample(scale_factor=2, mode="bilinear")),
    "corners aligned": lambda: (conv(3, 4, 1), nn.Upsample(size=(40, 33), mode="bilinear", align_corners=True)),
}


@pytest.mark.parametrize("name", NETS)
def test_places_lie_where_they_respond(name: str):
    check(convert(symmetric(nn.Sequential(*NETS[name]()))))


def same_model(auto_pad: str, size: tuple[int, int], layout: str = "NCHW") -> ov.Model:
    """Two convolutions as TensorFlow pads them."""
    shape = [dict(zip("NCHW", (1, 1, *size), strict=True))[axis] for axis in layout]
    image = ops.parameter(shape, np.float32)
    value = image if layout == "NCHW" else ops.transpose(image, ops.constant([0, 3, 1, 2]))
    for kernel in (3, 4):
        weight = ops.constant(np.full((1, 1, kernel, kernel), 1 / kernel**2, np.float32))
        value = ops.convolution(value, weight, [2, 2], [0, 0], [0, 0], [1, 1], auto_pad)
    result = value if layout == "NCHW" else ops.transpose(value, ops.constant([0, 2, 3, 1]))
    return ov.Model([ops.relu(result)], [image])


@pytest.mark.parametrize("auto_pad", ["same_upper", "same_lower", "valid"])
@pytest.mark.parametrize("size", [(64, 64), (65, 47)])
def test_automatic_padding(auto_pad: str, size: tuple[int, int]):
    check(same_model(auto_pad, size))


def test_channels_last_and_a_padding_of_its_own():
    image = ops.parameter([1, 64, 48, 1], np.float32)
    padded = ops.pad(
        image, ops.constant([0, 0, 2, 0]), ops.constant([0, 1, 1, 0]), "constant", ops.constant(np.float32(0))
    )
    moved = ops.transpose(padded, ops.constant([0, 3, 1, 2]))
    weight = ops.constant(np.full((1, 1, 3, 3), 1 / 9, np.float32))
    value = ops.transpose(ops.convolution(moved, weight, [2, 2], [0, 0], [0, 0], [1, 1]), ops.constant([0, 2, 3, 1]))
    grid = check(ov.Model([ops.relu(value)], [image]), "NHWC")
    assert grid == MapGrid((1.5, -0.5), (2, 2))
    assert check(same_model("same_upper", (64, 48), "NHWC"), "NHWC") == MapGrid((2.5, 2.5), (4, 4))


@pytest.mark.parametrize(
    ("padding", "stride", "expected"),
    [
        ("explicit", 2, MapGrid((0.5, 0.5), (2, 2))),
        ("same_upper", 1, MapGrid((0.5, 0.5), (1, 1))),
        ("same_upper", 2, None),  # how much is padded in front depends on the size
    ],
)
def test_an_open_size(padding: str, stride: int, expected: MapGrid | None):
    image = ops.parameter([-1, 1, -1, -1], np.float32)
    weight = ops.constant(np.ones((1, 1, 3, 3), np.float32))
    value = ops.convolution(image, weight, [stride] * 2, [1, 1], [1, 1], [1, 1], padding)
    assert grid_of(ov.Model([value], [image])) == expected


def test_branches_that_disagree_are_averaged():
    """As in ResNet-D, whose shortcuts are averaged over 2×2: half a pixel of the level before."""
    net = nn.Sequential(conv(3, 2, 1), Sum(conv(3, 2, 1), nn.AvgPool2d(2)))
    check(convert(symmetric(net)))
    assert grid_of(convert(net)) == MapGrid((1.0, 1.0), (4, 4))


def halved(then: Callable[[ov.Node], ov.Node]) -> ov.Model:
    """A convolution that keeps every second pixel, and something behind it."""
    image = ops.parameter([1, 1, *SIZE], np.float32)
    weight = ops.constant(np.ones((1, 1, 3, 3), np.float32))
    value = ops.convolution(image, weight, [2, 2], [1, 1], [1, 1], [1, 1])
    return ov.Model([ops.relu(then(value))], [image])


def gated(x: ov.Node) -> ov.Node:
    return ops.multiply(x, ops.sigmoid(ops.reduce_mean(x, np.array([2, 3]), keep_dims=True)))


def rolled(x: ov.Node) -> ov.Node:
    return ops.roll(x, ops.constant([3]), ops.constant([2]))


def corner(x: ov.Node) -> ov.Node:
    """The upper left quarter, as large as the whole."""
    begin, half, step = np.array([0, 0]), np.array([side // 4 for side in SIZE]), np.array([1, 1])
    quarter = ops.slice(x, begin, half, step, np.array([2, 3]))
    return ops.interpolate(
        quarter, np.array([side // 2 for side in SIZE]), "linear_onnx", "sizes", axes=np.array([2, 3])
    )


def mirrored(x: ov.Node) -> ov.Node:
    return ops.slice(x, np.array([-1]), np.array([-1000]), np.array([-1]), np.array([3]))


@pytest.mark.parametrize("then", [gated, lambda x: ops.add(x, rolled(x))], ids=["gate", "lost and brought back"])
def test_what_has_no_known_place_does_not_count(then: Callable[[ov.Node], ov.Node]):
    assert grid_of(halved(then)) == MapGrid((0.5, 0.5), (2, 2))


@pytest.mark.parametrize(
    "then",
    [rolled, mirrored, lambda x: ops.concat([x, x], 3), lambda x: ops.add(x, corner(x))],
    ids=["rolled", "mirrored", "side by side", "different steps"],
)
def test_what_cannot_be_followed(then: Callable[[ov.Node], ov.Node]):
    model = halved(then)
    assert model.get_results()[0].shape[2] == SIZE[0] // 2
    assert grid_of(model) is None
    assert grid_of(model, "?" * 4) is None


def small_resnet() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)


def small_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3
    )


def small_swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 1], [1, 1], [4, 4], num_classes=3)


def small_convnext() -> nn.Module:
    setting = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([setting(8, 16, 1), setting(16, None, 1)], num_classes=3)


CLASSIFIERS = {
    "resnet": (small_resnet, 0.5, 32),
    "convnext": (small_convnext, 4, 8),
    "swin": (small_swin, 4, 8),
    "vit": (small_transformer, 8, 16),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str):
    build, start, step = CLASSIFIERS[name]
    model = convert(build(), (64, 64) if name == "vit" else (64, 96), channels=3)
    anatomy = dissect(model, find_logits(model), "NCHW")
    for method in (default_method(anatomy), Method.ACTIVATIONMAP):
        assert branch_grid(anatomy, method) == MapGrid((start, start), (step, step))
