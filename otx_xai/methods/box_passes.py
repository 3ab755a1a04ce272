"""Second passes over boxes: gradients of their scores, by models for each set of tensors that scores come from.

Where maps of classes are wanted, boxes share seeds, so that the number of passes hardly grows with theirs. A few seeds
share each run, which bounds its memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.gradients.gradient import gradients
from otx_xai.gradients.sweep import find_way
from otx_xai.gradients.tail import tail_of
from otx_xai.graph.features import Features
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.surgery import Twin, forbid_dynamic_quantisation
from otx_xai.graph.view import Port, port_of
from otx_xai.methods.box_seeds import (
    Seed,
    channel_means,
    empty_parameter,
    layer_cam,
    seed_inputs,
    seed_parameters,
    seeds_at,
)
from otx_xai.methods.box_windows import Asked, BoxWindows
from otx_xai.methods.level_sums import combined
from otx_xai.methods.scored_detector import Scored, outputs_of
from otx_xai.methods.shared_seeds import Groups, alone, divided, sharing
from otx_xai.methods.spec import BoxesAsked
from otx_xai.records import Detections, FloatArray, IntArray, Method, Size
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

PREFIX = f"xai/{Method.ODAM.value}"

_SEEDS = 4
"""Seeds that share a run of a second model over the whole image, at most."""

_MANY = 30
"""Ways back for an image, more of which are told."""

_SURE = 0.02
"""Of a score that is nearly 1, what its slope would be without rounding."""

_WINDOWS = 3
"""So many windows cost as much as the whole image: of YOLOv8n 0.12 to 0.33 passes each, and 0.6 to 1.3."""


@dataclass(frozen=True)
class _Second:
    """A model of the second pass, for boxes whose scores come from the same leaves.

    Its inputs are, for each leaf, the numbers of elements to be seeded, ``int64`` ``(S, n)``, and their slopes,
    ``float32`` ``(S, n)``; then what an empty image has, and what it starts from. Its outputs are maps ``(S, h, w)``,
    one for each of the features that the leaves depend on: ``Σ relu(gradient) · (features - empty)`` over channels,
    twice.

    Args:
        model: the model.
        starts: names of what it starts from.
        levels: which of the features.
    """

    model: ov.Model
    starts: tuple[str, ...]
    levels: tuple[int, ...]


def _second_model(scored: Scored, leaves: Sequence[int], names: Mapping[Port, str]) -> _Second | None:
    """Return the model for some leaves; ``None`` where no gradient of theirs reaches any features."""
    ends = outputs_of([scored.leaves[leaf] for leaf in leaves])
    levels = [i for i, features in enumerate(scored.features) if find_way(ends, [features.output]).nodes]
    if not levels:
        return None
    features = [scored.features[level] for level in levels]
    tail = tail_of(scored.view, ends, [one.output for one in features])
    seeded, inputs = [], list[ov.Node]()
    for end in tail.ends:
        parameters = seed_parameters()
        seeded.append((end, seeds_at(parameters, ops.shape_of(end, output_type="i64"), end)))
        inputs += parameters
    found = gradients(seeded, tail.wrt, several=True)
    results, empties = [], [empty_parameter(own) for own in features]
    for level, own, tensor, gradient, empty in zip(levels, features, tail.wrt, found, empties, strict=True):
        value = layer_cam(own, tensor, gradient, empty.output(0), _grid(own))
        value.get_tensor().set_names({f"maps/{level}"})
        results.append(ops.result(value))
    made = ov.Model(results, [*inputs, *empties, *tail.parameters], PREFIX)
    forbid_dynamic_quantisation(tail.twin, made)
    return _Second(made, tuple(names[port_of(start)] for start in tail.starts), tuple(levels))


class BoxPasses:
    """Makes the maps of boxes, and a model for each set of leaves that their scores come from; safe in threads.

    Args:
        scored: the detector.
        names: of the outputs of the first pass by the tensors that they give.
        zero: what counts as nothing in its input, one number for each channel or for all.
    """

    def __init__(self, scored: Scored, names: Mapping[Port, str], zero: Sequence[float]) -> None:
        self._scored, self._names, self._zero = scored, names, zero
        self._windows = BoxWindows(scored.view, scored.labels, outputs_of(scored.leaves), scored.features, names)
        self._lock = Lock()
        self._seconds: dict[tuple[int, ...], _Second | None] = {}
        self._empty: list[FloatArray] | None = None
        self._told = False

    def maps(self, session: Session, starts: Arrays, asked: BoxesAsked) -> FloatArray:
        """Return a map of each box, ``float32`` ``(M, h, w)``; see :class:`SecondPass`."""
        seeds, scores = self._seeds(asked.found), asked.found.scores
        groups = self._groups(asked, seeds)
        shared = seeds if len(groups) == len(seeds) else [self._joined(seeds, group, scores) for group in groups]
        maps = self._of_groups(session, starts, shared, groups, asked.boxes)
        lost = _lost(maps, groups, asked.found.labels)
        if lost:
            maps[lost] = self._of_groups(session, starts, [seeds[b] for b in lost], alone(len(lost)), asked.boxes[lost])
        return maps

    def _of_groups(
        self, session: Session, starts: Arrays, seeds: Sequence[Sequence[Seed]], groups: Groups, boxes: FloatArray
    ) -> FloatArray:
        """Return a map of each box, of those that seeds of groups give."""
        levels = self._levels(session, starts, seeds, windows=len(groups) == len(boxes))
        size = self._scored.size
        return combined([divided(level, groups, boxes, size) for level in levels], size, self._scored.grids)

    def _groups(self, asked: BoxesAsked, seeds: Sequence[Sequence[Seed]]) -> Groups:
        """Return which boxes share a seed."""
        groups = alone(len(asked.found))
        if asked.of_classes:
            shared = sharing(asked.boxes, asked.found.labels, self._scored.size)
            near = self._windows.serve({seed.leaf for own in seeds for seed in own})
            if not near or len(shared) * _WINDOWS < len(groups):
                groups = shared
        self._tell(len(groups))
        return groups

    def _tell(self, ways: int) -> None:
        """Tell once of an image whose boxes take many ways back."""
        with self._lock:
            told, self._told = self._told, self._told or ways > _MANY
        if ways > _MANY and not told:
            logger.warning(
                "The boxes of an image take %d ways back through the network, one a box. A higher "
                "--explain_config.confidence_threshold lists fewer boxes, --targets predicted has those of a class "
                "share a way, and --preset speed takes one pass. Further such images are not told.",
                ways,
            )

    def _joined(self, seeds: Sequence[Sequence[Seed]], group: Sequence[int], scores: FloatArray) -> list[Seed]:
        """Return the seed of several boxes: the sum of the logits of their scores, to first order."""
        return [
            seed if seed.leaf in self._scored.logits else replace(seed, slope=seed.slope * _slope_of_logit(scores[box]))
            for box in group
            for seed in seeds[box]
        ]

    def _levels(
        self, session: Session, starts: Arrays, seeds: Sequence[Sequence[Seed]], *, windows: bool
    ) -> list[FloatArray]:
        """Return for each of the features the map of each seed, ``float32`` ``(S, h, w)``."""
        levels = [np.zeros((len(seeds), *_grid(features)), np.float32) for features in self._scored.features]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, own in enumerate(seeds):
            groups.setdefault(tuple(sorted({seed.leaf for seed in own})), []).append(number)
        groups.pop((), None)  # what a layer that is named does not lie behind has no gradient
        if not windows and len(groups) > 1:
            groups = {self._scored.scoring: sorted(number for own in groups.values() for number in own)}
        empty = self._of_empty_image(session)
        served = self._windows.fill(Asked(session, starts, empty, seeds, levels), groups, windows=windows)
        for leaves, numbers in groups.items():
            if leaves not in served:
                self._fill(Asked(session, starts, empty, seeds, levels), leaves, numbers)
        return levels

    def _fill(self, asked: Asked, leaves: tuple[int, ...], numbers: Sequence[int]) -> None:
        """Make the maps of some seeds over the whole image."""
        second = self._second(leaves)
        if second is None:
            return
        compiled = asked.session.beside(second.model)
        given = [*(asked.empty[level] for level in second.levels), *(asked.starts[name] for name in second.starts)]
        for first in range(0, len(numbers), _SEEDS):
            some = numbers[first : first + _SEEDS]
            inputs = [part for leaf in leaves for part in seed_inputs([asked.seeds[one] for one in some], leaf)]
            outputs = compiled.run([*inputs, *given])
            for level in second.levels:
                asked.levels[level][some] = outputs[f"maps/{level}"]

    def _of_empty_image(self, session: Session) -> list[FloatArray]:
        """Return the mean of each channel of the features of an image in which there is nothing."""
        with self._lock:
            if self._empty is None:
                model, image = _empty_image(self._scored, self._zero)
                found = session.ask(model, [image])
                means = (found[f"empty/{i}"] for i in range(len(self._scored.features)))
                # a norm of nothing may be no number
                self._empty = [np.nan_to_num(one, nan=0, posinf=0, neginf=0) for one in means]
            return self._empty

    def _second(self, leaves: tuple[int, ...]) -> _Second | None:
        with self._lock:
            if leaves not in self._seconds:
                self._seconds[leaves] = _second_model(self._scored, leaves, self._names)
            return self._seconds[leaves]

    def _seeds(self, found: Detections) -> list[list[Seed]]:
        """Return the numbers that the score of each box comes from."""
        seeds: list[list[Seed]] = [[] for _ in range(len(found))]
        for origin in found.origins:
            slopes = np.ones(len(found), np.float32) if origin.slopes is None else origin.slopes
            for i, (name, leaf) in enumerate(zip(self._scored.names, self._scored.leaves, strict=True)):
                if name != origin.output:
                    continue
                elements = origin.elements if leaf.elements is None else leaf.elements[origin.elements]
                for box in np.flatnonzero((elements >= 0) & (slopes != 0)):
                    seeds[box].append(Seed(i, int(elements[box]), float(slopes[box])))
        return seeds


def _lost(maps: FloatArray, groups: Groups, labels: IntArray) -> list[int]:
    """Return the boxes of classes without any map whose places, in groups, all went to boxes of other classes."""
    lit = {int(label) for label, own in zip(labels, maps, strict=True) if own.any()}
    return sorted(box for group in groups if len(group) > 1 for box in group if int(labels[box]) not in lit)


def _slope_of_logit(score: np.float32) -> float:
    """Return by how much the logit of a score grows with the score."""
    return 1 / max(float(score * (1 - score)), _SURE)


def _empty_image(scored: Scored, zero: Sequence[float]) -> tuple[ov.Model, NDArray[Any]]:
    """Return a model that gives the mean of each channel of a detector's features, and an empty image for it."""
    twin, results = Twin(scored.view), []
    for i, features in enumerate(scored.features):
        means = channel_means(features, twin.output(features.output))
        means.get_tensor().set_names({f"empty/{i}"})
        results.append(ops.result(means))
    model = ov.Model(results, twin.model.get_parameters(), "empty")
    source, layout = image_input(twin.model).output(0), scored.layout
    image = np.zeros(source.get_shape(), source.get_element_type().to_dtype())
    np.moveaxis(image, layout.index("C"), -1)[...] = zero or 0
    return model, image


def _grid(features: Features) -> Size:
    rows, columns = features.grid
    return rows or 1, columns or 1
