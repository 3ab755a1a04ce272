"""What is wrong with boxes: one planted error of each kind, and TIDE's own loop over random boxes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected

from otx_xai.audit.average_precision import average_precision, coco_results
from otx_xai.audit.box_errors import box_errors, box_findings, box_results
from otx_xai.audit.evidence_table import BoxTable
from otx_xai.audit.findings import FindingKind, FindingState

OBJECT = (10, 10, 50, 50)
PLANTED = [
    ("right", 0, (11, 10, 50, 50), "right"),
    ("badly_placed", 0, (30, 10, 70, 50), "badly_placed"),
    ("wrong_class", 1, OBJECT, "wrong_class"),
    ("background_box", 0, (60, 60, 90, 90), "missed"),
    ("wrong_class_and_place", 1, (30, 10, 70, 50), "missed"),
]


@pytest.mark.parametrize(("case", "target", "box", "of_object"), PLANTED)
def test_each_error_is_told_apart(case: str, target: int, box: tuple[int, ...], of_object: str) -> None:
    evidence = detected(boxes([(0, target, box, 0.9)]), boxes([(0, 0, OBJECT, 1)]), 1)
    errors = box_errors(evidence)
    assert errors.of_found.tolist() == [case]
    assert errors.of_object.tolist() == [of_object]
    assert errors.partner.tolist() == [-1 if case == "background_box" else 0]


def test_a_second_box_is_a_duplicate_and_an_unsure_one_does_not_count() -> None:
    found = boxes([(0, 0, OBJECT, 0.6), (0, 0, OBJECT, 0.9), (0, 0, OBJECT, 0.4), (0, 0, OBJECT, math.nan)])
    errors = box_errors(detected(found, boxes([(0, 0, OBJECT, 1)]), 1))
    assert errors.of_found.tolist() == ["duplicate", "right", "unsure", "unsure"]
    assert errors.partner.tolist() == [0, 0, -1, -1]
    assert not (errors.of_object == "missed").any()


def _random(seed: int = 0, images: int = 40) -> tuple[BoxTable, BoxTable]:
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 6)):
            corner = rng.uniform(0, 60, 2)
            box = np.concatenate([corner, corner + rng.uniform(10, 40, 2)])
            objects.append((image, int(rng.integers(0, 3)), box, 1.0))
            for _ in range(rng.integers(0, 3)):
                target = objects[-1][1] if rng.random() < 0.7 else int(rng.integers(0, 3))
                placed = box + rng.normal(0, rng.choice([1, 8]), 4)
                placed[2:] = np.maximum(placed[2:], placed[:2] + 1)
                found.append((image, target, placed, float(rng.random())))
        if rng.random() < 0.3:
            found.append((image, 0, (70, 70, 99, 99), float(rng.random())))
    return boxes(found), boxes(objects)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return float(shared / (areas - shared))


def _tide(found: BoxTable, objects: BoxTable, images: int) -> tuple[dict[int, str], set[int]]:
    """As the published code goes through errors."""
    cases: dict[int, str] = {}
    missed: set[int] = set()
    for image in range(images):
        rows = [row for row in range(len(found)) if found.image[row] == image and found.score[row] >= 0.5]
        there = [row for row in range(len(objects)) if objects.image[row] == image]
        iou = {(row, at): _iou(found.xyxy[row], objects.xyxy[at]) for row in rows for at in there}
        used: set[int] = set()
        for row in sorted(rows, key=lambda row: -found.score[row]):
            free = [at for at in there if at not in used and objects.target[at] == found.target[row]]
            best = max(free, key=lambda at: iou[row, at], default=None)
            if best is not None and iou[row, best] >= 0.5:
                cases[row] = "right"
                used.add(best)
        stood_for = set(used)
        for row in rows:
            if row in cases:
                continue
            own = [at for at in there if objects.target[at] == found.target[row]]
            other = [at for at in there if at not in own]
            near = max(own, key=lambda at: iou[row, at], default=None)
            alien = max(other, key=lambda at: iou[row, at], default=None)
            if near is not None and 0.1 <= iou[row, near] < 0.5:
                cases[row] = "badly_placed"
                stood_for.add(near)
            elif alien is not None and iou[row, alien] >= 0.5:
                cases[row] = "wrong_class"
                stood_for.add(alien)
            elif near is not None and iou[row, near] >= 0.5:
                cases[row] = "duplicate"
            elif all(iou[row, at] <= 0.1 for at in there):
                cases[row] = "background_box"
            else:
                cases[row] = "wrong_class_and_place"
        missed |= set(there) - stood_for
    return cases, missed


@pytest.mark.parametrize("seed", range(3))
def test_random_boxes_have_the_errors_of_a_loop(seed: int) -> None:
    found, objects = _random(seed)
    evidence = detected(found, objects, 40, "abc")
    errors = box_errors(evidence)
    cases, missed = _tide(found, objects, 40)
    assert {row: word for row, word in enumerate(errors.of_found.tolist()) if word != "unsure"} == cases
    assert set(np.flatnonzero(errors.of_object == "missed").tolist()) == missed
    for target, result in enumerate(box_results(evidence, errors)):
        right = [row for row, word in cases.items() if word == "right" and found.target[row] == target]
        called = [row for row in cases if found.target[row] == target]
        assert result.recall.value == pytest.approx(len(right) / (objects.target == target).sum())
        assert result.precision.value == pytest.approx(len(right) / len(called))


def test_findings_count_each_kind() -> None:
    found, objects = _random()
    evidence = detected(found, objects, 40, "abc")
    errors = box_errors(evidence)
    counts = Counter([*errors.of_found.tolist(), *errors.of_object[errors.of_object == "missed"].tolist()])
    findings = {one.kind: one for one in box_findings(evidence, errors)}
    assert {one.state for one in findings.values()} == {FindingState.MEASURED}
    assert findings[FindingKind.MISSED].effect.value == pytest.approx(counts["missed"] / len(objects))
    sure = int((found.score >= 0.5).sum())
    for kind, word in (
        (FindingKind.BADLY_PLACED, "badly_placed"),
        (FindingKind.LOOK_ALIKE, "wrong_class"),
        (FindingKind.DUPLICATE, "duplicate"),
        (FindingKind.BACKGROUND_BOX, "background_box"),
    ):
        assert findings[kind].effect.value == pytest.approx(counts[word] / sure)
        images = {f"{image}.png" for image in found.image[errors.of_found == word].tolist()}
        assert set(findings[kind].images) <= images
    assert findings[FindingKind.MISSED].statement.startswith(
        f"{counts['missed']} of {len(objects)} annotated boxes are found by no box ("
    )


def test_a_perfect_detector_has_no_errors() -> None:
    _, objects = _random()
    evidence = detected(objects, objects, 40, "abc")
    assert box_findings(evidence, box_errors(evidence)) == []
    precision = average_precision(evidence)
    assert precision.mean == precision.at_half == precision.at_three_quarters == 1


@pytest.mark.parametrize("seed", range(2))
def test_average_precision_is_that_of_torchmetrics(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    found, objects = _random(seed)
    recalls = np.linspace(0, 1, 101).tolist()  # its own ones are of float32, which moves 0.2 above 5 of 25
    metric = MeanAveragePrecision(class_metrics=True, rec_thresholds=recalls)
    for image in range(40):
        at, there = found.of(image), objects.of(image)
        metric.update(
            [
                {
                    "boxes": torch.tensor(found.xyxy[at]),
                    "scores": torch.tensor(found.score[at]),
                    "labels": torch.tensor(found.target[at]),
                }
            ],
            [{"boxes": torch.tensor(objects.xyxy[there]), "labels": torch.tensor(objects.target[there])}],
        )
    expected = metric.compute()
    capsys.readouterr()
    precision = average_precision(detected(found, objects, 40, "abcd"))
    assert capsys.readouterr().out == ""
    assert precision.mean == pytest.approx(float(expected["map"]), abs=1e-6)
    assert precision.at_half == pytest.approx(float(expected["map_50"]), abs=1e-6)
    assert precision.at_three_quarters == pytest.approx(float(expected["map_75"]), abs=1e-6)
    np.testing.assert_allclose(precision.each[:3], expected["map_per_class"], atol=1e-6)
    assert np.isnan(precision.each[3])


def test_results_are_entries_of_coco() -> None:
    found = boxes([(1, 2, (10, 20, 30, 60), 0.5), (0, 1, (0, 0, 1, 1), math.nan)])
    (entry,) = coco_results(detected(found, None, 2, "abc"))
    assert entry == {"image_id": 1, "category_id": 2, "bbox": [10, 20, 20, 40], "score": 0.5}


def test_without_boxes_nothing_is_said() -> None:
    for evidence in (
        classified(np.eye(2), [0, 1]),
        detected(boxes([(0, 0, OBJECT, 0.9)]), None, 1),
        detected(boxes([]), boxes([]), 0),
        detected(boxes([]), boxes([]), 2),
    ):
        errors = box_errors(evidence)
        assert box_findings(evidence, errors) == []
        assert not (errors.of_object == "missed").any()
        assert math.isnan(average_precision(evidence).mean)
        assert all(math.isnan(one.recall.value) for one in box_results(evidence, errors))
    nothing = detected(boxes([]), boxes([(0, 0, OBJECT, 1)]), 2)
    assert box_errors(nothing).of_object.tolist() == ["missed"]
    assert average_precision(nothing).mean == 0
    (missed,) = box_findings(nothing, box_errors(nothing))
    assert (missed.effect.value, missed.share, missed.images) == (1, 0.5, ("0.png",))
