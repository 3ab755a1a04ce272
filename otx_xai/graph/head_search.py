"""A look for class heads: the model that is looked through, and what the error says where none are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.axes import label_axes
from otx_xai.graph.elements import Way, passed_on, way_back
from otx_xai.graph.labels import Labels
from otx_xai.graph.traits import CONVOLUTIONS
from otx_xai.graph.view import Port, View, kind, port_of

_CANDIDATES = 24


class HeadSearch:
    """A static model with the meaning of its axes.

    Args:
        view: a model whose dense part is static.
        labels: meaning of its axes, where it is known.
    """

    def __init__(self, view: View, labels: dict[Port, Labels] | None = None) -> None:
        self.view = view
        self._labels = labels

    @cached_property
    def labels(self) -> dict[Port, Labels]:
        """Meaning of the axes of each tensor."""
        return label_axes(self.view) if self._labels is None else self._labels


def with_bias(view: View, convolution: ov.Node) -> ov.Output:
    """Return what a convolution gives, its bias added."""
    readers = view.consumers.get(port_of(convolution.output(0)), [])
    return readers[0][0].output(0) if _is_biased(view, readers) else convolution.output(0)


def _is_biased(view: View, readers: Sequence[tuple[ov.Node, int]]) -> bool:
    """Whether the one reader of a convolution adds its bias."""
    return len(readers) == 1 and kind(readers[0][0]) == "Add" and len(view.data_inputs(readers[0][0])) == 1


def why_not(search: HeadSearch, way: Way) -> str:
    """Say why the way back from class scores ends at no convolution."""
    linear = [node for node in way.nodes if kind(node) == "MatMul"]
    if linear:
        return (
            f"its class scores come from the linear layer {linear[-1].get_friendly_name()!r}, as in two-stage "
            f"detectors and transformers, which have no class scores for places"
        )
    lost = [node for node in way.nodes if not passed_on(search.view, node)]
    where = ", ".join(f"{kind(node)} {node.get_friendly_name()!r}" for node in lost[:3]) or "nothing"
    return f"the way back from its class scores ends at {where}"


def unreadable(search: HeadSearch, reason: str) -> GraphError:
    """Return the error that says why no class heads are found, and lists layers that may be some."""
    name = search.view.model.get_friendly_name()
    return GraphError(
        f"The class heads of detector {name!r} cannot be read off its graph: {reason}. "
        f"Expected convolutions that score classes at every place. Name them by --target_layer a,b,c, one a level; "
        f"candidates with shapes: {_candidates(search)}."
    )


def _candidates(search: HeadSearch) -> str:
    view = search.view
    found = {port_of(output): output for output in way_back(search.view, search.labels, search.view.outputs).raw}
    earlier: set[str] = set()
    for node in reversed(view.nodes):
        if kind(node) in CONVOLUTIONS and node.get_name() in view.data and node.get_name() not in earlier:
            earlier |= view.ancestors(node.input_values())
            output = with_bias(view, node)
            found.setdefault(port_of(output), output)
    ordered = sorted(found.values(), key=lambda output: view.position[output.get_node().get_name()])
    names = [f"{o.get_node().get_friendly_name()!r} {o.get_partial_shape()}" for o in ordered[-_CANDIDATES:]]
    more = len(ordered) - len(names)
    return (", ".join(names) or "none") + (f" and {more} earlier ones" if more > 0 else "")
