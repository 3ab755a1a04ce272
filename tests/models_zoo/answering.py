"""Make networks with random weights answer like trained ones: scores that differ, boxes that are found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pictures import draw
from torch import Tensor, nn

Head = nn.Linear | nn.Conv2d
LEAST, SHARE = 1e-3, 0.1
"""What is next to nothing as the factor of a branch, and what it is made."""


def tensors(size: tuple[int, int], count: int = 8) -> Tensor:
    """Return drawn pictures as ``(N, 3, H, W)``, about normalised."""
    arrays = torch.stack([torch.from_numpy(draw(size, 100 + seed)) for seed in range(count)])
    return (arrays.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.23


def settle(network: nn.Module, images: Tensor) -> nn.Module:
    """Let batch normalisations see images, so that activations neither vanish nor explode.

    Branches that begin next to nothing (LayerScale) count: else all images look alike to the last layer, and what tells
    them apart would be rounding.
    """
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            is_vector = parameter.numel() == max(parameter.shape, default=1)  # not the weights of a head
            if is_vector and 0 < float(parameter.abs().max()) < LEAST:
                parameter.fill_(SHARE)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        network(images)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def spread(network: nn.Module, images: Tensor, head: Head, *, deviation: float, share: float | None = None) -> None:
    """Scale the last layer so that what it gives for images has a deviation, and a mean of 0.

    Args:
        network: whatever calls the layer.
        images: ``(N, 3, H, W)``.
        head: the layer.
        deviation: of its outputs wanted.
        share: of its outputs that shall be above 0.5, instead of the mean of 0 for each channel.
    """
    if not head.weight.any():
        nn.init.normal_(head.weight, std=0.1)
    seen = outputs_of(network, images, head)
    if not seen:
        return  # a layer for training only
    values = torch.cat(seen)
    centred = values - values.mean(0)
    factor = deviation / float(centred.std() if share is None else values.std())
    shift = values.mean(0) if share is None else values.flatten().sort().values[-max(1, int(share * values.numel()))]
    with torch.no_grad():
        bias = head.bias if head.bias is not None else torch.zeros(values.shape[1])
        head.weight.mul_(factor)
        head.bias = nn.Parameter(factor * (bias - shift) + (0 if share is None else 0.5))


def answer(network: nn.Module, images: Tensor, classes: int, deviation: float = 1.5) -> nn.Module:
    """Prepare a classifier: settle it, and spread every layer that has one output a class."""
    settle(network, images)
    for head in [module for module in network.modules() if classes in _sizes(module)]:
        spread(network, images, head, deviation=deviation)
    return network.eval()


def last_layers(modules: Iterable[nn.Module]) -> list[Head]:
    """Return the last linear layer or convolution of each module."""
    return [[part for part in module.modules() if isinstance(part, Head)][-1] for module in modules]


def _sizes(module: nn.Module) -> tuple[Any, ...]:
    return getattr(module, "out_features", None), getattr(module, "out_channels", None)


def outputs_of(network: nn.Module, images: Tensor, head: Head) -> list[Tensor]:
    """Return what a layer gives, ``(…, channels)``, a call each."""
    seen: list[Tensor] = []

    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        channels_last = output.movedim(1, -1) if isinstance(module, nn.Conv2d) else output
        seen.append(channels_last.reshape(-1, channels_last.shape[-1]).detach())

    handle = head.register_forward_hook(record)
    with torch.no_grad():
        network(images)
    handle.remove()
    return seen
