"""Why images are wrong: maps that lie on planted places, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected, mapped

from otx_xai.audit.error_causes import best_cells, cause_findings, error_causes, shared_cells
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.records import InputGeometry, ResizeType


def blob(row: float, column: float, size: int = 7) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / 3)


LEFT, RIGHT, CORNER = blob(3, 1), blob(3, 5), blob(0, 0)
# what the best class's map shows, what the annotated one's, and the cause where the object is on the left
CASES = [
    (LEFT, LEFT, "look_alike"),
    (LEFT, RIGHT, "other_object"),
    (RIGHT, LEFT, "background_focus"),
    (RIGHT, RIGHT, "background_focus"),
    (LEFT, np.zeros((7, 7)), "unclear"),
]


def _evidence(times: int = 1, with_boxes: bool = True, **more: object):
    count = times * len(CASES)
    scores = np.tile([0.1, 0.9], (count, 1))
    maps = mapped(
        [(image, target, CASES[image % len(CASES)][1 - target]) for image in range(count) for target in (0, 1)]
    )
    objects = boxes([(image, 0, (0, 8, 32, 48), 1.0) for image in range(count)]) if with_boxes else None
    return classified(scores, np.zeros(count, int), maps=maps, objects=objects, **more)


def test_each_error_has_its_cause() -> None:
    causes = error_causes(_evidence())
    assert causes.cause.tolist() == [case[2] for case in CASES]
    assert causes.image.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(causes.overlap, [1, 0, 0, 1, np.nan])
    assert (causes.on_object[[0, 1, 4]] > 0.7).all()
    assert (causes.on_object[[2, 3]] < 0.1).all()


def test_without_boxes_there_is_no_background() -> None:
    causes = error_causes(_evidence(with_boxes=False))
    assert causes.cause.tolist() == ["look_alike", "other_object", "other_object", "look_alike", "unclear"]
    assert np.isnan(causes.on_object).all()


def test_right_images_and_those_without_a_map_have_no_cause() -> None:
    maps = mapped([(0, 0, LEFT), (1, 1, LEFT), (2, 1, LEFT)])
    evidence = classified([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]], [0, 0, -1, 0], maps=maps)
    causes = error_causes(evidence)
    assert causes.image.tolist() == [1, 3]
    assert causes.cause.tolist() == ["unclear", "unclear"]


def test_best_cells_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    grids = rng.permutation(np.arange(6 * 35) % 256).reshape(6, 5, 7).astype(np.uint8)
    seen = rng.choice([0, 0.4, 0.5, 1], (6, 5, 7)).astype(np.float32)
    for grid, over, chosen in zip(grids, seen, best_cells(grids, seen), strict=True):
        values = sorted(grid[over >= 0.5].tolist(), reverse=True)
        best = values[: max(1, round(len(values) / 5))]
        assert sorted(grid[chosen].tolist(), reverse=True) == best


def test_cells_at_the_smallest_value_or_over_padding_are_never_best() -> None:
    flat, spike = np.zeros((2, 5, 5), np.uint8), np.zeros((1, 5, 5), np.uint8)
    flat[1] = 255
    spike[0, 2, 2] = 255
    everywhere = np.ones((2, 5, 5), np.float32)
    assert not best_cells(flat, everywhere).any()
    assert best_cells(spike, everywhere[:1]).sum() == 1
    assert not best_cells(spike, np.zeros((1, 5, 5), np.float32)).any()
    padded = _evidence(
        sizes=np.tile([28, 56], (5, 1)), geometry=InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW)
    )  # only the upper half of the map lies over the image
    assert error_causes(padded).cause.tolist()[0] == "look_alike"


def test_independent_choices_share_a_fifth() -> None:
    grids = np.random.default_rng(0).permuted(np.tile(np.arange(100, dtype=np.uint8), (2000, 1)), axis=1)
    chosen = best_cells(grids.reshape(-1, 10, 10), np.ones((2000, 10, 10), np.float32))
    assert (chosen.sum(axis=(1, 2)) == 20).all()
    overlap = shared_cells(chosen[:1000], chosen[1000:])
    assert overlap.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(shared_cells(chosen, chosen), 1)


def test_findings_tell_of_what_five_errors_share() -> None:
    evidence = _evidence(times=6)
    causes = error_causes(evidence)
    found = cause_findings(evidence, causes)
    assert {one.state for one in found} == {FindingState.SUSPECTED}
    overall = {one.kind: one for one in found if one.subject == "all errors"}
    assert overall[FindingKind.LOOK_ALIKE].effect.value == 6 / 24
    assert overall[FindingKind.BACKGROUND_FOCUS].effect.value == 12 / 30
    assert overall[FindingKind.OTHER_OBJECT].statement.startswith("In 6 of 24 errors the model looked at another place")
    assert [one.subject for one in found if one.subject != "all errors"] == []  # no cause has most of the pair's errors
    assert set(overall[FindingKind.LOOK_ALIKE].images) == {f"{image}.png" for image in range(0, 30, 5)}
    few = _evidence(times=4)
    assert {one.kind for one in cause_findings(few, error_causes(few))} == {FindingKind.BACKGROUND_FOCUS}


def test_a_pair_of_classes_is_named() -> None:
    count = 8
    maps = mapped([(image, target, LEFT) for image in range(count) for target in (0, 1)])
    evidence = classified(np.tile([0.1, 0.9], (count, 1)), np.zeros(count, int), maps=maps)
    found = cause_findings(evidence, error_causes(evidence))
    assert [(one.kind, one.subject) for one in found] == [
        (FindingKind.LOOK_ALIKE, "all errors"),
        (FindingKind.LOOK_ALIKE, "a as b"),
    ]
    assert found[1].statement.startswith("In 8 of 8 errors of a as b the model looked at the same place")


@pytest.mark.parametrize(
    "evidence",
    [
        classified(np.zeros((0, 3)), np.zeros(0, int)),
        classified(np.eye(3)),
        classified(np.eye(3), [0, 1, 2]),
        classified(np.full((2, 3), np.nan), [1, 2]),
        classified(np.eye(3), [9, 9, 9]),
        detected(boxes([]), boxes([]), 3),
    ],
)
def test_without_errors_or_maps_nothing_is_found(evidence) -> None:
    causes = error_causes(evidence)
    assert set(causes.cause.tolist()) <= {"unclear"}
    assert cause_findings(evidence, causes) == []
