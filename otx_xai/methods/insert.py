"""The door of the graph room: one call puts a saliency branch into a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError
from otx_xai.graph.features import (
    Anatomy,
    Features,
    at_layer,
    before_normalisation,
    dissect,
    prefix_picks,
    target_layers,
)
from otx_xai.graph.grid import map_grid
from otx_xai.graph.logits import Activation, Logits
from otx_xai.graph.surgery import Twin, add_outputs, forbid_dynamic_quantisation, reshape, size_of
from otx_xai.graph.view import View, dimensions
from otx_xai.methods.activation_map import activation_map
from otx_xai.methods.heads import Classes, Site
from otx_xai.methods.places import grid_sizes, rows_of_places
from otx_xai.methods.recipro_cam import recipro_cam
from otx_xai.methods.scaling import scale_maps
from otx_xai.methods.vit_recipro_cam import vit_recipro_cam
from otx_xai.records import FEATURE_VECTOR, SALIENCY_MAP, SALIENCY_TARGETS, SCORES, MapGrid, Method

CLASS_METHODS = (Method.RECIPROCAM, Method.VITRECIPROCAM, Method.ACTIVATIONMAP)
"""White-box methods of classifiers."""


def has_saliency_map(model: ov.Model) -> bool:
    """Whether the model already has an output named ``saliency_map``."""
    return any(SALIENCY_MAP in output.get_names() for output in model.outputs)


def insert_branch(
    model: ov.Model,
    logits: Logits,
    *,
    method: Method | None = None,
    target_layer: str | None = None,
    embed_scaling: bool = True,
    classes: Classes = None,
    feature_vector: bool = False,
    scores: Activation | None = None,
    layout: str | None = None,
    anatomy: Anatomy | None = None,
) -> ov.Model:
    """Return a copy of a classifier with a saliency branch.

    Args:
        model: the classifier; it is not changed.
        logits: its class scores before soft-max, which are what is explained.
        method: activation map, Recipro-CAM or ViT Recipro-CAM; by default ViT Recipro-CAM where the head reads only
            class tokens, else Recipro-CAM.
        target_layer: layer whose features are perturbed, by friendly name or tensor name.
        embed_scaling: scale each map to [0, 255] in the graph; else maps hold class scores.
        classes: all (``None``), the ``k`` best of each image, or the given indices in their order.
        feature_vector: add the output ``feature_vector``, ``float32`` ``(N, C)``: the pooled features.
        scores: add the output ``saliency_scores``, ``float32`` ``(N, K)``: probabilities by soft-max or sigmoid.
        layout: axes of the image input where known, e.g. ``NCHW``.
        anatomy: what ``dissect`` found in this model with these class scores and layout, where the caller has it.

    Returns:
        A model with the same inputs, outputs, names, shapes and ``rt_info`` (a quantised model gets a runtime option
        more, which keeps maps exact), and the new outputs behind them:
        ``saliency_map``, ``float32`` ``(N, K, h, w)`` (``(N, h, w)`` for an activation map), and with ``k`` classes
        ``saliency_targets``, ``int32`` ``(N, k)``.

    Raises:
        ConfigError: the method does not explain classifiers.
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.
    """
    anatomy = anatomy or dissect(model, logits, layout)
    picks = prefix_picks(anatomy)
    target = at_layer(anatomy, target_layer).features if target_layer else None
    method = method or default_method(anatomy)
    _check_method(anatomy, method, has_picks=picks is not None)
    # ViT Recipro-CAM perturbs in front of a block but still needs the tokens that the head reads
    if target is not None and method is not Method.VITRECIPROCAM:
        anatomy = at_layer(anatomy, target_layer or "")
    site = Site(anatomy, Twin(anatomy.view), classes, f"xai/{method.value}")
    known = {node.get_name() for node in site.main.model.get_ordered_ops()}
    features = _mapped_features(anatomy, method, target)
    if method is Method.ACTIVATIONMAP:
        maps = activation_map(site, features)
    elif method is Method.RECIPROCAM:
        maps = recipro_cam(site)
    else:
        maps = vit_recipro_cam(site, picks or (), target)
    forbid_dynamic_quantisation(site.main)
    outputs = {SALIENCY_MAP: _finish(site, features, maps, embed_scaling=embed_scaling)}
    best = site.best()
    if best is not None and method is not Method.ACTIVATIONMAP:
        outputs[SALIENCY_TARGETS] = best
    if feature_vector:
        outputs[FEATURE_VECTOR] = _feature_vector(site, picks)
    if scores is not None:
        outputs[SCORES] = _scores(site.main, logits, scores)
    return add_outputs(model, site.main.model, outputs, known, site.prefix)


def insert_scores(model: ov.Model, logits: Logits, activation: Activation) -> ov.Model:
    """Return a copy of a classifier with the output ``saliency_scores``, ``float32`` ``(N, K)``: probabilities."""
    main = Twin(View(model))
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    return add_outputs(model, main.model, {SCORES: _scores(main, logits, activation)}, known, "xai")


def default_method(anatomy: Anatomy) -> Method:
    """Return ViT Recipro-CAM for a model whose head reads only class tokens, else Recipro-CAM."""
    return Method.VITRECIPROCAM if prefix_picks(anatomy) else Method.RECIPROCAM


def branch_grid(anatomy: Anatomy, method: Method, target_layer: str | None = None) -> MapGrid | None:
    """Find where the places of the maps that :func:`insert_branch` inserts lie in the network's input.

    Args:
        anatomy: of the classifier; dissected with a ``layout``.
        method: the method of the maps.
        target_layer: layer whose features are perturbed.

    Returns:
        The grid, or ``None`` where the graph does not tell.

    Raises:
        GraphError: as :func:`insert_branch` says.
    """
    target = at_layer(anatomy, target_layer).features if target_layer else None
    return map_grid(anatomy.view, anatomy.labels, _mapped_features(anatomy, method, target).output)


def _mapped_features(anatomy: Anatomy, method: Method, target: Features | None) -> Features:
    """Return the features whose places a method's maps have."""
    if method is Method.ACTIVATIONMAP:
        return target or before_normalisation(anatomy)
    if method is Method.RECIPROCAM:
        return target or anatomy.features
    return anatomy.features


def _check_method(anatomy: Anatomy, method: Method, *, has_picks: bool) -> None:
    if method not in CLASS_METHODS:
        raise ConfigError(
            f"explain_method {method} explains no classification; expected one of {', '.join(CLASS_METHODS)}. Or leave "
            "it out."
        )
    if method is Method.VITRECIPROCAM and not has_picks:
        raise GraphError(
            f"{method} needs a transformer whose head reads a class token; the head of this model reads "
            f"{_title(anatomy.features)}. Use {Method.RECIPROCAM}, which is exact for it."
        )
    if method is Method.RECIPROCAM and has_picks:
        raise GraphError(
            f"{method} would give empty maps: the head reads only class tokens, which no place of "
            f"{_title(anatomy.features)} reaches any more. Use {Method.VITRECIPROCAM}, which perturbs the tokens "
            f"before the last attention. Layers that --target_layer can name: {target_layers(anatomy)}."
        )


def _title(features: Features) -> str:
    node = features.output.get_node()
    return f"{node.get_friendly_name()!r} {features.output.get_partial_shape()}"


def _finish(site: Site, features: Features, maps: ov.Output, *, embed_scaling: bool) -> ov.Output:
    """Scale maps ``(N, [K,] M)`` where wanted and lay their places out as ``(N, [K,] h, w)``."""
    if embed_scaling:
        maps = scale_maps(maps)
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
    values = reshape(main.output(logits.port), (-1, logits.num_classes))
    if values.get_element_type() != ov.Type.f32:
        values = ops.convert(values, "f32").output(0)
    return (ops.sigmoid(values) if activation == "sigmoid" else ops.softmax(values, 1)).output(0)
