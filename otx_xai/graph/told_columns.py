"""The class heads of a model that gives every prediction, where its format tells which numbers are class scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otx_xai.graph.class_heads import ClassHeads, ScoreColumns
from otx_xai.graph.elements import ElementNumbers, Numbers, way_back
from otx_xai.graph.head_search import HeadSearch
from otx_xai.graph.head_tables import activation_of, heads_of, multiplied
from otx_xai.graph.view import port_of


def from_told_columns(search: HeadSearch, told: ScoreColumns) -> ClassHeads | None:
    """Read the heads off the columns that are told.

    Returns:
        The heads; ``None`` where the columns are no mere moves of what convolutions give, or where a soft-max may score
        a class beside them.
    """
    output = search.view.model.get_results()[told.result].input_value(0)
    way = way_back(search.view, search.labels, [output])
    numbers = Numbers(search.view, search.labels, way) if way.raw else None
    part = None if numbers is None else numbers.at.get(port_of(output))
    if numbers is None or part is None:
        return None
    rows = np.moveaxis(part, told.axis, -1).reshape(-1, part.shape[told.axis])
    scores = rows[:, told.begin : told.end]
    firsts = {head: _first(numbers, scores, head) for head in sorted(numbers.heads_in(scores))}
    tables = {head: scores[first] for head, first in firsts.items()}
    pure = all((numbers.head[table] == head).all() for head, table in tables.items())
    if not tables or not pure or activation_of(way, numbers, tables) == "softmax":
        return None
    factors = multiplied(numbers, tables)
    if told.objectness is not None:
        beside = {head: rows[first, told.objectness] for head, first in firsts.items()}
        factors |= {head: factor for head, factor in beside.items() if (numbers.head[factor] >= 0).all()}
    return heads_of(way, numbers, tables, "sigmoid", factors)


def _first(numbers: Numbers, scores: ElementNumbers, head: int) -> NDArray[np.intp]:
    """Return which predictions come from the first place of a head, one an anchor."""
    return np.flatnonzero(((numbers.head[scores] == head) & (numbers.place[scores] == 0)).any(axis=1))
