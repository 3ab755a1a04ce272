"""Heads whose boxes are left for the host to decode, all levels in one output: YOLOX and NanoDet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from otx_xai.graph.class_heads import ScoreColumns
from otx_xai.graph.columns import Piece, pieces_of, within
from otx_xai.model.formats.box_format import Arrays, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.dense import Chosen, Dense, dense_format, require_shares
from otx_xai.model.formats.grid_places import boxes_around, grid, level_sizes, may_be_places, sides_of, strides_of
from otx_xai.model.formats.yolo import SIDES, Layout, origins_in, possible_layouts, rows_of, scores_in, told_layouts
from otx_xai.postprocess.box_coding import corners
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import FloatArray, Size

_LONGEST = 33
"""Distances that a distribution over them reaches at most."""

_LEVELS_OF_PLUS = 4
"""NanoDet-Plus has as many levels; its places are the corners of cells, those of NanoDet their middles."""


def _rows(outputs: DetectorOutputs) -> list[OutputPort]:
    """Return the output that may hold a row a place, where it is the only one of its kind."""
    ports = [port for port in outputs.ports if len(port.shape) == 3 and not port.is_integer]
    return ports if outputs.are_dense and len(ports) == 1 and ports[0].shape[0] in (None, 1) else []


def _may_be_places(outputs: DetectorOutputs, count: int | None) -> bool:
    """Whether there are as many places as levels have; where this is open, something else must say that they are."""
    known = None not in (count, outputs.size) or outputs.declared or outputs.evidence is not None
    return known and may_be_places(count, outputs.size, outputs.said.get("strides", ""))


def _of_layout(outputs: DetectorOutputs, port: OutputPort, layout: Layout, what: str, raw: bool) -> Match:
    return Match(
        f"{port} holds for every place, not decoded yet: {what}",
        {"predictions": port.name},
        num_classes=layout.num_classes,
        suppressed=False,
        details={
            "layout": layout,
            "raw": raw,
            "strides": outputs.said.get("strides", ""),
            "levels": level_sizes(outputs.view, outputs.output(port), 3 - layout.axis),
        },
        scores=scores_in(port, layout) if layout.objectness else _scores_in_front(port, layout),
    )


def _scores_in_front(port: OutputPort, layout: Layout) -> ScoreColumns:
    return ScoreColumns(port.index, layout.axis, 0, layout.num_classes)


# --- YOLOX: offsets and logarithms of sizes in strides, objectness, classes -------------------------------------------


def _match_yolox(outputs: DetectorOutputs) -> Match | None:
    for port in _rows(outputs):
        for told in told_layouts(outputs, port):
            layout, boxes = told.layout, within(told.pieces, 0, SIDES)
            if not layout.objectness or layout.extra or not _may_be_places(outputs, port.shape[3 - layout.axis]):
                continue
            if all(piece.is_raw for piece in boxes):
                classes = within(told.pieces, layout.classes.start, layout.classes.stop)
                return _of_yolox(outputs, port, layout, raw=any(piece.is_raw for piece in classes))
        for layout in possible_layouts(outputs, port, True, [0]) if outputs.declared else ():
            if _may_be_places(outputs, port.shape[3 - layout.axis]):
                return replace(_of_yolox(outputs, port, layout, raw=False), sure=False)
    return None


def _of_yolox(outputs: DetectorOutputs, port: OutputPort, layout: Layout, raw: bool) -> Match:
    what = f"offset and size, objectness, {layout.num_classes} classes"
    return _of_layout(outputs, port, layout, what, raw)


def _dense_yolox(outputs: Arrays, match: Match, size: Size) -> Dense:
    layout: Layout = match.details["layout"]
    rows = rows_of(outputs, match)
    scores, objectness = rows[:, layout.classes], rows[:, SIDES]
    if match.details["raw"]:
        scores, objectness = sigmoid(scores), sigmoid(objectness)
    require_shares(scores, "class scores")
    require_shares(objectness, "objectness")
    points, steps = grid(size, strides_of(len(rows), size, match.details["strides"], match.details["levels"]), 0)

    def boxes(chosen: Chosen) -> FloatArray:
        step = steps[chosen, None]
        centres = rows[chosen, :2] * step + points[chosen]
        return corners(np.concatenate([centres, np.exp(rows[chosen, 2:SIDES]) * step], axis=1))

    return Dense(scores, boxes, objectness, origins=origins_in(match, scores, objectness))


# --- NanoDet: classes, distributions over distances to the sides ------------------------------------------------------


def _match_nanodet(outputs: DetectorOutputs) -> Match | None:
    for port in _rows(outputs):
        for axis in (1, 2):
            pieces = pieces_of(outputs.view, outputs.output(port), axis)
            classes = _classes_in_front(pieces)
            if classes is None or not _may_be_places(outputs, port.shape[3 - axis]):
                continue
            layout = Layout(axis, pieces[-1].end, False, classes)
            return _of_nanodet(outputs, port, layout)
        for layout in _possible_nanodets(outputs, port):
            return replace(_of_nanodet(outputs, port, layout), sure=False)
    return None


def _of_nanodet(outputs: DetectorOutputs, port: OutputPort, layout: Layout) -> Match:
    what = f"{layout.num_classes} classes, distances to the sides of a box"
    match = _of_layout(outputs, port, layout, what, raw=False)
    return replace(match, details={**match.details, "classes_at": 0})


def _possible_nanodets(outputs: DetectorOutputs, port: OutputPort) -> Iterator[Layout]:
    """Yield the layouts that sizes and the number of class names allow, where somebody says that there are boxes."""
    for axis in (1, 2) if outputs.declared and outputs.num_names is not None else ():
        width = port.shape[axis]
        length = 0 if width is None else _length(width - (outputs.num_names or 0))
        if width is not None and length and _may_be_places(outputs, port.shape[3 - axis]):
            yield Layout(axis, width, False, outputs.num_names or 0)


def _classes_in_front(pieces: Sequence[Piece]) -> int | None:
    """Return the number of scores in front of four distributions that nothing has been done to."""
    if len(pieces) != 2 or pieces[0].activation is None or not pieces[1].is_raw:
        return None
    return pieces[0].width if _length(pieces[1].width) else None


def _length(columns: int) -> int:
    """Return how many distances each of four distributions is over; 0 where there are not four."""
    length, rest = divmod(columns, SIDES)
    return length if not rest and 1 < length <= _LONGEST else 0


def _dense_nanodet(outputs: Arrays, match: Match, size: Size) -> Dense:
    rows, count = rows_of(outputs, match), match.num_classes or 0
    require_shares(rows[:, :count], "class scores")
    strides = strides_of(len(rows), size, match.details["strides"], match.details["levels"])
    points, steps = grid(size, strides, 0 if len(strides) == _LEVELS_OF_PLUS else 0.5)
    return Dense(
        rows[:, :count],
        lambda chosen: boxes_around(points[chosen], sides_of(rows[chosen, count:]) * steps[chosen, None]),
        origins=origins_in(match, rows[:, :count], None),
    )


FORMATS = (
    dense_format(
        "yolox_undecoded",
        "one output [1,P,5+K] for the P places of all levels: offset and logarithm of the size of a box in strides, "
        "objectness, K class scores",
        _match_yolox,
        _dense_yolox,
    ),
    dense_format(
        "nanodet",
        "one output [1,P,K+4*n] for the P places of all levels: K class scores, distributions over the distances to "
        "the four sides of a box",
        _match_nanodet,
        _dense_nanodet,
    ),
)
