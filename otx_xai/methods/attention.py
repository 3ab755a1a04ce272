"""The last self-attention of a transformer: found by what its operations are, fused or decomposed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.axes import computed_axes
from otx_xai.graph.features import Anatomy, Features, as_features, target_layers
from otx_xai.graph.labels import ORDERED, Labels
from otx_xai.graph.traits import BINARY, COPIES, NORMALISATIONS, REDUCTIONS, RESHAPES, UNARY, names_with
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of

_AFFINE = names_with(lambda own: own.affine == "jointly" and own.elements != "mixed")


@dataclass(frozen=True)
class Attention:
    """``softmax(factors / divisors · q · kᵀ + bias) · v``; leading axes (batch, heads) are free.

    Args:
        query: ``(…, T, d)``.
        key: ``(…, T, d)``, or ``(…, d, T)`` when ``key_is_transposed``.
        value: ``(…, T, d)``.
        output: ``(…, T, d)``.
        factors: what multiplies the logits: numbers, or tensors of one element that carry no image content.
        divisors: what divides them, likewise.
        bias: ``(…, T or 1, T)``, no image content, added to the scaled logits; ``None`` for none.
        key_is_transposed: layout of ``key``.
    """

    query: ov.Output
    key: ov.Output
    value: ov.Output
    output: ov.Output
    factors: tuple[ov.Output | float, ...] = ()
    divisors: tuple[ov.Output | float, ...] = ()
    bias: ov.Output | None = None
    key_is_transposed: bool = False


@dataclass(frozen=True)
class Block:
    """The part of a transformer block that holds its attention.

    Args:
        residual: tokens that enter the block (the residual stream).
        normed: what the attention's projections read: the tokens after the block's first norm.
        end: the next tensor that every path runs through: the residual stream after the attention.
        attention: its attention, or ``None`` where it is of no known form.
    """

    residual: Features
    normed: Features
    end: ov.Output
    attention: Attention | None


def attention_block(anatomy: Anatomy, target: Features | None = None) -> Block:
    """Return the last attention block in front of the features, or the one that ``target`` enters.

    Raises:
        GraphError: there is none.
    """
    view = anatomy.view
    cuts = view.cuts(anatomy.features.output)
    for lower, upper in pairwise(cuts):
        if target is not None and port_of(upper) != port_of(target.output):
            continue
        inner = view.ordered(view.between([upper], [lower]))
        cores = [node for node in inner if kind(node) in ("ScaledDotProductAttention", "Softmax")]
        residual = as_features(anatomy.labels, upper)
        if not cores or residual is None or residual.tokens is None:
            continue
        attention = _attention(view, cores[0], inner) if len(cores) == 1 else None
        return Block(residual, _normed(anatomy, residual, cores[0]), lower, attention)
    where = "in front of the class token" if target is None else "behind this layer"
    raise GraphError(
        f"ViT Recipro-CAM found no self-attention {where}. Expected soft-max attention between two tensors of image "
        f"tokens (the residual stream of a transformer). Layers that --target_layer can name: {target_layers(anatomy)}."
    )


def _normed(anatomy: Anatomy, residual: Features, core: ov.Node) -> Features:
    """Return the last cut vertex between the residual stream and the attention in front of the first projection."""
    view = anatomy.view
    found = residual
    for output in reversed(view.cuts(core.input_value(0), start=residual.output)):
        features = as_features(anatomy.labels, output)
        if features is None:
            break
        found = features
        if any(
            kind(node) in ("MatMul", "Convolution") and not view.is_data(node.input_value(1))
            for node, _ in view.consumers.get(port_of(output), ())
        ):
            break
    return found


def _attention(view: View, core: ov.Node, inner: list[ov.Node]) -> Attention | None:
    if kind(core) == "ScaledDotProductAttention":
        return _fused(view, core)
    names = {node.get_name() for node in inner}
    rank = len(dimensions(core.output(0)) or ())
    product = _follow(view, core, names) if int(core.get_attributes()["axis"]) in (-1, rank - 1) else None
    return None if product is None else _decomposed(view, core, product)


def _fused(view: View, core: ov.Node) -> Attention | None:
    query, key, value, *more = core.input_values()
    depth = (dimensions(query) or [None])[-1]
    if core.get_attributes()["causal"] or depth is None or any(view.is_data(extra) for extra in more):
        return None
    bias = more[0] if more and not _is_single(more[0]) else None  # one number shifts all logits alike
    if bias is not None and not bias.get_element_type().is_real():
        return None
    scale = more[1] if len(more) > 1 else 1 / sqrt(depth)
    return Attention(query, key, value, core.output(0), factors=(scale,), bias=bias)


def _decomposed(view: View, softmax: ov.Node, product: ov.Node) -> Attention | None:
    """Read ``softmax`` and the MatMul behind it, up through scaling and bias to the MatMul in front of it."""
    flags = product.get_attributes()
    if flags["transpose_a"] or flags["transpose_b"] or not view.is_data(product.input_value(1)):
        return None
    scaling: dict[str, list[ov.Output | float]] = {"Multiply": [], "Divide": []}
    output, bias = softmax.input_value(0), None
    while kind(node := output.get_node()) != "MatMul":
        output = node.input_value(0)
        if kind(node) in COPIES:
            continue
        others = [value for value in node.input_values() if not view.is_data(value)]
        if len(others) != 1:
            return None
        output = view.data_inputs(node)[0]
        in_order = view.is_data(node.input_value(0))
        if kind(node) in scaling and _is_single(others[0]) and (kind(node) == "Multiply" or in_order):
            scaling[kind(node)].append(others[0])
        elif kind(node) == "Add" and bias is None and not any(scaling.values()):
            bias = others[0]
        else:
            return None
    if len(view.data_inputs(node)) != 2 or node.get_attributes()["transpose_a"]:
        return None
    return Attention(
        query=node.input_value(0),
        key=node.input_value(1),
        value=product.input_value(1),
        output=product.output(0),
        factors=tuple(scaling["Multiply"]),
        divisors=tuple(scaling["Divide"]),
        bias=bias,
        key_is_transposed=not node.get_attributes()["transpose_b"],
    )


def _is_single(output: ov.Output) -> bool:
    """Whether a tensor has one element."""
    dims = dimensions(output)
    return dims is not None and all(size == 1 for size in dims)


def _follow(view: View, softmax: ov.Node, names: set[str]) -> ov.Node | None:
    """Return the one MatMul that reads the attention probabilities."""
    node = softmax
    while True:
        readers = [
            (reader, port)
            for reader, port in view.consumers.get(port_of(node.output(0)), ())
            if reader.get_name() in names and kind(reader) != "ShapeOf"
        ]
        if len(readers) != 1:
            return None
        node, port = readers[0]
        if kind(node) == "MatMul":
            return node if port == 0 else None
        if kind(node) not in COPIES:
            return None


def is_affine(view: View, start: ov.Output, ends: list[ov.Output]) -> bool:
    """Whether ``ends`` are affine in ``start``, each token on its own, quantisers aside."""
    for node in view.ordered(view.between([start], ends)):
        operation = kind(node)
        constants = len(view.data_inputs(node)) == 1
        linear = operation in ("Multiply", "MatMul") and constants and _acts_on_last_axis(view, node)
        divided = operation == "Divide" and constants and view.is_data(node.input_value(0))
        if not (operation in _AFFINE or linear or divided):
            return False
    return True


def _acts_on_last_axis(view: View, node: ov.Node) -> bool:
    return kind(node) != "MatMul" or (view.is_data(node.input_value(0)) and not node.get_attributes()["transpose_a"])


def is_row_wise(anatomy: Anatomy, starts: list[ov.Output], end: ov.Output) -> bool:
    """Whether each token of ``end`` depends on the same token of ``starts`` alone."""
    view, labels = anatomy.view, anatomy.labels
    return all(_is_row_wise(view, labels, node) for node in view.ordered(view.between(starts, [end])))


def _is_row_wise(view: View, labels: dict[Port, Labels], node: ov.Node) -> bool:
    operation = kind(node)
    if operation in UNARY | RESHAPES | {"Transpose"}:
        return True
    if operation in BINARY:
        return all(_spares_tokens(labels, node, value) for value in node.input_values() if not view.is_data(value))
    own = labels.get(port_of(node.input_value(0)), ())
    rank = len(own)
    if not rank or isinstance(own[-1], ORDERED):
        return False
    if operation == "MatMul":
        return len(view.data_inputs(node)) == 1 and _acts_on_last_axis(view, node)
    if operation in NORMALISATIONS | {"Softmax", "Split", "VariadicSplit"} and len(node.inputs()) > 1:
        axes = constant_ints(node.input_value(1))
        return axes is not None and [axis % rank for axis in axes] == [rank - 1]
    if operation in REDUCTIONS:
        return computed_axes(node) == [rank - 1]
    if operation == "Concat":
        return int(node.get_attributes()["axis"]) in (-1, rank - 1)
    return False


def _spares_tokens(labels: dict[Port, Labels], node: ov.Node, value: ov.Output) -> bool:
    """Whether a constant operand is the same for every token."""
    own, dims = labels.get(port_of(node.output(0))), dimensions(value)
    if own is None or dims is None:
        return False
    aligned = [1] * (len(own) - len(dims)) + dims
    return all(size == 1 for label, size in zip(own, aligned, strict=True) if isinstance(label, ORDERED))
