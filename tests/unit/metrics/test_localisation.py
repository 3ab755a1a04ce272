from __future__ import annotations

import numpy as np
import pytest
import reference

from otx_xai.metrics import energy_in_box, pointing_game

CORNER = np.array([[0, 0, 3, 2]], np.float32)


def some_maps() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    maps = np.round(rng.random((30, 12, 17)), 1).astype(np.float32)  # rounded: several peaks
    corners = [np.sort(rng.uniform((0, 0), (17, 12), (rng.integers(1, 4), 2, 2)), axis=1) for _ in maps]
    return maps, [pair.reshape(-1, 4).astype(np.float32) for pair in corners]


@pytest.mark.parametrize("tolerance", [0, 1.5])
def test_pointing_game_equals_the_slow_loop(tolerance):
    maps, boxes = some_maps()
    hits = pointing_game(maps, boxes, tolerance)
    expected = [reference.peak_hits(one, own, tolerance) for one, own in zip(maps, boxes, strict=True)]
    np.testing.assert_allclose(hits, expected, rtol=1e-6)
    assert 0.1 < hits.mean() < 0.9


def test_energy_in_box_equals_the_slow_loop():
    maps, boxes = some_maps()
    expected = [reference.energy_inside(one, own) for one, own in zip(maps, boxes, strict=True)]
    np.testing.assert_allclose(energy_in_box(maps, boxes), expected, rtol=1e-5)


def test_a_peak_near_a_box_hits_within_the_tolerance():
    maps = np.zeros((1, 40, 40), np.float32)
    maps[0, 20, 30] = 1  # its centre is 20.5 px from the box on the left
    box = [np.array([[5, 10, 10, 30]], np.float32)]
    assert pointing_game(maps, box, 20.4)[0] == 0
    assert pointing_game(maps, box, 20.6)[0] == 1


def test_a_constant_map_scores_what_chance_does():
    for value in (0, 0.5):
        maps = np.full((1, 4, 6), value, np.float32)
        assert pointing_game(maps, [CORNER], 0)[0] == pytest.approx(6 / 24)
        assert energy_in_box(maps, [CORNER])[0] == pytest.approx(6 / 24)


def test_coarse_maps_cover_the_frame():
    maps = np.array([[[0.2, 0], [0, 1]]], np.float32)  # cells of 50 × 100 pixels
    below_right = [np.array([[120, 60, 160, 90]], np.float32)]
    assert pointing_game(maps, below_right, 0, (100, 200))[0] == 1
    assert energy_in_box(maps, below_right, (100, 200))[0] == pytest.approx(1 / 1.2)
    assert pointing_game(maps, below_right, 0)[0] == 0


def test_maps_without_boxes_have_no_score():
    maps = np.ones((2, 4, 6), np.float32)
    for metric in (pointing_game, energy_in_box):
        assert np.isnan(metric(maps, [np.empty((0, 4), np.float32), CORNER])).tolist() == [True, False]
        assert metric(maps[:0], []).shape == (0,)
        with pytest.raises(ValueError, match=r"2 maps and 1 arrays of boxes"):
            metric(maps, [CORNER])
