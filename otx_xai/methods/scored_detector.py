"""A detector as its gradients see it: which tensors its scores come from, and what they are differentiated by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.gradients.sweep import find_way
from otx_xai.graph.axes import label_axes
from otx_xai.graph.backbone_stages import stage_ends
from otx_xai.graph.features import Features, as_features
from otx_xai.graph.grid import map_grids
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.labels import Labels
from otx_xai.graph.leaves import Leaf, leaves_of
from otx_xai.graph.view import Port, View, port_of
from otx_xai.model.facts import ANY_SIZE
from otx_xai.model.formats.box_format import Match
from otx_xai.model.opened import Model
from otx_xai.records import MapGrid, Size


@dataclass(frozen=True)
class Scored:
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
        scoring: numbers of the leaves that hold class scores or objectness, as far as that is known.
        logits: numbers of the leaves that scores come from by a sigmoid.
    """

    view: View
    labels: Mapping[Port, Labels]
    size: Size
    layout: str
    leaves: tuple[Leaf, ...]
    names: tuple[str, ...]
    features: tuple[Features, ...]
    grids: tuple[MapGrid | None, ...]
    scoring: tuple[int, ...]
    logits: frozenset[int]


def outputs_of(leaves: Iterable[Leaf]) -> list[ov.Output]:
    """Return the tensors of some leaves."""
    return [leaf.output for leaf in leaves]


def scored_of(model: Model, target_layers: Sequence[str]) -> Scored:
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
    scoring = tuple(i for i, leaf in enumerate(leaves) if _holds_scores(model, view, leaf))
    direct = {port_of(leaf.output) for end in ends for leaf in leaves_of(view, end)}
    logits = frozenset(i for i, leaf in enumerate(leaves) if port_of(leaf.output) not in direct)
    size, layout = model.facts.geometry.size, model.facts.input_layout
    return Scored(view, labels, size, layout, leaves, owners, tuple(features), grids, scoring, logits)


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


def _holds_scores(model: Model, view: View, leaf: Leaf) -> bool:
    """Whether class scores or objectness are among the numbers of a leaf, as far as that is known."""
    columns = None if model.boxes is None else model.boxes.match.scores
    if columns is None or leaf.elements is None:
        return True
    shape = view.model.get_results()[columns.result].input_value(0).get_shape()
    held = np.moveaxis(leaf.elements.reshape(shape), columns.axis, 0)
    factors = [] if columns.objectness is None else [columns.objectness]
    return bool((held[[*range(columns.begin, columns.end), *factors]] >= 0).any())
