"""Layers of the user's choice, heads of every shape, and loops over them, against the literal definition in torch."""

from __future__ import annotations

import networks
import numpy as np
import openvino as ov
import pytest
import reference
import torch
from branches import insert_branch
from doors import find_logits
from networks import CLASSES
from torch import nn

from otx_xai.methods import heads
from otx_xai.records import Method

TOLERANCE = 1e-4 * 255
SIZE = (32, 48)


class Steps(nn.Module):
    """A small convolutional network whose layers are marked by ``nn.Identity``, which no conversion keeps."""

    def __init__(self, pool: nn.Module | None = None, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU())
        self.second = nn.Conv2d(6, 10, 3, 2, 1)
        self.activation = activation or nn.Hardswish()
        self.pool = pool or nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.activation(self.second(self.first(images)))))


class SqueezedBatch(Steps):
    """A head that knows of one image only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        vector = self.activation(self.second(self.first(images))).mean((2, 3)).squeeze(0)
        return self.head[1:](vector).unsqueeze(0)


class TwoBranches(nn.Module):
    """Two branches that meet before the pooling (``early``) or behind it."""

    def __init__(self, *, early: bool) -> None:
        super().__init__()
        self.early = early
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU())
        self.left, self.right = nn.Conv2d(6, 5, 3, 2, 1), nn.Conv2d(6, 5, 5, 2, 2)
        self.joined = nn.Identity()
        self.head = nn.Linear(10, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        branches = [self.left(x).relu(), self.right(x).tanh()]
        if self.early:
            return self.head(self.joined(torch.cat(branches, 1)).mean((2, 3)))
        return self.head(torch.cat([branch.mean((2, 3)) for branch in branches], 1))


class Inverted(nn.Module):
    """An activation that is 2 where its input is 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 - x.abs().sqrt()


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1.5 / max(1, parameter[0].numel()) ** 0.5)
    return model.eval()


def node_like(model: ov.Model, *parts: str) -> str:
    """Friendly name of the last operation with all these words in its name."""
    names = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    return [name for name in names if all(part in name for part in parts)][-1]


def explain(model: ov.Model, images: torch.Tensor, **options: object) -> tuple[ov.Model, np.ndarray]:
    explained = insert_branch(model, find_logits(model), **options)
    return explained, networks.infer(explained, images)["saliency_map"]


def assert_maps(maps: np.ndarray, literal: np.ndarray) -> None:
    assert maps.shape == literal.shape
    np.testing.assert_allclose(maps, reference.scaled(literal), atol=TOLERANCE, rtol=0)


def chunk_of(explained: ov.Model) -> int | None:
    """How many masks the loop of an explained model takes at a time; ``None`` for no loop."""
    loops = [node for node in explained.get_ops() if node.get_type_name() == "TensorIterator"]
    if not loops:
        return None
    numbers = [it for it in loops[0].get_function().get_parameters() if it.get_element_type() == ov.Type.i64]
    return max(it.get_partial_shape()[0].get_length() for it in numbers if it.get_partial_shape().rank.get_length())


@pytest.mark.parametrize("batch", [-1, 1, 4])
@pytest.mark.parametrize(
    ("limit", "chunks"), [(None, [None]), (100_000, range(2, 96)), (1, [1])], ids=["whole", "chunks", "ones"]
)
def test_an_earlier_layer(monkeypatch: pytest.MonkeyPatch, limit: int | None, chunks: list[int | None], batch: int):
    """All masks at once, in chunks, and one by one: 96 places of the first layer."""
    if limit is not None:
        monkeypatch.setattr(heads, "MEMORY_LIMIT", limit)
    model = randomised(Steps())
    images = networks.contrasting_images(SIZE, 3 if batch == -1 else batch)
    graph = networks.convert(model, (batch, 3, *SIZE))
    explained, maps = explain(graph, images, target_layer=node_like(graph, "first", "Relu"))
    assert chunk_of(explained) in chunks
    assert_maps(maps, reference.recipro_cam(model, model.first, images))


def test_chunks_that_do_not_divide_the_number_of_places(monkeypatch: pytest.MonkeyPatch):
    model, images = randomised(Steps()), networks.contrasting_images(SIZE, 2)
    graph = networks.convert(model, (2, 3, *SIZE))
    for limit in range(40_000, 200_000, 10_000):
        monkeypatch.setattr(heads, "MEMORY_LIMIT", limit)
        explained, maps = explain(graph, images, target_layer=node_like(graph, "first", "Relu"), classes=(4, 1))
        if 96 % (chunk_of(explained) or 96):
            break
    else:
        pytest.fail("no limit led to a chunk that does not divide 96")
    assert_maps(maps, reference.recipro_cam(model, model.first, images)[:, [4, 1]])


@pytest.mark.parametrize("batch", [-1, 2])
def test_an_earlier_layer_of_images_of_any_size(batch: int):
    model = randomised(Steps())
    graph = networks.convert(model, (batch, 3, -1, -1))
    explained = insert_branch(graph, find_logits(graph), target_layer=node_like(graph, "first", "Relu"))
    for size in (SIZE, (40, 24)):
        images = networks.contrasting_images(size, 2)
        maps = networks.infer(explained, images)["saliency_map"]
        assert_maps(maps, reference.recipro_cam(model, model.first, images))
    assert chunk_of(explained) == 1, "a map of any size leaves room for one mask at a time only"


@pytest.mark.parametrize("name", ["swin", "timm_swin", "convnext"])
@pytest.mark.parametrize("batch", [-1, 2])
def test_an_earlier_layer_of_larger_networks(name: str, batch: int):
    case = networks.case(name)
    graph = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    target, layer, options = {
        "swin": (("features.3.0", "Add"), "features.3.0", {"channels_last": True}),
        "timm_swin": (("layers.1.blocks.0", "Add"), "layers.1.blocks.0", {"channels_last": True}),
        "convnext": (("features.3.0", "Add"), "features.3.0", {}),
    }[name]
    _, maps = explain(graph, case.images[:2], target_layer=node_like(graph, *target))
    module = case.model.get_submodule(layer)
    assert_maps(maps, reference.recipro_cam(case.model, module, case.images[:2], **options))


@pytest.mark.parametrize("batch", [-1, 2])
@pytest.mark.parametrize("name", ["beit_style_pooled", "vit_average_pooled"])
def test_patches_before_the_first_block(name: str, batch: int):
    """Prefix tokens join behind the layer, with a batch of their own."""
    case = networks.case(name)
    graph = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    images = case.images[: abs(batch) if batch == 1 else 2]
    _, maps = explain(graph, images, target_layer=node_like(graph, "patch_embed.proj", "_convolution"))
    assert_maps(maps, reference.recipro_cam(case.model, case.model.patch_embed.proj, images))


@pytest.mark.parametrize("batch", [-1, 4])
@pytest.mark.parametrize("name", ["timm_vit_fused", "timm_vit_decomposed"])
def test_an_earlier_block_of_a_transformer(name: str, batch: int):
    case = networks.case(name)
    graph = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    images = case.images[: abs(batch) if batch == 1 else 4]
    entering = next(
        node.input_value(0).get_node().get_friendly_name()
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "MVN"
    )
    _, maps = explain(graph, images, target_layer=entering)
    first = case.model.blocks[0]
    assert_maps(maps, reference.vit_recipro_cam(case.model, first, first.norm1, images, (4, 6)))


@pytest.mark.parametrize("batch", [-1, 4])
@pytest.mark.parametrize("name", ["timm_vit_fused", "timm_vit_decomposed", "deit_distilled"])
def test_attention_in_portions(monkeypatch: pytest.MonkeyPatch, name: str, batch: int):
    """Where the logits of all masks do not fit into memory, a few masks at a time do."""
    case = networks.case(name)
    graph = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    images = case.images[: abs(batch) if batch == 1 else 4]
    whole, _ = explain(graph, images)
    monkeypatch.setattr(heads, "MEMORY_LIMIT", 5_000)
    divided, maps = explain(graph, images)
    assert networks.operations(divided).count("Softmax") > networks.operations(whole).count("Softmax") + 2
    assert_maps(maps, case.literal[: len(images)])


@pytest.mark.parametrize("batch", [-1, 3])
@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1), nn.MaxPool2d((4, 6))], ids=str)
@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Softplus(), Inverted()], ids=["sigmoid", "softplus", "other"])
def test_a_layer_whose_silence_is_not_zero_at_the_pooling(pool: nn.Module, activation: nn.Module, batch: int):
    """What masks silence in front of the activation is still heard behind it."""
    model = randomised(Steps(pool, activation))
    images = networks.contrasting_images(SIZE, 1 if batch == 1 else 3)
    graph = networks.convert(model, (batch, 3, *SIZE))
    explained, maps = explain(graph, images, target_layer=node_like(graph, "second", "_convolution"))
    assert chunk_of(explained) is None
    literal = reference.recipro_cam(model, model.second, images)
    assert_maps(maps, literal)
    _, maps = explain(graph, images)
    assert_maps(maps, reference.recipro_cam(model, model.activation, images))


def test_feature_maps_of_one_place_lead_to_an_earlier_layer():
    case = networks.case("resnet18")
    images = networks.contrasting_images((32, 32), 2)
    graph = networks.convert(case.model, (2, 3, 32, 32))
    _, maps = explain(graph, images)
    assert maps.shape[-2:] == (2, 2)
    assert_maps(maps, reference.recipro_cam(case.model, case.model.layer3, images))


def test_a_head_for_one_image_is_run_place_by_place():
    model, images = randomised(SqueezedBatch()), networks.contrasting_images(SIZE, 1)
    explained, maps = explain(networks.convert(model, (1, 3, *SIZE)), images)
    assert chunk_of(explained) == 1
    assert_maps(maps, reference.recipro_cam(model, model.activation, images))


@pytest.mark.parametrize("batch", [-1, 3])
@pytest.mark.parametrize(("early", "layer"), [(True, "joined"), (False, "stem")], ids=["early", "late"])
def test_branches(early: bool, layer: str, batch: int):
    """The features are where the branches meet; where they only meet behind the pooling, where they part."""
    model = randomised(TwoBranches(early=early))
    images = networks.contrasting_images(SIZE, 1 if batch == 1 else 3)
    _, maps = explain(networks.convert(model, (batch, 3, *SIZE)), images)
    assert_maps(maps, reference.recipro_cam(model, model.get_submodule(layer), images))


@pytest.mark.parametrize("name", ["two_pools", "vgg", "swin", "beit_style_pooled", "timm_vit_fused"])
def test_unscaled_maps_are_class_scores(name: str):
    case = networks.case(name)
    _, maps = explain(case.dynamic, case.images, embed_scaling=False)
    np.testing.assert_allclose(maps, case.literal, atol=1e-4 * np.ptp(case.literal), rtol=0)


@pytest.mark.parametrize(
    ("name", "layer", "axis", "grid"),
    [
        ("resnet18", "layer4", 1, None),
        ("vgg", "avgpool", 1, None),
        ("convnext", "features", 1, None),
        ("swin", "features", -1, None),
        ("timm_vit_fused", "blocks.1", -1, (4, 6)),
        ("vit_average_pooled", "blocks.1", -1, (4, 6)),
    ],
)
@pytest.mark.parametrize("batch", [-1, 1])
def test_activation_maps(name: str, layer: str, axis: int, grid: tuple[int, int] | None, batch: int):
    case = networks.case(name)
    graph = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    images = case.images[:1] if batch == 1 else case.images
    _, maps = explain(graph, images, method=Method.ACTIVATIONMAP)
    literal = reference.activation_map(case.model, case.model.get_submodule(layer), images, axis)
    if grid:
        literal = literal[:, -grid[0] * grid[1] :].reshape(-1, *grid)
    assert_maps(maps, literal)


@pytest.mark.parametrize("method", [Method.RECIPROCAM, Method.ACTIVATIONMAP])
def test_a_batch_is_its_images_one_by_one(method: Method):
    case = networks.case("swin")
    explained = insert_branch(case.dynamic, find_logits(case.dynamic), method=method)
    whole = networks.infer(explained, case.images)["saliency_map"]
    singles = [networks.infer(explained, case.images[i : i + 1])["saliency_map"] for i in range(len(case.images))]
    np.testing.assert_allclose(whole, np.concatenate(singles), atol=TOLERANCE)
