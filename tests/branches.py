"""Branches for models whose class scores or classes a test knows by itself."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, at_layer, before_normalisation, prefix_picks
from otx_xai.graph.logits import Activation, Logits
from otx_xai.graph.view import port_of
from otx_xai.methods import class_branch
from otx_xai.methods.spec import Classes, Order
from otx_xai.methods.table import named_method
from otx_xai.model.opened import Model
from otx_xai.model.structure import Structure
from otx_xai.records import ExplainMode, InputGeometry, MapGrid, Method, ModelFacts, Task


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
) -> ov.Model:
    """Put the branch of a method, of the one that fits by default, into a classifier."""
    opened = classifier(model, logits, layout, scores)
    order = Order((target_layer,) if target_layer else (), classes, embed_scaling, scores is not None, feature_vector)
    return _inserted(opened, method or default_method(opened.structure.anatomy), order)


def insert_scores(model: ov.Model, logits: Logits, activation: Activation) -> ov.Model:
    """Add the output ``saliency_scores`` to a classifier."""
    return class_branch.insert_scores(classifier(model, logits, None, activation))


def default_method(anatomy: Anatomy) -> Method:
    """Return ViT Recipro-CAM for a head that reads only class tokens, else Recipro-CAM."""
    return Method.VITRECIPROCAM if prefix_picks(anatomy) else Method.RECIPROCAM


def branch_grid(anatomy: Anatomy, method: Method, target_layer: str | None = None) -> MapGrid | None:
    """Return where the places of a method's maps lie in the input."""
    target = at_layer(anatomy, target_layer).features if target_layer else None
    features = anatomy.features
    if method is Method.ACTIVATIONMAP:
        features = target or before_normalisation(anatomy)
    elif method is Method.RECIPROCAM:
        features = target or anatomy.features
    return anatomy.grids.get(port_of(features.output))


def insert_class_maps(
    model: ov.Model,
    *,
    num_classes: int | None = None,
    target_layers: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
    embed_scaling: bool = True,
) -> ov.Model:
    """Put class probability maps into a one-stage detector."""
    order = Order(tuple(target_layers or ()), None if classes is None else tuple(classes), embed_scaling)
    return _inserted(_detector(model, num_classes, order.target_layers), Method.DETCLASSPROBABILITYMAP, order)


def insert_activation_map(model: ov.Model, *, target_layer: str | None = None, embed_scaling: bool = True) -> ov.Model:
    """Put the activation map into a detector or an instance segmentation model."""
    order = Order((target_layer,) if target_layer else (), None, embed_scaling)
    return _inserted(_detector(model, 1, ()), Method.ACTIVATIONMAP, order)


def _inserted(opened: Model, method: Method, order: Order) -> ov.Model:
    spec = named_method(method, opened.facts.task, ExplainMode.WHITEBOX)
    assert spec is not None
    fit = spec.fits(opened, order.target_layers)
    if not fit.fits:
        raise GraphError(fit.reason)
    assert spec.insert is not None
    return spec.insert(opened, order).model


def classifier(
    model: ov.Model, logits: Logits, layout: str | None = None, activation: Activation | None = None
) -> Model:
    """Return a classifier with what is known of it, as methods are given it."""
    labels = tuple(str(index) for index in range(logits.num_classes))
    facts = ModelFacts(Task.CLASSIFICATION, labels, InputGeometry((-1, -1)), multilabel=activation == "sigmoid")
    return Model(model, facts, Structure(model, layout, class_scores=logits))


def _detector(model: ov.Model, num_classes: int | None, layers: tuple[str, ...]) -> Model:
    structure = Structure(model)
    count = structure.class_heads(None, layers).num_classes if num_classes is None else num_classes
    labels = tuple(str(index) for index in range(count))
    return Model(model, ModelFacts(Task.DETECTION, labels, InputGeometry((-1, -1))), structure)
