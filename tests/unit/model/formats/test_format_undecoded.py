"""Heads that leave boxes to the host: told from decoded ones by the graph, and read as slow loops read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import detectors
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import GEOMETRY, SIZE, Cells, described

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_detections, read_proposals
from otx_xai.model.formats.choice import find_format
from otx_xai.records import Detections

STRIDES = (8, 16, 32)
CLASSES = 3
RANDOM = np.random.default_rng(11)

Level = Callable[[Cells, int], Sequence[ov.Node]]


def flat(maps: ov.Node) -> ov.Node:
    """Maps ``(1, C, h, w)`` as ``(1, C, h·w)``."""
    return ops.reshape(maps, np.array([0, 0, -1]), True)


def rows(parts: Level, strides: Sequence[int] = STRIDES) -> ov.Model:
    """One output with a row a place of each level, whose columns are the parts side by side."""
    cells = Cells()
    levels = [flat(ops.concat(list(parts(cells, stride)), 1)) for stride in strides]
    return cells.model(output=ops.transpose(ops.concat(levels, 2), np.array([0, 2, 1])))


def biased(cells: Cells, channels: int, stride: int) -> ov.Node:
    return ops.add(cells.layer(channels, stride=stride), np.zeros((1, channels, 1, 1), np.float32))


def yolox(cells: Cells, stride: int) -> list[ov.Node]:
    box, objectness, classes = (biased(cells, channels, stride) for channels in (4, 1, CLASSES))
    return [box, ops.sigmoid(objectness), ops.sigmoid(classes)]


def nanodet(cells: Cells, stride: int) -> list[ov.Node]:
    parts = ops.split(biased(cells, CLASSES * 8 + 32 - CLASSES * 7, stride), np.int64(1), 1)
    both = parts.output(0)
    classes = ops.slice(both, np.array([0]), np.array([CLASSES]), np.array([1]), np.array([1]))
    return [ops.sigmoid(classes), ops.slice(both, np.array([CLASSES]), np.array([99]), np.array([1]), np.array([1]))]


def places(strides: Sequence[int], size: tuple[int, int] = SIZE) -> list[tuple[int, int, int]]:
    """Column, row and stride of each place."""
    return [(x, y, s) for s in strides for y in range(-(-size[0] // s)) for x in range(-(-size[1] // s))]


def found_in(model: ov.Model, name: str) -> Found:
    found = find_format(described(model))
    assert found is not None
    assert (found.format.name, found.match.sure, found.match.num_classes) == (name, True, CLASSES)
    return found


def assert_all(seen: Detections, boxes: Sequence[Sequence[float]], scores: np.ndarray) -> None:
    """Every place gives its best class, in the order of scores, unsuppressed."""
    order = np.argsort(-scores.max(axis=1), kind="stable")
    clipped = np.clip(np.array(boxes)[order], 0, 64)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    np.testing.assert_allclose(seen.scores, scores.max(axis=1)[order][inside], rtol=1e-5)
    np.testing.assert_array_equal(seen.labels, scores.argmax(axis=1)[order][inside])
    np.testing.assert_allclose(seen.boxes, clipped[inside], atol=1e-3)


@pytest.mark.parametrize("strides", [STRIDES, STRIDES[::-1]])
def test_yolox_without_its_decoding(strides: Sequence[int]) -> None:
    found = found_in(rows(yolox, strides), "yolox_undecoded")
    output = RANDOM.uniform(0, 1, (1, 84, 5 + CLASSES)).astype(np.float32)
    seen = read_detections({"output": output}, found, SIZE, GEOMETRY, threshold=0, iou_threshold=1.0)
    boxes = []
    for (column, row, stride), (x, y, w, h, *_) in zip(places(strides), output[0].astype(float), strict=True):
        centre, half = ((column + x) * stride, (row + y) * stride), (np.exp(w) * stride / 2, np.exp(h) * stride / 2)
        boxes.append((centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]))
    assert_all(seen, boxes, output[0, :, 5:] * output[0, :, 4:5])
    proposals = read_proposals({"output": output}, found, SIZE, CLASSES, threshold=0.5)
    assert len(proposals) == (output[0, :, 4] >= 0.5).sum()


def test_decoded_yolox_is_told_from_it() -> None:
    found = find_format(described(detectors.case("yolox").model, size=detectors.SIZE))
    assert found is not None
    assert found.format.name == "yolo_objectness"


@pytest.mark.parametrize(("strides", "shift"), [((8, 16, 32), 0.5), ((32, 16, 8), 0.5), ((8, 16, 32, 64), 0.0)])
def test_nanodet(strides: Sequence[int], shift: float) -> None:
    found = found_in(rows(nanodet, strides), "nanodet")
    where = places(strides)
    output = RANDOM.normal(0, 2, (1, len(where), CLASSES + 32)).astype(np.float32)
    output[..., :CLASSES] = RANDOM.uniform(size=(1, len(where), CLASSES))
    seen = read_detections({"output": output}, found, SIZE, GEOMETRY, threshold=0, iou_threshold=1.0)
    assert_all(seen, slow_sides(output[0, :, CLASSES:], where, shift), output[0, :, :CLASSES])


def slow_sides(raw: np.ndarray, where: Sequence[tuple[int, int, int]], shift: float) -> list[list[float]]:
    """Boxes from distributions over distances, side by side."""
    boxes = []
    for (column, row, stride), numbers in zip(where, raw.astype(float), strict=True):
        sides = []
        for side in range(4):
            weights = np.exp(numbers[side * 8 : side * 8 + 8])
            sides.append(sum(k * weight for k, weight in enumerate(weights)) / weights.sum() * stride)
        x, y = (column + shift) * stride, (row + shift) * stride
        boxes.append([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
    return boxes


def distances(means: bool, strides: Sequence[int] = STRIDES) -> ov.Model:
    """Scores ``(1, K, P)`` and distances of all levels, as PP-YOLOE gives them, or distributions over these."""
    cells = Cells()
    scores = [flat(ops.sigmoid(biased(cells, CLASSES, stride))) for stride in strides]
    sides = []
    for stride in strides:
        raw = flat(biased(cells, 32, stride))
        if means:
            spread = ops.softmax(ops.reshape(raw, np.array([1, 4, 8, -1]), False), 2)
            weights = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
            mean = ops.convolution(
                ops.transpose(spread, np.array([0, 2, 3, 1])), weights, [1, 1], [0, 0], [0, 0], [1, 1]
            )
            sides.append(ops.squeeze(mean, np.array([1])))
        else:
            sides.append(ops.transpose(raw, np.array([0, 2, 1])))
    return cells.model(scores=ops.concat(scores, 2), distances=ops.concat(sides, 1))


@pytest.mark.parametrize("strides", [STRIDES, STRIDES[::-1]])  # PP-YOLOE begins with the coarsest level
@pytest.mark.parametrize("means", [False, True])
def test_distances_beside_scores(means: bool, strides: Sequence[int]) -> None:
    found = found_in(distances(means, strides), "distances_and_scores")
    where = places(strides)
    scores = RANDOM.uniform(size=(1, CLASSES, len(where))).astype(np.float32)
    numbers = RANDOM.normal(0, 2, (1, len(where), 32)).astype(np.float32)
    boxes = slow_sides(numbers[0], where, 0.5)
    if means:
        centres = [((column + 0.5), (row + 0.5), stride) for column, row, stride in where]
        numbers = RANDOM.uniform(0, 3, (1, len(where), 4)).astype(np.float32)
        boxes = [
            [(x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride]
            for (x, y, stride), (left, top, right, bottom) in zip(centres, numbers[0].astype(float), strict=True)
        ]
    arrays = {"scores": scores, "distances": numbers}
    seen = read_detections(arrays, found, SIZE, GEOMETRY, threshold=0, iou_threshold=1.0)
    assert_all(seen, boxes, scores[0].T)


def test_an_output_a_level() -> None:
    cells = Cells()
    outputs = {}
    for stride in (32, 8, 16):  # in any order
        outputs[f"classes_{stride}"] = ops.transpose(
            flat(ops.sigmoid(biased(cells, CLASSES, stride))), np.array([0, 2, 1])
        )
        outputs[f"sides_{stride}"] = ops.transpose(flat(biased(cells, 32, stride)), np.array([0, 2, 1]))
    found = found_in(cells.model(**outputs), "distances_and_scores")
    where = places(STRIDES)
    scores = RANDOM.uniform(size=(1, len(where), CLASSES)).astype(np.float32)
    numbers = RANDOM.normal(0, 2, (1, len(where), 32)).astype(np.float32)
    arrays, start = {}, 0
    for stride in STRIDES:
        end = start + (64 // stride) ** 2
        arrays |= {f"classes_{stride}": scores[:, start:end], f"sides_{stride}": numbers[:, start:end]}
        start = end
    seen = read_detections(arrays, found, SIZE, GEOMETRY, threshold=0, iou_threshold=1.0)
    assert_all(seen, slow_sides(numbers[0], where, 0.5), scores[0])


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_decoded_boxes_beside_scores(first: bool, shares: bool) -> None:
    cells = Cells()
    boxes = ops.divide(cells.corners, np.float32(64)) if shares else cells.corners
    scores = ops.transpose(cells.scores, np.array([0, 2, 1])) if first else cells.scores
    found = find_format(described(cells.model(a=boxes, b=scores)))
    assert found is not None
    assert (found.format.name, found.match.sure) == ("boxes_and_scores", True)
    output = RANDOM.uniform(0, 0.5, (1, 16, 4)).astype(np.float32) + np.array([0, 0, 0.5, 0.5], np.float32)
    values = RANDOM.uniform(size=(1, 16, 2)).astype(np.float32)
    arrays = {"a": output * (1 if shares else 64), "b": values.transpose(0, 2, 1) if first else values}
    seen = read_detections(arrays, found, SIZE, GEOMETRY, threshold=0, iou_threshold=1.0)
    assert_all(seen, output[0] * 64, values[0])


def test_an_input_whose_places_are_not_as_many() -> None:
    model = rows(yolox)
    found = find_format(described(model, size=None))
    assert found is not None
    with pytest.raises(ModelError, match=r"predicts for 80 places of an input of 64x64; expected those of strides"):
        read_detections({"output": np.zeros((1, 80, 8), np.float32)}, found, SIZE, GEOMETRY)
    assert find_format(described(model, size=(32, 32))).format.name != "yolox_undecoded"  # type: ignore[union-attr]
