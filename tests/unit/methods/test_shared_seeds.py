"""Which boxes share a way back, and how its map is divided among them."""

from __future__ import annotations

import numpy as np

from otx_xai.methods.shared_seeds import divided, sharing

SIZE = (100, 200)


def test_boxes_of_one_class_share_and_others_where_they_lie_apart() -> None:
    boxes = np.array([[0, 0, 40, 40], [20, 20, 60, 60], [42, 0, 80, 30], [90, 0, 120, 40]], np.float32)
    assert sharing(boxes, np.array([0, 0, 0, 0]), SIZE) == [[0, 1, 2, 3]]
    assert sharing(boxes, np.array([0, 1, 2, 3]), SIZE) == [[0, 3], [1], [2]]  # two pixels apart is not apart
    assert sharing(boxes, np.array([0, 1, 1, 0]), SIZE) == [[0, 3], [1, 2]]
    assert sharing(boxes[:0], np.zeros(0, np.int64), SIZE) == []


def test_a_place_belongs_to_the_nearest_box() -> None:
    """Against distances to rectangles, place by place; inside of both, the middle counts, in units of their sides."""
    boxes = np.array([[0, 0, 80, 80], [153, 40, 173, 60], [60, 60, 100, 100]], np.float32)
    level = np.random.default_rng(0).random((2, 10, 20), np.float32) + 1
    maps = divided(level, [[0, 1], [2]], boxes, SIZE)
    np.testing.assert_array_equal(maps[2], level[1])
    np.testing.assert_array_equal(maps[0] + maps[1], level[0])
    for row in range(10):
        for column in range(20):
            y, x = row * 10 + 5, column * 10 + 5
            gaps = [
                np.hypot(max(top - y, y - bottom, 0), max(left - x, x - right, 0))
                for left, top, right, bottom in boxes[:2]
            ]
            assert bool(maps[0, row, column]) == (gaps[0] < gaps[1])
    overlapping = divided(level[:1], [[0, 1]], boxes[[0, 2]], SIZE)
    assert overlapping[1, 6, 6] == 0  # 0.63 of the way to the sides of the one, 0.75 for the other
    assert overlapping[0, 6, 6] == level[0, 6, 6]


def test_what_is_not_finite_stays_so() -> None:
    boxes = np.array([[0, 0, 10, 10], [90, 0, 100, 10]], np.float32)
    maps = divided(np.full((1, 4, 4), np.nan, np.float32), [[0, 1]], boxes, SIZE)
    assert np.isnan(maps).all()
