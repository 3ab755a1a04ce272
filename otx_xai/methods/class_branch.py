"""The branch of a classifier: what all white-box methods of classifiers share, around the maps that each draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError
from otx_xai.graph.features import Anatomy, Features, at_layer, prefix_picks, target_layers
from otx_xai.graph.logits import Activation, Logits
from otx_xai.graph.surgery import Twin, add_outputs, as_type, forbid_dynamic_quantisation, reshape, size_of
from otx_xai.graph.view import dimensions, port_of
from otx_xai.methods.heads import Site
from otx_xai.methods.places import grid_sizes, rows_of_places
from otx_xai.methods.scaling import scale_maps
from otx_xai.methods.spec import Branch, Fit, Order
from otx_xai.model.opened import Model
from otx_xai.records import FEATURE_VECTOR, SALIENCY_MAP, SALIENCY_TARGETS, SCORES


@dataclass(frozen=True)
class ClassMaps:
    """What is a method's own in a branch of a classifier.

    Args:
        name: of the method.
        draw: makes the maps in a site, given the features of the layer that the user names: ``(N, K, M)``, or
            ``(N, M)`` of a method that knows no classes; unscaled.
        places: tells the features whose places the maps have, given the anatomy and the features of the named layer.
        knows_classes: it draws a map for each class.
        head_at_target: the head begins at the layer that the user names, rather than at the last features.
        refusal: says why the graph gives no place for it; ``None``: it does.
    """

    name: str
    draw: Callable[[Site, Features | None], ov.Output]
    places: Callable[[Anatomy, Features | None], Features]
    knows_classes: bool = True
    head_at_target: bool = True
    refusal: Callable[[Anatomy], str | None] = lambda _: None


def fit_of_classifier(model: Model, layers: Sequence[str], maps: ClassMaps, *, automatic: bool = True) -> Fit:
    """Tell whether a method of classifiers fits a model: the graph has features, and the head reads them.

    Args:
        model: a classifier.
        layers: those that the user names.
        maps: the method.
        automatic: auto mode may choose it.
    """
    try:
        anatomy = model.structure.anatomy
        if only_layer(layers):
            at_layer(anatomy, layers[0])
    except GraphError as error:
        return Fit(False, str(error))
    refusal = maps.refusal(anatomy)
    if refusal is not None:
        return Fit(False, refusal)
    return Fit(True, f"its head reads {title(anatomy.features)}", automatic)


def insert_class_branch(model: Model, order: Order, maps: ClassMaps) -> Branch:
    """Return a copy of a classifier with a saliency branch.

    Args:
        model: the classifier; it is not changed.
        order: what the branch is to give.
        maps: what draws them.

    Returns:
        A model with the same inputs, outputs, names, shapes and ``rt_info`` (a quantised model gets a runtime option
        more, which keeps maps exact), and the new outputs behind them: ``saliency_map``, ``float32`` ``(N, K, h, w)``
        (``(N, h, w)`` of a method that knows no classes), and with the ``k`` best classes ``saliency_targets``,
        ``int32`` ``(N, k)``.

    Raises:
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.
    """
    anatomy = model.structure.anatomy
    layer = only_layer(order.target_layers)
    target = at_layer(anatomy, layer).features if layer else None
    picks = prefix_picks(anatomy)
    if layer and maps.head_at_target:
        anatomy = at_layer(anatomy, layer)
    site = Site(anatomy, Twin(anatomy.view), order.classes if maps.knows_classes else None, f"xai/{maps.name}")
    known = {node.get_name() for node in site.main.model.get_ordered_ops()}
    features = maps.places(anatomy, target)
    return finish_branch(model, site, order, Drawn(features, maps.draw(site, target), known), picks)


@dataclass(frozen=True)
class Drawn:
    """Maps that a method has drawn into the graph of a site.

    Args:
        features: those whose places the maps have.
        maps: ``(N, K, M)``, or ``(N, M)`` of a method that knows no classes; unscaled.
        known: unique names of the nodes that were there before.
    """

    features: Features
    maps: ov.Output
    known: set[str]


def finish_branch(model: Model, site: Site, order: Order, drawn: Drawn, picks: Any = None) -> Branch:
    """Scale maps and lay them out, add what else was ordered, and prove that nothing else has changed.

    Args:
        model: the classifier.
        site: its copy with the maps.
        order: what the branch is to give.
        drawn: the maps.
        picks: what picks class tokens off the features, where the head reads only these.

    Raises:
        GraphError: something else has changed.
    """
    anatomy = site.anatomy
    forbid_dynamic_quantisation(site.main)
    scaled = scale_maps(drawn.maps) if order.embed_scaling else drawn.maps
    outputs = {SALIENCY_MAP: laid_out(site, drawn.features, scaled)}
    best = site.best()
    if best is not None:
        outputs[SALIENCY_TARGETS] = best
    if order.feature_vector:
        outputs[FEATURE_VECTOR] = _feature_vector(site, picks)
    if order.scores:
        outputs[SCORES] = _scores(site.main, model.structure.class_scores, model.activation)
    explained = add_outputs(model.graph, site.main.model, outputs, drawn.known, site.prefix)
    return Branch(explained, anatomy.grids.get(port_of(drawn.features.output)))


def insert_scores(model: Model) -> ov.Model:
    """Return a copy of a classifier with the output ``saliency_scores``, ``float32`` ``(N, K)``: probabilities."""
    main = Twin(model.structure.view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    scores = _scores(main, model.structure.class_scores, model.activation)
    return add_outputs(model.graph, main.model, {SCORES: scores}, known, "xai")


def only_layer(target_layers: Sequence[str]) -> str | None:
    """Return the one layer that a method other than the class probability map takes.

    Raises:
        ConfigError: there are several.
    """
    if len(target_layers) > 1:
        raise ConfigError(f"target_layer names {len(target_layers)} layers; expected one, for this method.")
    return target_layers[0] if target_layers else None


def reads_no_class_token(anatomy: Anatomy) -> str | None:
    """Say why ViT Recipro-CAM fits no head that reads anything but class tokens; ``None`` where it reads these."""
    if prefix_picks(anatomy) is not None:
        return None
    return (
        f"vitreciprocam needs a transformer whose head reads a class token; the head of this model reads "
        f"{title(anatomy.features)}. Use reciprocam, which is exact for it."
    )


def reads_class_tokens_only(anatomy: Anatomy) -> str | None:
    """Say why Recipro-CAM gives nothing of a head that reads class tokens only; ``None`` where it reads places."""
    if prefix_picks(anatomy) is None:
        return None
    return (
        f"reciprocam would give empty maps: the head reads only class tokens, which no place of "
        f"{title(anatomy.features)} reaches any more. Use vitreciprocam, which perturbs the tokens before the last "
        f"attention. Layers that --target_layer can name: {target_layers(anatomy)}."
    )


def title(features: Features) -> str:
    """Return what to call features in messages: their layer and its shape."""
    node = features.output.get_node()
    return f"{node.get_friendly_name()!r} {features.output.get_partial_shape()}"


def laid_out(site: Site, features: Features, maps: ov.Output) -> ov.Output:
    """Lay the places of maps ``(N, [K,] M)`` out as ``(N, [K,] h, w)``."""
    height, width = (
        static if static is not None else size
        for static, size in zip(features.grid, grid_sizes(site.main, features), strict=True)
    )
    dims = dimensions(maps) or []
    leading = [size_of(maps, axis) if dims[axis] is None else dims[axis] or 1 for axis in range(len(dims) - 1)]
    if dims[0] is None and all(isinstance(size, int) for size in (*leading[1:], height, width)):
        leading[0] = -1
    return reshape(maps, (*leading, height, width))


def _feature_vector(site: Site, picks: Any) -> ov.Output:
    """Return the class token where the head reads one, else the mean over places, ``(N, C)``."""
    features = site.anatomy.features
    channels = features.dims[features.channel_axis] or 1
    if picks:
        return reshape(site.main.output(picks[0][0].output(0)), (-1, channels))
    rows = rows_of_places(site.main.output(features.output), features)
    return ops.reduce_mean(rows, ops.constant(np.array([1], np.int64)), keep_dims=False).output(0)


def _scores(main: Twin, logits: Logits, activation: Activation) -> ov.Output:
    values = as_type(reshape(main.output(logits.port), (-1, logits.num_classes)), ov.Type.f32)
    return (ops.sigmoid(values) if activation == "sigmoid" else ops.softmax(values, 1)).output(0)
