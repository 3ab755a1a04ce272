"""The way back: from the outputs, operation by operation, to the tensors whose gradients are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.gradients.formulas import add, is_broadcast
from otx_xai.gradients.fronts import canonical, filled, folded, is_one_image, unfolded
from otx_xai.gradients.rule_table import RULES
from otx_xai.gradients.step import Front, Gradients, Rule, Size, Step, rank
from otx_xai.graph.surgery import size_of
from otx_xai.graph.traits import trait
from otx_xai.graph.view import Port, computed_before, dimensions, kind, port_of

_NO_RULE = Rule(lambda step: {})


@dataclass(frozen=True)
class Way:
    """What lies between outputs and the tensors whose gradients are asked for.

    Args:
        nodes: the operations, in the order of the forward pass.
        wanted: for each by its unique name, the inputs that gradients flow into.
    """

    nodes: tuple[ov.Node, ...]
    wanted: Mapping[str, frozenset[int]]


def find_way(outputs: Iterable[ov.Output], wrt: Iterable[ov.Output]) -> Way:
    """Return what lies on a path of gradients from ``outputs`` back to ``wrt``.

    Sizes, comparisons, roundings, the numbers of what is chosen and empty tensors carry no gradient, so no path runs
    through them.
    """
    asked = {port_of(tensor) for tensor in wrt}
    nodes, wanted = [], {}
    for node in computed_before(outputs, inputs=_flows_into):
        flows = frozenset(
            i
            for i in _differentiable(node)
            if port_of(node.input_value(i)) in asked or node.input_value(i).get_node().get_name() in wanted
        )
        if flows:
            nodes.append(node)
            wanted[node.get_name()] = flows
    return Way(tuple(nodes), wanted)


def _differentiable(node: ov.Node) -> list[int]:
    """Return the inputs of an operation that a gradient may flow into, as far as its kind and its types tell."""
    if trait(kind(node)).adjoint == "none" or not any(map(_carries, node.outputs())):
        return []
    inputs = _rule(node).inputs
    return [i for i, value in enumerate(node.input_values()) if (inputs is None or i in inputs) and _carries(value)]


def _flows_into(node: ov.Node) -> list[ov.Output]:
    return [node.input_value(i) for i in _differentiable(node)]


def _carries(output: ov.Output) -> bool:
    """Whether a tensor holds real numbers: exporters leave empty ones, such as the masks of a model without masks."""
    return bool(output.get_element_type().is_real()) and 0 not in (dimensions(output) or ())


def _rule(node: ov.Node) -> Rule:
    return RULES.get(trait(kind(node)).adjoint or "", _NO_RULE)


def obstacle(node: ov.Node, wanted: frozenset[int]) -> str | None:
    """Say why gradients cannot pass an operation; ``None`` where they can."""
    rule = _rule(node)
    title = f"{kind(node)} {node.get_friendly_name()!r}"
    if rule is _NO_RULE:
        return f"{title} has no rule"
    tensors = [*node.outputs(), *(node.input_value(i) for i in wanted)]
    if any(dimensions(tensor) is None for tensor in tensors):
        return f"{title} has a dynamic rank"
    reason = rule.refusal(node, wanted)
    return None if reason is None else f"{title} {reason}"


def sweep(seeded: Sequence[tuple[ov.Output, ov.Output]], wrt: Sequence[ov.Output], *, stacked: bool) -> list[ov.Output]:
    """Return the gradients of ``wrt``, in order, each in the canonical front of its tensor.

    Args:
        seeded: outputs, each with the gradient that the way back starts from.
        wrt: the tensors whose gradients are asked for.
        stacked: whether seeds have an axis of their own; they stand in its place where an output has one image.

    Raises:
        GraphError: gradients cannot pass an operation on the way, or an output does not depend on a tensor.
    """
    way = find_way([output for output, _ in seeded], wrt)
    _refuse_obstacles(way, [output for output, _ in seeded], wrt)
    count: Size = 1
    if stacked:
        count = (dimensions(seeded[0][1]) or [None])[0] or size_of(seeded[0][1], 0)
    parts: dict[Port, list[ov.Output]] = {}
    for output, seed in seeded:
        parts.setdefault(port_of(output), []).append(canonical(output, seed) if stacked else seed)
    for node in reversed(way.nodes):
        outputs = node.outputs()
        ups = [_total(parts.get(port_of(output), ())) for output in outputs]
        if any(up is not None for up in ups):
            found = _pass(node, ups, way.wanted[node.get_name()], count if stacked else None)
            for i, value in found.items():
                parts.setdefault(port_of(node.input_value(i)), []).append(value)
    return [_result(tensor, parts, count if stacked else None) for tensor in wrt]


def _result(tensor: ov.Output, parts: Mapping[Port, Sequence[ov.Output]], count: Size | None) -> ov.Output:
    total = _total(parts.get(port_of(tensor), ()))
    if total is None:
        name = tensor.get_node().get_friendly_name()
        raise GraphError(
            f"Nothing that is to be differentiated depends on {name!r} by real numbers: it has no gradient."
        )
    return filled(tensor, total, count)


def _refuse_obstacles(way: Way, outputs: Sequence[ov.Output], wrt: Sequence[ov.Output]) -> None:
    found = [reason for node in way.nodes if (reason := obstacle(node, way.wanted[node.get_name()]))]
    if found:
        ends, starts = (
            ", ".join(repr(tensor.get_node().get_friendly_name()) for tensor in side) for side in (outputs, wrt)
        )
        raise GraphError(
            f"The gradient cannot be written into the graph: between {starts} and {ends}, {'; '.join(found[:8])}."
        )


def _total(parts: Iterable[ov.Output]) -> ov.Output | None:
    """Return the sum of what reached a tensor on several ways."""
    total = None
    for part in parts:
        total = part if total is None else add(total, part)
    return total


def _pass(
    node: ov.Node, ups: Sequence[ov.Output | None], wanted: frozenset[int], count: Size | None
) -> dict[int, ov.Output]:
    """Return the gradients of the wanted inputs of a node in their canonical fronts."""
    rule, front = _rule(node), _front(node, ups, wanted, count)
    outputs = node.outputs()
    keep = rule.pointwise and not any(is_broadcast(node, i) for i in wanted)
    full = [
        None if up is None else up if keep else filled(output, up, count)
        for output, up in zip(outputs, ups, strict=True)
    ]
    step = Step(node, tuple(full), wanted, front, 1 if count is None else count)
    if front == "stacked":
        pairs = zip(outputs, full, strict=True)
        stacked = tuple(None if up is None else unfolded(output, up) for output, up in pairs)
        step = Step(node, stacked, wanted, front, step.count)
    found = {i: value for i, value in _applied(rule, step).items() if i in wanted}
    if front != "stacked":
        return found
    return {i: folded(node.input_value(i), value) for i, value in found.items()}


def _applied(rule: Rule, step: Step) -> Gradients:
    try:
        return rule.apply(step)
    except RuntimeError as error:  # such as types that a model mixes and a rule did not expect
        reason = str(error).strip().splitlines()[-1]
        title = f"{kind(step.node)} {step.node.get_friendly_name()!r}"
        raise GraphError(f"The gradient of {title} cannot be written: OpenVINO says {reason!r}.") from error


def _front(node: ov.Node, ups: Sequence[ov.Output | None], wanted: frozenset[int], count: Size | None) -> Front:
    if count is None:
        return "plain"
    rule = _rule(node)
    tensors = [output for output, up in zip(node.outputs(), ups, strict=True) if up is not None]
    inputs = [node.input_value(i) for i in wanted]
    if not all(map(is_one_image, [*tensors, *inputs])) or rule.first_axis(node, wanted):
        return "stacked"
    same = {rank(tensor) for tensor in [*tensors, *inputs]}
    return "stacked" if rule.pointwise and len(same) > 1 else "folded"
