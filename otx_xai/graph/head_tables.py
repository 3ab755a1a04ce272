"""Tables of numbered elements, by anchor and class, made into records of class heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from otx_xai.graph.class_heads import ClassHead, ClassHeads, Objectness
from otx_xai.graph.elements import ElementNumbers, Numbers, Way
from otx_xai.graph.view import kind, port_of

Tables = dict[int, ElementNumbers]
"""For each raw head the numbers ``(A, L)`` at its first place, by anchor and class."""

Activation = Literal["sigmoid", "softmax"]


def heads_of(
    way: Way,
    numbers: Numbers,
    tables: Tables,
    activation: Activation,
    factors: Mapping[int, ElementNumbers],
    background: int | None = None,
) -> ClassHeads:
    """Make records of number tables.

    Args:
        way: between scores and raw heads.
        numbers: of the elements of these.
        tables: the classes.
        activation: what turns raw scores into probabilities.
        factors: for each head that has objectness its numbers ``(A,)``.
        background: number of the class that stands for nothing, or ``None``.
    """
    levels = []
    for head, table in tables.items():
        order, shape = numbers.orders[head], numbers.shapes[head]
        channels, size = numbers.channel[table].astype(np.int64), (shape[order[2]], shape[order[3]])
        levels.append(ClassHead(way.raw[head], order, channels, size, _objectness(way, numbers, factors.get(head))))
    levels.sort(key=lambda level: -level.size[0] * level.size[1])
    return ClassHeads(tuple(levels), activation, background)


def _objectness(way: Way, numbers: Numbers, factor: ElementNumbers | None) -> Objectness | None:
    if factor is None:
        return None
    source = int(numbers.head[factor[0]])
    channels = tuple(int(channel) for channel in numbers.channel[factor])
    return Objectness(way.raw[source], numbers.orders[source], channels)


def multiplied(numbers: Numbers, tables: Tables) -> Tables:
    """Return for each head whose scores something multiplies the numbers ``(A,)`` of that."""
    found = ((head, _factor(numbers, table)) for head, table in tables.items())
    return {head: factor for head, factor in found if factor is not None}


def _factor(numbers: Numbers, table: ElementNumbers) -> ElementNumbers | None:
    for scores, factor in numbers.products:
        flat, wanted = scores.reshape(-1), table[:, -1]
        positions = np.flatnonzero(np.isin(flat, wanted))
        if positions.size:
            found = dict(zip(flat[positions].tolist(), factor.reshape(-1)[positions].tolist(), strict=True))
            if all(int(number) in found for number in wanted):
                return np.array([found[int(number)] for number in wanted], np.int32)
    return None


def activation_of(way: Way, numbers: Numbers, scored: Iterable[int]) -> Activation:
    """Return what turns the raw scores of some heads into probabilities."""
    for node in way.nodes:
        if kind(node) in ("Softmax", "LogSoftmax"):
            part = numbers.at.get(port_of(node.output(0)))
            if part is not None and numbers.heads_in(part) & set(scored):
                return "softmax"
    return "sigmoid"


def only_of(numbers: Numbers, rows: ElementNumbers, head: int) -> ElementNumbers:
    """Return the numbers ``(A, L)`` at the first place of a head."""
    table = numbers.first_rows(rows, head)
    return table[:, (numbers.head[table] == head).all(axis=0)]
