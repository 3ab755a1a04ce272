"""Where the head begins: the last feature tensor that still has places, found as a cut vertex of the data flow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.axes import computed_axes
from otx_xai.graph.cuts import Cut, cut_of
from otx_xai.graph.grid import map_grids
from otx_xai.graph.labels import Labels, Tokens
from otx_xai.graph.logits import Logits
from otx_xai.graph.traits import BINARY, LAYERS, NORMALISATIONS, UNARY, Window, trait
from otx_xai.graph.view import Port, View, dimensions, kind, port_of
from otx_xai.records import MapGrid

_CANDIDATES = 12
_PLAIN = Window("weights", 1)


@dataclass(frozen=True)
class Features:
    """A tensor whose places can be perturbed.

    Args:
        output: the tensor, in the viewed model.
        dims: its dimensions, ``None`` where dynamic.
        batch_axis: position of the batch axis.
        channel_axis: position of the channel axis.
        places: positions of the axes of places: ``(h, w)`` of a map, or ``(t,)`` of tokens.
        tokens: the token axis, where places are tokens.
    """

    output: ov.Output
    dims: tuple[int | None, ...]
    batch_axis: int
    channel_axis: int
    places: tuple[int, ...]
    tokens: Tokens | None = None

    @property
    def prefix(self) -> int:
        """Number of tokens (class, distillation, register) before the grid; 0 for maps."""
        return self.tokens.prefix if self.tokens else 0

    @property
    def grid(self) -> tuple[int | None, int | None]:
        """Rows and columns of places, ``None`` where dynamic."""
        if self.tokens:
            return self.tokens.height, self.tokens.width
        return self.dims[self.places[0]], self.dims[self.places[1]]


@dataclass(frozen=True)
class Anatomy:
    """A classifier's graph with everything that the methods ask of it.

    Args:
        view: the graph.
        labels: meaning of every axis.
        logits: the class scores before soft-max.
        layers: every tensor whose places can be perturbed, from the class scores backwards.
        features: the one behind which the head begins: the last, unless another is named.
    """

    view: View
    labels: dict[Port, Labels]
    logits: Logits
    layers: tuple[Features, ...]
    features: Features

    @property
    def head(self) -> set[str]:
        """Names of the nodes between the features (excluded) and the class scores (included)."""
        return self.view.between([self.features.output], [self.logits.port])

    @cached_property
    def grids(self) -> dict[Port, MapGrid]:
        """Where the places of each tensor lie that the class scores depend on, as far as that can be followed."""
        return map_grids(self.view, self.labels, [self.logits.port])


def find_features(view: View, labels: dict[Port, Labels], logits: Logits) -> Anatomy:
    """Find the features of a classifier whose graph has been looked at.

    Raises:
        GraphError: nothing with places lies on every path to the class scores.
    """
    layers = _layers_before(view, labels, logits)
    if not layers:
        raise GraphError(
            f"Nothing with places was found in model {view.model.get_friendly_name()!r}: no tensor on every "
            f"path from the image to the class scores has axes that are known to be height and width, or image "
            f"tokens. Expected a convolutional network, or a transformer whose patches come from a convolution. "
            f"There is no layer that --target_layer could name."
        )
    return Anatomy(view, labels, logits, layers, layers[0])


def _layers_before(view: View, labels: dict[Port, Labels], logits: Logits) -> tuple[Features, ...]:
    """Return every tensor whose places can be perturbed, from the class scores backwards; pixels are no features."""
    layers = [node for node in view.nodes if kind(node) in LAYERS and node.get_name() in view.data]
    learned = view.descendants(node.output(0) for node in layers) | {node.get_name() for node in layers}
    cuts = [output for output in view.cuts(logits.port) if port_of(output)[0] in learned]
    return tuple(found for output in cuts if (found := as_features(labels, output)) is not None)


def at_layer(anatomy: Anatomy, target_layer: str) -> Anatomy:
    """Return the anatomy with the features taken at another layer.

    Args:
        anatomy: the model.
        target_layer: friendly name of a node, or a tensor name.

    Raises:
        GraphError: no such layer, or not every path to the class scores runs through it, or it has no places.
    """
    view = anatomy.view
    output = view.by_layer_name.get(target_layer)
    reason = "no layer or tensor of the model has this name"
    if output is not None:
        for features in anatomy.layers:
            if port_of(features.output) == port_of(output):
                return replace(anatomy, features=features)
        reason = (
            f"this {kind(output.get_node())} of shape {output.get_partial_shape()} is no tensor with places that "
            f"every path to the class scores runs through"
        )
    raise GraphError(
        f"--target_layer {target_layer!r} cannot be explained: {reason}. Layers of this model that can be, from the "
        f"last one backwards: {target_layers(anatomy)}."
    )


def target_layers(anatomy: Anatomy) -> str:
    """Return the names of layers that :func:`at_layer` takes, for error messages."""
    names = [repr(layer.output.get_node().get_friendly_name()) for layer in anatomy.layers[:_CANDIDATES]]
    more = len(anatomy.layers) - len(names)
    return (", ".join(names) or "none") + (f" and {more} earlier ones" if more > 0 else "")


def as_features(labels: dict[Port, Labels], output: ov.Output) -> Features | None:
    """Return ``output`` as features when it has a batch, a channel and more than one place, else ``None``."""
    own, dims = labels.get(port_of(output)), dimensions(output)
    if own is None or dims is None or not output.get_element_type().is_real():
        return None
    tokens = next((label for label in own if isinstance(label, Tokens)), None)
    if tokens is not None:
        places: tuple[int, ...] = (own.index(tokens),)
    elif "H" in own and "W" in own and own.index("H") < own.index("W"):
        places = (own.index("H"), own.index("W"))
    else:
        return None
    rest = [axis for axis in range(len(own)) if axis not in places]
    if len(rest) != 2 or all(dims[axis] == 1 for axis in places):
        return None
    channel = own.index("C") if "C" in own else rest[-1]
    if channel not in rest or dims[channel] is None:
        return None
    batch = rest[1] if rest[0] == channel else rest[0]
    if own[batch] not in ("N", None):
        return None
    return Features(output, tuple(dims), batch, channel, places, tokens)


def before_normalisation(anatomy: Anatomy) -> Features:
    """Return the features in front of a final normalisation over channels, for methods that average channels.

    The channel mean of a layer norm's output says nothing; that of the residual stream before it does.
    """
    view, current = anatomy.view, anatomy.features
    for output in view.cuts(current.output)[1:]:
        found = as_features(anatomy.labels, output)
        if found is None:
            continue
        inner = view.ordered(view.between([output], [current.output]))
        if not all(kind(node) in BINARY | UNARY | NORMALISATIONS | {"ReduceMean", "Transpose"} for node in inner):
            break
        if any(kind(node) in NORMALISATIONS | {"ReduceMean"} for node in inner):
            return found
    return anatomy.features


@dataclass(frozen=True)
class Pool:
    """A pooling over all places.

    Args:
        node: the pooling, in the viewed model.
        features: its input.
        mode: ``mean`` or ``max``.
    """

    node: ov.Node
    features: Features
    mode: str


def global_pools(anatomy: Anatomy) -> list[Pool] | None:
    """Return the global poolings that the head begins with.

    Between the features and the poolings only position-wise operations are allowed: element-wise ones and 1×1
    convolutions, which see one place at a time.

    Returns:
        The poolings, or ``None`` where the head begins with anything else.
    """
    view, head = anatomy.view, anatomy.head
    todo = [anatomy.features.output]
    seen: set[str] = set()
    pools: dict[str, Pool] = {}
    while todo:
        for node, _ in view.consumers.get(port_of(todo.pop()), ()):
            name = node.get_name()
            if name not in head or name in seen:
                continue
            seen.add(name)
            if kind(node) == "ShapeOf":
                continue
            pool = _as_pool(anatomy, node)
            if pool is not None:
                pools[name] = pool
            elif is_position_wise(anatomy, node):
                todo.append(node.output(0))
            else:
                return None
    ends = {port_of(anatomy.logits.port)[0]}
    return list(pools.values()) if pools and not (seen - pools.keys()) & ends else None


def _as_pool(anatomy: Anatomy, node: ov.Node) -> Pool | None:
    features = as_features(anatomy.labels, node.input_value(0))
    if features is None:
        return None
    own = trait(kind(node))
    if own.pools is None:
        return None
    if own.window is None:
        whole = computed_axes(node) == sorted(features.places)
    elif own.window.shape == "adaptive":
        after = dimensions(node.output(0))
        whole = after is not None and after[2:] == [1, 1]
    else:
        attributes = node.get_attributes()
        pads = [*attributes["pads_begin"], *attributes["pads_end"]]
        whole = list(attributes["kernel"]) == list(features.dims[2:]) and not any(pads)
    return Pool(node, features, own.pools) if whole else None


def is_position_wise(anatomy: Anatomy, node: ov.Node) -> bool:
    """Whether each place of the output depends on the same place of the image content alone."""
    view = anatomy.view
    features = as_features(anatomy.labels, node.output(0))
    if features is None:
        return False
    own = trait(kind(node))
    if own.places == "window":
        return own.window == _PLAIN and _is_pointwise(node)
    if own.axes == "matmul":
        first, second = node.input_values()
        return (
            view.is_data(first)
            and not view.is_data(second)
            and not node.get_attributes()["transpose_a"]
            and features.channel_axis == len(features.dims) - 1
        )
    if own.places == "operands":
        return all(_is_uniform(value, features) for value in node.input_values() if not view.is_data(value)) and all(
            as_features(anatomy.labels, value) is not None for value in view.data_inputs(node)
        )
    if own.places == "axes":
        return own.axes == "normalise" and computed_axes(node) == [features.channel_axis]
    return own.places == "each"


def _is_pointwise(node: ov.Node) -> bool:
    """Whether the window of a convolution is a single place, and none is left out or added."""
    weight = dimensions(node.input_value(1))
    attributes = node.get_attributes()
    pads = [*attributes["pads_begin"], *attributes["pads_end"]]
    return weight is not None and weight[-2:] == [1, 1] and list(attributes["strides"]) == [1, 1] and not any(pads)


def _is_uniform(value: ov.Output, features: Features) -> bool:
    """Whether ``value`` broadcasts over the places of ``features`` unchanged."""
    dims = dimensions(value)
    if dims is None:
        return False
    aligned = [1] * (len(features.dims) - len(dims)) + dims
    return all(aligned[axis] == 1 for axis in features.places)


def prefix_picks(anatomy: Anatomy) -> list[tuple[ov.Node, Cut]] | None:
    """Return the nodes that pick single prefix tokens (class, distillation) off the features.

    Returns:
        The picking nodes with their cuts, or ``None`` where the head reads anything else of the features.
    """
    features, head = anatomy.features, anatomy.head
    if not features.prefix:
        return None
    picks = []
    for node, _ in anatomy.view.consumers.get(port_of(features.output), ()):
        if node.get_name() not in head or kind(node) == "ShapeOf":
            continue
        cut = cut_of(node)
        if cut is None or cut.axis != features.places[0] or cut.end != cut.begin + 1 or cut.begin >= features.prefix:
            return None
        picks.append((node, cut))
    return picks or None
