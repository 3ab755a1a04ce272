"""What the outputs of a model say about its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openvino as ov

from otx_xai.ir.layout import is_unit
from otx_xai.records import XAI_OUTPUTS, Task

_BOX_OUTPUTS = frozenset({"bboxes", "boxes"})
_PICKS_BOXES = frozenset(
    {
        "DetectionOutput",
        "ExperimentalDetectronDetectionOutput",
        "MatrixNms",
        "MulticlassNms",
        "NMSRotated",
        "NonMaxSuppression",
        "Proposal",
        "ROIAlign",
    }
)


@dataclass(frozen=True)
class Evidence:
    """Why a model finds boxes.

    Args:
        task: detection or instance segmentation.
        reason: in words, to follow "and".
    """

    task: Task
    reason: str


def describe_outputs(model: ov.Model, indices: Sequence[int] | None = None) -> str:
    """Outputs as words: ``logits [1,1000], saliency_map [1,1000,7,7]``; all of them by default."""
    chosen = range(len(model.outputs)) if indices is None else indices
    outputs = [model.outputs[index] for index in chosen]
    return ", ".join(" ".join([*sorted(out.get_names())[:1], str(out.partial_shape)]) for out in outputs)


def box_evidence(model: ov.Model) -> Evidence | None:
    """Tell from outputs and operations whether a model finds boxes; ``None`` where nothing says so.

    Masks are an output of three or four axes beside integer labels and boxes. Several outputs of detections, an
    operation that picks boxes, or a lone output with many values for each class make a detector.
    """
    outputs = [output for output in model.outputs if not XAI_OUTPUTS & output.get_names()]
    labelled = [output for output in outputs if output.get_element_type() in (ov.Type.i32, ov.Type.i64)]
    masks = [output for output in outputs if output not in labelled and _is_masks(output)]
    if masks and len(labelled) == 1 and len(outputs) >= 3:
        return Evidence(Task.INSTANCE_SEGMENTATION, f"{_title(masks[0])} holds masks")
    named = [output for output in outputs if _BOX_OUTPUTS & output.get_names()]
    # two axes may also be the scores of a classifier of four or five classes, beside the best class
    shaped = [out for out in outputs if _is_boxes(out) and (_rank(out) == 3 or len(outputs) >= 3)] if labelled else []
    boxes = named or shaped
    if boxes:
        return Evidence(Task.DETECTION, f"{_title(boxes[0])} holds boxes")
    kinds = {node.get_type_name() for node in model.get_ops()} & _PICKS_BOXES
    if kinds:
        return Evidence(Task.DETECTION, f"its graph holds {', '.join(sorted(kinds))}")
    if outputs and all(_rank(output) > 2 and _wide(output) > 1 for output in outputs):
        return Evidence(Task.DETECTION, "it has many values for each class, as boxes or places have")
    return None


def _title(output: ov.Output) -> str:
    return " ".join([*sorted(output.get_names())[:1], str(output.get_partial_shape())])


def _rank(output: ov.Output) -> int:
    shape = output.get_partial_shape()
    return int(shape.rank.get_length()) if shape.rank.is_static else 0


def _wide(output: ov.Output) -> int:
    """Return the number of axes behind the first that may be longer than 1."""
    shape = output.get_partial_shape()
    return sum(size.is_dynamic or size.get_length() > 1 for size in list(shape)[1:])


def _is_masks(output: ov.Output) -> bool:
    """Whether an output holds a picture for each detection: ``[1, N, h, w]``, ``[N, h, w]`` or ``[N, 1, h, w]``."""
    shape = list(output.get_partial_shape()) if _rank(output) >= 3 else []
    return len(shape) in (3, 4) and not _is_boxes(output) and not any(is_unit(size) for size in shape[-2:])


def _is_boxes(output: ov.Output) -> bool:
    """Whether an output's rows are boxes of four numbers, or five with a score."""
    shape = output.get_partial_shape()
    if _rank(output) not in (2, 3):
        return False
    last = shape[_rank(output) - 1]
    return bool(last.is_static and last.get_length() in (4, 5) and output.get_element_type().is_real())
