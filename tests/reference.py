"""Slow, obvious versions of the published algorithms, in torch, one mask at a time: what the fast forms must equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import nn

from otx_xai.ir import core

KERNEL = torch.tensor([[1 / 16, 1 / 8, 1 / 16], [1 / 8, 1 / 4, 1 / 8], [1 / 16, 1 / 8, 1 / 16]])


@torch.no_grad()
def recipro_cam(model: nn.Module, layer: nn.Module, images: torch.Tensor, *, channels_last: bool = False) -> np.ndarray:
    """Class scores (N, K, h, w) when only one place of the layer's output is left, by running the whole model.

    ``layer`` gives (N, C, h, w), with ``channels_last`` (N, h, w, C).
    """
    seen: list[torch.Tensor] = []
    with hooked(layer, seen.append):
        count = model(images).shape[1]
    height, width = seen[0].shape[1:3] if channels_last else seen[0].shape[2:4]
    maps = torch.zeros(len(images), count, height, width)
    for i in range(height):
        for j in range(width):
            mask = torch.zeros(height, width)
            mask[i, j] = 1
            mask = mask[None, :, :, None] if channels_last else mask[None, None]
            with hooked(layer, lambda value, mask=mask: value * mask):
                maps[:, :, i, j] = model(images)
    return maps.numpy()


@torch.no_grad()
def recipro_cam_on_tokens(
    model: nn.Module, layer: nn.Module, images: torch.Tensor, grid: tuple[int, int], prefix: int = 0
) -> np.ndarray:
    """The same for a layer that gives (N, prefix + h·w, C); prefix tokens are kept."""
    count = model(images).shape[1]
    maps = torch.zeros(len(images), count, *grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            mask = torch.zeros(prefix + grid[0] * grid[1], 1)
            mask[:prefix] = 1
            mask[prefix + i * grid[1] + j] = 1
            with hooked(layer, lambda value, mask=mask: value * mask):
                maps[:, :, i, j] = model(images)
    return maps.numpy()


@torch.no_grad()
def vit_recipro_cam(
    model: nn.Module, block: nn.Module, norm: nn.Module, images: torch.Tensor, grid: tuple[int, int], prefix: int = 1
) -> np.ndarray:
    """Class scores (N, K, h, w) when ``block`` sees a 3×3 Gaussian neighbourhood of one place, prefix tokens kept.

    The mask multiplies the block's residual input and the output of its first ``norm`` (of the unmasked input).
    """
    entering: list[torch.Tensor] = []
    normed: list[torch.Tensor] = []
    with block.register_forward_pre_hook(lambda _, args: entering.append(args[0])), hooked(norm, normed.append):
        count = model(images).shape[1]
    maps = torch.zeros(len(images), count, *grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            padded = torch.zeros(grid[0] + 2, grid[1] + 2)
            padded[i : i + 3, j : j + 3] = KERNEL
            mask = torch.cat([torch.ones(prefix), padded[1:-1, 1:-1].reshape(-1)])[None, :, None]
            with (
                block.register_forward_pre_hook(lambda _, args, mask=mask: (entering[0] * mask, *args[1:])),
                hooked(norm, lambda _, mask=mask: normed[0] * mask),
            ):
                maps[:, :, i, j] = model(images)
    return maps.numpy()


@torch.no_grad()
def activation_map(model: nn.Module, layer: nn.Module, images: torch.Tensor, axis: int = 1) -> np.ndarray:
    """Mean of the layer's output over the channel axis."""
    seen: list[torch.Tensor] = []
    with hooked(layer, seen.append):
        model(images)
    return seen[0].mean(dim=axis).numpy()


def recipro_cam_of_graph(
    model: ov.Model,
    layer: str,
    logits: ov.Output,
    images: np.ndarray,
    *,
    places: tuple[int, ...] = (2, 3),
    values: list[np.ndarray] | None = None,
) -> np.ndarray:
    """The same, of a layer of an OpenVINO graph, by running what lies behind it: (N, K, h, w).

    Quantisers of activations behind the layer are passed by. ``places`` are the axes of height and width; ``values``
    those of the layer where they are known (in 8 bit they are rounded anew by each compilation).
    """
    measured, head = cut_open(model, [layer], logits, images)
    values = values or measured
    height, width = (values[0].shape[axis] for axis in places)
    columns = []
    for place in range(height * width):
        mask = np.zeros([values[0].shape[axis] if axis in places else 1 for axis in range(4)], np.float32)
        mask.reshape(-1)[place] = 1
        columns.append(head([values[0] * mask]))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, height, width)


def vit_recipro_cam_of_graph(
    model: ov.Model,
    residual: str,
    normed: str,
    logits: ov.Output,
    images: np.ndarray,
    grid: tuple[int, int],
    prefix: int = 1,
    values: list[np.ndarray] | None = None,
) -> np.ndarray:
    """The same for the last block of a transformer, given its residual tokens and what its projections read."""
    measured, head = cut_open(model, [residual, normed], logits, images)
    values = values or measured
    columns = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            padded = np.zeros((grid[0] + 2, grid[1] + 2), np.float32)
            padded[i : i + 3, j : j + 3] = KERNEL.numpy()
            mask = np.concatenate([np.ones(prefix, np.float32), padded[1:-1, 1:-1].reshape(-1)])[None, :, None]
            columns.append(head([value * mask for value in values]))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *grid)


def cut_open(
    model: ov.Model, layers: list[str], logits: ov.Output, images: np.ndarray
) -> tuple[list[np.ndarray], Callable[[list[np.ndarray]], np.ndarray]]:
    """Give the values of layers, and a function from other values to class scores (N, K) without quantisers."""
    precision = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    front = model.clone()
    wanted = [_layer(front, name) for name in layers]
    results = core().compile_model(ov.Model(wanted, front.get_parameters()), "CPU", precision)(images)
    values = [np.array(results[i]) for i in range(len(layers))]

    back = model.clone()
    scores = _layer(back, logits.get_node().get_friendly_name())
    parameters = []
    for name, value in zip(layers, values, strict=True):
        parameter = ops.parameter(value.shape, np.float32)
        for reader in _layer(back, name).get_target_inputs():
            reader.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    behind: set[str] = {parameter.get_name() for parameter in parameters}
    ordered = ov.Model([scores], [*parameters, *back.get_parameters()]).get_ordered_ops()
    for node in ordered:
        if any(value.get_node().get_name() in behind for value in node.input_values()):
            behind.add(node.get_name())
    for node in ordered:
        if node.get_type_name() == "FakeQuantize" and node.get_name() in behind:
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    compiled = core().compile_model(ov.Model([scores], [*parameters, *back.get_parameters()]), "CPU", precision)

    def head(perturbed: list[np.ndarray]) -> np.ndarray:
        scores = np.array(compiled([*perturbed, images])[0])
        return scores.reshape(len(images), -1)

    return values, head


def _layer(model: ov.Model, name: str) -> ov.Output:
    return next(node.output(0) for node in model.get_ops() if node.get_friendly_name() == name)


def hooked(layer: nn.Module, change: Callable[[torch.Tensor], torch.Tensor | None]):
    """Replace the output of ``layer`` by ``change(output)`` while the context lasts."""
    return layer.register_forward_hook(lambda _, __, output: change(output))


def scaled(maps: np.ndarray) -> np.ndarray:
    """Scale each map to [0, 255], one by one."""
    flat = maps.reshape(-1, maps.shape[-2] * maps.shape[-1])
    result = np.zeros_like(flat)
    for row, values in enumerate(flat):
        span = values.max() - values.min()
        if span > 1e-6 * np.abs(values).max():
            result[row] = (values - values.min()) / span * 255
    return result.reshape(maps.shape)
