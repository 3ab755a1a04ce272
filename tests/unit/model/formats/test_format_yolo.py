"""YOLO's predictions for every place: the columns that graph, exporter or names tell, and their boxes and masks."""

from __future__ import annotations

from typing import Any

import detectors
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import CELLS, GEOMETRY, GREEN, RED, SIZE, Cells, assert_red_and_green, described, detect, run

from otx_xai.errors import ConfigError, ModelError
from otx_xai.model.formats.box_format import Match
from otx_xai.model.formats.box_reading import read_detections, read_proposals
from otx_xai.model.formats.choice import find_format
from otx_xai.postprocess.turned_boxes import upright
from otx_xai.records import Task

RANDOM = np.random.default_rng(5)


def columns_first(rows: ov.Node) -> ov.Node:
    return ops.transpose(rows, np.array([0, 2, 1]))


def joined(*parts: ov.Node) -> ov.Node:
    return ops.concat(list(parts), 2)


def ones(cells: Cells) -> ov.Node:
    """Objectness near 1 for each place."""
    return ops.sigmoid(ops.add(cells.rows(cells.layer(1), 1), np.float32(12)))


def coefficients(cells: Cells) -> ov.Node:
    return ops.add(cells.rows(cells.layer(CELLS), CELLS), (np.eye(CELLS) * 20).astype(np.float32)[None])


def left_halves(cells: Cells) -> ov.Node:
    """Prototypes: the left half of each cell."""
    maps = np.zeros((1, CELLS, 16, 16), np.float32)
    for cell in range(CELLS):
        maps[0, cell, cell // 4 * 4 : cell // 4 * 4 + 4, cell % 4 * 4 : cell % 4 * 4 + 2] = 1
    return ops.add(cells.layer(CELLS, stride=4), maps * 2 - 1)


@pytest.mark.parametrize("batch", [1, -1])
@pytest.mark.parametrize("first", [False, True])
def test_boxes_and_classes(first: bool, batch: int) -> None:
    cells = Cells(batch)
    rows = joined(cells.centres(), cells.scores)
    found, seen = detect(cells.model(output0=columns_first(rows) if first else rows))
    assert (found.format.name, found.match.sure, found.match.num_classes) == ("yolo", True, 2)
    assert not found.match.suppressed
    assert_red_and_green(seen)


def test_scores_without_their_sigmoid() -> None:
    cells = Cells()
    logits = cells.rows(cells.layer(3), 3)
    found = find_format(described(cells.model(output0=joined(cells.centres(), logits))))
    assert found is not None
    output = RANDOM.normal(0, 2, (1, CELLS, 7)).astype(np.float32)
    output[..., :4] = RANDOM.uniform(20, 40, (1, CELLS, 4))
    seen = read_detections({"output0": output}, found, SIZE, GEOMETRY, threshold=0.01, iou_threshold=1.0)
    best = 1 / (1 + np.exp(-output[0, :, 4:].max(axis=1).astype(float)))
    np.testing.assert_allclose(seen.scores, np.sort(best)[::-1], rtol=1e-5)


def test_boxes_as_shares_of_the_image() -> None:
    cells = Cells()
    found, seen = detect(cells.model(output0=columns_first(joined(cells.centres(scale=64), cells.scores))))
    assert found.format.name == "yolo"
    assert_red_and_green(seen)


def test_the_exporter_tells_of_shares() -> None:
    found = find_format(described(blind(6), num_names=2, declared=True, said={"normalized_boxes": "True"}))
    assert found is not None
    assert found.match.details["coding"].shares


def test_joined_queries_are_not_suppressed() -> None:
    """RT-DETR as Ultralytics exports it: boxes that end in a sigmoid beside scores."""
    cells = Cells()
    boxes = ops.sigmoid(cells.rows(cells.layer(4), 4))
    found = find_format(described(cells.model(output0=joined(boxes, cells.scores))))
    assert found is not None
    output = np.tile(np.array([0.5, 0.5, 0.25, 0.5, 0.9, 0.1], np.float32), (1, 3, 1))
    seen = read_detections({"output0": output}, found, SIZE, GEOMETRY)
    np.testing.assert_allclose(seen.boxes, [[24, 16, 40, 48]] * 3)


@pytest.mark.parametrize("objectness", [False, True])
def test_instances(objectness: bool) -> None:
    cells = Cells()
    middle = [ones(cells)] if objectness else []
    rows = joined(cells.centres(), *middle, cells.scores, coefficients(cells))
    found, seen = detect(cells.model(output0=columns_first(rows), output1=left_halves(cells)))
    assert found.format.name == ("yolo_objectness" if objectness else "yolo")
    assert (found.match.task, found.match.num_classes) == (Task.INSTANCE_SEGMENTATION, 2)
    assert_red_and_green(seen)
    assert seen.masks is not None
    for label, (left, top, right, bottom) in enumerate((RED, GREEN)):
        (mask,) = seen.masks[seen.labels == label]
        filled = np.zeros((16, 16), bool)
        filled[top // 4 : bottom // 4, left // 4 : (left + right) // 8] = True
        np.testing.assert_array_equal(mask > 0.5, filled)


def test_objectness() -> None:
    cells = Cells()
    given = cells.model(output=joined(cells.centres(), ones(cells), cells.scores))
    found, seen = detect(given)
    assert (found.format.name, found.match.num_classes) == ("yolo_objectness", 2)
    assert_red_and_green(seen)
    proposals = read_proposals(run(given), found, SIZE, 2, threshold=0.5)
    assert len(proposals) == CELLS
    np.testing.assert_allclose(proposals.objectness, 1, atol=1e-4)


def test_objectness_that_is_always_one() -> None:
    cells = Cells()
    found, seen = detect(cells.model(output=joined(cells.centres(), np.ones((1, CELLS, 1), np.float32), cells.scores)))
    assert (found.format.name, found.match.num_classes) == ("yolo_objectness", 2)
    assert_red_and_green(seen)


def test_one_class_and_key_points() -> None:
    """A single class in front of further columns is no objectness."""
    cells = Cells()
    red = ops.gather(cells.scores, np.array([0]), np.int64(2))
    points = ops.add(cells.rows(cells.layer(6), 6), np.full((1, CELLS, 6), 9, np.float32))
    found, seen = detect(cells.model(output0=columns_first(joined(cells.centres(), red, points))))
    assert (found.format.name, found.match.num_classes) == ("yolo", 1)
    assert "key points" in found.match.note
    np.testing.assert_allclose(seen.boxes, [RED], atol=0.01)


def test_turned_boxes() -> None:
    cells = Cells()
    angle = ops.multiply(ops.subtract(ops.sigmoid(cells.rows(cells.layer(1), 1)), np.float32(0)), np.float32(np.pi))
    given = cells.model(output0=columns_first(joined(cells.centres(), cells.scores, angle)))
    found, seen = detect(given)  # by a right angle
    assert (found.format.name, found.match.num_classes) == ("yolo_oriented", 2)
    assert "oriented" in found.match.note
    assert_red_and_green(seen)


def test_turned_boxes_are_suppressed_as_they_are_turned() -> None:
    """A cross of two narrow boxes has one upright box around both, and yet is two things; a third is like the first."""
    cells = Cells()
    angle = ops.multiply(ops.sigmoid(cells.rows(cells.layer(1), 1)), np.float32(np.pi))
    found = find_format(described(cells.model(output0=joined(cells.centres(), cells.scores, angle))))
    assert found is not None
    quarter = np.pi / 4
    rows = [[32, 32, 40, 4, 0.9, 0, quarter], [32, 32, 40, 4, 0.8, 0, -quarter], [33, 32, 40, 4, 0.7, 0, quarter]]
    seen = read_detections({"output0": np.array([rows], np.float32)}, found, SIZE, GEOMETRY)
    side = 44 / np.sqrt(8)
    np.testing.assert_allclose(seen.boxes, [[32 - side, 32 - side, 32 + side, 32 + side]] * 2, atol=1e-3)
    np.testing.assert_allclose(seen.scores, [0.9, 0.8])
    assert seen.turned is not None
    np.testing.assert_allclose(upright(seen.turned), seen.boxes, atol=1e-3)


def blind(width: int, places: int = 30, **outputs: Any) -> ov.Model:
    """One output of which the graph tells nothing."""
    output = ops.abs(ops.parameter([1, width, places], np.float32, name="in"))
    output.output(0).get_tensor().set_names({"output0"})
    return ov.Model([ops.result(output)], [output.input_value(0).get_node()])


@pytest.mark.parametrize(("names", "name"), [(5, "yolo"), (4, "yolo_objectness")])
def test_names_tell_what_the_graph_does_not(names: int, name: str) -> None:
    found = find_format(described(blind(9), num_names=names, declared=True))
    assert found is not None
    assert (found.format.name, found.match.num_classes) == (name, names)


def test_nothing_tells_objectness_from_a_class() -> None:
    assert find_format(described(blind(9))) is None
    with pytest.raises(ModelError, match=r"ways: output0 \[1,9,30\] f32.*yolo \(.*yolo_objectness \("):
        find_format(described(blind(9), declared=True))
    found = find_format(described(blind(9)), "yolo_objectness")
    assert found is not None
    assert found.match.num_classes == 4
    with pytest.raises(ConfigError, match="--format is yolo_objectness: expected one output"):
        find_format(described(blind(9), num_names=7), "yolo_objectness")


def test_tasks_of_the_exporter() -> None:
    """Ultralytics says what further columns are: their classes never have objectness."""
    cells = Cells()
    rows = columns_first(joined(cells.centres(), ones(cells), cells.scores))
    model = cells.model(output0=rows)
    found = find_format(described(model, num_names=3, said={"task": "detect"}))
    assert found is not None
    assert (found.format.name, found.match.num_classes) == ("yolo", 3)


# --- against slow loops -----------------------------------------------------------------------------------------------


def slow(rows: np.ndarray, match: Match, threshold: float, iou: float) -> list[tuple[float, ...]]:
    """Score, label and box after suppression, box by box."""
    start = 4 + match.details["layout"].objectness
    candidates = []
    for row in rows.astype(float):
        scores = row[start : start + (match.num_classes or 0)] * (row[4] if start == 5 else 1)
        label = int(scores.argmax())
        if scores[label] >= threshold:
            x, y, w, h = row[:4]
            candidates.append((float(scores[label]), label, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    kept: list[tuple[float, ...]] = []
    for one in sorted(candidates, key=lambda row: -row[0]):
        if all(other[1] != one[1] or overlap(other[2:], one[2:]) <= iou for other in kept):
            kept.append(one)
    return kept


def overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("objectness", [False, True])
def test_predictions_as_a_slow_loop_reads_them(objectness: bool) -> None:
    cells = Cells()
    middle = [ones(cells)] if objectness else []
    found = find_format(described(cells.model(output=joined(cells.centres(), *middle, cells.scores))))
    assert found is not None
    output = RANDOM.uniform(0, 1, (1, 60, 6 + objectness)).astype(np.float32)
    output[..., :2] = RANDOM.uniform(22, 42, (1, 60, 2))
    output[..., 2:4] = RANDOM.uniform(12, 40, (1, 60, 2))
    seen = read_detections({"output": output}, found, SIZE, GEOMETRY, threshold=0.4, iou_threshold=0.3)
    expected = slow(output[0], found.match, 0.4, 0.3)
    assert 3 < len(expected) < 50
    assert seen.labels.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(seen.scores, [row[0] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(seen.boxes, np.clip([row[2:] for row in expected], 0, 64), atol=1e-3)


@pytest.mark.parametrize("family", ["yolox", "yolov8", "yolov5"])
@pytest.mark.parametrize("names", [None, detectors.CLASSES, 77])
def test_families_by_their_graphs(family: str, names: int | None) -> None:
    found = find_format(described(detectors.case(family).model, size=detectors.SIZE, num_names=names))
    assert found is not None
    assert found.match.sure
    assert found.format.name == ("yolo" if family == "yolov8" else "yolo_objectness")
    assert found.match.num_classes == detectors.CLASSES
    assert not found.match.details["coding"].shares
