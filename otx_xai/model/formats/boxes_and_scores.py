"""Boxes of all places in one output and their class scores in another: YOLO-NAS, PP-YOLOE, PicoDet, mmdetection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from otx_xai.graph.columns import Piece, origin_of, pieces_of
from otx_xai.graph.spans import span_of
from otx_xai.model.formats.box_format import Arrays, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.dense import Chosen, Dense, dense_format, require_shares
from otx_xai.model.formats.grid_places import boxes_around, grid, level_sizes, may_be_places, sides_of, strides_of
from otx_xai.model.formats.queries import FORMATS as QUERIES
from otx_xai.postprocess.box_coding import BoxCoding, decoded
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size

SIDES = 4
_LITTLE = 2.0
"""Shares of the image are below, pixels above."""

_LONGEST = 33
"""Distances that a distribution over them reaches at most."""


@dataclass(frozen=True)
class Pair:
    """Outputs of the same places, one each or one a level.

    Args:
        boxes: ``(1, P, C)`` or ``(1, C, P)``, of four columns or four distributions.
        scores: ``(1, P, K)`` or ``(1, K, P)``.
        box_axis: the axis of columns of ``boxes``.
        class_axis: the axis of classes of ``scores``.
        strides: as the exporter writes them.
    """

    boxes: tuple[OutputPort, ...]
    scores: tuple[OutputPort, ...]
    box_axis: int
    class_axis: int
    strides: str

    @property
    def columns(self) -> int:
        """Number of columns of boxes."""
        return self.boxes[0].shape[self.box_axis] or 0

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.scores[0].shape[self.class_axis] or 0

    @property
    def places(self) -> int | None:
        """Number of places, of all levels."""
        counts = [port.shape[3 - self.box_axis] for port in self.boxes]
        return None if None in counts else sum(count or 0 for count in counts)


def _pairs(outputs: DetectorOutputs) -> Iterator[Pair]:
    """Yield all ways to read outputs as boxes and scores of the same places."""
    ports = [port for port in outputs.ports if _may_hold(port)] if outputs.are_dense else []
    for box_axis, class_axis in product((1, 2), (1, 2)):
        for first, second in permutations(ports, 2):
            boxes = [port for port in ports if _is_like(port, first, box_axis)]
            scores = [port for port in ports if _is_like(port, second, class_axis) and port not in boxes]
            if first is not boxes[0] or not scores or second is not scores[0]:
                continue
            places = [[port.shape[3 - axis] for port in own] for own, axis in ((boxes, box_axis), (scores, class_axis))]
            whole = len(boxes) + len(scores) == len(ports)
            if whole and places[0] == places[1] and (boxes[0].shape[box_axis] or 1) % SIDES == 0:
                yield Pair(tuple(boxes), tuple(scores), box_axis, class_axis, outputs.said.get("strides", ""))


def _may_hold(port: OutputPort) -> bool:
    return not port.is_integer and len(port.shape) == 3 and port.shape[0] in (None, 1)


def _is_like(port: OutputPort, first: OutputPort, axis: int) -> bool:
    """Whether outputs have as many columns: they may be levels of the same thing."""
    return port.shape[axis] is not None and port.shape[axis] == first.shape[axis]


# --- matching ---------------------------------------------------------------------------------------------------------


def _match_decoded(outputs: DetectorOutputs) -> Match | None:
    """Match boxes that the graph has decoded."""
    if _are_queries(outputs):
        return None
    for pair in _pairs(outputs):
        if pair.columns != SIDES or len(pair.boxes) > 1 or _are_swapped(pair):
            continue
        pieces = pieces_of(outputs.view, outputs.output(pair.boxes[0]), pair.box_axis)
        raw = not pieces or any(piece.is_raw for piece in pieces)
        scored = origin_of(outputs.view, outputs.output(pair.scores[0])).activation is not None
        if not outputs.declared and (raw or not (scored or outputs.evidence is not None)):
            continue
        coding = BoxCoding(shares=_are_shares(outputs, pieces))
        match = _of_pair(outputs, pair)
        return replace(match, details={**match.details, "coding": coding}, sure=not raw)
    return None


def _are_queries(outputs: DetectorOutputs) -> bool:
    return any(row.matches(outputs) is not None for row in QUERIES)


def _are_swapped(pair: Pair) -> bool:
    """Whether scores of four classes look like boxes, too, and names call them the boxes."""
    return pair.num_classes == SIDES and pair.scores[0].is_called("box")


def _are_shares(outputs: DetectorOutputs, pieces: tuple[Piece, ...]) -> bool:
    spans = [span_of(outputs.view, piece) for piece in pieces if not piece.is_raw]
    most = max((max(abs(least), abs(most)) for least, most in spans), default=0.0)
    return 0 < most <= _LITTLE


def _match_distances(outputs: DetectorOutputs) -> Match | None:
    """Match distances from places to the sides of boxes, as the last layers give them."""
    for pair in _pairs(outputs):
        if pair.columns > SIDES and _are_queries(outputs):
            continue
        if pair.columns > SIDES * _LONGEST or not may_be_places(pair.places, outputs.size, pair.strides):
            continue
        scores = origin_of(outputs.view, outputs.output(pair.scores[0]))
        known = scores.activation is not None or pair.num_classes == outputs.num_names
        pieces = pieces_of(outputs.view, outputs.output(pair.boxes[0]), pair.box_axis)
        told = known and bool(pieces) and all(_is_distance(outputs, piece, pair.columns) for piece in pieces)
        counted = None not in (pair.places, outputs.size) or outputs.evidence is not None
        if outputs.declared or (told and counted):
            levels = level_sizes(outputs.view, outputs.output(pair.boxes[0]), 3 - pair.box_axis)
            match = _of_pair(outputs, pair)
            return replace(match, details={**match.details, "levels": levels}, sure=told)
    return None


def _is_distance(outputs: DetectorOutputs, piece: Piece, columns: int) -> bool:
    """Whether columns are raw scores of distances, or means of distances after a soft-max over them."""
    if not piece.is_raw:
        return False
    if columns > SIDES:
        return piece.activation is None
    means = (origin_of(outputs.view, value) for value in outputs.view.data_inputs(piece.leaf.get_node()))
    return any("Softmax" in origin.kinds[:1] for origin in means)


def _of_pair(outputs: DetectorOutputs, pair: Pair) -> Match:
    origin = origin_of(outputs.view, outputs.output(pair.scores[0]))
    boxes, scores = (", ".join(map(str, ports)) for ports in (pair.boxes, pair.scores))
    return Match(
        f"{boxes} holds a box for each place of the class scores {scores}",
        {f"{role}{i}": port.name for role in ("boxes", "scores") for i, port in enumerate(getattr(pair, role))},
        num_classes=pair.num_classes,
        suppressed=False,
        details={"pair": pair, "raw": origin.is_raw},
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def _dense(outputs: Arrays, match: Match, size: Size) -> Dense:
    pair: Pair = match.details["pair"]
    scores, numbers = _rows(outputs, pair.scores, pair.class_axis), _rows(outputs, pair.boxes, pair.box_axis)
    if match.details["raw"]:
        scores = sigmoid(scores)
    require_shares(scores, "class scores")

    def boxes(chosen: Chosen) -> FloatArray:
        if "coding" in match.details:
            return decoded(numbers[chosen], match.details["coding"], size)
        points, steps = grid(size, strides_of(len(numbers), size, pair.strides, match.details["levels"]), 0.5)
        return boxes_around(points[chosen], sides_of(numbers[chosen]) * steps[chosen, None])

    def origins(chosen: Chosen, labels: IntArray) -> tuple[ScoreOrigin, ...]:
        return _origins(outputs, pair, chosen, labels)

    return Dense(scores, boxes, origins=origins)


def _rows(outputs: Arrays, ports: tuple[OutputPort, ...], axis: int) -> FloatArray:
    """Return what all levels hold, a row a place, those with the most places first."""
    result: FloatArray = np.concatenate([level for _, level in _levels(outputs, ports, axis)])
    return result


def _levels(outputs: Arrays, ports: tuple[OutputPort, ...], axis: int) -> list[tuple[str, FloatArray]]:
    """Return the outputs of levels by name, a row a place, those with the most places first."""
    levels = [(port.name, np.asarray(outputs[port.name])[0].astype(np.float32, copy=False)) for port in ports]
    turned = [(name, level.T if axis == 1 else level) for name, level in levels]
    return sorted(turned, key=lambda named: len(named[1]), reverse=True)


def _origins(outputs: Arrays, pair: Pair, chosen: Chosen, labels: IntArray) -> tuple[ScoreOrigin, ...]:
    """Tell where the scores of some places come from; with several levels all but one count for nothing."""
    found, first = [], 0
    for name, level in _levels(outputs, pair.scores, pair.class_axis):
        count, width = level.shape
        here = (chosen >= first) & (chosen < first + count)
        rows = np.where(here, chosen - first, 0)
        elements = labels * count + rows if pair.class_axis == 1 else rows * width + labels
        found.append(ScoreOrigin(name, elements.astype(np.int64), here.astype(np.float32)))
        first += count
    return tuple(found)


FORMATS = (
    dense_format(
        "boxes_and_scores",
        "boxes [1,P,4] with x1, y1, x2, y2 in pixels of the network's input or in 0 to 1, and class scores [1,P,K] or "
        "[1,K,P] of all places, not suppressed yet",
        _match_decoded,
        _dense,
    ),
    dense_format(
        "distances_and_scores",
        "for P places of all levels, distances to the four sides of a box in strides [1,P,4], or distributions over "
        "them [1,P,4*n], and class scores [1,P,K] or [1,K,P] (PP-YOLOE, PicoDet)",
        _match_distances,
        _dense,
    ),
)
