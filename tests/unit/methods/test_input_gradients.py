"""Integrated gradients and SmoothGrad against loops in torch."""

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

from otx_xai.errors import ConfigError
from otx_xai.explain import Explainer
from otx_xai.methods.integratedgradients import IntegratedGradientsOptions
from otx_xai.methods.smoothgrad import SmoothGradOptions, noise_field
from otx_xai.methods.spec import Order
from otx_xai.methods.table import find_method
from otx_xai.records import Method

SIZE = (24, 32)


class Smooth(nn.Module):
    """A network that is smooth, so that few steps of an integral are many."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean = torch.tensor([1.0, -2.0, 3.0])[:, None, None]
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Softplus(), nn.Conv2d(6, 8, 3, 2, 1), nn.Tanh())
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x - self.mean).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Smooth:
    return Smooth().eval()


@pytest.fixture(scope="module")
def dynamic(net: Smooth) -> ov.Model:
    return networks.convert(net, (-1, 3, *SIZE))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return 2 * networks.contrasting_images(SIZE, 2)


def explained(model: ov.Model, images: np.ndarray, method: Method, options: object, layout: str = "NCHW") -> np.ndarray:
    opened = branches.classifier(model, find_logits(model), layout)
    spec = find_method(method)
    assert spec.fits(opened, ()).fits
    assert spec.insert is not None
    branch = spec.insert(opened, Order(classes=(3, 5), embed_scaling=False, options=options))
    assert branch.grid is not None
    assert (branch.grid.start, branch.grid.step) == ((0.5, 0.5), (1.0, 1.0))
    return networks.infer(branch.model, images)["saliency_map"]


def gradient(net: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    x = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(net(x)[:, target].sum(), x)
    return found


def integrated(net: nn.Module, x: torch.Tensor, target: int, steps: int) -> torch.Tensor:
    """Attributions against zeros, as many Gauss-Legendre steps as Captum would take."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = sum(
        float(weight) / 2 * gradient(net, x * float(place + 1) / 2, target)
        for place, weight in zip(places, weights, strict=True)
    )
    return (x * total).sum(1)


@pytest.mark.parametrize("batch", [-1, 1])
def test_integrated_gradients(net: Smooth, dynamic: ov.Model, images: torch.Tensor, batch: int) -> None:
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    shown = images[: abs(batch)] if batch == 1 else images
    given = explained(model, shown.numpy(), Method.INTEGRATEDGRADIENTS, IntegratedGradientsOptions(6))
    for slot, target in enumerate((3, 5)):
        wanted = integrated(net, shown, target, 6)
        np.testing.assert_allclose(given[:, slot], wanted.relu(), atol=1e-5 * wanted.abs().max())
        with torch.no_grad():
            gained = (net(shown) - net(torch.zeros_like(shown)))[:, target]
        torch.testing.assert_close(wanted.sum((1, 2)), gained, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("batch", [-1, 1])
def test_axes_that_are_computed_from_a_rank(net: Smooth, dynamic: ov.Model, images: torch.Tensor, batch: int) -> None:
    """As ONNX's GlobalAveragePool names them."""
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    (pooling,) = (node for node in model.get_ordered_ops() if node.get_type_name() == "ReduceMean")
    rank = ops.squeeze(ops.shape_of(ops.shape_of(pooling.input_value(0))), ops.constant([0]))
    axes = ops.range(ops.constant(2), rank, ops.constant(1), output_type="i64")
    pooling.input(1).replace_source_output(axes.output(0))
    model.validate_nodes_and_infer_types()
    given = explained(model, images[:1].numpy(), Method.INTEGRATEDGRADIENTS, IntegratedGradientsOptions(6))
    wanted = integrated(net, images[:1], 3, 6)
    np.testing.assert_allclose(given[:, 0], wanted.relu(), atol=1e-5 * wanted.abs().max())


def test_the_empty_image_is_what_the_graph_subtracts(net: Smooth) -> None:
    """Where nobody says how the input is normalised, the graph does: the image is empty at its mean."""
    model = networks.convert(net, (1, 3, *SIZE))
    image = np.broadcast_to(np.array([1, 2, 3], np.uint8), (*SIZE, 3))
    explainer = Explainer(model, explain_method="integratedgradients")
    assert explainer._model().facts.zero == (1, -2, 3)
    maps = explainer(image, [3], num_steps=4).maps
    pixels = torch.tensor(image.astype(np.float32).transpose(2, 0, 1))[None]
    shifted = pixels - net.mean
    wanted = integrated(lambda x: net(x + net.mean), shifted, 3, 4).relu().numpy()  # type: ignore[arg-type]
    low, high = wanted.min(), wanted.max()
    np.testing.assert_allclose(maps, (wanted - low) / (high - low), atol=1e-3)


@pytest.mark.parametrize("batch", [-1, 1])
def test_smoothgrad(net: Smooth, dynamic: ov.Model, images: torch.Tensor, batch: int) -> None:
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    shown = images[: abs(batch)] if batch == 1 else images
    given = explained(model, shown.numpy(), Method.SMOOTHGRAD, SmoothGradOptions(5, 0.1, seed=3))
    field, moves = noise_field((1, 3, *SIZE), 5, (2, 3), 3)
    spread = 0.1 * (shown.amax((1, 2, 3), keepdim=True) - shown.amin((1, 2, 3), keepdim=True))
    versions = [shown + spread * torch.tensor(np.roll(field, tuple(move), (2, 3))) for move in moves]
    for slot, target in enumerate((3, 5)):
        wanted = sum(gradient(net, version, target) for version in versions).abs().sum(1) / 5
        np.testing.assert_allclose(given[:, slot], wanted, atol=1e-4 * wanted.max())


def test_moved_noise_is_independent() -> None:
    field, moves = noise_field((1, 3, 40, 50), 20, (2, 3), 0)
    versions = np.stack([np.roll(field, tuple(move), (2, 3)).reshape(-1) for move in moves])
    assert len({tuple(move) for move in moves}) == 20
    off = np.corrcoef(versions)[~np.eye(20, dtype=bool)]
    assert np.abs(off).max() < 0.06
    np.testing.assert_allclose(versions.mean(0).std(), 20**-0.5, rtol=0.05)


@pytest.mark.parametrize("turned_first", [False, True])
def test_bytes_with_channels_last(net: Smooth, dynamic: ov.Model, turned_first: bool) -> None:
    """A network as TensorFlow Lite has them: the image is made real numbers and turned inside."""
    inner = networks.reshaped(dynamic, (1, 3, *SIZE)).clone()
    image = ops.parameter([1, *SIZE, 3], np.uint8)
    order = np.array([0, 3, 1, 2])
    turned = ops.transpose(ops.convert(image, "f32"), order)
    if turned_first:
        turned = ops.convert(ops.transpose(image, order), "f32")
    for reader in inner.inputs[0].get_target_inputs():
        reader.replace_source_output(turned.output(0))
    model = ov.Model([result.input_value(0) for result in inner.get_results()], [image], "classifier")
    pixels = np.random.default_rng(0).integers(0, 10, (1, *SIZE, 3), np.uint8)
    given = explained(model, pixels, Method.INTEGRATEDGRADIENTS, IntegratedGradientsOptions(6), "NHWC")
    wanted = integrated(net, torch.tensor(pixels.astype(np.float32).transpose(0, 3, 1, 2)), 5, 6)
    np.testing.assert_allclose(given[:, 1], wanted.relu(), atol=1e-5 * wanted.abs().max())


def test_pixels_are_no_layer(dynamic: ov.Model) -> None:
    fit = find_method("smoothgrad").fits(branches.classifier(dynamic, find_logits(dynamic), "NCHW"), ("layer",))
    assert not fit.fits
    assert "leave --target_layer out" in fit.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: IntegratedGradientsOptions(0), "num_steps is 0; expected a whole number from 1 on"),
        (lambda: SmoothGradOptions(0), "num_steps is 0; expected"),
        (lambda: SmoothGradOptions(noise=-1.0), "noise is -1.0; expected a part of the image's range"),
    ],
)
def test_options_out_of_range(options: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options()
