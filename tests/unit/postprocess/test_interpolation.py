"""The filters that images are resized with: against Pillow and torchvision, on pictures with detail."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from otx_xai.postprocess import fit
from otx_xai.records import InputGeometry, Interpolation, ResizeType

PILLOW = [word for word in Interpolation if word is not Interpolation.LINEAR]


def speckled(size, channels=3):
    """A picture in which neighbours differ, on top of slow waves."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = 60 * np.stack([np.sin(0.02 * y + 0.05 * channel * x) for channel in range(channels)], -1)
    specks = np.random.default_rng(0).integers(-60, 60, (*size, channels))
    return np.uint8(128 + waves + specks)


def difference(found, expected):
    return np.abs(found.astype(np.int64) - np.asarray(expected, np.int64)).mean()


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("size", [(75, 100), (20, 11), (40, 300)])
def test_stretched_pictures_are_those_of_pillow(interpolation, size):
    image = speckled(size)
    expected = Image.fromarray(image).resize((60, 40), Image.Resampling[interpolation.name])
    np.testing.assert_array_equal(fit(image, InputGeometry((40, 60), interpolation=interpolation)), expected)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_are_resized_one_by_one(channels):
    image = speckled((50, 70), channels)
    found = fit(image, InputGeometry((24, 24), interpolation=Interpolation.BICUBIC))
    assert found.shape == (24, 24, channels)
    for channel in range(channels):
        expected = Image.fromarray(image[..., channel]).resize((24, 24), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(found[..., channel], expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(375, 500), (480, 640), (500, 333), (700, 1000)])
def test_cropped_pictures_are_those_of_torchvision(interpolation, size):
    image = speckled(size)
    steps = [transforms.Resize(256, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(224)]
    expected = transforms.Compose(steps)(Image.fromarray(image))
    geometry = InputGeometry((224, 224), ResizeType.CROP, crop=224 / 256, interpolation=Interpolation(interpolation))
    assert difference(fit(image, geometry), expected) < 0.5
    linear = fit(image, InputGeometry((224, 224), ResizeType.CROP, crop=224 / 256))
    assert difference(linear, expected) > 5


@pytest.mark.parametrize("crop", [0.5, 0.875, 1.0])
@pytest.mark.parametrize("resize_type", list(ResizeType))
@pytest.mark.parametrize("size", [(60, 90), (97, 41), (30, 30), (3, 200)])
def test_pictures_lie_where_their_maps_are_laid(crop, resize_type, size):
    """What is fitted by Pillow lies where it is said to lie: a smooth picture looks the same by any filter."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    image = np.uint8(128 + 100 * np.stack([np.sin(3 * y + x), np.cos(2 * x - y), np.sin(2 * y)], -1))
    usual = InputGeometry((40, 56), resize_type, 128, crop)
    found = fit(image, replace(usual, interpolation=Interpolation.BILINEAR))
    assert difference(found, fit(image, usual)) < 3


def test_a_picture_that_is_stretched_before_it_is_cut():
    image = speckled((75, 100))
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))[4:60, 4:60]
    found = fit(image, InputGeometry((56, 56), crop=56 / 64, interpolation=Interpolation.BICUBIC))
    assert difference(found, expected) < 0.5


@pytest.mark.parametrize("size", [(30, 50), (300, 500)])
def test_padding_is_no_part_of_a_picture(size):
    image = speckled(size)
    geometry = InputGeometry((64, 64), ResizeType.FIT_TO_WINDOW, 7, interpolation=Interpolation.BICUBIC)
    found = fit(image, geometry)
    np.testing.assert_array_equal(found[:38], Image.fromarray(image).resize((64, 38), Image.Resampling.BICUBIC))
    assert (found[38:] == 7).all()


def test_opencv_resizes_where_nobody_says_anything():
    image = speckled((75, 100))
    expected = cv2.resize(image, (60, 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(fit(image, InputGeometry((40, 60))), expected)
