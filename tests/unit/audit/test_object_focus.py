"""Energy on objects against all shifts of the maps: loops, planted looks, and what chance makes of it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected, mapped

from otx_xai.audit.cells import inside
from otx_xai.audit.evidence_table import BoxTable, MapTable
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.audit.object_focus import against_shifts, class_focus, focus_findings, object_focus
from otx_xai.records import InputGeometry, ResizeType


def test_the_null_is_that_of_all_shifts() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (6, 5, 7)).astype(np.uint8)
    on_boxes = rng.random((6, 5, 7)).astype(np.float32)
    found = against_shifts(maps, on_boxes)
    for one, boxed, (own, mean, spread, p_value) in zip(maps, on_boxes, found.T, strict=True):
        energy = one / one.sum(dtype=float)
        shifts = [(np.roll(energy, (y, x), (0, 1)) * boxed).sum() for y in range(5) for x in range(7)]
        assert own == pytest.approx(shifts[0])
        assert mean == pytest.approx(np.mean(shifts)) == pytest.approx(boxed.mean())
        assert spread == pytest.approx(np.std(shifts))
        assert p_value == pytest.approx(np.mean(np.array(shifts) >= shifts[0] - 1e-9))


def test_maps_that_lie_anywhere_have_uniform_p_values() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((4000, 7, 7)) ** 4
    on_boxes = np.zeros((4000, 7, 7), np.float32)
    on_boxes[:, 2:5, 1:4] = 1
    p_values = against_shifts(maps, on_boxes)[3]
    for level in (0.1, 0.3, 0.5, 0.9):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=0.03)


def test_flat_maps_and_boxes_that_fill_the_image_tell_nothing() -> None:
    maps = np.stack([np.zeros((4, 4)), np.full((4, 4), 9), np.eye(4), np.eye(4)])
    on_boxes = np.stack([np.eye(4), np.eye(4), np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    own, mean, spread, p_value = against_shifts(maps, on_boxes)
    np.testing.assert_allclose(own, [0.25, 0.25, 1, 0])
    np.testing.assert_allclose(own, mean)
    np.testing.assert_array_equal(spread, 0)
    np.testing.assert_array_equal(p_value, 1)


def _looking(place: str, count: int = 30, seed: int = 0, **more: object):
    """Objects of class 0 at random places; maps that lie on them, in the corner, or anywhere."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(2, 6, (count, 2)) * 8
    maps = rng.random((count, 7, 7)) * 0.3
    for number, (x, y) in enumerate(corners // 8):
        row, column = {"object": (y, x), "corner": (0, 0), "anywhere": rng.integers(0, 7, 2)}[place]
        maps[number, row, column] += 0.7
    objects = boxes([(number, 0, (x, y, x + 8, y + 8), 1.0) for number, (x, y) in enumerate(corners)])
    given = np.zeros(count, int)
    table = mapped([(number, 0, one) for number, one in enumerate(maps)])
    return classified(np.tile([0.9, 0.1], (count, 1)), given, maps=table, objects=objects, **more)


@pytest.mark.parametrize("seed", range(5))
def test_only_maps_off_the_objects_are_reported(seed: int) -> None:
    good = _looking("object", seed=seed)
    assert focus_findings(good, object_focus(good)) == []
    bad = _looking("corner", seed=seed)
    focus = object_focus(bad)
    (found,) = focus_findings(bad, focus)
    assert (found.kind, found.subject, found.state) == (FindingKind.BACKGROUND_FOCUS, "a", FindingState.SUSPECTED)
    assert found.share == 1
    assert found.effect.value == pytest.approx(1 - focus.inside.mean(), rel=1e-5)
    assert found.severity > 0.9
    assert "'a' lie on its objects no more than" in found.statement


def test_a_class_summed_up_is_a_z_test_of_its_maps() -> None:
    evidence = _looking("anywhere", count=200)
    focus = object_focus(evidence)
    first, second = class_focus(focus, 2)
    assert first.excess.low < 0 < first.excess.high
    assert first.p_value == pytest.approx(0.5, abs=0.49)
    assert focus.z.std() == pytest.approx(1, abs=0.15)
    assert (second.excess.n, second.p_value) == (0, 1)
    few = _looking("corner", count=9)
    assert focus_findings(few, object_focus(few)) == []


def test_rows_are_measured_on_the_boxes_of_their_own_class_and_image() -> None:
    rng = np.random.default_rng(1)
    geometry = InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW)
    rows = [
        (int(image), int(target), (*corner, *(corner + 20)), 1.0)
        for image, target, corner in zip(
            rng.integers(0, 9, 25), rng.integers(0, 3, 25), rng.integers(0, 20, (25, 2)), strict=True
        )
    ]
    sizes = np.stack([np.full(9, 56), 8 * rng.integers(3, 8, 9)], axis=1)  # whole cells lie over the image
    maps = mapped([(image, target, rng.random((7, 7))) for image in range(9) for target in range(3)])
    evidence = classified(np.ones((9, 3)), maps=maps, objects=boxes(rows), sizes=sizes, geometry=geometry)
    focus = object_focus(evidence)
    expected = sorted({(image, target) for image, target, _, _ in rows})
    assert list(zip(focus.image.tolist(), focus.target.tolist(), strict=True)) == expected
    for number, (image, target) in enumerate(expected):
        grid = maps.grids[maps.row(image, target)].astype(float)
        own = [xyxy for at, kind, xyxy, _ in rows if (at, kind) == (image, target)]
        height, width = sizes[image].tolist()
        boxed = inside(own, (height, width), geometry, None, (7, 7))
        wide = width // 8
        grid, boxed = grid[:, :wide], boxed[:, :wide]
        assert focus.inside[number] == pytest.approx((grid * boxed).sum() / grid.sum(), abs=1e-5)


def test_nothing_is_measured_of_nothing() -> None:
    for evidence in (
        classified(np.zeros((0, 2))),
        classified(np.eye(2), [0, 1]),
        classified(np.eye(2), [0, 1], objects=boxes([])),
        detected(boxes([(0, 0, (0, 0, 9, 9), 0.9)]), boxes([(0, 1, (0, 0, 9, 9), 1)]), 2),
        classified(np.eye(2), [0, 1], objects=boxes([(0, 0, (5, 5, 5, 5), 1)]), maps=mapped([(0, 0, np.eye(3))])),
    ):
        focus = object_focus(evidence)
        assert not focus.tells.any()
        assert not focus.z.any()
        assert [one.p_value for one in class_focus(focus, 2)] == [1, 1]
        assert focus_findings(evidence, focus) == []


def test_a_hundred_thousand_maps_take_seconds() -> None:
    """A thirtieth of them here; the rest takes thirty times as long, in the same memory."""
    count, rng = 3_300, np.random.default_rng(0)
    grids = rng.integers(0, 256, (count, 7, 7)).astype(np.uint8)
    image, zeros = np.arange(count), np.zeros(count, np.int64)
    maps = MapTable(image, zeros, zeros - 1, grids, np.zeros((count, 2), np.float32))
    objects = BoxTable(image, zeros, np.tile(np.float32([10, 10, 40, 50]), (count, 1)), np.ones(count, np.float32))
    evidence = classified(np.ones((count, 2)), zeros, maps=maps, objects=objects)
    begun = time.process_time()
    assert len(object_focus(evidence)) == count
    assert time.process_time() - begun < 5
