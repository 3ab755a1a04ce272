"""Counted boxes in four outputs: which is which, and how boxes are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import GEOMETRY, SIZE, Cells, assert_red_and_green, described, detect

from otx_xai.errors import ConfigError, ModelError
from otx_xai.model.formats.box_reading import read_detections
from otx_xai.model.formats.choice import find_format


def parts(shares: bool) -> tuple[Cells, ov.Node, ov.Node, ov.Node, ov.Node]:
    """Cells, the number of boxes above 0.25, boxes, scores and classes (integers)."""
    cells = Cells()
    boxes, scores, labels = cells.best()
    count = ops.reduce_sum(ops.convert(ops.greater(scores, np.float32(0.25)), "i32"), np.array([1]), True)
    if shares:
        boxes = ops.divide(ops.gather(boxes, np.array([1, 0, 3, 2]), np.int64(2)), np.float32(64))
    return cells, count, boxes, ops.abs(scores), labels


def test_pixels_and_whole_numbers() -> None:
    cells, count, boxes, scores, labels = parts(shares=False)
    classes = ops.convert(labels, "i32")
    found, seen = detect(cells.model(num_dets=count, det_boxes=boxes, det_scores=scores, det_classes=classes))
    assert (found.format.name, found.match.sure, found.match.num_classes) == ("four_outputs", True, 2)
    assert_red_and_green(seen)


@pytest.mark.parametrize("names", ["0123", "3120"])
@pytest.mark.parametrize("prefix", ["TFLite_Detection_PostProcess", "StatefulPartitionedCall"])
def test_shares_whose_classes_the_graph_tells(prefix: str, names: Sequence[str]) -> None:
    cells, count, boxes, scores, labels = parts(shares=True)
    values = (boxes, ops.convert(labels, "f32"), scores, ops.convert(ops.reshape(count, np.array([1]), False), "f32"))
    outputs = {f"{prefix}:{number}": value for number, value in zip(names, values, strict=True)}
    found, seen = detect(cells.model(**dict(sorted(outputs.items()))))
    assert (found.format.name, found.match.num_classes) == ("four_outputs_shares", 2)
    assert_red_and_green(seen)


@pytest.mark.parametrize("names", ["0123", "3210"])
def test_names_tell_where_the_graph_is_blind(names: str) -> None:
    """Classes that something computes as real numbers."""
    cells, count, boxes, scores, _ = parts(shares=True)
    pooled = ops.reduce_mean(cells.layer(5), np.array([2, 3]), False)
    values = (boxes, pooled, scores, ops.convert(ops.reshape(count, np.array([1]), False), "f32"))
    outputs = {f"StatefulPartitionedCall:{number}": value for number, value in zip(names, values, strict=True)}
    found = find_format(described(cells.model(**outputs)))
    assert found is not None
    assert found.match.roles["labels"] == f"StatefulPartitionedCall:{names[1]}"


def test_rows_behind_the_number_are_none() -> None:
    cells, count, boxes, scores, labels = parts(shares=False)
    model = cells.model(num_dets=count, det_boxes=boxes, det_scores=scores, det_classes=ops.convert(labels, "i32"))
    found = find_format(described(model))
    assert found is not None
    arrays = {
        "num_dets": np.array([[1]], np.int32),
        "det_boxes": np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.float32),
        "det_scores": np.array([[0.9, 0.8]], np.float32),
        "det_classes": np.array([[1, 0]], np.int32),
    }
    seen = read_detections(arrays, found, SIZE, GEOMETRY)
    assert seen.labels.tolist() == [1]
    np.testing.assert_array_equal(seen.boxes, [[1, 2, 3, 4]])


def blind(names: Sequence[str]) -> ov.Model:
    """Four outputs of real numbers of which the graph tells nothing."""
    cells = Cells()
    rows = ops.abs(cells.layer(4))
    boxes = ops.reshape(ops.convert(ops.round(rows), "f32"), np.array([1, 16, 4]), False)
    scores = [ops.reshape(cells.layer(1), np.array([1, 16]), False) for _ in range(2)]
    count = ops.reduce_mean(cells.layer(1), np.array([1, 2, 3]), False)
    values = (boxes, *scores, count)
    return cells.model(**dict(zip(names, values, strict=True)))


def test_unknown_unit_of_boxes_is_asked_for() -> None:
    model = blind(["boxes", "scores", "classes", "num"])
    with pytest.raises(
        ModelError, match=r"2 ways: boxes \[1,16,4\].*by --format: four_outputs \(number.*four_outputs_shares \("
    ):
        find_format(described(model))
    found = find_format(described(model), "four_outputs_shares")
    assert found is not None
    assert found.format.name == "four_outputs_shares"


def test_scores_that_nothing_tells_from_classes() -> None:
    model = blind(["a", "b", "c", "d"])
    assert find_format(described(model)) is None
    with pytest.raises(ConfigError, match=r"--format is four_outputs: expected number of boxes.*a \[1,16,4\] f32"):
        find_format(described(model), "four_outputs")
