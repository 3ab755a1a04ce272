"""Whether a model finds boxes, and which of its outputs are boxes, labels, scores and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.traits import names_with
from otx_xai.graph.view import is_unit
from otx_xai.model.raw_predictions import predictions_in
from otx_xai.records import XAI_OUTPUTS, Task

_BOX_NAMES = frozenset({"bboxes", "boxes"})
_BOX_COLUMNS = (4, 5)
_DETECTION_OUTPUT = (1, 1, -1, 7)
_ANY = -1
_PICKS_BOXES = names_with(lambda own: own.selects_boxes)


@dataclass(frozen=True)
class DetectionOutputs:
    """Outputs of a model that selects its boxes in the graph; each is one of ``model.outputs``.

    Args:
        boxes: ``(N, 4)``, xyxy in pixels of the network's input, or ``(N, 5)`` with the score in the last column.
        labels: integers ``(N,)``.
        scores: ``(N,)``; ``None``: they are the last column of ``boxes``.
        masks: ``(N, h, w)`` or ``(N, 1, h, w)``; ``None`` of a detector.
        has_batch: all of them have one axis more in front, of length 1.
    """

    boxes: ov.Output
    labels: ov.Output
    scores: ov.Output | None
    masks: ov.Output | None
    has_batch: bool


@dataclass(frozen=True)
class Evidence:
    """Why a model finds boxes.

    Args:
        task: detection or instance segmentation.
        reason: in words, to follow "and".
    """

    task: Task
    reason: str


def find_detection_outputs(model: ov.Model) -> DetectionOutputs:
    """Tell the outputs of a detector apart by rank, shape and element type.

    Labels are the integers; scores have as many axes as labels, boxes one more, masks two more (three, where each has
    a channel axis of length 1). Names decide only between outputs that could be the same. XAI outputs are passed over.

    Args:
        model: ranks must be static; sizes may be dynamic.

    Raises:
        GraphError: the outputs are of another kind, or of several images; the message lists them.
    """
    outputs = _own_outputs(model)
    labels = _one([output for output in outputs if _may_be_labels(output)], {"labels"})
    if labels is None:
        raise _unknown(outputs)
    found = _beside(labels, outputs)
    boxes, scores = _one(found.boxes, _BOX_NAMES), _one(found.scores, {"scores"})
    if boxes is None or (scores is None and _columns(boxes) == min(_BOX_COLUMNS)):
        raise _unknown(outputs)
    if found.has_batch and not all(
        output.get_partial_shape()[0].compatible(ov.Dimension(1)) for output in (boxes, labels)
    ):
        raise _unknown(outputs)
    return DetectionOutputs(boxes, labels, scores, _one(found.masks, {"masks"}), found.has_batch)


def box_evidence(model: ov.Model) -> Evidence | None:
    """Tell from outputs and operations whether a model finds boxes; ``None`` where nothing says so.

    Outputs say so that are boxes beside integer labels, or are called boxes; masks beside both make an instance
    segmentation model. So do an operation that picks boxes, and raw predictions (:func:`predictions_in`).
    """
    outputs = _own_outputs(model)
    called = [output for output in outputs if output.get_names() & _BOX_NAMES]
    candidates = [_beside(output, outputs) for output in outputs if _may_be_labels(output)]
    masks = [output for found in candidates if called or found.boxes for output in found.masks if output not in called]
    if masks:
        return Evidence(Task.INSTANCE_SEGMENTATION, f"{describe_outputs(masks[:1])} holds masks")
    # two axes may also be the scores of a classifier of four or five classes, beside the best class
    shaped = [output for found in candidates if found.has_batch or found.scores for output in found.boxes]
    if called or shaped:
        return Evidence(Task.DETECTION, f"{describe_outputs((called or shaped)[:1])} holds boxes")
    kinds = {node.get_type_name() for node in model.get_ops()} & _PICKS_BOXES
    if kinds:
        return Evidence(Task.DETECTION, f"its graph holds {', '.join(sorted(kinds))}")
    raw = raw_evidence(model)
    return None if raw is None else Evidence(Task.DETECTION, raw)


def raw_evidence(model: ov.Model) -> str | None:
    """Tell why the outputs of a model are raw predictions, in words to follow "and"; ``None`` where nothing says so."""
    outputs = _own_outputs(model)
    if not outputs or any(_rank(output) <= 2 or _wide(output) <= 1 for output in outputs):
        return None
    if len(outputs) == 1 and _fits(outputs[0], _DETECTION_OUTPUT) and _columns(outputs[0]) == _DETECTION_OUTPUT[-1]:
        return f"{describe_outputs(outputs)} holds seven numbers for each box"
    return predictions_in(outputs)


def lacks_masks(model: ov.Model) -> bool:
    """Whether a model finds boxes, and none of its outputs can hold their masks."""
    evidence = box_evidence(model)
    if evidence is None or evidence.task is not Task.DETECTION:
        return False
    outputs = _own_outputs(model)
    return len(outputs) == 1 or not any(_may_be_masks(output) for output in outputs)


# --------------------------------------------------------------------------------------------------------------------
# What counts as labels, boxes, scores and masks
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidates:
    """Outputs that could be boxes, scores and masks of the same detections; see :class:`DetectionOutputs`."""

    boxes: list[ov.Output]
    scores: list[ov.Output]
    masks: list[ov.Output]
    has_batch: bool


def _own_outputs(model: ov.Model) -> list[ov.Output]:
    return [output for output in model.outputs if not XAI_OUTPUTS & output.get_names()]


def _may_be_labels(output: ov.Output) -> bool:
    return output.get_element_type() in (ov.Type.i32, ov.Type.i64) and _rank(output) in (1, 2)


def _may_be_masks(output: ov.Output) -> bool:
    """Whether an output may hold a map for each detection: rows of four or five columns are boxes."""
    rank = _rank(output)
    return rank == 0 or rank > 3 or (rank == 3 and _columns(output) not in _BOX_COLUMNS)


def _beside(labels: ov.Output, outputs: Sequence[ov.Output]) -> _Candidates:
    """Return the outputs whose axes begin with those of labels, by what comes behind."""
    axes = list(labels.get_partial_shape())
    real = [output for output in outputs if output.get_element_type().is_real()]
    return _Candidates(
        boxes=[output for output in real if any(_fits(output, (*axes, columns)) for columns in _BOX_COLUMNS)],
        scores=[output for output in real if _fits(output, axes)],
        masks=[output for output in outputs if any(_fits(output, (*axes, *more, _ANY, _ANY)) for more in ((), (1,)))],
        has_batch=len(axes) == 2,
    )


def _one(candidates: list[ov.Output], names: frozenset[str] | set[str]) -> ov.Output | None:
    """Return the only candidate, or of several the only one with one of ``names``."""
    if len(candidates) > 1:
        candidates = [output for output in candidates if output.get_names() & names]
    return candidates[0] if len(candidates) == 1 else None


def _fits(output: ov.Output, sizes: Sequence[ov.Dimension | int]) -> bool:
    """Whether an output may have these sizes, and surely as many axes."""
    shape = output.get_partial_shape()
    return bool(shape.rank.is_static and shape.compatible(ov.PartialShape(list(sizes))))


def _rank(output: ov.Output) -> int:
    rank = output.get_partial_shape().rank
    return int(rank.get_length()) if rank.is_static else 0


def _columns(boxes: ov.Output) -> int | None:
    last = boxes.get_partial_shape()[_rank(boxes) - 1]
    return int(last.get_length()) if last.is_static else None


def _wide(output: ov.Output) -> int:
    """Return the number of axes behind the first that may be longer than 1."""
    return sum(not is_unit(size) for size in list(output.get_partial_shape())[1:])


def _unknown(outputs: Sequence[ov.Output]) -> GraphError:
    return GraphError(
        f"The outputs of the model are {describe_outputs(outputs, with_types=True) or 'none'}; expected those of one "
        "image after non-maximum suppression: integer labels [1,N], boxes [1,N,5] (x1, y1, x2, y2, score) or boxes "
        "[1,N,4] and scores [1,N], and masks [1,N,h,w] of an instance segmenter, all of them with or without the "
        "batch axis. Export the model with its post-processing, for one image."
    )
