"""Classifiers that learn quickly from scratch on small pictures, and the body that slim detectors share with one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

BODY_WIDTHS = (16, 32, 96, 128)
"""Channels of the stem and of the stages of stride 4, 8 and 16."""


class Residual(nn.Module):  # type: ignore[misc]
    """``x + f(x)``, two convolutions of 3 × 3.

    Args:
        channels: that come in and go out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_same(channels), *_same(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return features + self.body(features)


def slim_body(widths: Sequence[int] = BODY_WIDTHS) -> nn.Sequential:
    """Return stages ``layer1`` (stride 4), ``layer2`` (8), ``layer3`` (16), …

    The kernels that halve the resolution are even, so a cell of a map lies exactly over the middle of the pixels it
    stands for; odd kernels would move every map by half a cell to the right and down.

    Args:
        widths: channels of the stem, and of each stage.
    """
    stem = _normalised(nn.Conv2d(3, widths[0], 4, 2, padding=1, bias=False))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (incoming, width) in enumerate(pairwise(widths), start=1):
        halve = _normalised(nn.Conv2d(incoming, width, 2, 2, bias=False))
        layers[f"layer{number}"] = nn.Sequential(*stem, *halve, Residual(width))
        stem = []
    return nn.Sequential(layers)


def resnet_slim(num_classes: int, widths: Sequence[int] = BODY_WIDTHS[:3]) -> nn.Sequential:
    """Build a residual network of stride 8 (He et al., Deep Residual Learning for Image Recognition, CVPR 2016).

    The average before the last convolution lets a cell speak for its neighbours: corners, which tell shapes apart, else
    draw the peak of a map just beyond the outline.

    Args:
        num_classes: number of classes.
        widths: channels of the stem, and of each stage.
    """
    mix = nn.Conv2d(widths[-1], widths[-1], 1, bias=False)
    network = slim_body(widths)
    for name, layer in {
        "mix": nn.Sequential(nn.AvgPool2d(3, 1, 1), *_normalised(mix)),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": nn.Linear(widths[-1], num_classes),
    }.items():
        network.add_module(name, layer)
    return network.to(memory_format=torch.channels_last)


def conv_slim(num_classes: int) -> nn.Sequential:
    """Build a network of stride 4, one cell of which sees about 28 pixels: it learns marks and textures in seconds."""
    return nn.Sequential(
        *_normalised(nn.Conv2d(3, 12, 4, 2, padding=1, bias=False)),
        *_normalised(nn.Conv2d(12, 24, 2, 2, bias=False)),
        *_normalised(nn.Conv2d(24, 48, 3, padding=1, bias=False)),
        nn.AvgPool2d(3, 1, 1),
        *_normalised(nn.Conv2d(48, 48, 1, bias=False)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, num_classes),
    ).to(memory_format=torch.channels_last)


def _same(channels: int) -> list[nn.Module]:
    return _normalised(nn.Conv2d(channels, channels, 3, padding=1, bias=False))


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]
