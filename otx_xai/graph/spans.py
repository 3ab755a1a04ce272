"""How large numbers become by the constants that they meet: whether boxes are pixels, or shares of the image."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt
from operator import add, mul, sub

import numpy as np
import openvino as ov

from otx_xai.graph.columns import Piece
from otx_xai.graph.constants import evaluate
from otx_xai.graph.traits import BINARY
from otx_xai.graph.view import View, constant_value, kind

Span = tuple[float, float]
Operation = Callable[[float, float], float]

_LARGE = 80.0
"""Exponents beyond are as good as this one."""

_ANY = 1e6
"""What stands for any large number."""


def span_of(view: View, piece: Piece) -> Span:
    """Return the least and the largest value of columns where the layers behind them give zeros.

    Offsets of boxes are learned around zero, so that what grids, strides and anchors make of it tells their unit.
    """
    span: Span = (0.0, 0.0)
    for node in reversed(piece.passed):
        span = _of_binary(view, node, span) if kind(node) in BINARY else _of_unary(node, span)
    return span


def _of_unary(node: ov.Node, span: Span) -> Span:
    low, high = span
    match kind(node):
        case "Sigmoid":
            return _sigmoid(low), _sigmoid(high)
        case "Softmax":
            return 0.0, 1.0
        case "Exp":
            return exp(min(low, _LARGE)), exp(min(high, _LARGE))
        case "Log":
            return log(max(low, 1e-6)), log(max(high, 1e-6))
        case "Sqrt":
            return sqrt(max(low, 0)), sqrt(max(high, 0))
        case "Relu":
            return max(low, 0), max(high, 0)
        case "Negative":
            return -high, -low
        case "Clamp":
            least, most = (float(node.get_attributes()[name]) for name in ("min", "max"))
            return min(max(low, least), most), min(max(high, least), most)
    return span


def _of_binary(view: View, node: ov.Node, span: Span) -> Span:
    first, second = node.input_values()
    if view.is_data(first) and view.is_data(second):
        return span
    from_image, operation = view.is_data(first), kind(node)
    other = _range(view, second if from_image else first)
    if operation in ("Maximum", "Minimum"):
        bound = max if operation == "Maximum" else min
        return bound(span[0], other[0]), bound(span[1], other[1])
    if operation == "Power" and from_image and other[0] == other[1]:
        return _combined(span, other, lambda own, given: abs(own) ** given)
    compute = _arithmetic(operation)
    return span if compute is None else _combined(*((span, other) if from_image else (other, span)), compute)


def _range(view: View, output: ov.Output) -> Span:
    """Return the range of an operand; one that sizes of the image decide may be large."""
    value = constant_value(output)
    if value is None and output.get_node().get_name() in view.constant:
        (value,) = evaluate([output])
    return (0.0, _ANY) if value is None or not value.size else (float(np.min(value)), float(np.max(value)))


def _arithmetic(operation: str) -> Operation | None:
    match operation:
        case "Add":
            return add
        case "Subtract":
            return sub
        case "Multiply":
            return mul
        case "Divide":
            return lambda own, given: own / given if given else own
    return None


def _combined(first: Span, second: Span, operation: Operation) -> Span:
    values = [operation(own, given) for own in first for given in second]
    return min(values), max(values)


def _sigmoid(value: float) -> float:
    return 1 / (1 + exp(-max(-_LARGE, min(value, _LARGE))))
