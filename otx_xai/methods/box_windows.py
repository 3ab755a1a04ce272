"""Maps of boxes by ways back within windows around their places, where these hold nearly all of a gradient.

One forward pass hands over what all ways back read. Each box gets a window; where its maps have not faded at the rim,
it gets the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from threading import Lock

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.sweep import find_way
from otx_xai.gradients.windows import Confined, Grids, confined
from otx_xai.graph.features import Features
from otx_xai.graph.labels import Labels
from otx_xai.graph.view import Port, View, port_of
from otx_xai.methods.box_seeds import NOISE, Seed, empty_parameter, layer_cam, seed_inputs, seed_parameters, seeds_at
from otx_xai.records import FloatArray, Size
from otx_xai.runtime import Arrays, Session

_SIDE = 0.4
"""Sides of a window, as parts of those of the image."""

_RIM = 0.17
"""Part of a map at the rim of its window, on average over its levels, up to which the rest of the image is left out."""


@dataclass(frozen=True)
class _Second:
    """A way back within windows, for boxes whose scores come from the same leaves.

    Args:
        model: inputs: corners of windows, for each leaf its seeds, what an empty image has, and what is read of the
            forward pass. Outputs: a map ``(S, h, w)`` of each of the features that the leaves depend on.
        reads: names of what is read.
        levels: which of the features.
        shapes: channels, rows and columns of each leaf.
        window: rows and columns of a window on the coarsest grid.
        coarsest: rows and columns of this grid.
    """

    model: ov.Model
    reads: tuple[str, ...]
    levels: tuple[int, ...]
    shapes: Mapping[int, tuple[int, int, int]]
    window: Size
    coarsest: Size

    @property
    def share(self) -> float:
        """The part of the image that a window covers."""
        return float(np.prod(self.window) / np.prod(self.coarsest))


@dataclass(frozen=True)
class Asked:
    """Boxes of one image whose maps are to be made.

    Args:
        session: the compiled first model.
        starts: what it gave, by name.
        empty: of each of the features :func:`~otx_xai.methods.box_seeds.channel_means` of an empty image.
        seeds: of each box.
        levels: for each of the features the maps of all boxes, ``float32`` ``(M, h, w)``, to be filled in.
    """

    session: Session
    starts: Arrays
    empty: Sequence[FloatArray]
    seeds: Sequence[Sequence[Seed]]
    levels: Sequence[FloatArray]


def far_sight(view: View, labels: Mapping[Port, Labels], leaf: ov.Output, features: Sequence[Features]) -> str:
    """Say what keeps the way back from a leaf from being confined to windows; nothing where it can be.

    Args:
        view: the detector, static, for one image.
        labels: meaning of its axes.
        leaf: a tensor that scores come from.
        features: what gradients are taken with respect to.
    """
    reached = [one.output for one in features if find_way([leaf], [one.output]).nodes]
    try:
        Grids(view, labels, [leaf], reached)
    except GraphError as error:
        return str(error)
    return ""


class BoxWindows:
    """Makes maps of boxes within windows; safe in threads.

    Args:
        view: the detector, static, for one image.
        labels: meaning of its axes.
        leaves: the tensors that scores come from.
        features: what gradients are taken with respect to.
        names: of the outputs of the first pass, by the tensors that they give.
    """

    def __init__(
        self,
        view: View,
        labels: Mapping[Port, Labels],
        leaves: Sequence[ov.Output],
        features: Sequence[Features],
        names: Mapping[Port, str],
    ) -> None:
        self._view, self._labels, self._leaves, self._features, self._names = view, labels, leaves, features, names
        self._lock = Lock()
        self._seconds: dict[tuple[tuple[int, ...], float], _Second] = {}
        self._forward: tuple[ov.Model, tuple[str, ...]] | None = None

    @cached_property
    def _local(self) -> frozenset[int]:
        """The leaves whose way back looks at nothing but neighbours, operation by operation."""
        return frozenset(leaf for leaf in range(len(self._leaves)) if self._is_local(leaf))

    def _is_local(self, leaf: int) -> bool:
        try:
            self._confined((leaf,), 1.0)
        except GraphError:
            return False
        return True

    def serve(self, leaves: Set[int]) -> bool:
        """Tell whether maps of boxes whose scores come from some leaves can be made within windows."""
        return bool(leaves) and self._local.issuperset(leaves)

    def fill(
        self, asked: Asked, groups: Mapping[tuple[int, ...], Sequence[int]], *, windows: bool
    ) -> set[tuple[int, ...]]:
        """Make maps of boxes.

        Args:
            asked: the boxes.
            groups: their numbers by the leaves that their scores come from.
            windows: each has its scores from one place; else they are made over the whole image.

        Returns:
            The groups that windows can serve: their maps are made.
        """
        served = {leaves for leaves in groups if self.serve(set(leaves))}
        if served:
            forward, starts = self._forward_model()
            with asked.session.beside(forward).lent([asked.starts[name] for name in starts]) as read:
                for leaves in served:
                    self._fill_group(asked, read, leaves, np.array(groups[leaves]), (_SIDE, 1.0) if windows else (1.0,))
        return served

    def _fill_group(
        self,
        asked: Asked,
        read: Mapping[str, ov.Tensor],
        leaves: tuple[int, ...],
        boxes: NDArray[np.int64],
        sides: Sequence[float],
    ) -> None:
        """Make maps of boxes of one group: in windows, and in the next larger ones where these do not hold them."""
        for side in sides:
            if len(boxes):
                second = self._second(leaves, side)
                size = int(1 / second.share)  # windows of a run cover the area of an image
                parts = np.split(boxes, range(size, len(boxes), size))
                boxes = np.concatenate([_run(asked, second, read, part) for part in parts])

    # --- models -------------------------------------------------------------------------------------------------------

    def _levels(self, ends: Sequence[ov.Output]) -> list[int]:
        return [i for i, features in enumerate(self._features) if find_way(ends, [features.output]).nodes]

    def _confined(self, leaves: Sequence[int], side: float) -> tuple[Confined, _Second]:
        """Write the way back from some leaves within windows of some size.

        Raises:
            GraphError: it needs the whole image.
        """
        ends = [self._leaves[leaf] for leaf in leaves]
        levels = self._levels(ends)
        grids = Grids(self._view, self._labels, ends, [self._features[level].output for level in levels])
        window = (ceil(side * grids.coarsest[0]), ceil(side * grids.coarsest[1]))
        inputs: list[ov.Node] = []

        def seeds(end: ov.Output, shape: Sequence[int]) -> ov.Output:
            parameters = seed_parameters()
            inputs.extend(parameters)
            return seeds_at(parameters, ops.constant(np.array(shape[1:], np.int64)), end)

        way = confined(grids, window, seeds)
        results = []
        empties = [empty_parameter(self._features[level]) for level in levels]
        for level, tensor, gradient, empty in zip(levels, way.tensors, way.gradients, empties, strict=True):
            own, factor = self._features[level], grids.factor(self._features[level].output)
            value = layer_cam(own, tensor, gradient, empty.output(0), (window[0] * factor, window[1] * factor))
            value.get_tensor().set_names({f"maps/{level}"})
            results.append(ops.result(value))
        model = ov.Model(results, [way.corners, *inputs, *empties, *(read.parameter for read in way.reads)], "windows")
        shapes = {leaf: tuple(end.get_shape()[1:]) for leaf, end in zip(leaves, ends, strict=True)}
        reads = tuple(read.key for read in way.reads)
        return way, _Second(model, reads, tuple(levels), shapes, window, grids.coarsest)

    def _second(self, leaves: tuple[int, ...], side: float) -> _Second:
        with self._lock:
            if (leaves, side) not in self._seconds:
                self._seconds[leaves, side] = self._confined(leaves, side)[1]
            return self._seconds[leaves, side]

    def _forward_model(self) -> tuple[ov.Model, tuple[str, ...]]:
        """Return the model whose outputs all ways back read, and the names of what it starts from."""
        with self._lock:
            if self._forward is None:
                way, _ = self._confined(sorted(self._local), 1.0)
                results = []
                for read in way.reads:
                    read.whole.get_tensor().set_names({read.key})
                    results.append(ops.result(read.whole))
                model = ov.Model(results, list(way.parameters), "forward")
                self._forward = model, tuple(self._names[port_of(start)] for start in way.starts)
            return self._forward


# --- places -----------------------------------------------------------------------------------------------------------


def _run(asked: Asked, second: _Second, read: Mapping[str, ov.Tensor], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make maps of boxes of one group, and return the boxes that need a larger window."""
    placed = [_placed(second, asked.seeds[box]) for box in boxes]
    corners, seeds = np.array([corner for corner, _ in placed], np.int64), [own for _, own in placed]
    inputs = [part for leaf in second.shapes for part in seed_inputs(seeds, leaf)]
    given = [*(asked.empty[level] for level in second.levels), *(read[name] for name in second.reads)]
    outputs = asked.session.beside(second.model).run([corners, *inputs, *given])
    left_out = np.array([len(own) < len(asked.seeds[box]) for box, own in zip(boxes, seeds, strict=True)])
    sums, rims = [], []
    for level in second.levels:
        maps, whole = outputs[f"maps/{level}"], asked.levels[level]
        factor = maps.shape[1] // second.window[0]
        for box, (row, column), one in zip(boxes, corners * factor, maps, strict=True):
            whole[box] = 0
            whole[box, row : row + one.shape[0], column : column + one.shape[1]] = one
        sums.append(np.maximum(maps, 0).sum(axis=(1, 2)))
        rims.append(_at_rim(maps, corners, second))
    counts = np.array(sums) > NOISE * np.max(sums, axis=0)  # each of these is a part of the map as large as another
    at_rim = np.where(counts, rims, 0).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    again: NDArray[np.int64] = boxes[left_out | (at_rim > _RIM)]
    return again


def _placed(second: _Second, seeds: Sequence[Seed]) -> tuple[Size, list[Seed]]:
    """Return the corner of the window around a box's seeds, inside of the image, and the seeds that lie in it."""
    factors = [second.shapes[seed.leaf][1] // second.coarsest[0] for seed in seeds]
    places = [tuple(map(int, np.unravel_index(seed.element, second.shapes[seed.leaf]))) for seed in seeds]
    centres = [(np.array(place[1:]) + 0.5) / factor for place, factor in zip(places, factors, strict=True)]
    room = np.subtract(second.coarsest, second.window)
    top, left = np.clip(np.round(np.mean(centres, axis=0) - np.array(second.window) / 2), 0, room).astype(int)
    inside = []
    for seed, (channel, row, column), factor in zip(seeds, places, factors, strict=True):
        height, width = (factor * size for size in second.window)
        y, x = row - int(top) * factor, column - int(left) * factor
        if 0 <= y < height and 0 <= x < width:
            inside.append(replace(seed, element=(channel * height + y) * width + x))
    return (int(top), int(left)), inside


def _at_rim(maps: FloatArray, corners: NDArray[np.int64], second: _Second) -> FloatArray:
    """Return which part of each map lies next to a side of its window where the image goes on."""
    factor, parts = maps.shape[1] // second.window[0], np.zeros(len(maps), np.float32)
    for i, (one, corner) in enumerate(zip(np.maximum(maps, 0), corners, strict=True)):
        inner = [
            slice(factor * (first > 0), length - factor * (first + size < all_places))
            for first, length, size, all_places in zip(corner, one.shape, second.window, second.coarsest, strict=True)
        ]
        total = float(one.sum())
        parts[i] = 1 - float(one[tuple(inner)].sum()) / total if total > 0 else 0
    return parts
