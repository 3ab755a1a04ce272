"""A box and class scores for every place in one output, as YOLO has them, with or without objectness and extras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from otx_xai.graph.class_heads import ScoreColumns
from otx_xai.graph.columns import Piece, pieces_of, within
from otx_xai.graph.spans import span_of
from otx_xai.graph.view import port_of
from otx_xai.model.formats.box_format import Arrays, BoxFormat, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.dense import Chosen, Dense, dense_format, factor, require_shares
from otx_xai.model.formats.prototypes import masks_of, prototypes_beside
from otx_xai.postprocess.box_coding import BoxCoding, decoded
from otx_xai.postprocess.scores import sigmoid
from otx_xai.postprocess.turned_boxes import upright
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size, Task

SIDES = 4
_LITTLE = 2.0
"""Shares of the image are below, pixels above."""

_TASKS = frozenset({"detect", "segment", "pose", "obb"})
"""What Ultralytics calls the tasks of its models that find boxes; none of them has objectness."""


@dataclass(frozen=True)
class Layout:
    """What the columns of a prediction hold: a box, objectness or none, classes, and more.

    Args:
        axis: the axis of columns, 1 or 2.
        width: number of columns.
        objectness: there is a column for it behind the box.
        num_classes: ``K``.
    """

    axis: int
    width: int
    objectness: bool
    num_classes: int

    @property
    def classes(self) -> slice:
        """The columns of class scores."""
        begin = SIDES + self.objectness
        return slice(begin, begin + self.num_classes)

    @property
    def extra(self) -> int:
        """Number of columns behind the classes."""
        return self.width - SIDES - self.objectness - self.num_classes


# --- what the columns hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the graph tells of the columns along an axis.

    Args:
        layout: what they hold.
        pieces: where they come from.
    """

    layout: Layout
    pieces: tuple[Piece, ...]


def told_layouts(outputs: DetectorOutputs, port: OutputPort) -> Iterator[Told]:
    """Yield what the graph tells of the columns of an output, along one axis or the other."""
    for axis in (1, 2):
        pieces = pieces_of(outputs.view, outputs.output(port), axis)
        layout = _read(outputs, pieces, axis)
        if layout is not None:
            yield Told(layout, pieces)


def _read(outputs: DetectorOutputs, pieces: Sequence[Piece], axis: int) -> Layout | None:
    """Read the layout off the origins of columns; ``None`` where they hold something else, or tell nothing."""
    behind = [piece for piece in pieces if piece.begin >= SIDES]
    if not behind or behind[0].begin != SIDES or any(piece.is_index for piece in pieces):
        return None
    box, width, first, rest = pieces[0], pieces[-1].end, behind[0], behind[1:]
    if box.kinds and box.kinds == first.kinds:  # places of several levels, treated alike
        return None
    if first.width == 1 and rest and (not outputs.view.is_data(first.leaf) or _alike(first, rest[0])):
        return Layout(axis, width, True, rest[0].width)
    if _share_layer(box, first) and first.width > 1 and outputs.num_names != first.width:
        return Layout(axis, width, True, first.width - 1)
    return Layout(axis, width, False, first.width)


def _alike(objectness: Piece, classes: Piece) -> bool:
    """Whether what stands behind a single number became a score in the same way: they are objectness and classes."""
    return objectness.activation == classes.activation and objectness.is_raw == classes.is_raw


def _share_layer(box: Piece, scores: Piece) -> bool:
    """Whether one layer gives boxes and scores, as in YOLO versions 3 to 7, whose scores begin with objectness."""
    return port_of(box.leaf) == port_of(scores.leaf)


def possible_layouts(
    outputs: DetectorOutputs, port: OutputPort, objectness: bool, behind: Sequence[int]
) -> Iterator[Layout]:
    """Yield the layouts that the sizes of an output allow.

    Args:
        outputs: of the model.
        port: the output.
        objectness: whether there is a column for it.
        behind: numbers of columns that may stand behind the classes.
    """
    for axis in (1, 2):
        width = port.shape[axis]
        if width is None:
            continue
        for extra in behind:
            count = width - SIDES - objectness - extra
            if count == outputs.num_names or (outputs.num_names is None and count > 0 and _is_short(port, axis)):
                yield Layout(axis, width, objectness, count)


def _is_short(port: OutputPort, axis: int) -> bool:
    """Whether an axis is the shorter one, as columns are fewer than places."""
    own, other = port.shape[axis], port.shape[3 - axis]
    return own is not None and (other is None or own < other)


# --- matching ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What tells one format of this family from the others.

    Args:
        objectness: a column for it stands behind the box.
        oriented: the last column is the angle of the box.
    """

    objectness: bool = False
    oriented: bool = False


def _match(outputs: DetectorOutputs, kind: Kind) -> Match | None:
    if not outputs.are_dense or (outputs.evidence is None and not outputs.declared):
        return None
    ports = [port for port in outputs.ports if _may_hold(port) and not _has_boxes_beside(outputs, port)]
    found = [match for port in ports for match in _of_port(outputs, port, kind)]
    return next((match for match in found if match.sure), found[0] if found else None)


def _may_hold(port: OutputPort) -> bool:
    return not port.is_integer and len(port.shape) == 3 and port.shape[0] in (None, 1)


def _has_boxes_beside(outputs: DetectorOutputs, port: OutputPort) -> bool:
    """Whether another output holds four numbers for each place of this one."""
    others = [other for other in outputs.ports if other is not port and len(other.shape) == 3 and SIDES in other.shape]
    return any(size is not None and size in other.shape[1:] for other in others for size in port.shape[1:])


def _of_port(outputs: DetectorOutputs, port: OutputPort, kind: Kind) -> Iterator[Match]:
    """Yield how an output may be read: as the graph tells, else as its exporter or the class names do."""
    told = list(told_layouts(outputs, port))
    for one in told:
        layout = _by_exporter(outputs, one.layout)
        if layout.objectness == kind.objectness and _is_oriented(outputs, port, layout) == kind.oriented:
            yield _of_layout(outputs, port, layout, one.pieces)
    if not outputs.declared and (told or outputs.num_names is None):
        return
    maps = [other for other in outputs.ports if len(other.shape) == 4]
    behind = [1] if kind.oriented else [0, *(size for other in maps for size in (other.shape[1],) if size)]
    for layout in possible_layouts(outputs, port, kind.objectness, behind):
        if layout.extra and not kind.oriented and prototypes_beside(outputs, port, layout.extra) is None:
            continue
        pieces = pieces_of(outputs.view, outputs.output(port), layout.axis)
        if any(piece.is_index for piece in pieces):  # a class is chosen already
            continue
        sure = not told and layout.num_classes == outputs.num_names and not layout.extra
        match = _of_layout(outputs, port, layout, pieces)
        yield replace(match, sure=sure and match.sure)


def _by_exporter(outputs: DetectorOutputs, layout: Layout) -> Layout:
    """Trust the exporter's number of names where it has told its task, too."""
    names = outputs.num_names
    if outputs.said.get("task") in _TASKS and names is not None and SIDES + names <= layout.width:
        return replace(layout, objectness=False, num_classes=names)
    return layout


def _is_oriented(outputs: DetectorOutputs, port: OutputPort, layout: Layout) -> bool:
    """Whether one number stands behind the classes, which no prototypes belong to: the angle of the box."""
    return layout.extra == 1 and prototypes_beside(outputs, port, 1) is None


def _of_layout(outputs: DetectorOutputs, port: OutputPort, layout: Layout, pieces: Sequence[Piece]) -> Match:
    """Describe how an output is read in a layout."""
    roles, task, note = {"predictions": port.name}, Task.DETECTION, ""
    prototypes = prototypes_beside(outputs, port, layout.extra) if layout.extra else None
    if prototypes is not None:
        roles["prototypes"], task = prototypes.name, Task.INSTANCE_SEGMENTATION
    elif layout.extra == 1:
        note = "Its boxes are oriented: each is explained by the upright box around it."
    elif layout.extra:
        note = f"{layout.extra} further numbers a box, such as key points, are left out: its boxes are explained."
    boxes, classes = within(pieces, 0, SIDES), within(pieces, layout.classes.start, layout.classes.stop)
    order = ("box", *(["objectness"] if layout.objectness else []), f"{layout.num_classes} classes")
    return Match(
        f"{port} holds for every place: {', '.join(order)}",
        roles,
        task,
        num_classes=layout.num_classes,
        suppressed=_are_queries(boxes),
        details={
            "layout": layout,
            "coding": BoxCoding("cxcywh", shares=_are_shares(outputs, boxes)),
            "raw": any(piece.is_raw for piece in classes) and len(pieces) > 1,
            "oriented": prototypes is None and layout.extra == 1,
        },
        note=note,
        scores=scores_in(port, layout),
        sure=not any(piece.is_raw for piece in boxes),
    )


def scores_in(port: OutputPort, layout: Layout) -> ScoreColumns:
    """Say where an output holds class scores, and what multiplies them."""
    columns = layout.classes
    return ScoreColumns(port.index, layout.axis, columns.start, columns.stop, SIDES if layout.objectness else None)


def _are_queries(boxes: Sequence[Piece]) -> bool:
    """Whether boxes end in a sigmoid, as those of queries do, which need no suppression."""
    return bool(boxes) and all(piece.kinds[:1] == ("Sigmoid",) for piece in boxes)


def _are_shares(outputs: DetectorOutputs, boxes: Sequence[Piece]) -> bool:
    """Whether boxes are shares of the image by the numbers that they are computed with; without any they are pixels."""
    if outputs.said.get("normalized_boxes", "").lower() == "true":
        return True
    if not boxes or any(piece.is_raw for piece in boxes):
        return False
    spans = [span_of(outputs.view, piece) for piece in boxes]
    most = max(max(abs(least), abs(most)) for least, most in spans)
    return 0 < most <= _LITTLE


# --- reading ----------------------------------------------------------------------------------------------------------


def _dense(outputs: Arrays, match: Match, size: Size) -> Dense:
    layout: Layout = match.details["layout"]
    rows = rows_of(outputs, match)
    scores, objectness = rows[:, layout.classes], rows[:, SIDES] if layout.objectness else None
    if match.details["raw"]:
        scores, objectness = sigmoid(scores), None if objectness is None else sigmoid(objectness)
    require_shares(scores, "class scores")

    def boxes(chosen: Chosen) -> FloatArray:
        return decoded(rows[chosen, :SIDES], match.details["coding"], size)

    def turned(chosen: Chosen) -> FloatArray:
        scale = (size[1], size[0]) * 2 if match.details["coding"].shares else (1, 1, 1, 1)
        return rows[chosen][:, [0, 1, 2, 3, -1]] * np.array([*scale, 1], np.float32)

    def masks(chosen: Chosen) -> FloatArray:
        make = masks_of(outputs, match, rows[chosen, layout.classes.stop :], boxes(chosen), size)
        assert make is not None
        return make(np.arange(len(chosen)))

    dense = Dense(scores, boxes, objectness, origins=origins_in(match, scores, objectness))
    if match.details["oriented"]:
        return replace(dense, boxes=lambda chosen: upright(turned(chosen)), turned=turned)
    return replace(dense, masks=masks if "prototypes" in match.roles else None)


def origins_in(
    match: Match, scores: FloatArray, objectness: FloatArray | None
) -> Callable[[Chosen, IntArray], tuple[ScoreOrigin, ...]]:
    """Return what tells where in the output of predictions the scores of places come from.

    Args:
        match: how it is read.
        scores: class scores ``(P, K)``.
        objectness: what multiplies them, ``(P,)``.
    """
    layout: Layout = match.details["layout"]
    name, raw, count = match.roles["predictions"], match.details["raw"], len(scores)

    def at(rows: Chosen, columns: IntArray | int) -> IntArray:
        found: IntArray = rows * layout.width + columns if layout.axis == 2 else columns * count + rows
        return found.astype(np.int64)

    def origins(rows: Chosen, labels: IntArray) -> tuple[ScoreOrigin, ...]:
        elements = at(rows, match.details.get("classes_at", layout.classes.start) + labels)
        if objectness is None:
            return (ScoreOrigin(name, elements),)
        classes = factor(name, elements, scores[rows, labels], raw=raw)
        return classes, factor(name, at(rows, SIDES), objectness[rows], raw=raw)

    return origins


def rows_of(outputs: Arrays, match: Match) -> FloatArray:
    """Return the predictions of one image, a row a place."""
    layout: Layout = match.details["layout"]
    predictions: FloatArray = np.asarray(outputs[match.roles["predictions"]])[0].astype(np.float32, copy=False)
    return predictions if layout.axis == 2 else predictions.T


def _format(name: str, meaning: str, kind: Kind) -> BoxFormat:
    return dense_format(name, meaning, lambda outputs: _match(outputs, kind), _dense)


_BOX = "centre, width and height of a box in pixels of the network's input"
FORMATS = (
    _format(
        "yolo",
        f"one output [1,4+K,P] or [1,P,4+K] with a column a place: {_BOX}, K class scores; behind them coefficients of "
        "masks with prototypes [1,C,h,w] in another output, or key points",
        Kind(),
    ),
    _format("yolo_oriented", f"one output [1,5+K,P] or [1,P,5+K]: {_BOX}, K class scores, angle", Kind(oriented=True)),
    _format(
        "yolo_objectness",
        f"one output [1,P,5+K] or [1,5+K,P] with a row a place: {_BOX}, objectness, K class scores; behind them "
        "coefficients of masks with prototypes [1,C,h,w] in another output",
        Kind(objectness=True),
    ),
)
