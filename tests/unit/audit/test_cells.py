"""Where cells lie, against boxes that are drawn on the image and fitted into the input pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from otx_xai.audit.cells import cell_rectangle, cells_to_input, centres, extent, inside, looked_up, seen, seen_each
from otx_xai.postprocess.geometry import place, to_image
from otx_xai.records import InputGeometry, MapGrid, ResizeType, Size

FINE = 16
GEOMETRIES = [
    InputGeometry((56, 56)),
    InputGeometry((40, 64), ResizeType.FIT_TO_WINDOW),
    InputGeometry((64, 48), ResizeType.FIT_TO_WINDOW_LETTERBOX),
    InputGeometry((48, 48), ResizeType.CROP),
    InputGeometry((56, 56), ResizeType.STANDARD, crop=0.875),
    InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW_LETTERBOX, crop=0.8),
]
GRIDS = [None, MapGrid((0.5, 0.5), (8, 8)), MapGrid((7.75, 5.5), (7.5, 9.25)), MapGrid((20, 30), (3, 3))]
BOXES = np.array([[3, 5, 20.5, 31], [10, 20, 45, 38.25], [-9, 36, 4, 90], [12, 12, 14, 14]])


def drawn(
    boxes: np.ndarray, image_size: Size, geometry: InputGeometry, grid: MapGrid | None, cells: Size
) -> np.ndarray:
    """Loop over a fine raster of points in each cell: which of them lie in a box, once back on the image."""
    placement = place(image_size, geometry)
    start_y, step_y = (
        (grid.start[0], grid.step[0]) if grid else (geometry.size[0] / cells[0] / 2, geometry.size[0] / cells[0])
    )
    start_x, step_x = (
        (grid.start[1], grid.step[1]) if grid else (geometry.size[1] / cells[1] / 2, geometry.size[1] / cells[1])
    )
    result = np.zeros(cells)
    offsets = (np.arange(FINE) + 0.5) / FINE - 0.5
    for row in range(cells[0]):
        for column in range(cells[1]):
            y = start_y + step_y * (row + offsets)[:, None] + np.zeros(FINE)
            x = start_x + step_x * (column + offsets) + np.zeros((FINE, 1))
            valid = (y >= placement.y.covered[0]) & (y < sum(placement.y.covered))
            valid &= (x >= placement.x.covered[0]) & (x < sum(placement.x.covered))
            on_y = (y - placement.offset[0]) / placement.scale[0]
            on_x = (x - placement.offset[1]) / placement.scale[1]
            hit = np.zeros_like(valid)
            for left, top, right, bottom in boxes:
                hit |= (on_x >= left) & (on_x < right) & (on_y >= top) & (on_y < bottom)
            result[row, column] = (hit & valid).mean()
    return result


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_shares_of_cells_are_those_of_a_fine_raster(geometry: InputGeometry, grid: MapGrid | None) -> None:
    size, cells = (43, 61), (5, 7)
    result = inside(BOXES, size, geometry, grid, cells)
    assert (result.dtype, result.shape) == (np.float32, cells)
    np.testing.assert_allclose(result, drawn(BOXES, size, geometry, grid, cells), atol=2 / FINE)
    whole = np.array([[0, 0, 61, 43]])
    np.testing.assert_allclose(
        seen(size, geometry, grid, cells), drawn(whole, size, geometry, grid, cells), atol=2 / FINE
    )


@pytest.mark.parametrize("geometry", GEOMETRIES[:3])
def test_areas_add_up_exactly(geometry: InputGeometry) -> None:
    """Boxes that do not overlap, on a map that covers the input: the cells' areas are the boxes' areas in the input."""
    size, cells = (50, 60), (7, 9)
    boxes = np.array([[1.25, 2.5, 20, 30], [20, 2.5, 31, 14.75], [40, 40, 60, 50]])
    placement = place(size, geometry)
    expected = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() * np.prod(placement.scale)
    area = np.prod(geometry.size) / np.prod(cells)
    assert inside(boxes, size, geometry, None, cells).sum() * area == pytest.approx(expected, rel=1e-6)


def test_overlapping_boxes_count_once_whatever_their_order_and_many_are_one() -> None:
    geometry, size, cells = InputGeometry((40, 40)), (80, 80), (5, 5)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (40, 2))], axis=1)
    union = inside(boxes, size, geometry, None, cells)
    assert union.max() <= 1
    np.testing.assert_array_equal(inside(boxes[::-1], size, geometry, None, cells), union)
    np.testing.assert_allclose(inside(np.concatenate([boxes, boxes]), size, geometry, None, cells), union)
    quarters = [[0, 0, 40, 40], [40, 0, 80, 40], [0, 40, 40, 80], [40, 40, 80, 80]]
    np.testing.assert_array_equal(inside(quarters, size, geometry, None, cells), np.ones(cells, np.float32))


@pytest.mark.parametrize(
    "boxes", [np.zeros((0, 4)), [[5, 5, 5, 9]], [[9, 9, 5, 5]], [[np.nan, 0, 9, 9]], [[99, 0, 120, 9]]]
)
def test_boxes_without_an_area_in_the_image_are_nowhere(boxes: list[list[float]]) -> None:
    np.testing.assert_array_equal(inside(boxes, (30, 30), InputGeometry((56, 56)), None, (7, 7)), np.zeros((7, 7)))


def test_a_stretched_image_is_everywhere_and_a_letterbox_leaves_bands() -> None:
    assert (seen((31, 77), InputGeometry((56, 56)), None, (7, 7)) == 1).all()
    bands = seen((28, 56), InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW_LETTERBOX), None, (8, 8))
    np.testing.assert_array_equal(bands.mean(axis=1), [0, 0, 1, 1, 1, 1, 0, 0])


def test_many_images_are_seen_as_each_alone() -> None:
    geometry = InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW)
    sizes = np.array([[30, 60], [60, 30], [30, 60], [5, 5]])
    each = seen_each(sizes, geometry, None, (4, 5))
    for size, one in zip(sizes.tolist(), each, strict=True):
        np.testing.assert_array_equal(one, seen((size[0], size[1]), geometry, None, (4, 5)))
    assert seen_each(sizes[:0], geometry, None, (4, 5)).shape == (0, 4, 5)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_maps_looked_up_on_images_are_those_of_the_resize(geometry: InputGeometry, grid: MapGrid | None) -> None:
    """Places lie in the middle of every third or fifth pixel."""
    maps = np.random.default_rng(0).integers(0, 256, (2, 5, 7)).astype(np.uint8)
    sizes = np.array([[24, 40], [40, 24]])
    points = tuple((np.arange(8) + 0.5) / 8 * sizes[:, axis, None] for axis in range(2))
    values, over = looked_up(maps, sizes, geometry, grid, points)
    for one, (height, width), value, seen_there in zip(maps, sizes.tolist(), values, over, strict=True):
        rows, columns = (slice(step // 2, None, step) for step in (height // 8, width // 8))
        whole = to_image(one[None].astype(np.float32), (height, width), geometry, grid=grid)[0][rows, columns]
        first = to_image(np.ones((1, 5, 7), np.float32), (height, width), geometry, grid=grid)[0][rows, columns]
        np.testing.assert_array_equal(seen_there, first > 0.5)
        np.testing.assert_allclose(np.where(seen_there, value, 0), whole, atol=0.01)
    own = centres(sizes, geometry, grid, (5, 7))
    np.testing.assert_allclose(looked_up(maps, sizes, geometry, grid, own)[0], maps, atol=1e-3)
    nothing = looked_up(maps[:0], sizes[:0], geometry, grid, (own[0][:0], own[1][:0]))
    assert nothing[0].shape == nothing[1].shape == (0, 5, 7)


def test_extents_tell_parts_of_the_image() -> None:
    assert extent((31, 77), InputGeometry((56, 56)), None, (7, 7)) == pytest.approx((0, 0, 1, 1))
    letterbox = InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    assert extent((28, 56), letterbox, None, (7, 7)) == pytest.approx((0, -0.5, 1, 1.5))
    assert extent((60, 120), InputGeometry((56, 56), ResizeType.CROP), None, (7, 7)) == pytest.approx(
        (0.25, 0, 0.75, 1)
    )
    shifted = MapGrid((4, 0), (8, 8))
    assert extent((56, 56), InputGeometry((56, 56)), shifted, (7, 7)) == pytest.approx((-4 / 56, 0, 52 / 56, 1))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [(56, 56), (41, 67)])
def test_cells_in_the_input_are_rectangles_that_part_it(size: Size, grid: MapGrid | None) -> None:
    geometry, cells = InputGeometry(size), (5, 7)
    times = np.zeros(size, int)
    for row in range(5):
        for column in range(7):
            top, bottom, left, right = cell_rectangle(row, column, geometry, grid, cells)
            chosen = np.zeros(cells, np.bool_)
            chosen[row, column] = True
            mask = np.zeros(size, np.bool_)
            mask[top:bottom, left:right] = True
            np.testing.assert_array_equal(cells_to_input(chosen, geometry, grid), mask)
            times += mask
    assert times.max() == 1
    assert grid is not None or times.min() == 1
    np.testing.assert_array_equal(cells_to_input(np.ones(cells, np.bool_), geometry, grid), times > 0)


def test_cells_of_whole_pixels_are_what_a_nearest_resize_makes() -> None:
    chosen = np.random.default_rng(0).random((7, 7)) > 0.5
    enlarged = cv2.resize(chosen.astype(np.uint8), (56, 56), interpolation=cv2.INTER_NEAREST) > 0
    np.testing.assert_array_equal(cells_to_input(chosen, InputGeometry((56, 56)), None), enlarged)
