from __future__ import annotations

import numpy as np
import pytest

from otx_xai.postprocess.box_maps import box_maps
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import Detections, InputGeometry, ResizeType

SIZE = (64, 96)


def detections(boxes: list[list[float]], labels: list[int]) -> Detections:
    scores = np.full(len(labels), 0.9, np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), scores)


def test_votes_are_the_overlap_of_the_moved_box() -> None:
    found = detections([[10, 20, 50, 44], [48, 0, 96, 64]], [1, 0])
    maps = np.random.default_rng(0).random((2, 8, 12), np.float32)
    result = box_maps(maps, found, SIZE, InputGeometry(SIZE))
    for index, (box, label) in enumerate(zip(found.boxes, found.labels, strict=True)):
        middle = (box[:2] + box[2:]) / 2
        for row in range(8):
            for column in range(12):
                shift = np.array([(column + 0.5) * 8, (row + 0.5) * 8]) - middle
                moved = (box + np.tile(shift, 2)).astype(np.float32)
                expected = maps[label, row, column] * overlaps(box[None], moved[None])[0, 0]
                assert result[index, row, column] == pytest.approx(float(expected), abs=1e-5)


def test_two_boxes_of_a_class_get_maps_of_their_own() -> None:
    maps = np.zeros((1, 8, 12), np.float32)
    maps[0, 2, 2] = maps[0, 5, 9] = 1
    found = detections([[8, 8, 32, 32], [60, 30, 92, 60]], [0, 0])
    first, second = box_maps(maps, found, SIZE, InputGeometry(SIZE))
    assert (np.unravel_index(first.argmax(), first.shape), first[5, 9]) == ((2, 2), 0)
    assert (np.unravel_index(second.argmax(), second.shape), second[2, 2]) == ((5, 9), 0)


def test_a_box_smaller_than_a_cell_reaches_one() -> None:
    found = detections([[15.5, 15.5, 16.5, 16.5]], [0])
    assert box_maps(np.ones((1, 2, 3), np.float32), found, SIZE, InputGeometry(SIZE)).max() > 0


def test_boxes_are_brought_onto_the_input() -> None:
    geometry = InputGeometry((64, 64), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    found = detections([[0, 0, 40, 20]], [0])  # the whole of an image half as high as wide
    (result,) = box_maps(np.ones((1, 16, 16), np.float32), found, (20, 40), geometry)
    np.testing.assert_allclose(result, result[::-1], atol=1e-6)
    assert result[0].max() < result[7].max()


def test_no_box() -> None:
    assert box_maps(np.ones((1, 2, 3), np.float32), detections([], []), SIZE, InputGeometry(SIZE)).shape == (0, 2, 3)
