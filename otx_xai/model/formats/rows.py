"""A row a box, suppressed in the graph: corners, score, class and more in columns, in the order of the exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from otx_xai.graph.class_heads import ScoreColumns
from otx_xai.graph.class_indices import count_of_classes
from otx_xai.graph.columns import Piece, pieces_of, within
from otx_xai.graph.view import kind
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.evidence import picking_operations
from otx_xai.model.formats.prototypes import masks_of, prototypes_beside
from otx_xai.postprocess.box_coding import CORNERS, BoxCoding, decoded
from otx_xai.postprocess.turned_boxes import upright
from otx_xai.records import FloatArray, ScoreOrigin, Size, Task

_SIDES = 4


@dataclass(frozen=True)
class Columns:
    """Which column of a row holds what.

    Args:
        box: the first of four.
        score: the score.
        label: the class.
        image: the number of the image in the batch, where there is one; a negative one ends the rows.
        angle: by how much the box is turned, in radians.
        coding: how boxes are written.
    """

    box: int
    score: int
    label: int
    image: int | None = None
    angle: int | None = None
    coding: BoxCoding = CORNERS

    @property
    def width(self) -> int:
        """Number of columns that have a meaning here."""
        own = (self.box + _SIDES - 1, self.score, self.label, self.image or 0, self.angle or 0)
        return 1 + max(own)


_END_TO_END = Columns(box=0, score=4, label=5)
_ORIENTED = Columns(box=0, score=4, label=5, angle=6)
_DETECTION_OUTPUT = Columns(image=0, label=1, score=2, box=3, coding=BoxCoding(shares=True))
_YOLOV7 = Columns(image=0, box=1, label=5, score=6)
_YOLO_NAS = Columns(image=0, box=1, score=5, label=6)
_PADDLE = Columns(label=0, score=1, box=2)

_TASKS = frozenset({"detect", "segment", "pose", "obb"})
"""What Ultralytics calls the tasks of its models that find boxes."""

_LONE_ROWS = (_DETECTION_OUTPUT, _YOLOV7, _YOLO_NAS, _PADDLE)
"""Rows of all images in one table, without an axis of the batch."""

_MOST_EXTRA = 255
"""Numbers behind a box at most, where the graph does not tell what they are: those of key points."""

_ENDS_TO_END = ("end2end", "nms")
"""What Ultralytics calls a model whose boxes need no suppression."""


# --- which columns ----------------------------------------------------------------------------------------------------


def _match(outputs: DetectorOutputs, columns: Columns, exactly: bool) -> Match | None:
    """Match rows of at least, or of exactly, so many columns."""
    for port in outputs.ports:
        if port.is_integer or len(port.shape) not in (2, 3, 4) or not _lone_batch(port):
            continue
        width = port.shape[-1]
        if width is None or width < columns.width or (exactly and width != columns.width):
            continue
        if len(port.shape) == _SIDES and (port.shape[1] != 1 or columns is not _DETECTION_OUTPUT):
            continue
        found = _match_port(outputs, port, columns, width)
        if found is not None:
            return found
    return None


def _lone_batch(port: OutputPort) -> bool:
    return len(port.shape) == 2 or port.shape[0] in (None, 1)


def _match_port(outputs: DetectorOutputs, port: OutputPort, columns: Columns, width: int) -> Match | None:
    if outputs.said.get("task") in _TASKS and columns is not _of_task(outputs):
        return None
    pieces = pieces_of(outputs.view, outputs.output(port), -1)
    told = _told(pieces, columns)
    is_operation = columns is _DETECTION_OUTPUT and len(port.shape) == _SIDES and len(outputs.ports) == 1
    is_operation = is_operation and port.shape[2] != 1  # seven scores of one image have this shape, too
    if told is None and is_operation:
        told = True
    sure = bool(told) or _declared_end_to_end(outputs, columns)
    if told is False or (not sure and not (outputs.declared or picking_operations(outputs.view))):
        return None
    extra = 0 if columns.angle is not None else width - columns.width
    if told is None and (extra > _MOST_EXTRA or (columns in _LONE_ROWS) != (len(port.shape) == 2 or is_operation)):
        return None
    return _with_extra(outputs, port, columns, extra, replace(_plain(port, columns, pieces), sure=sure))


def _told(pieces: Sequence[Piece], columns: Columns) -> bool | None:
    """Whether the graph says that rows have these columns; ``None``: it says nothing.

    Labels are whole numbers, boxes and scores are none, and scores pass what makes them. The number of an image may be
    computed from anything, as it is always 0, but has an origin of its own.
    """
    if not any(piece.is_index for piece in pieces) or _is_blind(pieces):
        return None
    label, score = (within(pieces, column, column + 1) for column in (columns.label, columns.score))
    box = within(pieces, columns.box, columns.box + _SIDES)
    if not all(piece.is_index for piece in label) or any(piece.is_index for piece in (*box, *score)):
        return False
    if columns.image is not None and columns.image + 1 not in {piece.begin for piece in pieces}:
        return False
    activated = any(piece.activation is not None for piece in pieces if piece.width == 1 and not piece.is_index)
    return not activated or all(piece.activation is not None for piece in score)


def _is_blind(pieces: Sequence[Piece]) -> bool:
    """Whether all columns come from one tensor."""
    return len(pieces) < 2


def _declared_end_to_end(outputs: DetectorOutputs, columns: Columns) -> bool:
    said = any(outputs.said.get(key, "").strip().lower() == "true" for key in _ENDS_TO_END)
    return said and columns is _of_task(outputs)


def _of_task(outputs: DetectorOutputs) -> Columns:
    """Return the columns that Ultralytics writes for its tasks."""
    return _ORIENTED if outputs.said.get("task") == "obb" else _END_TO_END


def _plain(port: OutputPort, columns: Columns, pieces: Sequence[Piece]) -> Match:
    order = {columns.label: "class", columns.score: "score", columns.box: "box"}
    if columns.image is not None:
        order[columns.image] = "image"
    if columns.angle is not None:
        order[columns.angle] = "angle"
    listed = ", ".join(order[column] for column in sorted(order))
    labels = within(pieces, columns.label, columns.label + 1)
    count = count_of_classes(labels[0].leaf) if labels and labels[0].is_index else None
    if labels and count is None:
        rounded = next((node for node in labels[0].passed if kind(node) in ("Mod", "FloorMod")), None)
        count = None if rounded is None else count_of_classes(rounded.output(0))
    return Match(
        f"{port} holds a row a box: {listed}",
        {"rows": port.name},
        num_classes=count,
        details={"columns": columns},
        scores=ScoreColumns(port.index, len(port.shape) - 1, columns.score, columns.score + 1, chosen=True),
    )


def _with_extra(outputs: DetectorOutputs, port: OutputPort, columns: Columns, extra: int, match: Match) -> Match | None:
    """Say what further columns are for: coefficients of masks, or key points."""
    if columns.angle is not None:
        return replace(match, note="Its boxes are oriented: each is explained by the upright box around it.")
    if not extra:
        return match
    prototypes = prototypes_beside(outputs, port, extra)
    if prototypes is not None:
        roles = {**match.roles, "prototypes": prototypes.name}
        return replace(match, roles=roles, task=Task.INSTANCE_SEGMENTATION)
    if extra == 1:
        return None
    note = f"{extra} further numbers a box, such as key points, are left out: its boxes are explained."
    return replace(match, note=note)


# --- reading ----------------------------------------------------------------------------------------------------------


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    columns: Columns = match.details["columns"]
    output = np.asarray(outputs[match.roles["rows"]])
    own = _own_rows(output, columns)
    own = own[output.reshape(-1, output.shape[-1])[own, columns.score] >= threshold]
    rows: FloatArray = output.reshape(-1, output.shape[-1])[own].astype(np.float32, copy=False)
    turned = None if columns.angle is None else _turned(rows, columns, columns.angle)
    return Candidates(
        boxes=_boxes(rows, columns, size),
        labels=np.rint(rows[:, columns.label]).astype(np.int64),
        scores=rows[:, columns.score],
        masks=masks_of(outputs, match, rows[:, columns.width :], _boxes(rows, columns, size), size),
        masks_fill_boxes=False,
        turned=turned,
        origins=(ScoreOrigin(match.roles["rows"], own * output.shape[-1] + columns.score),),
    )


def _own_rows(output: NDArray[np.generic], columns: Columns) -> NDArray[np.intp]:
    """Return the numbers of the rows of the first image; a negative image number ends them."""
    rows: FloatArray = output.reshape(-1, output.shape[-1]).astype(np.float32, copy=False)
    if columns.image is None:
        return np.arange(len(rows))
    ends = np.flatnonzero(rows[:, columns.image] < 0)
    count = ends[0] if ends.size else len(rows)
    return np.flatnonzero(rows[:count, columns.image] < 1)


def _boxes(rows: FloatArray, columns: Columns, size: Size) -> FloatArray:
    if columns.angle is not None:
        return upright(_turned(rows, columns, columns.angle))
    return decoded(rows[:, columns.box : columns.box + _SIDES], columns.coding, size)


def _turned(rows: FloatArray, columns: Columns, angle: int) -> FloatArray:
    return np.concatenate([rows[:, columns.box : columns.box + _SIDES], rows[:, angle, None]], axis=1)


def _format(name: str, meaning: str, columns: Columns, *, exactly: bool = True) -> BoxFormat:
    return BoxFormat(name, meaning, lambda outputs: _match(outputs, columns, exactly), _decode)


END_TO_END = _format(
    "end_to_end",
    "one output [1,N,6] with a row a box: x1, y1, x2, y2 in pixels of the network's input, score, class; behind them "
    "coefficients of masks with prototypes [1,C,h,w] in another output, or key points",
    _END_TO_END,
    exactly=False,
)
ORIENTED = _format(
    "end_to_end_oriented",
    "one output [1,N,7] with a row a box: centre, width and height in pixels of the network's input, score, class, "
    "angle",
    _ORIENTED,
)
DETECTION_OUTPUT = _format(
    "detection_output",
    "one output [1,1,N,7] or [N,7] with a row a box: number of the image, class, score, x1, y1, x2, y2 in 0 to 1",
    _DETECTION_OUTPUT,
)
YOLOV7 = _format(
    "yolov7_end_to_end",
    "one output [N,7] with a row a box: number of the image, x1, y1, x2, y2 in pixels of the network's input, class, "
    "score",
    _YOLOV7,
)
YOLO_NAS = _format(
    "yolo_nas_end_to_end",
    "one output [N,7] with a row a box: number of the image, x1, y1, x2, y2 in pixels of the network's input, score, "
    "class",
    _YOLO_NAS,
)
PADDLE = _format(
    "paddle",
    "one output [N,6] with a row a box: class, score, x1, y1, x2, y2 in pixels of the network's input",
    _PADDLE,
)
FORMATS: Mapping[str, BoxFormat] = {
    row.name: row for row in (DETECTION_OUTPUT, YOLOV7, YOLO_NAS, ORIENTED, PADDLE, END_TO_END)
}
