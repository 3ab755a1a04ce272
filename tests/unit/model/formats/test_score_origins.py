"""Where each format says that scores come from: moving these numbers moves the scores, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import GEOMETRY, SIZE, Cells, column, detect, run

from otx_xai.model.formats.box_format import Match
from otx_xai.model.formats.box_reading import read_detections
from otx_xai.model.formats.yolo import Layout, origins_in
from otx_xai.records import Detections

_STEP = 1e-3


def _joined(*parts: ov.Node) -> ov.Node:
    return ops.concat(list(parts), 2)


def _turned(rows: ov.Node) -> ov.Node:
    return ops.transpose(rows, np.array([0, 2, 1]))


def _objectness(cells: Cells) -> ov.Node:
    return ops.sigmoid(ops.add(cells.rows(cells.layer(1), 1), np.float32(2)))


def _end_to_end(cells: Cells, order: str) -> ov.Node:
    boxes, scores, labels = cells.best()
    parts = {"b": boxes, "s": column(scores), "l": column(labels)}
    return _joined(*(parts[letter] for letter in order))


def _four(cells: Cells) -> ov.Model:
    boxes, scores, labels = cells.best()
    count = ops.constant(np.array([[5]], np.int32))
    return cells.model(
        num_dets=ops.add(count, np.array([[0]], np.int32)),
        det_boxes=boxes,
        det_scores=scores,
        det_classes=ops.convert(labels, "i32"),
    )


def _labelled(cells: Cells, *, together: bool) -> ov.Model:
    boxes, scores, labels = cells.best()
    if together:
        return cells.model(boxes=_joined(boxes, column(scores)), labels=labels)
    return cells.model(boxes=boxes, scores=scores, labels=labels)


MODELS: dict[str, Callable[[Cells], ov.Model]] = {
    "yolo, a row a place": lambda cells: cells.model(output0=_joined(cells.centres(), cells.scores)),
    "yolo, a column a place": lambda cells: cells.model(output0=_turned(_joined(cells.centres(), cells.scores))),
    "yolo with objectness": lambda cells: cells.model(
        output=_joined(cells.centres(), _objectness(cells), cells.scores)
    ),
    "rows: box, score, class": lambda cells: cells.model(output0=_end_to_end(cells, "bsl")),
    "rows: class, score, box": lambda cells: cells.model(output0=ops.squeeze(_end_to_end(cells, "lsb"), np.int64(0))),
    "four outputs": _four,
    "labels beside boxes": lambda cells: _labelled(cells, together=False),
    "labels beside boxes with scores": lambda cells: _labelled(cells, together=True),
    "queries": lambda cells: cells.model(logits=cells.logits, pred_boxes=cells.centres(scale=64)),
    "boxes and scores": lambda cells: cells.model(boxes=cells.corners, scores=cells.scores),
    "boxes and scores, classes first": lambda cells: cells.model(boxes=cells.corners, scores=_turned(cells.scores)),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_move_with_the_numbers_that_they_come_from(name: str) -> None:
    model = MODELS[name](Cells())
    found, seen = detect(model, num_names=2)
    outputs = run(model)
    assert len(seen) >= 2
    assert seen.origins

    def scores_with(box: int, origin: int, by: float) -> np.ndarray:
        moved = {key: value.copy() for key, value in outputs.items()}
        one = seen.origins[origin]
        moved[one.output].reshape(-1)[one.elements[box]] += by
        again = read_detections(moved, found, SIZE, GEOMETRY, threshold=0.3, iou_threshold=0.9)
        return _of(seen, again)

    plain = _of(seen, seen)
    assert set(found.match.scored) >= {origin.output for origin in seen.origins}
    for box in range(len(seen)):
        ratios = []
        for number, origin in enumerate(seen.origins):
            change = scores_with(box, number, -_STEP) - plain
            assert change[box] < 0
            np.testing.assert_array_equal(np.delete(change, box), 0)
            slope = 1 if origin.slopes is None else origin.slopes[box]
            ratios.append(-change[box] / _STEP / plain[box] / slope)
        np.testing.assert_allclose(ratios, ratios[0], rtol=0.02)  # one factor for all numbers of a box


def _of(wanted: Detections, found: Detections) -> np.ndarray:
    """The scores of some boxes among others."""
    scores = []
    for box, label in zip(wanted.boxes, wanted.labels, strict=True):
        same = np.flatnonzero((found.labels == label) & (np.abs(found.boxes - box).max(axis=1) < 1))
        scores.append(found.scores[same[0]])
    return np.array(scores, np.float64)


def test_numbers_in_front_of_a_sigmoid() -> None:
    """The logarithm of a sigmoid grows with the number in front of it by one minus the share."""
    shares = np.array([[0.9, 0.2], [0.4, 0.7]], np.float32)
    match = Match("", {"predictions": "output0"}, details={"layout": Layout(2, 7, True, 2), "raw": True})
    classes, objectness = origins_in(match, shares, np.array([0.5, 0.25], np.float32))(
        np.array([1, 0]), np.array([1, 0])
    )
    assert classes.elements.tolist() == [7 + 5 + 1, 5]
    assert objectness.elements.tolist() == [7 + 4, 4]
    np.testing.assert_allclose(classes.slopes, [0.3, 0.1], rtol=1e-5)
    np.testing.assert_allclose(objectness.slopes, [0.75, 0.5], rtol=1e-5)


def test_origins_follow_what_suppression_keeps() -> None:
    """Boxes that are dropped take their origins along."""
    model = MODELS["yolo, a row a place"](Cells())
    found, seen = detect(model)
    outputs = run(model)
    one = seen.origins[0]
    np.testing.assert_array_equal(outputs["output0"].reshape(-1)[one.elements], seen.scores)
    fewer = read_detections(outputs, found, SIZE, GEOMETRY, threshold=float(seen.scores[0]))
    assert fewer.origins[0].elements.tolist() == one.elements[: len(fewer)].tolist()
    assert replace(one, slopes=one.elements.astype(np.float32)).of(np.array([1])).slopes == one.elements[1]
