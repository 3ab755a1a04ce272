from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from doors import read_detections
from torchvision.ops import batched_nms

from otx_xai.postprocess import tiles as room
from otx_xai.postprocess import to_image
from otx_xai.postprocess.detections import pasted_mask
from otx_xai.postprocess.geometry import fit, place
from otx_xai.postprocess.tiles import Mosaic, TileGrid, cut_tile, merge_detections, move_detections, tile_grid
from otx_xai.postprocess.turned_boxes import upright
from otx_xai.records import Detections, InputGeometry, MapGrid, ResizeType, Tiling

INPUT = InputGeometry((32, 48))
RNG = np.random.default_rng(5)


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32)
    )


def merged(grid: TileGrid, geometry: InputGeometry, maps: list[np.ndarray]) -> np.ndarray:
    mosaic = Mosaic(grid, geometry)
    for number, single in enumerate(maps):
        mosaic.add(number, single)
    return mosaic.maps()


# ---------------------------------------------------------------------------------------------------------------------
# The grid


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("image_size", [(100, 250), (40, 41), (30, 20), (1, 90)])
def test_tiles_cover_every_pixel_and_none_is_larger_than_asked(image_size: tuple[int, int], overlap: float) -> None:
    tiling = Tiling(40, overlap)
    grid = tile_grid(image_size, tiling)
    covered = np.zeros(image_size, int)
    image = np.arange(np.prod(image_size) * 3).reshape(*image_size, 3)
    for box in grid.boxes[grid.whole :]:
        assert 0 < cut_tile(image, box).shape[0] <= 40
        assert 0 < cut_tile(image, box).shape[1] <= 40
        assert (box[0] % tiling.step, box[1] % tiling.step) == (0, 0)
        covered[box[1] : box[3], box[0] : box[2]] += 1
    assert covered.min() >= 1
    assert (covered[:20, :20] == 1).all()
    assert len(set(grid.boxes)) == len(grid)
    assert ((0, 0, image_size[1], image_size[0]) in grid.boxes) == (grid.whole or max(image_size) <= 40)
    assert grid.whole == (max(image_size) > 40)


def test_grid_of_model_api() -> None:
    """An image of 500 x 300 in tiles of 400: the last ones are narrow, as there."""
    boxes = tile_grid((300, 500), Tiling(400)).boxes
    assert boxes[0] == (0, 0, 500, 300)
    assert set(boxes[1:]) == {(left, top, min(left + 400, 500), 300) for left in (0, 200, 400) for top in (0, 200)}
    assert tile_grid((300, 500), Tiling(400, whole_image=False)).boxes == boxes[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Boxes and masks


def test_merging_is_suppression_by_class_over_all_tiles() -> None:
    corner, size = RNG.uniform(0, 60, (3, 40, 2)), RNG.uniform(5, 40, (3, 40, 2))
    parts = [
        found(np.concatenate([a, a + b], 1).tolist(), RNG.integers(0, 3, 40).tolist(), RNG.random(40).tolist())
        for a, b in zip(corner, size, strict=True)
    ]
    boxes, labels, scores = (
        torch.tensor(np.concatenate([getattr(part, name) for part in parts])) for name in ("boxes", "labels", "scores")
    )
    kept = batched_nms(boxes, scores, labels, 0.4)
    everything = merge_detections(parts, iou_threshold=0.4, limit=1000)
    assert 3 < len(kept) < len(labels)
    np.testing.assert_array_equal(everything.boxes, boxes[kept])
    np.testing.assert_array_equal(everything.labels, labels[kept])
    some = merge_detections(parts, iou_threshold=0.4, limit=5)
    np.testing.assert_array_equal(some.scores, scores[kept[:5]])
    assert len(merge_detections([found([], [], [])] * 2, iou_threshold=0.4, limit=5)) == 0


def slanted(*centres: tuple[float, float]) -> Detections:
    """Boxes of 30 by 4 pixels, turned by 45 degrees: side by side they share most of their upright boxes."""
    turned = np.array([[x, y, 30, 4, np.pi / 4] for x, y in centres], np.float32)
    count = len(centres)
    return Detections(upright(turned), np.zeros(count, np.int64), np.full(count, 0.9, np.float32), turned=turned)


def test_turned_boxes_of_different_tiles_are_compared_as_they_are_turned() -> None:
    tiles = ((0, 0, 60, 60), (30, 0, 90, 60))
    parts = [
        move_detections(slanted((40, 30), (43.5, 26.5)), tiles[0], INPUT),
        move_detections(slanted((10.3, 30), (60, 30)), tiles[1], INPUT),
    ]
    merged = merge_detections(parts, iou_threshold=0.5, limit=9)
    assert merged.turned is not None
    np.testing.assert_allclose(
        merged.turned[:, :2], [[40, 30], [43.5, 26.5], [90, 30]]
    )  # that at 40.3 is the first again
    np.testing.assert_allclose(merged.boxes, upright(merged.turned), atol=1e-4)
    as_upright = [replace(part, turned=None) for part in parts]
    assert len(merge_detections(as_upright, iou_threshold=0.5, limit=9)) == 2


@pytest.mark.parametrize("fills", [True, False])
def test_masks_move_with_their_tile(fills: bool) -> None:
    """A mask in a tile, pasted over the image, is the mask pasted over the tile, at the place of the tile."""
    geometry = InputGeometry((32, 48), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    image_size, tile = (70, 90), (30, 20, 70, 50)
    masks = RNG.random((2, *((7, 7) if fills else geometry.size))).astype(np.float32)
    if not fills:  # an instance has no place in the padding
        masks *= fit(np.full((30, 40, 3), 255, np.uint8), geometry)[..., 0] > 0
        masks[:, :, :6] = masks[:, :, -6:] = masks[:, :2] = masks[:, -2:] = 0
    boxes = np.array([[6, 5, 30, 25, 0.9], [8, 8, 40, 20, 0.8]], np.float32)
    outputs = {"boxes": boxes[None], "labels": np.array([[1, 0]]), "masks": masks[None]}
    part = read_detections(outputs, (30, 40), geometry)
    moved = move_detections(part, tile, geometry)
    both = merge_detections([found([], [], []), moved][1:], iou_threshold=0.9, limit=1)
    assert len(both) == 1
    np.testing.assert_allclose(both.boxes, part.boxes[:1] + np.float32([30, 20, 30, 20]))
    whole = np.zeros(image_size, np.float32)
    whole[20:50, 30:70] = pasted_mask(part, 0, (30, 40), geometry)
    assert whole.max() > 0.5
    np.testing.assert_allclose(pasted_mask(both, 0, image_size, geometry), whole, atol=1e-2)


# ---------------------------------------------------------------------------------------------------------------------
# Maps


def literal_mosaic(
    grid: TileGrid, geometry: InputGeometry, maps: list[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """Place by place, tile by tile: bilinear look-ups at cell centres that lie on pixel centres."""
    (height, width), (rows, columns) = grid.image_size, size
    result = np.zeros((len(maps[0]), rows, columns))
    for row in range(rows):
        for column in range(columns):
            y, x = (row + 0.5) * height / rows, (column + 0.5) * width / columns
            total, weights, whole = 0.0, 0.0, None
            for number, ((left, top, right, bottom), single) in enumerate(zip(grid.boxes, maps, strict=True)):
                if not (left <= x <= right and top <= y <= bottom):
                    continue
                over_tile = to_image(single, (bottom - top, right - left), geometry)
                value = over_tile[:, int(y - top), int(x - left)]
                if grid.whole and number == 0:
                    whole = value
                    continue
                weight = (min(x - left, right - x) + 0.5) * (min(y - top, bottom - y) + 0.5)
                total, weights = total + weight * value, weights + weight
            mean = total / weights
            result[:, row, column] = mean if whole is None else (mean + 0.5 * whole) / 1.5
    return result


@pytest.mark.parametrize("resize_type", [ResizeType.STANDARD, ResizeType.FIT_TO_WINDOW_LETTERBOX])
@pytest.mark.parametrize("whole", [True, False])
def test_merged_maps_equal_a_loop_over_places_and_tiles(resize_type: ResizeType, whole: bool) -> None:
    geometry = InputGeometry((45, 45), resize_type)
    grid = tile_grid((75, 105), Tiling(45, 0.4, whole_image=whole))
    maps = [RNG.random((2, 15, 15)).astype(np.float32) for _ in range(len(grid))]
    result = merged(grid, geometry, maps)
    assert result.shape == (2, 25, 35)  # cells of 3 x 3 pixels, whose centres are those of pixels
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, literal_mosaic(grid, geometry, maps, (25, 35)), atol=1e-5)


@pytest.mark.parametrize("resize_type", ResizeType)
def test_tiles_of_one_scene_give_the_scene(resize_type: ResizeType) -> None:
    """Maps that agree where tiles overlap are put together without a seam: here a plane, which bilinear keeps."""
    geometry = InputGeometry((40, 40), resize_type)
    grid = tile_grid((90, 120), Tiling(40, 0.5, whole_image=False))
    cells = np.mgrid[:40, :40].astype(np.float32) + 0.5
    maps = []
    for left, top, right, bottom in grid.boxes:
        placement = place((bottom - top, right - left), geometry)
        on_tile = [(cells[i] - placement.offset[i]) / placement.scale[i] for i in (0, 1)]
        maps.append(np.stack([on_tile[0] + top, on_tile[1] + left]).astype(np.float32))
    result = merged(grid, geometry, maps)
    seen = merged(grid, geometry, [np.ones_like(single) for single in maps]) > 0.5
    assert seen.mean() > (0.98 if resize_type is ResizeType.CROP else 0.9999)
    assert (result[~seen] == 0).all()
    far = np.where(seen, np.abs(result - (np.mgrid[:90, :120] + 0.5)), 0)
    assert far.max() < 0.8  # at the rims maps are constant beyond the outermost centres of cells


def test_places_that_look_elsewhere_are_laid_where_they_look() -> None:
    grid = tile_grid((40, 120), Tiling(40, 0.5))
    maps = [RNG.random((1, 10, 10)).astype(np.float32) for _ in range(len(grid))]
    geometry, even = InputGeometry((40, 40)), MapGrid((2.0, 2.0), (4.0, 4.0))
    mosaics = [Mosaic(grid, geometry, at) for at in (None, even, MapGrid((2.0, 6.0), (4.0, 4.0)))]
    for mosaic in mosaics:
        for number, single in enumerate(maps):
            mosaic.add(number, single)
    plain, same, right = (mosaic.maps() for mosaic in mosaics)
    np.testing.assert_array_equal(plain, same)
    wide = [np.concatenate([single[..., :1], single[..., :-1]], axis=-1) for single in maps]
    # at the right edge the map's last place, which looks beyond it, is not in ``wide``
    np.testing.assert_allclose(right[..., :-1], merged(grid, geometry, wide)[..., :-1], atol=1e-6)


def test_cells_become_larger_where_memory_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = tile_grid((400, 800), Tiling(100))
    maps = [np.ones((3, 50, 50), np.float32)] * len(grid)
    assert merged(grid, InputGeometry((100, 100)), maps).shape == (3, 200, 400)
    monkeypatch.setattr(room, "MEMORY_LIMIT", 3 * 50 * 100 * 4)
    smaller = merged(grid, InputGeometry((100, 100)), maps)
    assert smaller.shape == (3, 50, 100)
    np.testing.assert_allclose(smaller, 1, rtol=1e-6)


def test_an_image_smaller_than_a_tile_keeps_its_map() -> None:
    grid = tile_grid((20, 30), Tiling(100, 0.0))
    maps = RNG.random((4, 8, 12)).astype(np.float32)
    assert len(grid) == 1
    np.testing.assert_allclose(merged(grid, INPUT, [maps]), maps, atol=1e-6)
    with pytest.raises(ValueError, match="no tiles; expected those of at least one"):
        Mosaic(grid, INPUT).maps()


def test_centres_on_the_seam_of_tiles_that_only_touch_are_not_lost() -> None:
    grid = tile_grid((30, 90), Tiling(30, 0.0, whole_image=False))
    assert all(before[2] == after[0] for before, after in pairwise(grid.boxes))
    result = merged(grid, InputGeometry((30, 30)), [np.full((1, 5, 5), i, np.float32) for i in range(3)])
    np.testing.assert_array_equal(np.unique(result), [0, 1, 2])
    halves = tile_grid((30, 60), Tiling(30, 0.0, whole_image=False))
    single = merged(halves, InputGeometry((30, 30)), [np.full((1, 1, 1), i, np.float32) for i in (2, 4)])
    assert single.tolist() == [[[2, 4]]]
