"""Grad-CAM, HiResCAM and LayerCAM against torch autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import branches
import networks
import numpy as np
import openvino as ov
import pytest
import torch
from doors import find_logits
from openvino import opset13 as ops
from torch import nn

from otx_xai.errors import ConfigError, GraphError
from otx_xai.methods.class_gradients import MOST_CLASSES
from otx_xai.methods.table import find_method
from otx_xai.records import Method

SIZE = (32, 48)
METHODS = (Method.GRADCAM, Method.HIRESCAM, Method.LAYERCAM)


class Stages(nn.Module):
    """Three strides behind one another, a head that is not linear, and class scores that do not saturate."""

    def __init__(self, classes: int = networks.CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 10, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.coarse(self.middle(self.fine(x))).mean((2, 3)))


def maps_of(values: torch.Tensor, gradient: torch.Tensor, method: Method) -> torch.Tensor:
    """The published formulas, on ``(N, C, …)``."""
    places = tuple(range(2, values.ndim))
    if method is Method.GRADCAM:
        return (gradient.mean(places, keepdim=True) * values).sum(1).relu()
    return ((gradient if method is Method.HIRESCAM else gradient.relu()) * values).sum(1).relu()


def literal(
    net: nn.Module,
    layer: nn.Module,
    images: torch.Tensor,
    method: Method,
    classes: Sequence[Sequence[int]],
    arrange: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
) -> np.ndarray:
    """Maps ``(N, k, …)`` of the classes of each image by autograd."""
    seen: list[torch.Tensor] = []
    with layer.register_forward_hook(lambda *parts: seen.append(parts[2])):
        scores = net(images)
    rows = []
    for slot in range(len(classes[0])):
        total = sum(scores[n, chosen[slot]] for n, chosen in enumerate(classes))
        (gradient,) = torch.autograd.grad(total, seen[0], retain_graph=True)
        rows.append(maps_of(arrange(seen[0]), arrange(gradient), method))
    return torch.stack(rows, 1).detach().numpy()


def explained(model: ov.Model, images: torch.Tensor, method: Method, **order: object) -> dict[str, np.ndarray]:
    inserted = branches.insert_branch(model, find_logits(model), method=method, embed_scaling=False, **order)
    return networks.infer(inserted, images)


def layer_with(model: ov.Model, channels: int) -> str:
    """Name of the ReLU with so many channels."""
    (found,) = {
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Relu" and node.get_output_partial_shape(0)[1] == channels
    }
    return found


@pytest.fixture(scope="module")
def net() -> Stages:
    return Stages().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return networks.contrasting_images(SIZE, 3)


@pytest.fixture(scope="module")
def dynamic(net: Stages) -> ov.Model:
    return networks.convert(net, (-1, 3, *SIZE))


def assert_close(given: np.ndarray, wanted: np.ndarray) -> None:
    wanted = wanted.reshape(given.shape)
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [-1, 3, 1])
def test_maps_are_those_of_autograd(
    net: Stages, dynamic: ov.Model, images: torch.Tensor, method: Method, batch: int
) -> None:
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    shown = images[: abs(batch)] if batch > 0 else images
    every = [range(networks.CLASSES)] * len(shown)
    given = explained(model, shown, method)["saliency_map"]
    assert given.shape == (len(shown), networks.CLASSES, 4, 6)
    assert_close(given, literal(net, net.coarse, shown, method, every))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [-1, 1])
def test_the_best_classes_and_given_ones(
    net: Stages, dynamic: ov.Model, images: torch.Tensor, method: Method, batch: int
) -> None:
    model = networks.reshaped(dynamic, (batch, 3, *SIZE))
    shown = images if batch < 0 else images[:1]
    for count in (1, 2):
        best = explained(model, shown, method, classes=count)
        chosen = net(shown).topk(count).indices.tolist()
        assert best["saliency_targets"].tolist() == chosen
        assert_close(best["saliency_map"], literal(net, net.coarse, shown, method, chosen))
    given = explained(model, shown, method, classes=(4, 1))["saliency_map"]
    assert_close(given, literal(net, net.coarse, shown, method, [[4, 1]] * len(shown)))


def test_another_layer_is_named(net: Stages, dynamic: ov.Model, images: torch.Tensor) -> None:
    given = explained(dynamic, images, Method.LAYERCAM, classes=(2,), target_layer=layer_with(dynamic, 8))
    assert_close(given["saliency_map"], literal(net, net.middle, images, Method.LAYERCAM, [[2]] * 3))


def test_maps_of_several_layers_are_fused_as_published(net: Stages, dynamic: ov.Model, images: torch.Tensor) -> None:
    """Steps of 2, 4 and 8 pixels: the first is more than twice as fine as the last."""
    names = [layer_with(dynamic, channels) for channels in (10, 6, 8)]
    model = branches.classifier(dynamic, find_logits(dynamic), "NCHW")
    spec = find_method("layercam")
    assert spec.fits(model, names).fits
    assert spec.insert is not None
    inserted = spec.insert(model, branches.Order(tuple(names), (2,), embed_scaling=False)).model
    given = networks.infer(inserted, images)["saliency_map"][:, 0]
    fine, middle, coarse = (
        torch.tensor(literal(net, layer, images, Method.LAYERCAM, [[2]] * 3))
        for layer in (net.fine, net.middle, net.coarse)
    )
    fine, middle, coarse = (each / each.amax((2, 3), keepdim=True) for each in (fine, middle, coarse))
    # with a padding of 1 before each kernel of 3, all grids begin on the first pixel
    rows, columns = fine.shape[2:]
    moved = [_looked_up(each, factor, rows, columns) for each, factor in ((middle, 2), (coarse, 4))]
    wanted = torch.maximum(torch.tanh(2 * fine[:, 0]), torch.maximum(*moved)).numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def _looked_up(maps: torch.Tensor, factor: int, rows: int, columns: int) -> torch.Tensor:
    """Bilinear between places that lie ``factor`` places of the fine grid apart, constant behind the last."""
    wide = nn.functional.interpolate(
        maps,
        size=((maps.shape[2] - 1) * factor + 1, (maps.shape[3] - 1) * factor + 1),
        mode="bilinear",
        align_corners=True,
    )
    padded = nn.functional.pad(wide, (0, columns - wide.shape[3], 0, rows - wide.shape[2]), mode="replicate")
    return padded[:, 0]


TRANSFORMERS = {
    "timm_vit_fused": ("blocks.1.norm1", 1),
    "timm_vit_layer_scale_registers": ("blocks.1.norm1", 5),
    "vit_average_pooled": ("norm", 0),
    "swin": ("norm", None),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_tokens(name: str) -> None:
    layer, prefix = TRANSFORMERS[name]
    net = networks.build(name)
    images = networks.contrasting_images(networks.NETWORKS[name].size, 2)
    model = networks.convert(net, (-1, *images.shape[1:]))
    channels_last = prefix is None

    def arrange(values: torch.Tensor) -> torch.Tensor:
        return values.movedim(-1, 1) if channels_last else values[:, prefix:].transpose(1, 2)

    for method in (Method.GRADCAM, Method.LAYERCAM):
        given = explained(model, images, method, classes=(3, 0))["saliency_map"]
        wanted = literal(net, net.get_submodule(layer), images, method, [[3, 0]] * 2, arrange)
        np.testing.assert_allclose(given.reshape(2, 2, -1), wanted.reshape(2, 2, -1), atol=1e-4 * np.abs(wanted).max())


def test_behind_a_global_pooling_hirescam_is_recipro_cam() -> None:
    net = networks.build("resnet18")
    images = networks.contrasting_images((64, 96), 2)
    model = networks.convert(net, (-1, 3, 64, 96))
    maps = [explained(model, images, method)["saliency_map"] for method in (Method.HIRESCAM, Method.RECIPROCAM)]
    bias = net.fc.bias.detach().numpy()[None, :, None, None]
    np.testing.assert_allclose(maps[0], np.maximum(maps[1] - bias, 0), atol=1e-4 * np.abs(maps[1]).max())


def test_quantisers_are_passed_straight(net: Stages, dynamic: ov.Model, images: torch.Tensor) -> None:
    """A quantiser with many levels behind the middle stage leaves maps what they are, up to its steps."""
    plain = explained(dynamic, images, Method.LAYERCAM, classes=(2,))["saliency_map"]
    quantised = dynamic.clone()
    node = next(node for node in quantised.get_ops() if node.get_friendly_name() == layer_with(quantised, 8))
    limits = [np.float32(number) for number in (0, 8, 0, 8)]
    targets = list(node.output(0).get_target_inputs())
    rounded = ops.fake_quantize(node, *map(ops.constant, limits), 65536)
    for target in targets:
        target.replace_source_output(rounded.output(0))
    quantised.validate_nodes_and_infer_types()
    given = explained(quantised, images, Method.LAYERCAM, classes=(2,))["saliency_map"]
    np.testing.assert_allclose(given, plain, atol=1e-2 * plain.max())


def test_an_operation_without_a_rule_is_named() -> None:
    image = ops.parameter([1, 3, 8, 8], np.float32)
    weights = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    maps = ops.convolution(image, weights, [2, 2], [0, 0], [0, 0], [1, 1])
    odd = ops.atan(ops.reduce_mean(maps, np.array([2, 3])))
    odd.set_friendly_name("angle")
    scores = ops.matmul(odd, np.ones((4, 5), np.float32), False, False)
    scores.output(0).set_names({"logits"})
    model = ov.Model([scores], [image], "classifier")
    fit = find_method("gradcam").fits(branches.classifier(model, find_logits(model)), ())
    assert not fit.fits
    assert "Atan 'angle' has no rule" in fit.reason


def test_too_many_classes_are_refused() -> None:
    model = networks.convert(Stages(MOST_CLASSES + 1).eval(), (1, 3, *SIZE))
    with pytest.raises(GraphError, match=f"The gradients of {MOST_CLASSES + 1} classes at once .* Name fewer"):
        explained(model, torch.zeros(1, 3, *SIZE), Method.GRADCAM)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [("nowhere", "no layer or tensor of the model has this name"), ("logits", "has no places")],
)
def test_a_layer_that_cannot_be_explained(dynamic: ov.Model, layer: str, reason: str) -> None:
    model = dynamic.clone()
    model.outputs[0].get_node().input_value(0).set_names({"logits"})
    with pytest.raises(GraphError, match=f"--target_layer {layer!r} cannot be explained: .*{reason}"):
        explained(model, torch.zeros(1, 3, *SIZE), Method.GRADCAM, target_layer=layer)


def test_grad_cam_takes_one_layer(dynamic: ov.Model) -> None:
    model = branches.classifier(dynamic, find_logits(dynamic))
    with pytest.raises(ConfigError, match="target_layer names 2 layers; expected one"):
        find_method("gradcam").fits(model, ("a", "b"))
