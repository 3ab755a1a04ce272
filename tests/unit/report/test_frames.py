from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otx_xai.records import Detections, InputGeometry, Prediction, ResizeType
from otx_xai.report.frames import Frame, draw_frames, frames_of

SIZE = (100, 100)


def frame(box: tuple[float, ...], caption: str = "", target: int = 0) -> Frame:
    return Frame(np.array(box, np.float32), caption, target)


@pytest.mark.parametrize("colour", [(255, 0, 0), (255, 255, 0), (0, 255, 255), (0, 0, 128), (255, 255, 255)])
def test_lines_stand_out_from_every_colour_of_a_map(colour: tuple[int, int, int]) -> None:
    picture = np.full((120, 160, 3), colour, np.uint8)
    draw_frames(picture, [frame((20, 30, 100, 90))])
    row = picture[60, 10:31].astype(int).sum(axis=1)
    assert row.max() - row.min() > 400, "the light line or its dark rim differs in lightness"
    np.testing.assert_array_equal(picture[60, 50], colour)


def test_masks_are_outlined_at_one_half() -> None:
    mask = np.zeros((1, *SIZE), np.float32)
    mask[0, 30:70, 40:60] = 0.6
    box = np.array([[20, 10, 80, 90]], np.float32)
    whole = np.array([[0, 0, 100, 100]], np.float32)
    found = Detections(box, np.array([0]), np.array([0.9], np.float32), mask, whole, masks_fill_boxes=False)
    prediction = Prediction(0, "cat", 0.9, (20, 10, 80, 90), 0)
    (made,) = frames_of([prediction], found, prediction, SIZE, InputGeometry(SIZE))
    points = np.concatenate(made.outlines)[:, 0]
    assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([40, 30], [59, 69])
    picture = np.zeros((*SIZE, 3), np.uint8)
    draw_frames(picture, [made])
    assert picture[50, 40].min() > 200
    assert picture[50, 50].max() == 0


def test_the_map_of_a_box_shows_this_box_alone() -> None:
    boxes = np.tile(np.float32([[20, 10, 80, 90]]), (3, 1))
    found = Detections(boxes, np.array([0, 0, 1]), np.array([0.9, 0.9, 0.9], np.float32))
    first, equal, other = (Prediction(target, "a", 0.9, (20, 10, 80, 90), i) for i, target in enumerate((0, 0, 1)))
    predictions, geometry = (first, equal, other), InputGeometry(SIZE)
    assert first == replace(equal, number=0)
    shown = [len(frames_of(predictions, found, one, SIZE, geometry)) for one in predictions]
    assert shown == [1, 1, 1]
    assert len(frames_of(predictions, found, Prediction(0, "a", 0.9), SIZE, geometry)) == 2
    assert len(frames_of(predictions, found, Prediction(-1, "", 1.0), SIZE, geometry)) == 3


@pytest.mark.parametrize("fills_boxes", [False, True])
@pytest.mark.parametrize("size", [(50, 200), (300, 300), (25, 25)])
def test_a_picture_of_another_size_has_the_same_boxes_and_outlines(size: tuple[int, int], fills_boxes: bool) -> None:
    """A mask that fills its box, and the same one over the whole input, which is the left half of what is fed."""
    image_size, geometry = (100, 100), InputGeometry((80, 160), ResizeType.FIT_TO_WINDOW)
    scale = np.array([size[1] / 100, size[0] / 100], np.float32)
    mask = np.zeros((1, 80, 160), np.float32)
    mask[0, 24:56, 32:48] = 1  # of the image (80 / 100 of its size): rows 30 to 70, columns 40 to 60
    if fills_boxes:
        mask = mask[:, :, :80]
    box, whole = np.array([[20, 10, 80, 90]], np.float32), np.array([[0, 0, 100, 100]], np.float32)
    found = Detections(box, np.array([0]), np.array([0.9], np.float32), mask, whole, masks_fill_boxes=fills_boxes)
    prediction = Prediction(0, "cat", 0.9, (20, 10, 80, 90), 0)
    (made,) = frames_of([prediction], found, prediction, image_size, geometry, size)
    np.testing.assert_allclose(made.box.reshape(2, 2), box.reshape(2, 2) * scale)
    points = np.concatenate(made.outlines)[:, 0]
    np.testing.assert_allclose(points.min(axis=0), [40, 30] * scale, atol=1)
    np.testing.assert_allclose(points.max(axis=0) + 1, [60, 70] * scale, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 300), (300, 1), (64, 64)])
def test_any_picture_and_boxes_over_its_edge(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    drawn = draw_frames(picture, [frame((-9, -9, 400, 400), "a long name 0.93"), frame((0, 0, 0, 0), "b 0.1", 7)])
    assert drawn is picture


def test_tags_hide_no_other_where_there_is_room() -> None:
    boxes = [frame((40, 80, 160, 180 + i), f"box {i} 0.{9 - i}", i) for i in range(6)]
    alone = np.full((300, 300, 3), 128, np.uint8)
    draw_frames(alone, boxes[:1])
    found = np.full((300, 300, 3), 128, np.uint8)
    draw_frames(found, boxes)
    row, column = np.nonzero((alone[:78] != 128).any(axis=2))
    area = np.s_[row.min() : row.max() + 1, column.min() : column.max() + 1]
    np.testing.assert_array_equal(found[area], alone[area])
    dark = (found == round(128 * 0.3)).all(axis=2).sum()
    assert dark > 5 * (alone == round(128 * 0.3)).all(axis=2).sum(), "each has a tag of its own"


def test_a_tag_stays_in_the_picture_and_the_best_is_on_top() -> None:
    """There is room for one tag only."""
    worse, better = frame((150, 90, 160, 100), "worse 0.5", 1), frame((150, 90, 160, 100), "better 0.9", 0)
    both, only = (np.full((100, 160, 3), 128, np.uint8) for _ in range(2))
    draw_frames(both, [better, worse])
    draw_frames(only, [better])
    assert (both[-20:, -60:] != 128).any()
    np.testing.assert_array_equal(both[80:, 120:], only[80:, 120:])


@pytest.mark.parametrize("top", [60, 30], ids=["above", "below"])
def test_a_tag_hides_nothing_of_its_box_where_there_is_room(top: int) -> None:
    picture = np.full((200, 200, 3), 128, np.uint8)
    draw_frames(picture, [frame((40, top, 160, 160), "cat 0.93")])
    assert (picture[top + 4 : 157, 44:157] == 128).all()
    tagged = picture[:top] if top == 60 else picture[163:]
    assert (tagged[3:-3, 60:100] != 128).any()
