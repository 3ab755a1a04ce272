"""A central crop before the fit: against torchvision's resize and crop, and slow loops."""

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from otx_xai.postprocess import fit, place, to_image
from otx_xai.records import InputGeometry, ResizeType


def smooth(size):
    """An image without detail, so that it looks the same whatever filter it is resized with."""
    y, x = np.mgrid[: size[0], : size[1]] / np.max(size)
    waves = np.stack([np.sin(3 * y + x), np.cos(2 * x - y), np.sin(2 * y) * np.cos(3 * x)], -1)
    return np.uint8(128 + 120 * waves)


@pytest.mark.parametrize("size", [(512, 640), (640, 512), (375, 500), (401, 977), (256, 256)])
@pytest.mark.parametrize(("resized", "crop"), [(256, 224), (232, 224), (100, 64)])
def test_the_short_side_is_resized_and_the_middle_cut_out(size, resized, crop):
    image = smooth(size)
    steps = transforms.Compose([transforms.Resize(resized), transforms.CenterCrop(crop)])
    expected = np.asarray(steps(Image.fromarray(image)), np.int64)
    found = fit(image, InputGeometry((crop, crop), ResizeType.CROP, crop=crop / resized)).astype(np.int64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 4  # half a pixel of a wave, and rounding
    whole = fit(image, InputGeometry((crop, crop), ResizeType.CROP)).astype(np.int64)
    assert np.abs(found - expected).mean() < np.abs(whole - expected).mean() / 4


@pytest.mark.parametrize("size", [(235, 235), (235, 312), (313, 235), (237, 237)])
def test_pixels_that_need_no_resize_are_those_of_torchvision(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = np.asarray(transforms.CenterCrop(224)(Image.fromarray(image)))
    geometry = InputGeometry((224, 224), ResizeType.CROP, crop=224 / min(size))
    np.testing.assert_array_equal(fit(image, geometry), expected)


@pytest.mark.parametrize("size", [(480, 640), (300, 200)])
def test_a_stretched_image_loses_its_border(size):
    image = smooth(size)
    stretched = Image.fromarray(image).resize((256, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(transforms.CenterCrop(224)(stretched), np.int64)
    found = fit(image, InputGeometry((224, 224), crop=224 / 256)).astype(np.int64)
    assert np.abs(found - expected).max() <= 4


@pytest.mark.parametrize("resize_type", list(ResizeType))
@pytest.mark.parametrize("size", [(40, 60), (61, 33), (1, 1), (3, 200)])
@pytest.mark.parametrize("crop", [0.5, 0.875, 0.01])
def test_a_crop_is_the_fit_of_the_middle(size, resize_type, crop):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    height, width = (max(1, round(length * crop)) for length in size)
    if resize_type is ResizeType.CROP:  # the middle of the middle
        height, width = max(1, min(height, width * 24 // 40)), max(1, min(width, height * 40 // 24))
    top, left = round((size[0] - height) / 2), round((size[1] - width) / 2)
    inner = image[top : top + height, left : left + width]
    geometry = InputGeometry((24, 40), resize_type, pad_value=114, crop=crop)
    whole = ResizeType.STANDARD if resize_type is ResizeType.CROP else resize_type
    without = InputGeometry((24, 40), whole, pad_value=114)
    np.testing.assert_array_equal(fit(image, geometry), fit(inner, without))
    maps = np.random.default_rng(1).random((2, 3, 5), np.float32)
    expected = np.zeros((2, *size), np.float32)
    expected[:, top : top + height, left : left + width] = to_image(maps, (height, width), without)
    np.testing.assert_allclose(to_image(maps, size, geometry), expected, atol=2e-6)


@pytest.mark.parametrize("resize_type", list(ResizeType))
def test_a_marker_comes_back_to_its_place(resize_type):
    size, centre = (120, 160), (52.0, 88.0)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    blob = 255 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 9**2))
    geometry = InputGeometry((64, 64), resize_type, crop=0.8)
    fitted = fit(np.repeat(blob[..., None], 3, axis=2).astype(np.uint8), geometry)
    back = to_image(fitted.mean(axis=2, dtype=np.float32)[None], size, geometry)[0] ** 4
    placement = place(size, geometry)
    assert abs((back * y).sum() / back.sum() - centre[0]) < 0.5 / placement.scale[0]
    assert abs((back * x).sum() / back.sum() - centre[1]) < 0.5 / placement.scale[1]


def test_unseen_borders_are_zero():
    seen = to_image(np.ones((1, 3, 3), np.float32), (20, 40), InputGeometry((8, 8), ResizeType.CROP, crop=0.5))[0]
    expected = np.zeros((20, 40))
    expected[5:15, 15:25] = 1
    np.testing.assert_allclose(seen, expected)


def test_padding_has_as_many_channels_as_the_image():
    fitted = fit(np.full((10, 20, 4), 9, np.uint8), InputGeometry((16, 16), ResizeType.FIT_TO_WINDOW, 114))
    assert fitted.shape == (16, 16, 4)
    assert set(fitted[:8].ravel()) == {9}
    assert set(fitted[8:].ravel()) == {114}
