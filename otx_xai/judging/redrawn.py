"""A model whose last layers have random weights."""

from __future__ import annotations

from dataclasses import replace

from otx_xai.graph.random_weights import shuffle_weights, weight_layers
from otx_xai.graph.surgery import Twin
from otx_xai.model.opened import Model
from otx_xai.model.structure import Structure


def count_layers(model: Model) -> int:
    """Return how many layers with weights a model has."""
    return len(weight_layers(model.structure.view))


def redrawn(model: Model, count: int, seed: int) -> Model:
    """Return a copy of a model whose last ``count`` layers have random weights.

    Args:
        model: the model; it is not changed.
        count: number of layers, counted from the output. With a higher one the same layers are random, and more.
        seed: of the weights; see :func:`otx_xai.graph.random_weights.shuffle_weights`.
    """
    known = model.structure
    twin = Twin(known.view)
    shuffle_weights(twin, weight_layers(known.view)[:count], seed)
    scores = None
    if known.is_classifier:
        scores = replace(known.class_scores, port=twin.output(known.class_scores.port))
    structure = Structure(twin.model, known.layout, class_scores=scores, boxes=known.boxes)
    return replace(model, graph=twin.model, structure=structure)
