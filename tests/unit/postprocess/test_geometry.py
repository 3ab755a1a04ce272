"""Fit and inverse, compared with slow definitions: one pixel at a time, in double precision."""

import itertools
import math

import cv2
import numpy as np
import pytest

from otx_xai.postprocess import fit, place, to_image
from otx_xai.records import InputGeometry, MapGrid, ResizeType

SIZES = [(1, 1), (7, 5), (37, 53), (60, 41), (1, 500), (500, 1), (3, 2000)]
INPUTS = [(32, 32), (24, 40), (41, 17)]
TYPES = list(ResizeType)


def slow_region(size, geometry):
    """The seen part of the image and the covered part of the input, as (top, left, height, width), from the rules."""
    (H, W), (h, w) = size, geometry.size
    if geometry.resize_type is ResizeType.STANDARD:
        return (0, 0, H, W), (0, 0, h, w)
    if geometry.resize_type is ResizeType.CROP:
        if w / h < W / H:
            width = max(1, math.floor(H * w / h + 1e-9))
            return (0, (W - width) // 2, H, width), (0, 0, h, w)
        height = max(1, math.floor(W * h / w + 1e-9))
        return ((H - height) // 2, 0, height, W), (0, 0, h, w)
    scale = min(h / H, w / W)
    nh, nw = max(1, round(H * scale)), max(1, round(W * scale))
    letterbox = geometry.resize_type is ResizeType.FIT_TO_WINDOW_LETTERBOX
    return (0, 0, H, W), ((h - nh) // 2 if letterbox else 0, (w - nw) // 2 if letterbox else 0, nh, nw)


def bilinear(array, y, x):
    """The value at (y, x), in continuous coordinates, of a grid of cell centres; constant beyond the outermost."""
    y, x = min(max(y - 0.5, 0), array.shape[0] - 1), min(max(x - 0.5, 0), array.shape[1] - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, array.shape[0] - 1), min(x0 + 1, array.shape[1] - 1)
    fy, fx = y - y0, x - x0
    top = array[y0, x0] * (1 - fx) + array[y0, x1] * fx
    bottom = array[y1, x0] * (1 - fx) + array[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def slow_to_image(saliency_map, size, geometry):
    (top, left, seen_h, seen_w), (in_top, in_left, new_h, new_w) = slow_region(size, geometry)
    result = np.zeros(size)
    array = saliency_map.astype(float)
    for i in range(top, top + seen_h):
        for j in range(left, left + seen_w):
            y = in_top + (i + 0.5 - top) * new_h / seen_h
            x = in_left + (j + 0.5 - left) * new_w / seen_w
            result[i, j] = bilinear(array, y * array.shape[0] / geometry.size[0], x * array.shape[1] / geometry.size[1])
    return result


@pytest.mark.parametrize(("size", "resize_type"), list(itertools.product(SIZES, TYPES)))
def test_to_image_is_the_slow_definition(size, resize_type):
    rng = np.random.default_rng(0)
    for input_size, map_size in zip(INPUTS, [(7, 7), (1, 3), (41, 17)], strict=True):
        geometry = InputGeometry(input_size, resize_type)
        saliency_map = rng.random(map_size, np.float32)
        found = to_image(saliency_map[None], size, geometry)
        assert found.dtype == np.float32
        assert found.shape == (1, *size)
        np.testing.assert_allclose(found[0], slow_to_image(saliency_map, size, geometry), atol=2e-6)


@pytest.mark.parametrize(("size", "resize_type"), list(itertools.product([(37, 53), (60, 41)], TYPES)))
@pytest.mark.parametrize("grid", [MapGrid((0.5, 0.5), (8, 8)), MapGrid((-3.0, 9.5), (5.5, 6))])
def test_to_image_on_a_grid_interpolates_between_its_centres(size, resize_type, grid):
    """Another reference: the value of each axis' coordinate by ``numpy.interp``."""
    geometry = InputGeometry((24, 40), resize_type)
    axes = [np.random.default_rng(5).random(cells) for cells in (3, 5)]
    (top, left, seen_h, seen_w), (in_top, in_left, new_h, new_w) = slow_region(size, geometry)
    lines = []
    for values, length, first, seen, in_first, new, start, step in zip(
        axes, size, (top, left), (seen_h, seen_w), (in_top, in_left), (new_h, new_w), grid.start, grid.step, strict=True
    ):
        pixels = np.arange(length)
        places = in_first + (pixels + 0.5 - first) * new / seen
        line = np.interp(places, start + step * np.arange(len(values)), values)
        lines.append(np.where((pixels >= first) & (pixels < first + seen), line, 0))
    found = to_image(np.outer(*axes)[None], size, geometry, grid=grid)
    np.testing.assert_allclose(found[0], np.outer(*lines), atol=2e-6)
    even = MapGrid((4, 4), (8, 8))
    np.testing.assert_array_equal(
        to_image(np.outer(*axes)[None], size, geometry, grid=even), to_image(np.outer(*axes)[None], size, geometry)
    )


@pytest.mark.parametrize("size", [*SIZES, (375, 500)])
def test_standard_is_cv2_resize(size):
    maps = np.random.default_rng(1).random((3, 7, 9), np.float32)
    found = to_image(maps, size, InputGeometry((224, 224)))
    for single, expected in zip(found, maps, strict=True):
        np.testing.assert_allclose(single, cv2.resize(expected, size[::-1]).reshape(size), atol=1e-5)


@pytest.mark.parametrize("resize_type", TYPES)
def test_without_crop_padding_the_whole_map_is_stretched(resize_type):
    maps = np.random.default_rng(2).random((2, 5, 6), np.float32)
    stretched = to_image(maps, (31, 77), InputGeometry((32, 48)))
    np.testing.assert_array_equal(
        to_image(maps, (31, 77), InputGeometry((32, 48), resize_type), crop_padding=False), stretched
    )


@pytest.mark.parametrize("resize_type", TYPES)
def test_many_maps_are_many_single_maps(resize_type):
    maps = np.random.default_rng(3).random((5, 7, 8), np.float32)
    geometry = InputGeometry((33, 57), resize_type)
    together = to_image(maps, (40, 90), geometry)
    np.testing.assert_array_equal(together, np.concatenate([to_image(m[None], (40, 90), geometry) for m in maps]))
    assert to_image(maps[:0], (40, 90), geometry).shape == (0, 40, 90)


def test_strided_and_double_maps_are_taken():
    maps = np.random.default_rng(4).random((6, 7, 2))
    geometry = InputGeometry((32, 32), ResizeType.FIT_TO_WINDOW)
    expected = to_image(np.ascontiguousarray(maps.transpose(2, 0, 1), np.float32), (20, 30), geometry)
    np.testing.assert_array_equal(to_image(maps.transpose(2, 0, 1), (20, 30), geometry), expected)


@pytest.mark.parametrize(("size", "resize_type"), list(itertools.product(SIZES, TYPES)))
def test_placement_is_the_slow_rule(size, resize_type):
    for input_size in INPUTS:
        geometry = InputGeometry(input_size, resize_type)
        (top, left, seen_h, seen_w), (in_top, in_left, new_h, new_w) = slow_region(size, geometry)
        placement = place(size, geometry)
        assert (placement.y.seen, placement.x.seen) == ((top, seen_h), (left, seen_w))
        assert (placement.y.covered, placement.x.covered) == ((in_top, new_h), (in_left, new_w))
        assert placement.scale == pytest.approx((new_h / seen_h, new_w / seen_w))
        assert placement.scale[0] * top + placement.offset[0] == pytest.approx(in_top)
        assert placement.scale[1] * left + placement.offset[1] == pytest.approx(in_left)


@pytest.mark.parametrize(("size", "resize_type"), list(itertools.product(SIZES, TYPES)))
def test_fit_places_the_image_and_pads_the_rest(size, resize_type):
    for input_size in INPUTS:
        image = np.full((*size, 3), (200, 100, 50), np.uint8)
        geometry = InputGeometry(input_size, resize_type, pad_value=114)
        fitted = fit(image, geometry)
        _, (top, left, height, width) = slow_region(size, geometry)
        expected = np.full((*input_size, 3), 114, np.uint8)
        expected[top : top + height, left : left + width] = (200, 100, 50)
        np.testing.assert_array_equal(fitted, expected)
        assert fitted.flags.c_contiguous


def test_fit_leaves_an_image_that_fits_alone():
    image = np.random.default_rng(5).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    for resize_type in TYPES:
        np.testing.assert_array_equal(fit(image, InputGeometry((20, 30), resize_type)), image)


@pytest.mark.parametrize(("size", "resize_type"), list(itertools.product([(120, 160), (160, 120), (90, 260)], TYPES)))
def test_a_marker_comes_back_to_its_place(size, resize_type):
    centre_y, centre_x = size[0] * 0.4, size[1] * 0.55
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    blob = 255 * np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * 9**2))
    image = np.repeat(blob[..., None], 3, axis=2).astype(np.uint8)
    geometry = InputGeometry((64, 64), resize_type)
    back = to_image(fit(image, geometry).mean(axis=2, dtype=np.float32)[None], size, geometry)[0]
    centroid = (back**4 * y).sum() / (back**4).sum(), (back**4 * x).sum() / (back**4).sum()
    scale_y, scale_x = place(size, geometry).scale
    assert abs(centroid[0] - centre_y) < 0.5 / scale_y
    assert abs(centroid[1] - centre_x) < 0.5 / scale_x


def test_crop_leaves_unseen_pixels_zero():
    seen = to_image(np.ones((1, 3, 3), np.float32), (10, 30), InputGeometry((8, 8), ResizeType.CROP))[0]
    np.testing.assert_allclose(seen[:, 10:20], 1)
    assert seen.sum() == pytest.approx(100)
