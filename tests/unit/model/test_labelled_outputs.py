"""Boxes, labels, scores and masks are told apart by rank, shape and type, and tell what a model does."""

from __future__ import annotations

import openvino as ov
import pytest
from doors import looks_like
from toy_boxes import BOXES, LABELS, MASKS, Output, model_of

from otx_xai.graph.view import View
from otx_xai.model.formats.choice import describe_ports
from otx_xai.model.formats.labelled import Labelled, find_labelled
from otx_xai.records import XAI_OUTPUTS, Task


def found(*outputs: Output) -> dict[str, int | None]:
    """Which output is what, by its position."""
    given = model_of(*outputs)
    result = labelled(given)
    assert result is not None
    names = ("boxes", "labels", "scores", "masks")
    return {name: None if (port := getattr(result, name)) is None else port.index for name in names}


def labelled(given: ov.Model) -> Labelled | None:
    return find_labelled(describe_ports(given, View(given, XAI_OUTPUTS), size=None, num_names=None).ports)


@pytest.mark.parametrize(
    ("outputs", "order"),
    [
        ((BOXES, LABELS, MASKS), (0, 1, None, 2)),
        ((BOXES, LABELS), (0, 1, None, None)),
        ((("", "f32", [1, 9, 20, 20]), ("", "i32", [1, 9]), ("", "f32", [1, 9, 5])), (2, 1, None, 0)),
        ((("bboxes", "f32", [1, 300, 4]), ("labels", "i64", [1, 300]), ("scores", "f32", [1, 300])), (0, 1, 2, None)),
        ((("boxes", "f32", [-1, 4]), ("labels", "i64", [-1]), ("scores", "f32", [-1])), (0, 1, 2, None)),
        (
            (("a", "f32", [-1, 1, 480, 640]), ("b", "f32", [-1]), ("c", "i64", [-1]), ("d", "f32", [-1, 4])),
            (3, 2, 1, 0),
        ),
        ((("boxes", "f16", [-1, 5]), ("labels", "i32", [-1]), ("masks", "boolean", [-1, 48, 64])), (0, 1, None, 2)),
        ((("boxes", "f32", [-1, -1, -1]), ("l", "i64", [-1, -1]), ("m", "f32", [-1, -1, -1, -1])), (0, 1, None, 2)),
        # four or five detections have as many boxes as columns
        ((("a", "f32", [1, 4]), ("b", "f32", [1, 4, 4]), ("c", "i64", [1, 4])), (1, 2, 0, None)),
        ((("a", "f32", [5]), ("b", "f32", [5, 5]), ("c", "i64", [5]), ("d", "f32", [5, 5, 5])), (1, 2, 0, 3)),
        ((BOXES, LABELS, MASKS, ("saliency_map", "f32", [1, 3, 28, 28]), ("feature_vector", "f32", [1, -1])), None),
        # names decide between equals
        ((("masks", "f32", [1, -1, 28, 28]), BOXES, LABELS, ("coefficients", "f32", [1, -1, 6, 6])), (1, 2, None, 0)),
        ((BOXES, LABELS, MASKS, ("indices", "i64", [1, -1])), (0, 1, None, 2)),
        ((BOXES, LABELS, ("scores", "f32", [1, -1]), ("quality", "f32", [1, -1])), (0, 1, 2, None)),
    ],
)
def test_outputs_by_rank_shape_and_type(outputs: tuple[Output, ...], order: tuple[int | None, ...] | None) -> None:
    expected = (0, 1, None, 2) if order is None else order
    assert tuple(found(*outputs).values()) == expected


def test_whether_there_is_a_batch() -> None:
    with_batch, without = labelled(model_of(BOXES, LABELS)), labelled(model_of(("", "f32", [-1, 5]), ("", "i64", [-1])))
    assert with_batch is not None
    assert with_batch.has_batch
    assert without is not None
    assert not without.has_batch


@pytest.mark.parametrize(
    "outputs",
    [
        (("logits", "f32", [1, 1000]),),
        (("detection_out", "f32", [1, 1, 200, 7]),),
        (BOXES, ("labels", "f32", [1, -1])),
        (("boxes", "f32", [1, -1, 4]), LABELS),
        (("boxes", "f32", [1, -1, 6]), LABELS),
        (("boxes", "f32", [1, 7, 5]), ("labels", "i64", [1, 8])),
        (("boxes", "f32", [2, -1, 5]), ("labels", "i64", [2, -1])),
        (BOXES, ("first", "i64", [1, -1]), ("second", "i64", [1, -1])),
    ],
)
def test_other_outputs_are_none(outputs: tuple[Output, ...]) -> None:
    assert labelled(model_of(*outputs)) is None


@pytest.mark.parametrize(
    ("outputs", "task"),
    [
        ((BOXES, LABELS), Task.DETECTION),
        ((BOXES, LABELS, MASKS), Task.INSTANCE_SEGMENTATION),
        ((("", "f32", [1, 9, 4]), ("", "i64", [1, 9])), Task.DETECTION),
        ((("", "f32", [-1, 4]), ("", "i64", [-1]), ("", "f32", [-1])), Task.DETECTION),
        ((("", "f32", [-1, -1, -1]), ("", "i64", [-1, -1]), ("", "f32", [-1, -1])), Task.DETECTION),
        # the number of detections is an integer, too
        (
            (("", "i32", [1, 1]), ("", "f32", [1, 9, 4]), ("", "f32", [1, 9]), ("", "i32", [1, 9])),
            Task.DETECTION,
        ),
        (
            (("", "f32", [-1, 4]), ("", "i64", [-1]), ("", "f32", [-1]), ("", "f32", [-1, 1, 480, 640])),
            Task.INSTANCE_SEGMENTATION,
        ),
        # a name is enough
        ((("bboxes", "f32", [-1, 4]), ("", "i64", [-1])), Task.DETECTION),
        ((("bboxes", "f32", [-1, 6]), ("", "i64", [-1]), ("", "f32", [-1, 28, 28])), Task.INSTANCE_SEGMENTATION),
        # boxes without scores, or the scores of four classes and the best class
        ((("", "f32", [-1, 4]), ("", "i64", [-1])), None),
        ((("", "f32", [-1, 5]), ("", "i64", [-1])), None),
        ((("", "f32", [1, 4]), ("", "i64", [1]), ("", "f32", [1, 512])), None),
        # features are no masks, nor are maps
        ((("", "f32", [-1, 9]), ("", "i64", [-1]), ("", "f32", [-1, 512, 7, 7])), None),
        ((("", "f32", [-1, 9]), ("", "i64", [-1]), ("", "f32", [-1, 197, 768])), None),
        ((("", "f32", [1, 9]), ("saliency_map", "f32", [1, 9, 4])), None),
    ],
)
def test_what_outputs_say_of_the_task(outputs: tuple[Output, ...], task: Task | None) -> None:
    assert looks_like(model_of(*outputs))[0] == task
