"""Small networks of every family that must be explained, with random weights in every parameter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import openvino as ov
import reference
import timm
import torch
import torchvision
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from otx_xai.openvino_core import core

CLASSES = 7


@dataclass(frozen=True)
class Network:
    """A network with its literal explanation.

    Args:
        build: gives the network.
        literal: gives maps (N, K, h, w) of a network and images.
        size: height and width of the images.
        exported: it goes through ``torch.export`` instead of tracing.
    """

    build: Callable[[], nn.Module]
    literal: Callable[[nn.Module, torch.Tensor], np.ndarray]
    size: tuple[int, int] = (64, 96)
    exported: bool = False


def build(name: str) -> nn.Module:
    """Build a network by name, with no weight at its neutral value and maps that differ clearly from place to place."""
    torch.manual_seed(sum(map(ord, name)))
    model = NETWORKS[name].build()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for key, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim <= 1 or "token" in key or "pos_embed" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif not norms:
                parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5)
    for norm in norms:
        norm.momentum = None  # statistics of one batch: activations keep unit scale through all layers
    with torch.no_grad():
        model.train(bool(norms))(contrasting_images(NETWORKS[name].size, 8))
    return model.eval()


def contrasting_images(size: tuple[int, int], count: int = 4) -> torch.Tensor:
    """Noise whose strength differs from region to region."""
    generator = torch.Generator().manual_seed(1)
    strength = 4 * torch.rand(count, 1, 4, 6, generator=generator) ** 2
    strength = nn.functional.interpolate(strength, size=size)
    return strength * torch.randn(count, 3, *size, generator=generator)


@dataclass(frozen=True)
class Case:
    """A network with images, its literal maps of them, and its model with a dynamic batch (do not change it)."""

    network: Network
    model: nn.Module
    images: torch.Tensor
    literal: np.ndarray
    dynamic: ov.Model


@cache
def case(name: str) -> Case:
    """Build, explain literally and convert a network, once for all tests."""
    network, model = NETWORKS[name], build(name)
    images = contrasting_images(network.size)
    dynamic = convert(model, (-1, 3, *network.size), exported=network.exported)
    return Case(network, model, images, network.literal(model, images), dynamic)


def reshaped(model: ov.Model, shape: tuple[int, ...]) -> ov.Model:
    """Copy a model with another input shape; -1 is a dynamic axis."""
    model = model.clone()
    model.reshape(ov.PartialShape(list(shape)))
    return model


def infer(model: ov.Model, images: torch.Tensor | np.ndarray) -> dict[str, np.ndarray]:
    """Run a model in full precision; results by tensor name."""
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(np.asarray(images))
    return {name: np.array(results[output]) for output in compiled.outputs for name in output.get_names()}


def operations(model: ov.Model) -> list[str]:
    """Kinds of all operations of a model, loops excluded."""
    return [node.get_type_name() for node in model.get_ops()]


def grid_of(explained: ov.Model) -> list[int | None]:
    """Height and width of the maps of an explained model, ``None`` where dynamic."""
    output = next(output for output in explained.outputs if "saliency_map" in output.get_names())
    return [None if size.is_dynamic else size.get_length() for size in list(output.get_partial_shape())[-2:]]


def to_onnx(model: nn.Module, images: torch.Tensor, path: Path, *, dynamic: bool) -> ov.Model:
    """Export to ONNX and read that with OpenVINO."""
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.onnx.export(model, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    return core().read_model(path)


def convert(model: nn.Module, shape: tuple[int, int, int, int], *, exported: bool = False) -> ov.Model:
    """Convert to OpenVINO; -1 is a dynamic axis."""
    example = torch.randn(*(2 if size == -1 and i == 0 else 64 if size == -1 else size for i, size in enumerate(shape)))
    if not exported:
        with warnings.catch_warnings():
            # OpenVINO still traces; and networks that read their sizes as numbers are traced for one size
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated")
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            # without the check, which runs the network several times more
            decoder = TorchScriptPythonDecoder(model, example_input=example, trace_kwargs={"check_trace": False})
        return ov.convert_model(decoder, example_input=example, input=[ov.PartialShape(list(shape))])
    if shape[0] == -1:
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    else:
        program = torch.export.export(model, (example,))
    converted = ov.convert_model(program)
    converted.reshape(ov.PartialShape(list(shape)))
    return converted


def _cam(layer: str, *, channels_last: bool = False) -> Callable[[nn.Module, torch.Tensor], np.ndarray]:
    return lambda model, images: reference.recipro_cam(
        model, model.get_submodule(layer), images, channels_last=channels_last
    )


def _vit(block: str, norm: str, grid: tuple[int, int], prefix: int = 1):
    return lambda model, images: reference.vit_recipro_cam(
        model, model.get_submodule(block), model.get_submodule(norm), images, grid, prefix
    )


def _timm_vit(name: str = "vit_tiny_patch16_224", *, fused: bool = True, **options: object) -> nn.Module:
    options = {"img_size": (64, 96), "depth": 2, "embed_dim": 24, "num_heads": 3, "num_classes": CLASSES} | options
    model = timm.create_model(name, **options)
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model


class SeparateAttention(nn.Module):
    """Pre-norm transformer with separate q, k and v layers and decomposed attention, written by hand."""

    def __init__(self, dim: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, dim, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.norms = nn.ModuleList(DecomposedNorm(dim) for _ in range(2))
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.block = nn.Identity()
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = self.block(x)
        y = self.norms[0](x)
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norms[1](x))
        return self.head(x[:, 0])


class DecomposedNorm(nn.Module):
    """Layer norm out of elementary operations."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class TwoPools(nn.Module):
    """Mean and maximum pooling joined, as fastai heads do it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 16, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.features(images)
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def _small_vgg() -> nn.Module:
    features = torchvision.models.vgg.make_layers([8, "M", 16, "M"], batch_norm=True)
    model = torchvision.models.VGG(features, num_classes=CLASSES, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d((4, 6))
    model.classifier = nn.Sequential(
        nn.Linear(16 * 24, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES)
    )
    return model


_models = torchvision.models


def _torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    return partial(getattr(_models, name), weights=None, num_classes=CLASSES, **options)


NETWORKS: dict[str, Network] = {
    "resnet18": Network(_torchvision("resnet18"), _cam("layer4")),
    "efficientnet_b0": Network(_torchvision("efficientnet_b0"), _cam("features")),
    "convnext": Network(
        lambda: _models.ConvNeXt(
            [_models.convnext.CNBlockConfig(16, 32, 1), _models.convnext.CNBlockConfig(32, None, 1)],
            num_classes=CLASSES,
        ),
        _cam("features"),
    ),
    "mobilenet_v3_small": Network(_torchvision("mobilenet_v3_small"), _cam("features")),
    "squeezenet": Network(_torchvision("squeezenet1_1"), _cam("classifier.2")),
    "densenet": Network(lambda: _models.DenseNet(8, (2, 2), 8, num_classes=CLASSES), _cam("features"), size=(32, 48)),
    "vgg": Network(_small_vgg, _cam("avgpool"), size=(56, 84)),
    "two_pools": Network(TwoPools, _cam("features")),
    "swin": Network(
        lambda: _models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=CLASSES),
        _cam("norm", channels_last=True),
        size=(32, 48),
    ),
    "timm_swin": Network(
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=(32, 48),
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
            window_size=4,
            num_classes=CLASSES,
        ),
        _cam("norm", channels_last=True),
        size=(32, 48),
    ),
    "vit_b_style": Network(
        lambda: _models.VisionTransformer(64, 16, 2, 3, 24, 48, num_classes=CLASSES),
        _vit("encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_1.ln_1", (4, 4)),
        size=(64, 64),
        exported=True,
    ),
    "timm_vit_fused": Network(_timm_vit, _vit("blocks.1", "blocks.1.norm1", (4, 6))),
    "timm_vit_decomposed": Network(partial(_timm_vit, fused=False), _vit("blocks.1", "blocks.1.norm1", (4, 6))),
    "timm_vit_layer_scale_registers": Network(
        partial(_timm_vit, init_values=0.3, reg_tokens=4), _vit("blocks.1", "blocks.1.norm1", (4, 6), 5)
    ),
    "timm_vit_qk_norm": Network(partial(_timm_vit, qk_norm=True), _vit("blocks.1", "blocks.1.norm1", (4, 6))),
    "deit_distilled": Network(
        partial(_timm_vit, "deit_tiny_distilled_patch16_224"), _vit("blocks.1", "blocks.1.norm1", (4, 6), 2)
    ),
    "beit_style_pooled": Network(
        partial(_timm_vit, global_pool="avg", reg_tokens=2),
        lambda model, images: reference.recipro_cam_on_tokens(model, model.norm, images, (4, 6), 3),
    ),
    "vit_average_pooled": Network(
        partial(_timm_vit, global_pool="avg", class_token=False),
        lambda model, images: reference.recipro_cam_on_tokens(model, model.norm, images, (4, 6)),
    ),
    "hiera": Network(
        lambda: timm.create_model(
            "hiera_tiny_224", img_size=(64, 96), embed_dim=16, stages=(1, 1, 1, 1), num_classes=CLASSES
        ),
        lambda model, images: reference.recipro_cam_on_tokens(model, model.blocks[-1], images, (2, 3)),
    ),
    "mixer": Network(
        lambda: timm.models.mlp_mixer.MlpMixer(
            img_size=(64, 96), patch_size=16, num_blocks=2, embed_dim=24, num_classes=CLASSES
        ),
        lambda model, images: reference.recipro_cam_on_tokens(model, model.norm, images, (4, 6)),
    ),
    "separate_qkv": Network(SeparateAttention, _vit("block", "norms.0", (4, 6))),
}
