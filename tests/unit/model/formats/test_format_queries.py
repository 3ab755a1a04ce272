"""DETR and its relatives: the classes of queries by sigmoid or soft-max, as graph, exporter or names tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import CELLS, GEOMETRY, SIZE, Cells, assert_red_and_green, described, detect, run

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_reading import read_detections, read_proposals
from otx_xai.model.formats.choice import find_format
from otx_xai.records import Task

RANDOM = np.random.default_rng(3)


def model(spare: bool = False, batch: int = 1, **more: Callable[[Cells], ov.Node]) -> ov.Model:
    """Queries of each cell, with a class for nothing behind the others or without."""
    cells = Cells(batch)
    logits = cells.logits
    if spare:
        logits = ops.concat([logits, ops.multiply(cells.rows(cells.layer(1), 1), np.float32(1))], 2)
    outputs = {name: make(cells) for name, make in more.items()}
    return cells.model(logits=logits, pred_boxes=cells.centres(scale=64), **outputs)


@pytest.mark.parametrize("batch", [1, -1])
@pytest.mark.parametrize(
    ("known", "spare", "name"),
    [
        ({"num_names": 2}, False, "queries"),
        ({"num_names": 2}, True, "queries_softmax"),
        ({"said": {"model_type": "rt_detr"}}, False, "queries"),
        ({"said": {"model_type": "table-transformer"}}, True, "queries_softmax"),
        ({"said": {"model_type": "detr"}, "num_names": 3}, True, "queries_softmax"),
    ],
)
def test_exporter_and_names_tell_the_activation(known: dict[str, Any], spare: bool, name: str, batch: int) -> None:
    found, seen = detect(model(spare, batch), **known)
    assert (found.format.name, found.match.sure, found.match.num_classes) == (name, True, 2)
    assert_red_and_green(seen)


def test_nothing_tells_the_activation() -> None:
    with pytest.raises(ModelError, match=r"2 ways: logits \[1,16,3\] f32.*--format: queries \(.*queries_softmax \("):
        find_format(described(model(spare=True)))
    found, seen = detect(model(spare=True), "queries_softmax")
    assert found.match.num_classes == 2
    assert_red_and_green(seen)


def test_choice_of_queries_in_the_graph_means_sigmoid() -> None:
    cells = Cells()
    top = ops.topk(ops.reduce_max(cells.logits, np.array([2]), False), np.int64(7), 1, "max", "value", "i64").output(1)
    index = ops.unsqueeze(top, np.int64(2))
    logits, boxes = (
        ops.gather_elements(value, ops.broadcast(index, np.array([1, 7, width])), 1)
        for value, width in ((cells.logits, 2), (cells.centres(64), 4))
    )
    found, seen = detect(cells.model(logits=logits, pred_boxes=boxes))
    assert found.format.name == "queries"
    assert_red_and_green(seen)


@pytest.mark.parametrize("spare", [False, True])
def test_scores_that_the_graph_activates(spare: bool) -> None:
    cells = Cells()
    nothing = ops.multiply(cells.rows(cells.layer(1), 1), np.float32(1))
    logits = ops.concat([cells.logits, nothing], 2) if spare else cells.logits
    scores = ops.softmax(logits, 2) if spare else ops.sigmoid(logits)
    found, seen = detect(cells.model(scores=scores, pred_boxes=cells.centres(64)))
    assert found.format.name == ("queries_softmax" if spare else "queries")
    assert found.match.num_classes == 2
    assert_red_and_green(seen)


def test_a_soft_max_without_its_last_class() -> None:
    cells = Cells()
    nothing = ops.multiply(cells.rows(cells.layer(1), 1), np.float32(1))
    scores = ops.softmax(ops.concat([cells.logits, nothing], 2), 2)
    scores = ops.slice(scores, np.array([0]), np.array([-1]), np.array([1]), np.array([2]))
    found, seen = detect(cells.model(scores=scores, pred_boxes=cells.centres(64)))
    assert (found.format.name, found.match.num_classes) == ("queries_softmax", 2)
    assert_red_and_green(seen)


def features(cells: Cells) -> ov.Node:
    raw = cells.rows(cells.layer(24), 24)
    return ops.mvn(raw, np.array([2]), True, 1e-5, "inside_sqrt")


def test_further_outputs_are_passed_over() -> None:
    given = model(last_hidden_state=features, encoder=lambda cells: cells.rows(cells.layer(9), 9))
    found, seen = detect(given, num_names=2)
    assert found.match.roles == {"logits": "logits", "boxes": "pred_boxes"}
    assert_red_and_green(seen)


def test_names_of_the_outputs_do_not_matter() -> None:
    cells = Cells()
    logits = ops.add(ops.matmul(features(cells), np.zeros((24, 2), np.float32), False, False), np.zeros(2, np.float32))
    boxes = ops.sigmoid(cells.rows(cells.layer(4), 4))
    found = find_format(described(cells.model(a=features(cells), b=logits, c=boxes), num_names=2))
    assert found is not None
    assert found.match.roles == {"logits": "b", "boxes": "c"}


def test_logits_of_eight_classes_are_no_distances() -> None:
    cells = Cells(-1)
    boxes = ops.sigmoid(cells.rows(cells.layer(4), 4))
    model = cells.model(logits=cells.rows(cells.layer(8), 8), pred_boxes=boxes)
    with pytest.raises(ModelError, match=r"2 ways: .*: queries \(.*queries_softmax \(") as caught:
        find_format(described(model, size=None))
    assert "distances" not in str(caught.value)


def test_boxes_in_pixels_are_no_queries() -> None:
    cells = Cells()
    found = find_format(described(cells.model(logits=cells.logits, boxes=cells.centres()), num_names=2))
    assert found is None or not found.format.name.startswith("queries")


def test_tokens_of_four_numbers_are_no_queries() -> None:
    """Two outputs of a transformer, of which nothing says that they are boxes and classes."""
    cells = Cells()
    given = cells.model(a=cells.rows(cells.layer(4), 4), b=cells.rows(cells.layer(7), 7))
    found = find_format(described(given))
    assert found is None or not found.match.sure


def test_masks_of_queries_lie_over_the_input() -> None:
    def masks(cells: Cells) -> ov.Node:
        maps = np.full((1, CELLS, 16, 16), -9, np.float32)
        maps[0, :, :8] = 9
        return ops.add(cells.layer(CELLS, stride=4), maps)

    found, seen = detect(model(pred_masks=masks), num_names=2)
    assert found.match.task is Task.INSTANCE_SEGMENTATION
    assert seen.masks is not None
    assert not seen.masks_fill_boxes
    assert (seen.masks[:, :8] > 0.99).all()
    assert (seen.masks[:, 8:] < 0.01).all()


def slow_queries(logits: np.ndarray, boxes: np.ndarray, softmax: bool, threshold: float) -> list[tuple[float, ...]]:
    """Score, label and box of each detection, as the papers have it, best first."""
    rows = []
    for raw, (x, y, w, h) in zip(logits.astype(float), boxes.astype(float), strict=True):
        box = ((x - w / 2) * SIZE[1], (y - h / 2) * SIZE[0], (x + w / 2) * SIZE[1], (y + h / 2) * SIZE[0])
        if softmax:
            scores = np.exp(raw) / np.exp(raw).sum()
            best = int(scores[:-1].argmax())
            pairs = [(float(scores[best]), best)]
        else:
            pairs = [(float(1 / (1 + np.exp(-value))), label) for label, value in enumerate(raw)]
        rows += [(score, label, *box) for score, label in pairs]
    rows = sorted(rows, key=lambda row: -row[0])[:100]
    return [row for row in rows if row[0] >= threshold]


@pytest.mark.parametrize("softmax", [False, True])
def test_queries_as_a_slow_loop_reads_them(softmax: bool) -> None:
    found = find_format(described(model(softmax), num_names=2))
    assert found is not None
    logits = RANDOM.normal(0, 2, (1, 16, 2 + softmax)).astype(np.float32)
    centres = RANDOM.uniform(0.3, 0.7, (1, 16, 4)) * [1, 1, 0.5, 0.5]
    arrays = {"logits": logits, "pred_boxes": centres.astype(np.float32)}
    seen = read_detections(arrays, found, SIZE, GEOMETRY, threshold=0.4)
    expected = slow_queries(logits[0], centres[0], softmax, 0.4)
    assert len(expected) > 3
    assert seen.labels.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(seen.scores, [row[0] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(seen.boxes, [row[2:] for row in expected], atol=1e-3)


def test_proposals_hold_every_class() -> None:
    given = model(spare=True)
    found = find_format(described(given, num_names=2))
    assert found is not None
    proposals = read_proposals(run(given), found, SIZE, 2, threshold=0.9)
    assert proposals.classes.shape == (2, 2)
    assert sorted(proposals.classes.argmax(axis=1)) == [0, 1]
    np.testing.assert_allclose(proposals.objectness, proposals.classes.max(axis=1))
