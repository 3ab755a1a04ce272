"""D-RISE and AISE of boxes: each box's map lies on its own object, all of them out of the same passes."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import reference
from doors import read_proposals
from openvino import opset13 as ops

from otx_xai.errors import ConfigError
from otx_xai.methods.aise import AiseOptions, aise_boxes
from otx_xai.methods.drise import box_targets, drise, similarity
from otx_xai.methods.rise import RiseOptions
from otx_xai.perturb import Subject
from otx_xai.postprocess.proposals import Proposals
from otx_xai.runtime import Arrays, Session

SIZE = (64, 96)
CELL = 16
BOXES = np.array([[16, 16, 32, 32], [64, 32, 80, 48]], np.float32)
LABELS = np.array([0, 2])


def detector() -> ov.Model:
    """A raw output [1, 4 + 3, P]: every square of 16 pixels is a box, its classes are how red, green and blue it is."""
    image = ops.parameter([1, *SIZE, 3], np.uint8, name="image")
    values = ops.divide(ops.convert(image, np.float32), np.float32(255))
    pooled = ops.avg_pool(
        ops.transpose(values, np.array([0, 3, 1, 2])), [CELL, CELL], [0, 0], [0, 0], [CELL, CELL], True
    )
    rows, columns = SIZE[0] // CELL, SIZE[1] // CELL
    y, x = np.mgrid[:rows, :columns] * CELL + CELL / 2
    centres = np.stack([x, y, np.full_like(x, CELL), np.full_like(y, CELL)]).reshape(1, 4, -1).astype(np.float32)
    scores = ops.reshape(pooled, np.array([1, 3, rows * columns]), False)
    output = ops.concat([ops.constant(centres), scores], 1)
    output.output(0).set_names({"output0"})
    return ov.Model([output], [image], "detector")


def picture() -> np.ndarray:
    image = np.full((*SIZE, 3), 3, np.uint8)
    for (left, top, right, bottom), label in zip(BOXES.astype(int), LABELS, strict=True):
        image[top:bottom, left:right, label] = 250
    return image


def read(outputs: Arrays) -> Proposals:
    return read_proposals(outputs, SIZE, 3)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(detector())


def peak(saliency_map: np.ndarray) -> tuple[float, float]:
    row, column = np.unravel_index(saliency_map.argmax(), saliency_map.shape)
    return (row + 0.5) / saliency_map.shape[0] * SIZE[0], (column + 0.5) / saliency_map.shape[1] * SIZE[1]


@pytest.mark.parametrize("method", ["drise", "drise as published", "aise"])
def test_each_map_lies_on_its_own_object(session: Session, method: str) -> None:
    if method == "aise":
        found = aise_boxes(session, read, Subject(picture()), BOXES, LABELS, AiseOptions("speed"))
        assert found.passes <= 2 * 3 * 20
    else:
        options = RiseOptions(num_masks=400, num_cells=8)
        if method != "drise":
            options = RiseOptions(num_masks=400, num_cells=8, sampling="independent", estimator="mean")
        found = drise(session, read, Subject(picture()), BOXES, LABELS, options)
        assert found.passes == 400
    assert found.targets == (0, 1)
    assert found.warnings == ((), ())
    np.testing.assert_allclose(found.scores, 250 / 255, rtol=1e-3)
    for saliency_map, (left, top, right, bottom) in zip(found.maps, BOXES, strict=True):
        y, x = peak(saliency_map)
        assert top < y < bottom
        assert left < x < right


def test_a_box_that_is_never_found_again_says_so(session: Session) -> None:
    nowhere = np.array([[40, 0, 56, 16]], np.float32)
    found = drise(session, read, Subject(picture()), nowhere, np.array([1]), RiseOptions(num_masks=32, num_cells=4))
    assert any("constant: no masked image has a score" in warning for warning in found.warnings[0])


def test_no_box_is_an_error(session: Session) -> None:
    for method in (drise, aise_boxes):
        with pytest.raises(ConfigError, match="no box to explain"):
            method(session, read, Subject(picture()), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def test_similarity_is_the_published_formula() -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (9, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    proposals = Proposals(boxes, random.random((9, 5), dtype=np.float32), random.random(9, dtype=np.float32))
    wanted = boxes[[3, 7]] + np.float32(2)
    labels = proposals.classes[[3, 7]].argmax(axis=1)
    targets = box_targets(wanted, labels, proposals)
    found = similarity(targets, proposals)
    for i in range(2):
        literal = reference.found_again(
            wanted[i], targets.classes[i], proposals.boxes, proposals.classes, proposals.objectness
        )
        assert found[i] == pytest.approx(literal, rel=1e-5)
    nothing = Proposals(boxes[:0], proposals.classes[:0], proposals.objectness[:0])
    np.testing.assert_array_equal(similarity(targets, nothing), [0, 0])


def test_boxes_take_the_class_scores_of_their_proposals() -> None:
    proposals = Proposals(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32),
        np.array([[3, 4, 0], [4, 3, 0], [0, 0, 1]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
    )
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [90, 90, 99, 99]], np.float32)
    found = box_targets(boxes, np.array([1, 0, 2]), proposals)
    np.testing.assert_allclose(found.classes, [[0.6, 0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
