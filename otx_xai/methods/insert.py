"""Bridge while callers move to the table of methods."""

from __future__ import annotations

from typing import Any

import openvino as ov

from otx_xai.graph.features import Anatomy, at_layer, dissect, prefix_picks
from otx_xai.graph.grid import map_grid
from otx_xai.graph.logits import Activation, Logits
from otx_xai.methods.class_branch import insert_scores as _insert_scores
from otx_xai.methods.spec import Classes, Order
from otx_xai.methods.table import find_method
from otx_xai.model.opened import Model
from otx_xai.model.structure import Structure
from otx_xai.records import SALIENCY_MAP, InputGeometry, MapGrid, Method, ModelFacts, Task

CLASS_METHODS = (Method.RECIPROCAM, Method.VITRECIPROCAM, Method.ACTIVATIONMAP)


def has_saliency_map(model: ov.Model) -> bool:
    """Whether the model already has an output named ``saliency_map``."""
    return any(SALIENCY_MAP in output.get_names() for output in model.outputs)


def _opened(model: ov.Model, logits: Logits, layout: str | None, activation: Activation | None) -> Model:
    labels = tuple(str(i) for i in range(logits.num_classes))
    facts = ModelFacts(Task.CLASSIFICATION, labels, InputGeometry((-1, -1)), multilabel=activation == "sigmoid")
    return Model(model, facts, Structure(model, layout, class_scores=logits))


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
    """Return a copy of a classifier with a saliency branch."""
    opened = _opened(model, logits, layout, scores)
    if anatomy is not None:
        opened.structure._anatomy = anatomy
    order = Order((target_layer,) if target_layer else (), classes, embed_scaling, scores is not None, feature_vector)
    spec = find_method(str(method or default_method(opened.structure.anatomy)))
    fit = spec.fits(opened, order.target_layers)
    if not fit.fits:
        from otx_xai.errors import GraphError

        raise GraphError(fit.reason)
    assert spec.insert is not None
    return spec.insert(opened, order).model


def insert_scores(model: ov.Model, logits: Logits, activation: Activation) -> ov.Model:
    """Return a copy of a classifier with the output ``saliency_scores``."""
    return _insert_scores(_opened(model, logits, None, activation))


def default_method(anatomy: Anatomy) -> Method:
    """Return ViT Recipro-CAM for a model whose head reads only class tokens, else Recipro-CAM."""
    return Method.VITRECIPROCAM if prefix_picks(anatomy) else Method.RECIPROCAM


def branch_grid(anatomy: Anatomy, method: Method, target_layer: str | None = None) -> MapGrid | None:
    """Find where the places of the maps lie."""
    from otx_xai.graph.features import before_normalisation

    target = at_layer(anatomy, target_layer).features if target_layer else None
    features: Any = target or anatomy.features
    if method is Method.ACTIVATIONMAP:
        features = target or before_normalisation(anatomy)
    elif method is Method.VITRECIPROCAM:
        features = anatomy.features
    return map_grid(anatomy.view, anatomy.labels, features.output)


__all__ = ["dissect"]
