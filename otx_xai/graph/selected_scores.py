"""The class heads of a model that selects boxes, read from the scores of its detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.graph.class_heads import ClassHeads, ScoreColumns
from otx_xai.graph.columns import pieces_of, within
from otx_xai.graph.elements import ElementNumbers, Numbers, Way, passed_on, way_back
from otx_xai.graph.head_search import HeadSearch, unreadable, why_not
from otx_xai.graph.head_tables import Tables, activation_of, heads_of, multiplied
from otx_xai.graph.traits import CUTS, PICKS, RESHAPES, SCORE_PORTS
from otx_xai.graph.view import View, dimensions, kind, port_of

_BOX_AND_SCORE = 5
"""Numbers of a row that holds a box and its score."""


def from_scores(search: HeadSearch, num_classes: int | None, told: ScoreColumns | None = None) -> ClassHeads | None:
    """Read the heads of a model that selects boxes; ``None`` where it selects none.

    Args:
        search: the model.
        num_classes: number of classes, the background left out, where it is known.
        told: the column of scores in an output of selected boxes, where it is known.

    Raises:
        GraphError: it selects boxes by scores that no convolution gives.
    """
    starts = score_starts(search, told)
    if not starts:
        return None
    way = way_back(search.view, search.labels, starts)
    if not way.raw:
        raise unreadable(search, why_not(search, way))
    numbers = Numbers(search.view, search.labels, way)
    read = _read_elements(search, way, numbers)
    scored = sorted({int(head) for part in read for head in numbers.heads_in(part)} - {-1})
    if not scored:
        raise unreadable(search, "its class scores are computed by operations that are no moves of elements")
    tables = _tables_of_classes(search, _tables(way, numbers, scored), num_classes)
    columns = _used_columns(numbers, read, tables)
    activation = activation_of(way, numbers, scored)
    background = None
    if activation == "softmax" and (~columns).sum() == 1:
        background = int(np.flatnonzero(~columns)[0])
    elif not columns.all():
        tables = {head: table[:, columns] for head, table in tables.items()}
    return heads_of(way, numbers, tables, activation, multiplied(numbers, tables), background)


def _tables_of_classes(search: HeadSearch, tables: Tables, num_classes: int | None) -> Tables:
    """Leave out boxes or masks that are selected beside classes."""
    if len({table.shape[1] for table in tables.values()}) == 1:
        return tables
    kept = {head: table for head, table in tables.items() if table.shape[1] == num_classes}
    if not kept:
        raise unreadable(search, "what it selects comes from layers of different kinds")
    return kept


def _used_columns(numbers: Numbers, read: Sequence[ElementNumbers], tables: Tables) -> NDArray[np.bool_]:
    """Return which columns of tables selection reads, ``(L,)``."""
    used = np.zeros(len(numbers.head), bool)
    for part in read:
        used[part.reshape(-1)] = True
    used[-1] = False
    columns: NDArray[np.bool_] = np.any([used[table].any(axis=0) for table in tables.values()], axis=0)
    return columns


# --- where scores stand -----------------------------------------------------------------------------------------------


def score_starts(search: HeadSearch, told: ScoreColumns | None = None) -> list[ov.Output]:
    """Return the scores of detections, or what the final box selection reads as scores."""
    view = search.view
    if not any(_is_selection(node) for node in view.nodes):
        return []
    found = [column for output in view.outputs if (column := _last_of_five(search, output)) is not None]
    if found:
        return found
    selections = [node for node in view.nodes if kind(node) in SCORE_PORTS and node.get_name() in view.data]
    if selections:
        earlier = {name for node in selections for name in view.ancestors(node.input_values())}
        final = [node for node in selections if node.get_name() not in earlier]
        return [node.input_value(SCORE_PORTS[kind(node)]) for node in final]
    column = None
    if told is not None and told.chosen:
        output = view.model.get_results()[told.result].input_value(0)
        column = _column(output, told.begin) or _own_operation(view, output, told)
    return [] if column is None else [column]


def _is_selection(node: ov.Node) -> bool:
    return kind(node) in SCORE_PORTS or kind(node) in ("TopK", "NonZero", "If", "Loop")


def _last_of_five(search: HeadSearch, output: ov.Output) -> ov.Output | None:
    """Return the scores in an output of detections: all of it, or the last of five columns."""
    dims = dimensions(output)
    if dims is None or not output.get_element_type().is_real() or not search.view.is_data(output):
        return None
    wide = [size for size in dims if size != 1]
    if len(wide) <= 1 and dims[-1:] not in ([4], [5], [1]):
        return output
    if len(dims) not in (2, 3) or dims[-1] != _BOX_AND_SCORE:
        return None
    return _column(output, _BOX_AND_SCORE - 1)


def _column(output: ov.Output, column: int) -> ov.Output | None:
    """Go back to where the columns of rows were joined, and return the part that has this one alone."""
    width = (dimensions(output) or [None])[-1]
    while True:
        node, dims = output.get_node(), dimensions(output) or []
        if kind(node) == "Concat" and int(node.get_attributes()["axis"]) in (-1, len(dims) - 1):
            return _joined_part(node, column)
        if kind(node) not in CUTS | RESHAPES | PICKS | {"Convert"} or dims[-1:] != [width]:
            return None
        output = node.input_value(0)


def _joined_part(concat: ov.Node, column: int) -> ov.Output | None:
    """Return the input of a concatenation that holds a column alone, or ends with it."""
    parts, begin = concat.input_values(), 0
    if (dimensions(concat.output(0)) or [None])[-1] == column + 1:
        return parts[-1]
    for part in parts:
        size = (dimensions(part) or [None])[-1]
        if begin == column:
            return part if size == 1 else None
        if size is None:
            return None
        begin += size
    return None


def _own_operation(view: View, output: ov.Output, told: ScoreColumns) -> ov.Output | None:
    """Return the last result on the way of a column that is on that of no other, where joined rows were padded."""
    pieces = pieces_of(view, output, told.axis)
    shared = {node.get_name() for piece in pieces if not piece.begin <= told.begin < piece.end for node in piece.passed}
    own = (node for piece in within(pieces, told.begin, told.end) for node in piece.passed)
    return next((node.output(0) for node in own if node.get_name() not in shared), None)


# --- what selection reads ---------------------------------------------------------------------------------------------


def _read_elements(search: HeadSearch, way: Way, numbers: Numbers) -> list[ElementNumbers]:
    """Return the numbers of what selection reads: tensors that go on by something else than moves."""
    passed = {node.get_name() for node in way.nodes}
    ends = {port_of(start) for start in way.starts}
    found = []
    for node in (*way.nodes, *(output.get_node() for output in way.raw)):
        for output in node.outputs():
            part = numbers.at.get(port_of(output))
            if part is None:
                continue
            readers = [
                reader
                for reader, index in search.view.consumers.get(port_of(output), ())
                if reader.get_name() in passed
                and any(port_of(v) == port_of(output) for v in passed_on(search.view, reader))
            ]
            if port_of(output) in ends or any(
                all(port_of(result) not in numbers.at for result in reader.outputs()) for reader in readers
            ):
                found.append(part)
    return found


def _tables(way: Way, numbers: Numbers, scored: Sequence[int]) -> Tables:
    """Return for each head the numbers ``(A, L)`` at its first place, by anchor and class."""
    tensors = [
        numbers.at[port_of(output)] for node in way.nodes for output in node.outputs() if port_of(output) in numbers.at
    ]
    tables: Tables = {}
    together = [part for part in tensors if len(numbers.heads_in(part) & set(scored)) > 1]
    for part in (*together, *([] if together else tensors[::-1])):
        missing = (numbers.heads_in(part) & set(scored)) - tables.keys()
        rows = numbers.rows(part) if missing else None
        if rows is None:
            continue
        for head in missing:
            table = numbers.first_rows(rows, head)
            tables[head] = table[:, (numbers.head[table] == head).all(axis=0)]
    for head in scored:
        if head not in tables:  # one class: every channel is an anchor
            offset = numbers.offsets[head]
            tables[head] = np.arange(offset, numbers.offsets[head + 1], dtype=np.int32)[
                numbers.place[offset : numbers.offsets[head + 1]] == 0
            ].reshape(-1, 1)
    return tables
