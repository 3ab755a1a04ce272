"""Rows of suppressed boxes are read in the order of columns that the graph tells."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import CELLS, GEOMETRY, GREEN, I64, RED, SIZE, Cells, assert_red_and_green, column, described, detect

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_reading import read_detections
from otx_xai.model.formats.choice import find_format
from otx_xai.records import Task


def joined(*columns: ov.Node) -> ov.Node:
    return ops.concat(list(columns), 2)


def flat(rows: ov.Node, width: int) -> ov.Node:
    return ops.reshape(rows, np.array([5, width]), False)


def test_end_to_end() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    found, seen = detect(cells.model(output0=joined(boxes, column(scores), column(labels))))
    assert (found.format.name, found.match.sure, found.match.num_classes) == ("end_to_end", True, 2)
    assert_red_and_green(seen)


def test_rows_of_an_open_number() -> None:
    """An export that suppresses boxes itself gives as many rows as it finds."""
    cells = Cells()
    boxes, scores, labels = cells.best()
    rows = joined(boxes, column(scores), column(labels))
    kept = ops.non_zero(ops.greater(ops.squeeze(scores, I64(0)), np.float32(0.25)), "i64")
    rows = ops.gather(rows, ops.squeeze(kept, I64(0)), I64(1))
    model = cells.model(output0=rows)
    assert model.outputs[0].get_partial_shape()[1].is_dynamic
    found, seen = detect(model)
    assert found.format.name == "end_to_end"
    assert_red_and_green(seen)


def test_rows_with_coefficients_are_instances() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    identity = ops.add(cells.rows(cells.layer(CELLS), CELLS), (np.eye(CELLS) * 20).astype(np.float32)[None])
    flat_scores = ops.reshape(cells.scores, np.array([1, 32]), False)
    place = ops.divide(ops.topk(flat_scores, I64(5), 1, "max", "value", "i64").output(1), I64(2))
    index = ops.broadcast(ops.unsqueeze(place, I64(2)), np.array([1, 5, CELLS]))
    rows = joined(boxes, column(scores), column(labels), ops.gather_elements(identity, index, 1))
    prototypes = np.zeros((1, CELLS, 16, 16), np.float32)
    for cell in range(CELLS):  # the left half of each cell
        prototypes[0, cell, cell // 4 * 4 : cell // 4 * 4 + 4, cell % 4 * 4 : cell % 4 * 4 + 2] = 1
    maps = ops.add(cells.layer(CELLS, stride=4), prototypes * 2 - 1)
    found, seen = detect(cells.model(output0=rows, output1=maps))
    assert found.match.task is Task.INSTANCE_SEGMENTATION
    assert_red_and_green(seen)
    assert seen.masks is not None
    assert not seen.masks_fill_boxes
    for label, (left, top, right, bottom) in enumerate((RED, GREEN)):
        (mask,) = seen.masks[seen.labels == label]
        filled = np.zeros((16, 16), bool)
        filled[top // 4 : bottom // 4, left // 4 : (left + right) // 8] = True
        np.testing.assert_array_equal(mask > 0.5, filled)


def test_detection_output_with_and_without_its_axes() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    number = ops.multiply(column(scores), np.float32(0))
    rows = joined(number, column(labels), column(scores), ops.divide(boxes, np.float32(64)))
    for shape in ([5, 7], [1, 1, 5, 7]):
        found, seen = detect(cells.model(detections=ops.reshape(rows, np.array(shape), False)))
        assert found.format.name == "detection_output"
        assert_red_and_green(seen)


def test_number_of_the_image_first_and_score_last() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    number = column(ops.multiply(labels, I64(0)))
    found, seen = detect(cells.model(output=flat(joined(number, boxes, column(labels), column(scores)), 7)))
    assert found.format.name == "yolov7_end_to_end"
    assert_red_and_green(seen)


def test_number_of_the_image_first_and_class_last() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    number = column(ops.multiply(labels, I64(0)))
    found, seen = detect(cells.model(output=flat(joined(number, boxes, column(scores), column(labels)), 7)))
    assert found.format.name == "yolo_nas_end_to_end"
    assert_red_and_green(seen)


def silent(*shape: int) -> ov.Model:
    """Rows of which the graph tells nothing."""
    rows = ops.parameter(list(shape), np.float32)
    return ov.Model([ops.result(ops.abs(rows))], [rows])


@pytest.mark.parametrize(("shape", "name"), [((9, 6), "paddle"), ((1, 9, 6), "end_to_end"), ((1, 9, 57), "end_to_end")])
def test_axes_tell_what_the_graph_does_not(shape: tuple[int, ...], name: str) -> None:
    assert find_format(described(silent(*shape))) is None
    found = find_format(described(silent(*shape), declared=True, num_names=80))
    assert found is not None
    assert (found.format.name, found.match.sure) == (name, False)


def test_seven_silent_columns_are_asked_for() -> None:
    with pytest.raises(ModelError, match=r"detection_output \(.*yolov7_end_to_end \(.*yolo_nas_end_to_end \("):
        find_format(described(silent(9, 7), declared=True))
    found = find_format(described(silent(9, 7)), "yolo_nas_end_to_end")
    assert found is not None
    rows = np.array([[0, 1, 2, 3, 4, 0.9, 5], [1, 1, 2, 3, 4, 0.9, 5], [-1, 0, 0, 0, 0, 1, 0]], np.float32)
    seen = read_detections({found.match.roles["rows"]: rows}, found, SIZE, GEOMETRY)
    assert (seen.labels.tolist(), seen.boxes.tolist()) == ([5], [[1, 2, 3, 4]])


def test_the_exporter_tells_of_suppression() -> None:
    found = find_format(described(silent(1, 9, 6), num_names=1, said={"end2end": "True"}))
    assert found is not None
    assert (found.format.name, found.match.sure) == ("end_to_end", True)


def test_class_first() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    found, seen = detect(cells.model(output=flat(joined(column(labels), column(scores), boxes), 6)))
    assert found.format.name == "paddle"
    assert_red_and_green(seen)


def test_turned_boxes_become_upright() -> None:
    """A box of 40 by 10 that is turned by 30 degrees reaches as far as its corners."""
    cells = Cells()
    boxes, scores, labels = cells.best()
    turned = ops.add(ops.multiply(boxes, np.float32(0)), np.array([32, 30, 40, 10], np.float32))
    angle = ops.add(ops.multiply(column(scores), np.float32(0)), np.float32(np.pi / 6))
    found, seen = detect(cells.model(output0=joined(turned, column(scores), column(labels), angle)))
    assert found.format.name == "end_to_end_oriented"
    assert "oriented" in found.match.note
    corners = [
        (32 + dx * np.cos(np.pi / 6) - dy * np.sin(np.pi / 6), 30 + dx * np.sin(np.pi / 6) + dy * np.cos(np.pi / 6))
        for dx in (-20, 20)
        for dy in (-5, 5)
    ]
    xs, ys = zip(*corners, strict=True)
    for box in seen.boxes:
        np.testing.assert_allclose(box, [min(xs), min(ys), max(xs), max(ys)], rtol=1e-5)
    np.testing.assert_allclose(seen.turned, [[32, 30, 40, 10, np.pi / 6]] * len(seen), rtol=1e-5)


def test_key_points_are_left_out() -> None:
    cells = Cells()
    boxes, scores, labels = cells.best()
    points = joined(boxes, boxes, boxes)
    found, seen = detect(cells.model(output0=joined(boxes, column(scores), column(labels), points)))
    assert found.format.name == "end_to_end"
    assert "key points" in found.match.note
    assert_red_and_green(seen)


@pytest.mark.parametrize("width", [6, 7, 12])
def test_rows_of_a_classifier_are_no_boxes(width: int) -> None:
    cells = Cells()
    pooled = ops.reduce_mean(cells.layer(width), np.array([2, 3]), False)
    assert find_format(described(cells.model(logits=pooled))) is None
    assert find_format(described(cells.model(tokens=cells.rows(cells.layer(width), width)))) is None
