"""ODAM: a map of each box of a detector, by the gradient of its score.

Which boxes there are is decided on the host: it decodes and suppresses them. So the gradients take a second pass, over
models of their own: the part of the graph behind the backbone's first used stage, and its way back. The first pass
gives the tensors that they start from as further outputs. What is seeded are the very numbers that a box has its score
from, followed back to the layers that gave them, so that a level's boxes need the way back of this level only. A few
boxes share each run of a second model, which bounds its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.gradient import gradients, missing_rules
from otx_xai.gradients.sweep import find_way
from otx_xai.gradients.tail import tail_of
from otx_xai.graph.axes import label_axes
from otx_xai.graph.backbone_stages import stage_ends
from otx_xai.graph.features import Features, as_features
from otx_xai.graph.grid import map_grids
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.labels import Labels
from otx_xai.graph.leaves import Leaf, leaves_of
from otx_xai.graph.surgery import Twin, add_outputs, forbid_dynamic_quantisation
from otx_xai.graph.view import Port, View, port_of
from otx_xai.methods.box_seeds import (
    Seed,
    channel_means,
    empty_parameter,
    layer_cam,
    seed_inputs,
    seed_parameters,
    seeds_at,
)
from otx_xai.methods.box_windows import Asked, BoxWindows, far_sight
from otx_xai.methods.level_sums import combined
from otx_xai.methods.spec import BOX_FINDERS, Fit, MethodSpec, SecondPass
from otx_xai.model.facts import ANY_SIZE
from otx_xai.model.formats.box_format import Match
from otx_xai.model.opened import Model
from otx_xai.records import Detections, FloatArray, MapGrid, Method, Preset, Size
from otx_xai.runtime import Arrays, Session

PREFIX = f"xai/{Method.ODAM.value}"

_SEEDS = 4
"""Boxes that share a run of a second model over the whole image, at most."""


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    """Fit detectors whose scores lead back to features with places by operations that gradients can pass."""
    try:
        scored = _scored(model, target_layers)
    except GraphError as error:
        return Fit(False, str(error))
    missing = missing_rules(_outputs(scored.leaves), [features.output for features in scored.features])
    if missing:
        return Fit(False, f"gradients cannot pass from its scores to its features: {'; '.join(missing[:4])}")
    layers = ", ".join(repr(one.output.get_node().get_friendly_name()) for one in scored.features)
    return Fit(True, f"gradients of its scores reach {layers}", dear=_dear(model, scored))


def _dear(model: Model, scored: _Scored) -> str:
    """Say why boxes take more than a fraction of a forward pass each, or less than is wanted; mostly nothing."""
    if model.facts.tiling is not None:
        return "it explains images as a whole, which this model wants to be cut into tiles"
    for leaf in scored.leaves:
        if not _holds_scores(model, scored, leaf):
            continue
        if far := far_sight(scored.view, scored.labels, leaf.output, scored.features):
            return f"each box would take about a forward pass, since its score looks at the whole image: {far}"
    return ""


def _holds_scores(model: Model, scored: _Scored, leaf: Leaf) -> bool:
    """Whether class scores or objectness are among the numbers of a leaf, as far as that is known."""
    columns = None if model.boxes is None else model.boxes.match.scores
    if columns is None or leaf.elements is None:
        return True
    shape = scored.view.model.get_results()[columns.result].input_value(0).get_shape()
    held = np.moveaxis(leaf.elements.reshape(shape), columns.axis, 0)
    factors = [] if columns.objectness is None else [columns.objectness]
    return bool((held[[*range(columns.begin, columns.end), *factors]] >= 0).any())


# --- what is differentiated -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    """A detector for one image.

    Args:
        view: its graph, static.
        labels: meaning of its axes.
        size: ``(height, width)`` of its input.
        layout: the axes of its input.
        leaves: the tensors that outputs with scores take their numbers from, such as the class heads of all levels.
        names: of these outputs, one a leaf.
        features: what gradients are taken with respect to, the finest first.
        grids: where the places of each of them look; ``None``: they divide the input evenly, as far as is known.
    """

    view: View
    labels: Mapping[Port, Labels]
    size: Size
    layout: str
    leaves: tuple[Leaf, ...]
    names: tuple[str, ...]
    features: tuple[Features, ...]
    grids: tuple[MapGrid | None, ...]


def _outputs(leaves: Iterable[Leaf]) -> list[ov.Output]:
    return [leaf.output for leaf in leaves]


def _scored(model: Model, target_layers: Sequence[str]) -> _Scored:
    """Find where scores and features of a detector are.

    Raises:
        GraphError: there are none, or a layer that the user names has no places.
    """
    if model.boxes is None or model.read_by_caller:
        raise GraphError(
            "Its boxes are read by a postprocess_fn, so that it is not known which numbers of its outputs their scores "
            "come from."
        )
    if model.facts.geometry.size == ANY_SIZE:
        raise GraphError("It takes images of any size; gradients need one. Give it by --input.size.")
    view = _of_one_image(model)
    labels = model.structure.axes if view is model.structure.view else label_axes(view, model.structure.layout)
    names = model.boxes.match.scored
    number = {min(port.get_names(), default=str(i)): i for i, port in enumerate(view.model.outputs)}
    ends = tuple(view.model.get_results()[number[name]].input_value(0) for name in names)
    if target_layers:
        features = [_named(view, as_features(labels, _layer(view, name)), name) for name in target_layers]
    else:
        features = stage_ends(view, labels, model.facts.geometry.size, ends)
    if not features:
        raise GraphError("No tensor with places between its first layer and its scores was found.")
    # a single sigmoid in front of a score changes its gradient by a factor only
    through = frozenset({"Sigmoid"}) if _is_plain(model.boxes.match) else frozenset()
    parts = [(leaf, name) for name, end in zip(names, ends, strict=True) for leaf in leaves_of(view, end, through)]
    reached = [part for part in parts if find_way([part[0].output], [one.output for one in features]).nodes]
    if not reached:
        raise GraphError("No gradient of its scores reaches its features: they do not depend on them by real numbers.")
    leaves, owners = zip(*reached, strict=True)
    known = map_grids(view, labels, [one.output for one in features])
    grids = tuple(known.get(port_of(one.output)) for one in features)
    facts = model.facts
    return _Scored(view, labels, facts.geometry.size, facts.input_layout, leaves, owners, tuple(features), grids)


def _is_plain(match: Match) -> bool:
    """Whether a score comes from one class score, which nothing multiplies."""
    return match.scores is not None and match.scores.objectness is None


def _layer(view: View, name: str) -> ov.Output:
    output = view.by_layer_name.get(name)
    if output is None:
        raise GraphError(f"--target_layer {name!r} is no layer or tensor of the model.")
    return output


def _named(view: View, features: Features | None, name: str) -> Features:
    if features is None:
        raise GraphError(
            f"--target_layer {name!r} of shape {_layer(view, name).get_partial_shape()} has no axes that are known to "
            "be channels and places."
        )
    return features


def _of_one_image(model: Model) -> View:
    """Return the graph as it is run with one image, with all sizes fixed."""
    given = image_input(model.graph).output(0).get_partial_shape()
    sizes = dict(zip("NHW", (1, *model.facts.geometry.size), strict=True))
    layout = model.facts.input_layout
    shape = ov.PartialShape([sizes.get(axis, length) for axis, length in zip(layout, given, strict=True)])
    if given == shape:
        return model.structure.view
    clone = model.graph.clone()
    try:
        clone.reshape({image_input(clone).output(0): shape})
    except RuntimeError as error:
        raise GraphError(
            f"It cannot take one image of {shape}: {str(error).strip().splitlines()[-1]}. Export it for single images."
        ) from error
    return View(clone, model.structure.view.left_out)


# --- the models of both passes ----------------------------------------------------------------------------------------


def _second_pass(model: Model, target_layers: Sequence[str]) -> SecondPass:
    """Split a detector into the model of the first pass and those of the second."""
    scored = _scored(model, target_layers)
    tail = tail_of(scored.view, _outputs(scored.leaves), [features.output for features in scored.features])
    names = {port_of(start): f"{PREFIX}/{i}" for i, start in enumerate(tail.starts)}
    view, position = model.structure.view, scored.view.position
    starts = {
        names[port_of(start)]: view.nodes[position[start.get_node().get_name()]].output(start.get_index())
        for start in tail.starts
    }
    return SecondPass(_first_model(model, starts), tuple(starts), _Gradients(scored, names, model.facts.zero).maps)


def _first_model(model: Model, starts: Mapping[str, ov.Output]) -> ov.Model:
    """Return a copy of the model that gives some of its tensors, too."""
    main = Twin(model.structure.view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    outputs = {}
    for name, start in starts.items():
        value = main.output(start)
        # a tensor that is an output already keeps its names
        outputs[name] = ops.convert(value, value.get_element_type()).output(0)
    forbid_dynamic_quantisation(main)
    return add_outputs(model.graph, main.model, outputs, known, PREFIX)


@dataclass(frozen=True)
class _Second:
    """A model of the second pass, for boxes whose scores come from the same leaves.

    Its inputs are, for each leaf, the numbers of elements to be seeded, ``int64`` ``(S, 2)``, and their slopes,
    ``float32`` ``(S, 2)``; then what an empty image has, and what it starts from. Its outputs are maps ``(S, h, w)``,
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


def _second_model(scored: _Scored, leaves: Sequence[int], names: Mapping[Port, str]) -> _Second | None:
    """Return the model for some leaves; ``None`` where no gradient of theirs reaches any features."""
    ends = _outputs([scored.leaves[leaf] for leaf in leaves])
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


# --- maps -------------------------------------------------------------------------------------------------------------


class _Gradients:
    """Makes the maps of boxes, and a model for each set of leaves that their scores come from; safe in threads.

    Args:
        scored: the detector.
        names: of the outputs of the first pass by the tensors that they give.
        zero: what counts as nothing in its input, one number for each channel or for all.
    """

    def __init__(self, scored: _Scored, names: Mapping[Port, str], zero: Sequence[float]) -> None:
        self._scored, self._names, self._zero = scored, names, zero
        self._windows = BoxWindows(scored.view, scored.labels, _outputs(scored.leaves), scored.features, names)
        self._lock = Lock()
        self._seconds: dict[tuple[int, ...], _Second | None] = {}
        self._empty: list[FloatArray] | None = None

    def maps(self, session: Session, starts: Arrays, found: Detections) -> FloatArray:
        """Return a map of each box, ``float32`` ``(M, h, w)``, not negative; see :class:`SecondPass`."""
        seeds = self._seeds(found)
        levels = [np.zeros((len(found), *_grid(features)), np.float32) for features in self._scored.features]
        groups: dict[tuple[int, ...], list[int]] = {}
        for box, own in enumerate(seeds):
            groups.setdefault(tuple(sorted({seed.leaf for seed in own})), []).append(box)
        empty = self._of_empty_image(session)
        served = self._windows.fill(Asked(session, starts, empty, seeds, levels), groups)
        for leaves, boxes in groups.items():
            if leaves in served:
                continue
            second = self._second(leaves)
            if second is None:
                continue
            compiled = session.beside(second.model)
            given = [*(empty[level] for level in second.levels), *(starts[name] for name in second.starts)]
            for first in range(0, len(boxes), _SEEDS):
                some = boxes[first : first + _SEEDS]
                inputs = [part for leaf in leaves for part in seed_inputs([seeds[box] for box in some], leaf)]
                outputs = compiled.run([*inputs, *given])
                for level in second.levels:
                    levels[level][some] = outputs[f"maps/{level}"]
        return combined(levels, self._scored.size, self._scored.grids)

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


def _empty_image(scored: _Scored, zero: Sequence[float]) -> tuple[ov.Model, NDArray[Any]]:
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


SPEC = MethodSpec(
    "odam",
    "ODAM: which places the score of each box has its gradient at; detectors that gradients can pass",
    BOX_FINDERS,
    _fits,
    second_pass=_second_pass,
    presets=frozenset({Preset.BALANCE}),
)
