"""Wrong annotations of boxes: planted ones among the first, clean ones left in peace."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected

from otx_xai.audit.box_annotations import annotation_errors, annotation_findings
from otx_xai.audit.box_review import annotations_to_review
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import FindingKind, FindingState

OBJECT = (10.0, 10.0, 50.0, 50.0)


@pytest.mark.parametrize(
    ("target", "box", "score", "error", "confidence"),
    [
        (0, (60, 60, 90, 90), 0.9, "overlooked", 0.9),
        (0, (30, 10, 70, 50), 0.9, "badly_placed", 0.9 * 2 / 3),
        (1, OBJECT, 0.8, "swapped", 0.8),
        (0, OBJECT, 0.9, None, 0),
        (0, (60, 60, 90, 90), 0.6, None, 0),
        (1, (30, 10, 70, 50), 0.9, None, 0),
        (1, OBJECT, math.nan, None, 0),
    ],
)
def test_each_error_is_told_apart(
    target: int, box: tuple[float, ...], score: float, error: str | None, confidence: float
) -> None:
    errors = annotation_errors(detected(boxes([(1, target, box, score)]), boxes([(1, 0, OBJECT, 1)]), 2))
    assert errors.error.tolist() == ([] if error is None else [error])
    if error is not None:
        overlooked = error == "overlooked"
        assert (errors.image[0], errors.found[0], errors.object[0]) == (1, 0, -1 if overlooked else 0)
        assert (errors.given[0], errors.suggested[0]) == (NO_CLASS if overlooked else 0, target)
        assert errors.confidence[0] == pytest.approx(confidence, rel=1e-5)


@pytest.mark.parametrize(("score", "rows"), [(0.5, 1), (0.4, 0)])
def test_detectors_that_never_score_high_are_sure_by_their_own_measure(score: float, rows: int) -> None:
    right = [(image, 0, OBJECT, 0.4 + 0.02 * image) for image in range(5)]  # 0.44 on average
    found = boxes([*right, (5, 0, (60, 60, 90, 90), score), (6, 1, (60, 60, 90, 90), 0.65)])
    objects = boxes([(image, 0, OBJECT, 1) for image in range(5)])
    errors = annotation_errors(detected(found, objects, 7))
    assert errors.image.tolist() == [5] * rows  # of class 1 nothing is known, so 0.7 is asked for


def test_a_box_of_the_right_class_confirms_an_annotation() -> None:
    found = [(0, 1, OBJECT, 0.9), (0, 0, OBJECT, 0.35)]
    assert len(annotation_errors(detected(boxes(found), boxes([(0, 0, OBJECT, 1)]), 1))) == 0
    both = [(0, 0, OBJECT, 0.9), (0, 0, (30, 10, 70, 50), 0.9)]
    assert len(annotation_errors(detected(boxes(both), boxes([(0, 0, OBJECT, 1)]), 1))) == 0


def _scene(seed: int, planted: bool, images: int = 150) -> tuple[Evidence, dict[str, set[tuple[int, int]]]]:
    """A detector with true scores; of its annotations some are left out, moved, or of another class."""
    rng = np.random.default_rng(seed)
    found, objects = [], []
    wrong: dict[str, set[tuple[int, int]]] = {"overlooked": set(), "badly_placed": set(), "swapped": set()}
    for image in range(images):
        for place in range(3):
            corner = np.array([32 * place + 2, rng.uniform(5, 60)])
            box = np.concatenate([corner, corner + rng.uniform(18, 26, 2)])
            target = int(rng.integers(0, 2))
            score = float(rng.beta(30, 1))
            seen = box + rng.normal(0, 0.8, 4)
            found.append((image, target, seen, score))
            if rng.random() > score:
                continue  # as unsure as it says: there is nothing
            kind = list(wrong)[rng.integers(0, 3)] if planted and rng.random() < 0.25 else ""
            if kind:
                wrong[kind].add((image, place))
            if kind != "overlooked":
                moved = box + 9 if kind == "badly_placed" else box
                objects.append((image, 1 - target if kind == "swapped" else target, moved, 1.0))
    return detected(boxes(found), boxes(objects), images), wrong


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_come_first_and_are_told(seed: int) -> None:
    evidence, wrong = _scene(seed, planted=True)
    errors = annotation_errors(evidence)
    assert evidence.found is not None
    for kind, places in wrong.items():
        rows = errors.found[errors.error == kind]
        named = {(int(evidence.found.image[row]), int(row) % 3) for row in rows}
        assert len(named & places) >= 0.9 * len(places)
        assert len(named) <= 1.5 * len(places) + 10
    found = {one.subject: one for one in annotation_findings(evidence, errors)}
    assert set(found) == {"overlooked boxes", "badly placed boxes", "swapped classes"}
    assert {(one.kind, one.state) for one in found.values()} == {(FindingKind.LABEL_ERROR, FindingState.SUSPECTED)}
    assert "may lack a box" in found["overlooked boxes"].statement
    assert (np.diff(errors.confidence) <= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_right_annotations_are_left_in_peace(seed: int) -> None:
    evidence, _ = _scene(seed, planted=False)
    assert annotation_findings(evidence, annotation_errors(evidence)) == []


def _unsure_scene(seed: int, images: int = 300) -> tuple[Evidence, list[tuple[int, int]]]:
    """A detector that doubts between two classes everywhere; two of a hundred annotations are left out or moved."""
    rng = np.random.default_rng(seed)
    found, objects, wrong = [], [], []
    for image in range(images):
        for place in range(3):
            corner = np.array([32 * place + 2, rng.uniform(5, 60)])
            box = np.concatenate([corner, corner + rng.uniform(18, 26, 2)])
            target = int(rng.integers(0, 2))
            for seen, score in ((target, rng.normal(0.6, 0.08)), (1 - target, rng.normal(0.5, 0.08))):
                found.append((image, seen, box + rng.normal(0, 1.2, 4), float(np.clip(score, 0.05, 0.95))))
            is_wrong = rng.random() < 0.02
            if is_wrong:
                wrong.append((image, place))
            if not is_wrong or len(wrong) % 2:
                objects.append((image, target, box + 10 * is_wrong, 1.0))
    return detected(boxes(found), boxes(objects), images), wrong


@pytest.mark.parametrize("seed", range(3))
def test_what_an_unsure_detector_speaks_against_comes_first_in_the_review(seed: int) -> None:
    evidence, wrong = _unsure_scene(seed)
    errors = annotation_errors(evidence)
    review = annotations_to_review(evidence, errors)
    assert evidence.found is not None
    assert evidence.objects is not None
    first = int(0.03 * len(evidence.objects))

    def places(rows: Any) -> set[tuple[int, int]]:
        return {(int(evidence.found.image[row]), int(evidence.found.xyxy[row, 0]) // 31) for row in rows}

    assert len(places(review.found[:first]) & set(wrong)) >= 0.9 * len(wrong)
    assert len(places(errors.found[:first]) & set(wrong)) < 0.9 * len(wrong)
    chosen = review.error != "swapped"
    assert len(places(review.found[chosen])) == chosen.sum(), "two rows of one place"
    assert (np.diff(review.confidence) <= 0).all()
    placed = review.error == "badly_placed"
    assert (evidence.objects.image[review.object[placed]] == review.image[placed]).all()
    assert (review.given[placed] == evidence.objects.target[review.object[placed]]).all()
    assert (review.given[review.error == "overlooked"] == NO_CLASS).all()


def test_a_box_on_another_object_or_a_confirmed_one_asks_for_no_review() -> None:
    found = [(0, 0, OBJECT, 0.9), (0, 1, (26, 10, 66, 50), 0.8), (1, 1, (30, 10, 70, 50), 0.8)]
    objects = [(0, 0, OBJECT, 1), (0, 1, (30, 10, 70, 50), 1), (1, 0, OBJECT, 1)]
    evidence = detected(boxes(found), boxes(objects), 2)
    review = annotations_to_review(evidence, annotation_errors(evidence))
    assert review.error.tolist() == ["badly_placed"]
    assert (review.image[0], review.object[0], review.given[0], review.suggested[0]) == (1, 2, 0, 1)


def test_nothing_is_said_of_nothing() -> None:
    many = boxes([(image, 0, (60, 60, 90, 90), 0.99) for image in range(9)])
    for evidence in (
        classified(np.eye(2), [0, 1]),
        detected(many, None, 9),
        detected(many, boxes([]), 9),  # boxes are found, and none is annotated: nobody annotated any
        detected(boxes([]), boxes([(0, 0, OBJECT, 1)]), 9),
        detected(boxes([]), boxes([]), 0),
        detected(many, boxes([(image, 0, OBJECT, 1) for image in range(9)]), 9),  # all wrong: that is the detector
    ):
        assert annotation_findings(evidence, annotation_errors(evidence)) == []
        assert len(annotations_to_review(evidence, annotation_errors(evidence))) <= len(many)
