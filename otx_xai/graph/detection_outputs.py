"""Which outputs of a detector or instance segmenter are boxes, labels, scores and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.view import dimensions
from otx_xai.records import XAI_OUTPUTS

_BOX_COLUMNS = (4, 5)


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


def find_detection_outputs(model: ov.Model) -> DetectionOutputs:
    """Tell the outputs of a detector apart by rank, shape and element type.

    Labels are the integers; scores have as many axes as labels, boxes one more, masks two more (three, where each has
    a channel axis of length 1). Names decide only between outputs that could be the same. XAI outputs are passed over.

    Args:
        model: ranks must be static; sizes may be dynamic.

    Raises:
        GraphError: the outputs are of another kind, or of several images; the message lists them.
    """
    outputs = [output for output in model.outputs if not XAI_OUTPUTS & output.get_names()]
    integers = [output for output in outputs if _is_integer(output) and _rank(output) in (1, 2)]
    labels = _one(integers, ("labels",))
    if labels is None:
        raise _unknown(outputs)
    axes = [*(dimensions(labels) or ())]
    rest = [output for output in outputs if output.get_element_type().is_real()]
    boxes = _one(
        [output for output in rest if any(_fits(output, (*axes, columns)) for columns in _BOX_COLUMNS)],
        ("boxes", "bboxes"),
    )
    scores = _one([output for output in rest if _fits(output, axes)], ("scores",))
    shapes = ((*axes, None, None), (*axes, 1, None, None))
    masks = _one([output for output in outputs if any(_fits(output, shape) for shape in shapes)], ("masks",))
    if boxes is None or (scores is None and _columns(boxes) == min(_BOX_COLUMNS)):
        raise _unknown(outputs)
    has_batch = len(axes) == 2
    if has_batch and any(not _fits_size(output, 0, 1) for output in (boxes, labels)):
        raise _unknown(outputs)
    return DetectionOutputs(boxes=boxes, labels=labels, scores=scores, masks=masks, has_batch=has_batch)


def describe_outputs(outputs: Iterable[ov.Output]) -> str:
    """Return name, shape and type of each output, for messages."""
    return ", ".join(
        f"{'/'.join(sorted(output.get_names())) or output.get_node().get_friendly_name()} "
        f"{output.get_partial_shape()} {output.get_element_type().get_type_name()}"
        for output in outputs
    )


def _one(candidates: list[ov.Output], names: tuple[str, ...]) -> ov.Output | None:
    """Return the only candidate, or of several the only one with one of ``names``."""
    if len(candidates) > 1:
        candidates = [output for output in candidates if output.get_names() & set(names)]
    return candidates[0] if len(candidates) == 1 else None


def _is_integer(output: ov.Output) -> bool:
    return output.get_element_type() in (ov.Type.i32, ov.Type.i64)


def _rank(output: ov.Output) -> int:
    return len(dimensions(output) or ())


def _columns(output: ov.Output) -> int | None:
    return (dimensions(output) or [None])[-1]


def _fits(output: ov.Output, sizes: Sequence[int | None]) -> bool:
    """Whether an output may have these sizes; ``None`` is any size."""
    return _rank(output) == len(sizes) and all(_fits_size(output, axis, size) for axis, size in enumerate(sizes))


def _fits_size(output: ov.Output, axis: int, size: int | None) -> bool:
    found = output.get_partial_shape()[axis]
    return size is None or bool(found.compatible(ov.Dimension(size)))


def _unknown(outputs: Sequence[ov.Output]) -> GraphError:
    return GraphError(
        f"The outputs of the model are {describe_outputs(outputs) or 'none'}; expected those of one image after "
        "non-maximum suppression: integer labels [1,N], boxes [1,N,5] (x1, y1, x2, y2, score) or boxes [1,N,4] and "
        "scores [1,N], and masks [1,N,h,w] of an instance segmenter, all of them with or without the batch axis. "
        "Export the model with its post-processing, for one image."
    )
