"""What a detector reads its boxes from: the features that regions are pooled from, or that all levels are made of.

A two-stage detector pools its regions from the outputs of its feature extractor. The finest of them is averaged: it
resolves single objects, where the last map of the backbone hardly does (measured: ``benchmarks/detectors.py``). The
levels of a one-stage detector all depend on its backbone, whose last activation is averaged.
"""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ClassHeads
from otx_xai.graph.labels import Labels, is_map
from otx_xai.graph.traits import LAYER_ACTIVATIONS, REGION_INPUTS, names_with
from otx_xai.graph.view import Port, View, dimensions, kind, port_of

_FALLBACK = names_with(lambda own: own.is_layer or own.axes in ("broadcast", "concat", "normalise"))
_CANDIDATES = 12


def pooled_features(view: View) -> list[ov.Output]:
    """Return the features that regions are pooled from; none for a one-stage detector."""
    return [
        value
        for node in view.nodes
        if kind(node) in REGION_INPUTS and node.get_name() in view.data
        for value in node.input_values()[REGION_INPUTS[kind(node)]]
    ]


def averaged_features(
    view: View, labels: dict[Port, Labels], target_layer: str | None, class_heads: Callable[[], ClassHeads]
) -> ov.Output:
    """Return what the activation map averages: the layer of this name, the finest pooled, or the last shared features.

    Args:
        view: the detector.
        labels: meaning of its axes.
        target_layer: the layer that the user names.
        class_heads: finds the class heads, if need be.

    Raises:
        GraphError: the features cannot be found; the message lists layers for ``target_layer``.
    """
    if target_layer:
        return _named(view, labels, target_layer)
    pooled = [output for output in pooled_features(view) if _is_map(labels, output.get_node())]
    if pooled:
        return max(pooled, key=lambda output: _places(labels, output))
    return shared_features(view, labels, class_heads)


def _places(labels: dict[Port, Labels], output: ov.Output) -> int:
    """Return the number of places of a map; 0 where it is dynamic."""
    dims, own = dimensions(output) or [None] * 4, labels[port_of(output)]
    return (dims[own.index("H")] or 0) * (dims[own.index("W")] or 0)


def shared_features(view: View, labels: dict[Port, Labels], class_heads: Callable[[], ClassHeads]) -> ov.Output:
    """Return the last activation, ``(N, C, h, w)`` in any order of axes, that all of a detector's levels depend on.

    Args:
        view: the detector.
        labels: meaning of its axes.
        class_heads: finds the class heads, if need be.

    Raises:
        GraphError: it is not known where the detector reads its features.
    """
    readers = pooled_features(view) or [level.output for level in class_heads().levels]
    common = set.intersection(*(view.ancestors([reader]) for reader in readers))
    places = [node for node in view.ordered(common) if _is_map(labels, node)]
    for kinds in (LAYER_ACTIVATIONS, _FALLBACK):
        chosen = [node for node in places if kind(node) in kinds]
        if chosen:
            return chosen[-1].output(0)
    raise GraphError(
        "The features that all levels of the detector depend on are no maps of places. Name the layer to be averaged "
        f"by --target_layer; candidates with shapes: {_candidates(view, labels)}."
    )


def _is_map(labels: dict[Port, Labels], node: ov.Node) -> bool:
    return is_map(labels.get(port_of(node.output(0)), ()))


def _named(view: View, labels: dict[Port, Labels], name: str) -> ov.Output:
    output = view.by_layer_name.get(name)
    if output is not None and _is_map(labels, output.get_node()):
        return output
    reason = "is no layer or tensor" if output is None else f"of shape {output.get_partial_shape()} is no map of places"
    raise GraphError(
        f"--target_layer {name!r} {reason} of the detector; expected features with axes for batch, channels and "
        f"places. Candidates with shapes: {_candidates(view, labels)}."
    )


def _candidates(view: View, labels: dict[Port, Labels]) -> str:
    nodes = [node for node in view.nodes if kind(node) in LAYER_ACTIVATIONS and _is_map(labels, node)]
    return ", ".join(f"{n.get_friendly_name()!r} {n.output(0).get_partial_shape()}" for n in nodes[-_CANDIDATES:])
