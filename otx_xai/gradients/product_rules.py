"""Rules of products of matrices: linear layers, attention, and sums of products in Einstein's notation."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.gradients.formulas import (
    Term,
    add,
    array,
    choose,
    count_of,
    greater,
    ints,
    mul,
    power,
    spread,
    sum_over,
    weights_of,
)
from otx_xai.gradients.reduction_rules import softmax_gradient
from otx_xai.gradients.step import Gradients, Rule, Step, always, rank, tensor_sizes
from otx_xai.graph.surgery import size_of, transpose
from otx_xai.graph.view import constant_value, dimensions


def product(a: ov.Output, b: ov.Output, *, turn_a: bool = False, turn_b: bool = False) -> ov.Output:
    """Return the product of matrices along the last two axes, each transposed before if so asked."""
    return ops.matmul(a, b, turn_a, turn_b).output(0)


def _mul_matrices(step: Step) -> Gradients:
    weights = weights_of(step.node.input_value(1)) if step.wanted == {0} else None
    return _product(step) if weights is None or weights.ndim != 2 else _linear(step, weights)


def _linear(step: Step, weights: NDArray[np.float32]) -> Gradients:
    """Differentiate a linear layer, whose way back is one."""
    attributes, up = step.node.get_attributes(), step.up
    back = array(np.ascontiguousarray(weights.T if attributes["transpose_b"] else weights), up)
    if rank(step.x) == 1:
        up = _with_axis(up, -2)
    value = product(up, back, turn_b=True)
    if attributes["transpose_a"] and rank(step.x) > 1:
        order = list(range(rank(value)))
        return {0: transpose(value, [*order[:-2], order[-1], order[-2]])}
    return {0: ops.squeeze(value, ints([-2])).output(0) if rank(step.x) == 1 else value}


def _product(step: Step) -> Gradients:
    attributes = step.node.get_attributes()
    a, b, up = step.node.input_value(0), step.node.input_value(1), step.up
    turn_a, turn_b = bool(attributes["transpose_a"]), bool(attributes["transpose_b"])
    is_row, is_column = rank(a) == 1, rank(b) == 1
    if is_row:
        a, up, turn_a = _with_axis(a, -2), _with_axis(up, -1 if is_column else -2), False
    if is_column:
        b, up, turn_b = _with_axis(b, -1), _with_axis(up, -1), False
    found, dims = {}, dimensions(step.y) or []
    batch = dims[: len(dims) - 2 + is_row + is_column]
    if 0 in step.wanted:
        back = product(b, up, turn_a=turn_b, turn_b=True) if turn_a else product(up, b, turn_b=not turn_b)
        found[0] = _summed(step, back, a, batch)
    if 1 in step.wanted:
        back = product(up, a, turn_a=True, turn_b=turn_a) if turn_b else product(a, up, turn_a=not turn_a)
        found[1] = _summed(step, back, b, batch)
    for i, is_vector, axis in ((0, is_row, -2), (1, is_column, -1)):
        if i in found and is_vector:
            found[i] = ops.squeeze(found[i], ints([axis])).output(0)
    return found


def _with_axis(value: ov.Output, axis: int) -> ov.Output:
    return ops.unsqueeze(value, ints([axis])).output(0)


def _summed(step: Step, value: ov.Output, operand: ov.Output, batch: Sequence[int | None]) -> ov.Output:
    """Sum a gradient over the axes in front of the matrices that an operand was broadcast along.

    Args:
        step: of the product.
        value: the gradient, its last two axes those of the operand.
        operand: a stack of matrices.
        batch: lengths of the axes in front of the matrices of the product.
    """
    before = (dimensions(operand) or [])[:-2]
    extra = len(batch) - len(before)
    value = sum_over(value, range(step.lead, step.lead + extra), keep=False)
    pairs = list(zip(before, batch[extra:], strict=True))
    axes = [i - len(before) - 2 for i, (size, whole) in enumerate(pairs) if size == 1 and whole != 1]
    return sum_over(value, axes)


def _matrices_first(node: ov.Node, wanted: frozenset[int]) -> bool:
    tensors = [node.output(0), *(node.input_value(i) for i in wanted)]
    return len({rank(tensor) for tensor in tensors}) > 1 or (rank(node.output(0)) < 3 and not _is_rows(node, wanted))


def _is_rows(node: ov.Node, wanted: frozenset[int]) -> bool:
    """Whether a product is of rows, each by the same matrix, so that more rows change nothing."""
    return wanted == {0} and rank(node.output(0)) == 2 and not node.get_attributes()["transpose_a"]


def _attention(step: Step) -> Gradients:
    inputs = step.node.input_values()
    query, key, value = inputs[:3]
    scale = _scale(step)
    scores = mul(product(query, key, turn_b=True), scale)
    mask = _mask(step, scores)
    batch = (dimensions(step.y) or [])[:-2]
    weights = ops.softmax(scores if mask is None else add(scores, mask), rank(scores) - 1).output(0)
    found = {}
    if 2 in step.wanted:
        found[2] = _summed(step, product(weights, step.up, turn_a=True), value, batch)
    if step.wanted & {0, 1, 3}:
        back = softmax_gradient(weights, product(step.up, value, turn_b=True), -1)
        if 3 in step.wanted:
            found[3] = _summed_mask(step, back, batch)
        back = mul(back, scale)
        if 0 in step.wanted:
            found[0] = _summed(step, product(back, key), query, batch)
        if 1 in step.wanted:
            found[1] = _summed(step, product(back, query, turn_a=True), key, batch)
    return found


def _scale(step: Step) -> Term:
    inputs = step.node.input_values()
    if len(inputs) > 4:
        value = constant_value(inputs[4])
        return inputs[4] if value is None else float(value.reshape(-1)[0])
    width = count_of(inputs[0], [rank(inputs[0]) - 1])
    return 1 / sqrt(width) if isinstance(width, float) else power(width, -0.5)


def _mask(step: Step, scores: ov.Output) -> ov.Output | None:
    """Return what is added to the scores; ``None`` where nothing is."""
    if step.node.get_attributes()["causal"]:
        rows, columns = (_numbers(scores, axis) for axis in (-2, -1))
        later = greater(_with_axis(columns, 0), _with_axis(rows, 1))
        return choose(later, number_of_nothing(scores), array(np.array(0.0), scores))
    if step.node.get_input_size() < 4:
        return None
    mask = step.node.input_value(3)
    if mask.get_element_type() == ov.Type.boolean:
        return choose(mask, array(np.array(0.0), scores), number_of_nothing(scores))
    constant = constant_value(mask)
    return None if constant is not None and not constant.any() else mask


def number_of_nothing(like: ov.Output) -> ov.Output:
    """Return a number so low that a soft-max makes nothing of it."""
    return array(np.array(-np.inf), like)


def _numbers(tensor: ov.Output, axis: int) -> ov.Output:
    """Return 0, 1, … along an axis of a tensor."""
    stop = ops.squeeze(size_of(tensor, axis), ints([0]))
    return ops.range(ops.constant(np.int64(0)), stop, ops.constant(np.int64(1)), "i64").output(0)


def _summed_mask(step: Step, value: ov.Output, batch: Sequence[int | None]) -> ov.Output:
    mask = step.node.input_value(3)
    value = _summed(step, value, mask, batch)
    own, scores = dimensions(mask) or [], dimensions(value) or []
    return sum_over(value, [axis for axis in (-2, -1) if own[axis] == 1 and scores[axis] != 1])


def _attention_refusal(node: ov.Node, wanted: frozenset[int]) -> str | None:
    if node.get_input_size() > 5:
        return "has sinks"
    ranks = [rank(node.input_value(i)) for i in range(min(4, node.get_input_size()))]
    if min(ranks) < 2:
        return "has a mask without rows and columns" if 3 in wanted else None
    return "differentiates its scale" if 4 in wanted else None


def _attention_first(node: ov.Node, wanted: frozenset[int]) -> bool:
    tensors = [node.output(0), *(node.input_value(i) for i in wanted)]
    return len({rank(tensor) for tensor in tensors}) > 1 or rank(node.output(0)) < 3


def _letters(node: ov.Node) -> tuple[list[str], str]:
    """Return the axes of the operands and of the output, a letter each."""
    left, _, right = str(node.get_attributes()["equation"]).replace(" ", "").partition("->")
    terms = left.split(",")
    if not right and "->" not in str(node.get_attributes()["equation"]):
        right = "".join(sorted(letter for letter in set("".join(terms)) if left.count(letter) == 1))
    return terms, right


def _einsum(step: Step) -> Gradients:
    """Swap the output with each wanted operand; letters that only it has are sums, whose gradient is spread."""
    terms, right = _letters(step.node)
    seed = next(letter for letter in "ZYXWV" if letter not in "".join([*terms, right])) if step.lead else ""
    found = {}
    for i in sorted(step.wanted):
        others = [j for j in range(len(terms)) if j != i]
        known = set(right).union(*(terms[j] for j in others))
        goal = "".join(letter for letter in terms[i] if letter in known)
        equation = ",".join([seed + right, *(terms[j] for j in others)]) + "->" + seed + goal
        operands = [step.up, *(step.node.input_value(j) for j in others)]
        back = ops.einsum(operands, equation).output(0)
        found[i] = _with_sums(step, back, terms[i], known, i)
    return found


def _with_sums(step: Step, value: ov.Output, term: str, known: set[str], index: int) -> ov.Output:
    missing = [step.lead + axis for axis, letter in enumerate(term) if letter not in known]
    if not missing:
        return value
    value = ops.unsqueeze(value, ints(missing)).output(0)
    front = [step.count] * step.lead
    return spread(value, [*front, *tensor_sizes(step.node.input_value(index))])


def _einsum_refusal(node: ov.Node, _wanted: frozenset[int]) -> str | None:
    terms, right = _letters(node)
    if "." in "".join([*terms, right]):
        return "has an ellipsis"
    return "takes a diagonal" if any(len(set(term)) < len(term) for term in terms) else None


PRODUCT_RULES = {
    "matmul": Rule(_mul_matrices, inputs=(0, 1), first_axis=_matrices_first),
    "attention": Rule(_attention, first_axis=_attention_first, refusal=_attention_refusal),
    "einsum": Rule(_einsum, first_axis=always, refusal=_einsum_refusal),
}
"""Rules of products, by the names that the table of operations uses."""
