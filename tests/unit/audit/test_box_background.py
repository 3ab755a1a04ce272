"""What the score of an object is at its place, and when there is nothing to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from evidence_cases import detected

from otx_xai.audit.box_background import FAINT, box_background_losses, place_scores
from otx_xai.audit.box_errors import box_errors
from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.metrics.stream import Draw
from otx_xai.records import Detections

COUNT = 30
TARGETS = np.arange(COUNT) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 56, 56, 3), np.uint8)


def detections(*rows: tuple[list[float], int, float]) -> Detections:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ([], [], [])
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32)
    )


def evidence(targets: np.ndarray = TARGETS, box: tuple[int, ...] = (10, 10, 60, 60)) -> Evidence:
    """A detector that has found the one object of each image."""
    boxes = np.tile(np.array(box, np.float32), (COUNT, 1))
    objects = BoxTable(np.arange(COUNT), targets, boxes, np.ones(COUNT, np.float32))
    return detected(objects, objects, COUNT, "abc")


def losses_of(one: Evidence, **more: int) -> list[tuple[int, int, float]]:
    found = box_background_losses(one, box_errors(one), PIXELS.__getitem__, sees_nothing, **more)
    assert not any(loss.is_material for loss in found)
    return [(loss.target, loss.reliance.n, loss.reliance.value) for loss in found]


def sees_nothing(draws: Iterator[Draw]) -> Iterator[Detections]:
    for draw in draws:
        draw()
        yield detections()


def test_the_score_at_a_place_is_the_best_of_each_class() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    found = detections(
        ([0, 0, 10, 10], 1, 0.4),
        ([0, 0, 10, 9], 1, 0.6),
        ([0, 0, 10, 4], 0, 0.9),  # IoU 0.4
        ([40, 40, 50, 50], 2, 0.9),
        ([0, 0, 10, 10], 3, 0.9),  # no class of the model
    )
    assert place_scores(found, box=box, count=3).tolist() == pytest.approx([FAINT, 0.6, FAINT])
    assert place_scores(detections(), box=box, count=3).tolist() == pytest.approx([FAINT] * 3)


def test_no_more_images_than_are_asked_for() -> None:
    assert losses_of(evidence()) == [(target, 10, 0.0) for target in range(3)]
    assert losses_of(evidence(), images=9) == [(target, 9, 0.0) for target in range(3)]


def test_what_cannot_be_tried_is_left_out() -> None:
    usual = evidence()
    assert losses_of(replace(usual, objects=None)) == []
    assert losses_of(replace(usual, found=None)) == []  # a classifier
    assert losses_of(evidence(targets=np.zeros(COUNT, np.int64))) == []  # no image is without the class
    assert losses_of(evidence(box=(0, 0, 100, 100))) == []  # no background is left
    assert losses_of(replace(usual, found=BoxTable.empty())) == []  # nothing was found
    assert losses_of(evidence(targets=np.arange(COUNT) % 4 % 3)) == [
        (target, n, 0.0) for target, n in ((0, 15), (1, 8))
    ]
