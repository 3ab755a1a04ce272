from __future__ import annotations

import cv2
import numpy as np
import pytest

from otx_xai import report
from otx_xai.errors import ConfigError
from otx_xai.explain.look import Canvas, Look, as_picture, show
from otx_xai.postprocess import place
from otx_xai.records import Colormap, InputGeometry, ResizeType

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (30, 50, 3), np.uint8)
MAPS = RNG.random((2, 4, 6), np.float32)


def shown(look: Look, canvas: Canvas | None = None, maps: np.ndarray = MAPS) -> list[np.ndarray]:
    return list(show(maps, canvas or Canvas(PICTURE, (30, 50)), look))


@pytest.mark.parametrize(
    ("look", "shape"),
    [
        (Look(), (30, 50, 3)),
        (Look(colormap=False), (30, 50)),
        (Look(resize=False), (4, 6, 3)),
        (Look(resize=False, colormap=False), (4, 6)),
        (Look(output_size=(7, 9)), (7, 9, 3)),
        (Look(output_size=(7, 9), colormap=False), (7, 9)),
        (Look(overlay=True), (30, 50, 3)),
        (Look(overlay=True, resize=False, colormap=False), (30, 50, 3)),
        (Look(overlay=True, output_size=(70, 90)), (70, 90, 3)),
    ],
)
def test_shapes(look: Look, shape: tuple[int, ...]):
    pictures = shown(look)
    assert [picture.shape for picture in pictures] == [shape] * 2
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}


def test_values():
    grey = shown(Look(colormap=False))[0]
    expected = cv2.resize(MAPS[0], (50, 30), interpolation=cv2.INTER_LINEAR) * 255
    np.testing.assert_allclose(grey, expected, atol=0.6)
    colour = shown(Look())[0]
    assert np.abs(colour.astype(int) - report.colormap(grey / np.float32(255))).max() <= 4
    np.testing.assert_array_equal(shown(Look(overlay=True, overlay_weight=0))[0], PICTURE)
    high = grey >= 0.61 * 255
    np.testing.assert_array_equal(shown(Look(overlay=True, overlay_weight=1))[0][high], colour[high])
    inferno = shown(Look(colormap="Inferno"))[0]
    np.testing.assert_array_equal(inferno, report.colormap(grey / np.float32(255), Colormap.INFERNO))


def test_nothing_to_show():
    assert shown(Look(), maps=MAPS[:0]) == []


@pytest.mark.parametrize("resize_type", ResizeType)
@pytest.mark.parametrize("over_another", [False, True])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_the_fit_into_the_input_is_undone(resize_type: ResizeType, over_another: bool, crop: float):
    geometry = InputGeometry((64, 64), resize_type, crop=crop)
    size = (90, 150)
    y, x = 40, 70  # the place in the image
    (scale_y, scale_x), (offset_y, offset_x) = place(size, geometry).scale, place(size, geometry).offset
    peak = np.zeros((1, 16, 16), np.float32)
    peak[0, int((y * scale_y + offset_y) / 4), int((x * scale_x + offset_x) / 4)] = 1
    picture = np.zeros((180, 300, 3) if over_another else (*size, 3), np.uint8)
    found = shown(Look(colormap=False), Canvas(picture, size, geometry), peak)[0]
    assert found.shape == picture.shape[:2]
    zoom = 2 if over_another else 1
    rows, columns = np.nonzero(found == found.max())
    assert abs(rows.mean() / zoom - y) <= 6
    assert abs(columns.mean() / zoom - x) <= 6


def test_a_map_of_the_size_of_the_picture_lies_in_what_was_cut_out_too():
    found = shown(
        Look(colormap=False), Canvas(PICTURE, (30, 50), InputGeometry((30, 50), crop=0.5)), np.ones((1, 30, 50))
    )
    expected = np.zeros((30, 50))
    expected[8:23, 12:37] = 255  # 15 × 25 pixels of the middle, halves rounded to even ones as torchvision does
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5, 5, 3), (5.5, 5)])
def test_output_size_is_checked(size: tuple):
    with pytest.raises(ConfigError, match="output_size"):
        Look(output_size=size)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_overlay_weight_is_checked(weight: float):
    with pytest.raises(ConfigError, match="overlay_weight"):
        Look(overlay_weight=weight)


def test_colours_are_checked():
    with pytest.raises(ConfigError, match="'rainbow' is no Colormap; expected one of turbo"):
        Look(colormap="rainbow")


GREY = PICTURE[..., 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PICTURE, PICTURE),
        (PICTURE.transpose(2, 0, 1), PICTURE),
        (np.dstack([PICTURE, GREY]), PICTURE),
        (GREY, np.dstack([GREY] * 3)),
        (GREY[..., None], np.dstack([GREY] * 3)),
        (GREY[None], np.dstack([GREY] * 3)),
        (PICTURE.astype(np.float64), PICTURE),
        (PICTURE.astype(np.int64), PICTURE),
        (PICTURE.astype(np.float32) / 255, PICTURE),
        (GREY > 127, np.dstack([(GREY > 127) * 255] * 3)),
        (np.zeros((30, 50, 3), np.float32), np.zeros((30, 50, 3))),
    ],
)
def test_any_image_becomes_a_picture(image: np.ndarray, expected: np.ndarray):
    picture = as_picture(image)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, expected)


def test_a_normalised_image_is_stretched():
    normalised = (PICTURE.astype(np.float32) - 127) / 60
    stretched = as_picture(normalised)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert np.abs(stretched.astype(int) - PICTURE).max() <= 1


@pytest.mark.parametrize(("channels", "shown"), [(2, (0, 0, 0)), (4, (0, 1, 2)), (6, (0, 1, 2))])
@pytest.mark.parametrize("first", [False, True])
def test_of_many_channels_the_first_are_shown(channels: int, shown: tuple[int, ...], first: bool):
    image = np.random.default_rng(0).integers(0, 256, (30, 50, channels), dtype=np.uint8)
    picture = as_picture(image.transpose(2, 0, 1) if first else image, channels)
    np.testing.assert_array_equal(picture, image[..., shown])


@pytest.mark.parametrize("shape", [(5,), (5, 6, 2), (1, 5, 6, 3), (0, 5, 3), (5, 6, 7)])
def test_what_is_no_image(shape: tuple[int, ...]):
    with pytest.raises(ConfigError, match="expected RGB"):
        as_picture(np.zeros(shape, np.uint8))
