"""Activation map: the mean of the features over channels. One map an image, whatever the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, Features, before_normalisation
from otx_xai.graph.shared_features import averaged_features
from otx_xai.graph.surgery import Twin, add_outputs, as_type, forbid_dynamic_quantisation, transpose
from otx_xai.graph.view import port_of
from otx_xai.methods.class_branch import ClassMaps, fit_of_classifier, insert_class_branch, only_layer
from otx_xai.methods.heads import Site
from otx_xai.methods.places import rows_of_places
from otx_xai.methods.scaling import scale_maps
from otx_xai.methods.spec import BOX_FINDERS, CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.records import SALIENCY_MAP

NAME = "activationmap"


def activation_map(site: Site, features: Features) -> ov.Output:
    """Return maps ``(N, M)``, unscaled, of the given features."""
    rows = rows_of_places(site.main.output(features.output), features)
    return ops.reduce_mean(rows, ops.constant(np.array([2], np.int64)), keep_dims=False).output(0)


def _places(anatomy: Anatomy, target: Features | None) -> Features:
    return target or before_normalisation(anatomy)


_MAPS = ClassMaps(
    NAME, lambda site, target: activation_map(site, _places(site.anatomy, target)), _places, knows_classes=False
)


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    """Fit what has features; auto mode takes it of two-stage detectors, which have no class scores for places."""
    if model.facts.task.is_classification:
        return fit_of_classifier(model, target_layers, _MAPS, automatic=False)
    try:
        features = _averaged(model, target_layers)
    except GraphError as error:
        return Fit(False, str(error))
    reason = f"it reads {features.get_node().get_friendly_name()!r} {features.get_partial_shape()}"
    return Fit(True, reason, automatic=bool(model.structure.pooled_features))


def _insert(model: Model, order: Order) -> Branch:
    if model.facts.task.is_classification:
        return insert_class_branch(model, order, _MAPS)
    return Branch(_insert_into_detector(model, order))


def _averaged(model: Model, target_layers: Sequence[str]) -> ov.Output:
    structure = model.structure
    return averaged_features(structure.view, structure.axes, only_layer(target_layers), structure.class_heads)


def _insert_into_detector(model: Model, order: Order) -> ov.Model:
    """Return a copy of a detector or instance segmentation model with one map an image.

    The mean over channels of the layer that is named; by default of the finest features that regions are pooled from,
    or of the last activation that all levels of a one-stage detector depend on: ``float32`` ``(N, h, w)``.
    """
    structure = model.structure
    features = _averaged(model, order.target_layers)
    main = Twin(structure.view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    value = as_type(main.output(features), ov.Type.f32)
    own = structure.axes[port_of(features)]
    value = transpose(value, [own.index(axis) for axis in "NHWC"])
    maps = ops.reduce_mean(value, ops.constant(np.array([3], np.int64)), keep_dims=False).output(0)
    if order.embed_scaling:
        maps = scale_maps(maps, (-2, -1))
    forbid_dynamic_quantisation(main)
    return add_outputs(model.graph, main.model, {SALIENCY_MAP: maps}, known, f"xai/{NAME}")


SPEC = MethodSpec(
    NAME,
    "activation map: the mean of the features over channels, one map an image",
    CLASSIFIERS | BOX_FINDERS,
    _fits,
    insert=_insert,
)
