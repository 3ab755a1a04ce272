"""Recipro-CAM: the class scores when the head sees the features of one place alone.

``S_k(i, j) = head_k(F ⊙ 1_ij)``; Byun & Lee, *Recipro-CAM: Fast gradient-free visual explanations for convolutional
neural networks*, 2022 (arXiv:2209.14074). Where the head begins with a global pooling, the pooled vector of a single
place is known without any mask (``GAP(F ⊙ 1_ij) = F[:, i, j] / (h·w)``), and the head runs once on ``N·h·w`` vectors.
So is what a linear layer of flattened places makes of it (:mod:`otx_xai.methods.flattened`). Any other head is run on
masked features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.cost import cost
from otx_xai.graph.features import Anatomy, Features, Pool, global_pools
from otx_xai.graph.surgery import batch_obstacle, cut, graft, reshape, size_of, transpose
from otx_xai.graph.traits import trait
from otx_xai.graph.view import dimensions, kind, port_of
from otx_xai.methods.class_branch import (
    ClassMaps,
    fit_of_classifier,
    insert_class_branch,
    reads_class_tokens_only,
    title,
)
from otx_xai.methods.flattened import Flattened, flattened_layer, terms_of_places
from otx_xai.methods.heads import Site, class_scores, masked_scores
from otx_xai.methods.places import SINGLE, place_count, rows_of_places
from otx_xai.methods.spec import CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model

MOST_PASSES = 250
"""Forward passes that masks of the head may cost as much as: what RISE takes."""


def recipro_cam(site: Site) -> ov.Output:
    """Return maps ``(N, K, M)`` of the wanted classes, unscaled."""
    features = site.anatomy.features
    pools = _exact_pools(site.anatomy)
    if pools is None:
        layer = flattened_layer(site.anatomy)
        return masked_scores(site, [features], SINGLE) if layer is None else _flattened_scores(site, layer)
    starts = [pool.node.output(0) for pool in pools]
    linear = site.linear(starts)
    end = linear.features if linear is not None else site.anatomy.logits.port
    pooled = {port_of(pool.node.output(0)): _pooled_places(site, pool) for pool in pools}
    (rows,) = graft(site.view, pooled, [end], outside=site.main.output, prefix=site.prefix, free_batch=True)
    images = size_of(site.main.output(features.output), features.batch_axis)
    return class_scores(site, linear, rows, images, place_count(site.main, features))


def _flattened_scores(site: Site, layer: Flattened) -> ov.Output:
    """Run what lies behind a linear layer of flattened places on what each of them gives alone."""
    start = layer.node.output(0)
    linear = site.linear([start])
    end = linear.features if linear is not None else site.anatomy.logits.port
    terms = terms_of_places(site, layer)
    images, places = (size_of(terms, axis) for axis in (0, 1))
    starts = {port_of(start): reshape(terms, (-1, (dimensions(start) or [1])[-1] or 1))}
    (rows,) = graft(site.view, starts, [end], outside=site.main.output, prefix=site.prefix, free_batch=True)
    return class_scores(site, linear, rows, images, places)


def _exact_pools(anatomy: Anatomy) -> list[Pool] | None:
    """Return the poolings that the head begins with, where what follows takes the pooled places as a batch."""
    pools = global_pools(anatomy)
    if pools is None or any(pool.features.batch_axis != 0 for pool in pools):
        return None
    starts = [pool.node.output(0) for pool in pools]
    return pools if batch_obstacle(anatomy.view, starts, [anatomy.logits.port]) is None else None


def too_dear(anatomy: Anatomy) -> str | None:
    """Say why a head that has to run once a place is no bargain; ``None`` where it is one, or sizes are not known.

    Masks of the image explain any model in some 250 forward passes, and a head that costs more than that gives less.
    """
    rows, columns = anatomy.features.grid
    if _exact_pools(anatomy) is not None or rows is None or columns is None:
        return None
    view = anatomy.view
    layer = flattened_layer(anatomy)
    once = set() if layer is None else {layer.node.get_name()}
    head = cost(view.ordered(anatomy.head - once))
    whole = cost(node for node in view.nodes if node.get_name() in view.data)
    if head is None or not whole or rows * columns * head <= MOST_PASSES * whole:
        return None
    return (
        f"the head behind {title(anatomy.features)} begins with no pooling and would run once for each of its "
        f"{rows} x {columns} places, which costs as much as {round(rows * columns * head / whole)} forward passes. "
        "Name reciprocam as explain_method to have it all the same, or a later layer as target_layer."
    )


def _pooled_places(site: Site, pool: Pool) -> ov.Output:
    """Return what the pooling gives for each place alone, ``(N * M, …)`` in the shape of its output."""
    features = pool.features
    value = site.main.output(features.output)
    places = rows_of_places(value, features)  # (N, M, C)
    silent = _silent_place(site, pool)  # (1, 1, C): what a place that is masked out gives
    kept = None  # (N, M', C): prefix tokens, which no mask touches
    if features.prefix:
        order = (features.batch_axis, *features.places, features.channel_axis)
        kept = cut(transpose(value, order), 1, 0, features.prefix)
    one = ops.constant(np.array([1], np.int64))
    axis, count = ops.constant(np.array([1], np.int64)), place_count(site.main, features)
    if pool.mode == "mean":
        if silent is not None:
            others = ops.convert(ops.subtract(count, one), "f32")
            places = ops.add(places, ops.multiply(silent, others)).output(0)
        if kept is not None:
            places = ops.add(places, ops.reduce_sum(kept, axis, keep_dims=True)).output(0)
        total = ops.add(count, ops.constant(np.array([features.prefix], np.int64)))
        places = ops.divide(places, ops.convert(total, "f32")).output(0)
    else:
        floor = ops.constant(np.float32(0)).output(0) if silent is None else silent
        places = ops.maximum(places, floor).output(0)
        if kept is not None:
            places = ops.maximum(places, ops.reduce_max(kept, axis, keep_dims=True)).output(0)
    after = dimensions(pool.node.output(0)) or []
    return reshape(places, (-1, *(size or 1 for size in after[1:])))


def _silent_place(site: Site, pool: Pool) -> ov.Output | None:
    """Return the pooling's input where the features are zero, ``(1, 1, C)``; ``None`` where that is zero."""
    features = site.anatomy.features
    way = site.view.ordered(site.view.between([features.output], [pool.features.output]))
    if all(trait(kind(node)).keeps_zero for node in way):
        return None
    shape = [1] * len(features.dims)
    shape[features.channel_axis] = features.dims[features.channel_axis] or 1
    zeros = ops.constant(np.zeros(shape, np.float32)).output(0)
    (value,) = graft(
        site.view,
        {port_of(features.output): zeros},
        [pool.features.output],
        outside=site.main.output,
        prefix=f"{site.prefix}/silent",
        free_batch=False,
    )
    return reshape(value, (1, 1, -1))


def _places(anatomy: Anatomy, target: Features | None) -> Features:
    return target or anatomy.features


_MAPS = ClassMaps("reciprocam", lambda site, _: recipro_cam(site), _places, refusal=reads_class_tokens_only)


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    """Fit heads that read places; auto mode passes over one that is too dear, unless the user has named its layer."""
    fit = fit_of_classifier(model, target_layers, _MAPS)
    reason = too_dear(model.structure.anatomy) if fit.fits and not target_layers else None
    return fit if reason is None else replace(fit, automatic=False, passed_over=reason)


def _insert(model: Model, order: Order) -> Branch:
    return insert_class_branch(model, order, _MAPS)


SPEC = MethodSpec(
    "reciprocam",
    "Recipro-CAM: class scores when the head sees single places; CNNs, pooled transformers",
    CLASSIFIERS,
    _fits,
    insert=_insert,
)
