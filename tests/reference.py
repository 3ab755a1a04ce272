"""Slow, obvious versions of the published algorithms, in torch, one mask at a time: what the fast forms must equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import nn

from otx_xai.openvino_core import core

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


def insertion_and_deletion(
    image: np.ndarray,
    saliency_map: np.ndarray,
    baseline: np.ndarray,
    score: Callable[[np.ndarray], float],
    steps: int,
) -> tuple[list[float], list[float]]:
    """Scores while pixels (H, W, 3) appear on the baseline, and while they vanish; all values of the map differ."""
    places = sorted(np.ndindex(*saliency_map.shape), key=lambda place: -saliency_map[place])
    curves = []
    for start, finish in ((baseline, image), (image, baseline)):
        current, curve, changed = start.copy(), [score(start)], 0
        for step in range(1, steps + 1):
            while changed < round(step * len(places) / steps):
                current[places[changed]] = finish[places[changed]]
                changed += 1
            curve.append(score(current))
        curves.append(curve)
    return curves[0], curves[1]


def peak_hits(saliency_map: np.ndarray, boxes: np.ndarray, tolerance: float) -> float:
    """Part of the highest pixels of (H, W) that lie in a box xyxy, or within the tolerance of one."""
    peaks = [place for place in np.ndindex(*saliency_map.shape) if saliency_map[place] == saliency_map.max()]
    hits = 0
    for row, column in peaks:
        y, x = row + 0.5, column + 0.5
        for x1, y1, x2, y2 in boxes:
            nearest = min(max(x, x1), x2), min(max(y, y1), y2)
            if np.hypot(nearest[0] - x, nearest[1] - y) <= tolerance:
                hits += 1
                break
    return hits / len(peaks)


def energy_inside(saliency_map: np.ndarray, boxes: np.ndarray) -> float:
    """Part of the sum of (H, W) that pixels have whose centres lie in any box xyxy."""
    inside = 0.0
    for row, column in np.ndindex(*saliency_map.shape):
        if any(x1 <= column + 0.5 <= x2 and y1 <= row + 0.5 <= y2 for x1, y1, x2, y2 in boxes):
            inside += float(saliency_map[row, column])
    return inside / float(saliency_map.sum(dtype=np.float64))


def folded_gaussian(length: int = 11, sigma: float = 5.0) -> np.ndarray:
    """The blur kernel of RISE's authors: a point in the middle of an array, blurred with mirrors at both ends."""
    point = np.zeros(length)
    point[length // 2] = 1
    mirrored = np.pad(point, 4 * int(sigma), mode="symmetric")
    offsets = np.arange(-4 * int(sigma), 4 * int(sigma) + 1)
    gaussian = np.exp(-(offsets**2) / (2 * sigma**2))
    return np.convolve(mirrored, gaussian / gaussian.sum(), mode="valid")


def masked(image: np.ndarray, mask: np.ndarray, fill: float) -> np.ndarray:
    """Hide the pixels of (H, W, C) uint8 or (C, H, W) float32 one at a time."""
    result = image.copy()
    for y, x in np.ndindex(*mask.shape):
        place = np.s_[y, x, :] if image.dtype == np.uint8 else np.s_[:, y, x]
        values = fill + mask[y, x] * (image[place].astype(np.float32) - np.float32(fill))
        result[place] = np.round(values) if image.dtype == np.uint8 else values
    return result


def rise(scores: np.ndarray, masks: np.ndarray, prob: float) -> np.ndarray:
    """Equation 6 of RISE: scores (N, T) and masks (N, H, W) make maps (T, H, W)."""
    maps = np.zeros((scores.shape[1], *masks.shape[1:]))
    for row, mask in zip(scores, masks, strict=True):
        for target, score in enumerate(row):
            maps[target] += score * mask
    return maps / (prob * len(masks))


def smooth_regression(
    scores: np.ndarray, masks: np.ndarray, length: float, ratios: np.ndarray
) -> tuple[np.ndarray, float]:
    """A Gaussian process by the book, over pixels: its mean (H, W), and the root mean square of its deviation.

    Scores (N,), masks (N, H, W). The covariance of two pixels is that of a squared exponential of ``length`` (in parts
    of the shorter side) that is mirrored at all borders: a sum of cosines. Errors are about the map less its mean.
    """
    height, width = masks.shape[1:]
    short = min(height, width)
    covariance = np.kron(*(_mirrored(side, length * short) for side in (height, width)))
    centred = (masks - masks.mean(axis=0)).reshape(len(masks), -1) / (height * width)
    wanted = scores - scores.mean()
    between = centred @ covariance @ centred.T
    scale = np.trace(between) / len(masks)
    surprise = []
    for ratio in ratios:
        noisy = between / scale + ratio * np.eye(len(masks))
        fit = wanted @ np.linalg.solve(noisy, wanted) / len(masks)
        surprise.append(len(masks) * np.log(fit) + np.linalg.slogdet(noisy)[1])
    ratio = ratios[int(np.argmin(surprise))]
    noisy = between / scale + ratio * np.eye(len(masks))
    strength = wanted @ np.linalg.solve(noisy, wanted) / len(masks)
    gain = covariance @ centred.T / scale
    saliency_map = (gain @ np.linalg.solve(noisy, wanted)).reshape(height, width)
    posterior = strength * (covariance / scale - gain @ np.linalg.solve(noisy, gain.T))
    level = np.eye(height * width) - 1 / (height * width)
    return saliency_map, float(np.sqrt(np.trace(level @ posterior @ level) / (height * width)))


def _mirrored(side: int, length: float) -> np.ndarray:
    centres = (np.arange(side) + 0.5) / side
    covariance = np.ones((side, side))
    for wave in range(1, side):
        power = np.exp(-((np.pi * wave * length / side) ** 2) / 2)
        values = np.cos(np.pi * wave * centres)
        covariance += 2 * power * np.outer(values, values)
    return covariance


def found_again(
    box: np.ndarray, classes: np.ndarray, boxes: np.ndarray, proposed: np.ndarray, objectness: np.ndarray
) -> float:
    """Equation 7 of D-RISE for one box xyxy with class scores (K,), and proposals (P, 4), (P, K), (P,)."""
    best = 0.0
    for other, others, sure in zip(boxes, proposed, objectness, strict=True):
        width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
        overlap = width * height / (sum(areas) - width * height)
        cosine = classes @ others / np.linalg.norm(classes) / np.linalg.norm(others)
        best = max(best, overlap * cosine * sure)
    return best


def direct(
    function: Callable[[np.ndarray], float], budget: int, epsilon: float
) -> tuple[list[tuple[float, float]], list[float]]:
    """DIRECT over the unit square, one point after the other: points and values in the order of evaluation."""
    points, values, sides = [(0.5, 0.5)], [function(np.array([0.5, 0.5]))], [[1.0, 1.0]]
    while True:
        size = [np.hypot(*side) / 2 for side in sides]
        for i in [i for i in range(len(points)) if _may_hold_minimum(i, size, values, epsilon)]:
            children = []
            for axis in [axis for axis in (0, 1) if np.isclose(sides[i][axis], max(sides[i]))]:
                pair = []
                for sign in (-1, 1):
                    point = np.array(points[i])
                    point[axis] += sign * sides[i][axis] / 3
                    if len(points) == budget:
                        return points, values
                    pair.append(len(points))
                    points.append((float(point[0]), float(point[1])))
                    values.append(function(point))
                    sides.append([0.0, 0.0])
                children.append((min(values[child] for child in pair), axis, pair))
            for _, axis, pair in sorted(children):
                sides[i][axis] /= 3
                for child in pair:
                    sides[child] = list(sides[i])


def _may_hold_minimum(i: int, size: list[float], values: list[float], epsilon: float) -> bool:
    """Definition of Jones, Perttunen and Stuckman: is there a rate of change with which rectangle ``i`` is the best?"""
    low, high = 0.0, np.inf
    for j in range(len(size)):
        if np.isclose(size[j], size[i]):
            if values[j] < values[i]:
                return False
        elif size[j] < size[i]:
            low = max(low, (values[i] - values[j]) / (size[i] - size[j]))
        else:
            high = min(high, (values[j] - values[i]) / (size[j] - size[i]))
    least = min(values)
    return low <= high and (high == np.inf or values[i] - high * size[i] <= least - epsilon * abs(least))


def aise(
    score: Callable[[np.ndarray], float], size: tuple[int, int], widths: list[float], budget: int, epsilon: float
) -> np.ndarray:
    """The map (H, W) of one class: ``score`` is that of a mask; what is kept, plus what is lost by deleting it."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    whole, total = score(np.ones(size)), np.zeros(size)
    for part in widths:
        sigma = part * min(size)

        def window(point: np.ndarray, sigma: float = sigma) -> np.ndarray:
            squares = (y - point[0] * (height - 1)) ** 2 + (x - point[1] * (width - 1)) ** 2
            return np.exp(-squares / (2 * sigma**2))

        def loss(point: np.ndarray, window: Callable[[np.ndarray], np.ndarray] = window) -> float:
            kept = window(point) / window(point).max()
            return -(score(kept) + whole - score(1 - kept))

        points, values = direct(loss, budget, epsilon)
        density = sum(-value * window(np.array(point)) for point, value in zip(points, values, strict=True))
        total += density / density.max()
    return total


def instance_maps(
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray,
    num_classes: int,
    size: tuple[int, int],
) -> np.ndarray:
    """InstSegExplainAlgo of OTX (K, H, W), unscaled: masks (N, h, w) pasted one by one, as mmdetection does it.

    Boxes (N, 4) are xyxy in pixels; masks of the whole size are pasted already.
    """
    maps, found = np.zeros((num_classes, *size), np.float64), [0] * num_classes
    for box, label, score, mask in zip(boxes, labels, scores, masks, strict=True):
        maps[label] += score * (mask if mask.shape == size else pasted(box, mask, size))
        found[label] += 1
    return maps / np.maximum(found, 1)[:, None, None]


def pasted(box: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (h, w) from inside its box over all pixels, (H, W): bilinear at pixel centres, 0 outside."""
    rows = (torch.arange(size[0], dtype=torch.float64) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    columns = (torch.arange(size[1], dtype=torch.float64) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack([columns.expand(*size), rows[:, None].expand(*size)], dim=-1)
    values = torch.from_numpy(mask.astype(np.float64))[None, None]
    return nn.functional.grid_sample(values, grid[None], align_corners=False)[0, 0].numpy()


def class_probability_maps(levels: list[torch.Tensor], background: int | None = None) -> np.ndarray:
    """DetClassProbabilityMap as OTX defines it, level by level and anchor by anchor, unscaled: (N, K, h, w).

    Levels are class scores (N, A, L, h, w), the finest first: the largest of the anchors, resized to the middle level,
    the mean over levels, soft-max over classes; the background is a class of the soft-max, and gets no map.
    """
    middle = levels[len(levels) // 2].shape[3:]
    total = torch.zeros(levels[0].shape[0], levels[0].shape[2], *middle)
    for scores in levels:
        best = scores[:, 0]
        for anchor in range(1, scores.shape[1]):
            best = torch.maximum(best, scores[:, anchor])
        total += torch.nn.functional.interpolate(best, middle, mode="bilinear") / len(levels)
    maps = total.softmax(1) if total.shape[1] > 1 else total
    return maps[:, [i for i in range(maps.shape[1]) if i != background]].numpy()


def fastestdet_boxes(raw: np.ndarray, size: tuple[int, int], threshold: float) -> list[tuple[float, int, np.ndarray]]:
    """Score, class and box on an image of this size, best first, as FastestDet's authors decode (5 + K, h, w)."""
    (rows, columns), (height, width) = raw.shape[1:], size
    found = []
    for y in range(rows):
        for x in range(columns):
            best = int(raw[5:, y, x].argmax())
            score = raw[0, y, x] ** 0.6 * raw[5 + best, y, x] ** 0.4
            centre_x, centre_y = (np.tanh(raw[1, y, x]) + x) / columns, (np.tanh(raw[2, y, x]) + y) / rows
            wide, high = 1 / (1 + np.exp(-raw[3, y, x])), 1 / (1 + np.exp(-raw[4, y, x]))
            box = [centre_x - wide / 2, centre_y - high / 2, centre_x + wide / 2, centre_y + high / 2]
            found.append((score, best, np.clip(box, 0, 1) * [width, height, width, height]))
    return [item for item in sorted(found, key=lambda item: -item[0]) if item[0] >= threshold]
