"""JPEGs that are decoded smaller than they are, and what the network is fed of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from otx_xai.data import read_image
from otx_xai.data.reduced import jpeg_size, read_fitted, read_for_network, read_reduced
from otx_xai.data.shapes import draw_shape
from otx_xai.errors import ImageError
from otx_xai.postprocess import fit, place
from otx_xai.postprocess.geometry import spare_size
from otx_xai.records import (
    Decode,
    InputGeometry,
    Interpolation,
    ModelFacts,
    ResizeType,
    Size,
    Task,
    Tiling,
    UInt8Array,
)

AVERAGING = [Interpolation.BILINEAR, Interpolation.HAMMING, Interpolation.BICUBIC, Interpolation.LANCZOS]


def photograph(size: Size = (640, 960)) -> UInt8Array:
    """A drawn picture with grain."""
    rng = np.random.default_rng(0)
    image = cv2.resize(draw_shape(rng, (size[0] // 2, size[1] // 2), 2).image, size[::-1]).astype(np.float32)
    grain = cv2.GaussianBlur(rng.normal(0, 1, image.shape).astype(np.float32), (0, 0), 0.8)
    return np.clip(image + 8 * grain, 0, 255).astype(np.uint8)


def write(path: Path, image: UInt8Array, **options: object) -> Path:
    Image.fromarray(image).save(path, quality=92, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xc0" * 40}])
@pytest.mark.parametrize("size", [(37, 501), (1, 1), (640, 8)])
def test_the_size_of_a_jpeg_is_what_pillow_says(size: Size, options: dict[str, object]) -> None:
    file = io.BytesIO()
    Image.fromarray(photograph((640, 960))[: size[0], : size[1]]).save(file, "JPEG", **options)
    assert jpeg_size(file.getvalue()) == size
    filled = file.getvalue()[:2] + b"\xff" * 3 + file.getvalue()[2:]
    assert jpeg_size(filled) == size


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10", b"\xff\xd8" + b"\0" * 99])
def test_what_tells_no_size(data: bytes) -> None:
    assert jpeg_size(data) is None


@pytest.mark.parametrize(("most", "factor"), [(0.3, 1), (1.9, 1), (2, 2), (3.99, 2), (4, 4), (7, 4), (8, 8), (99, 8)])
def test_pixels_are_means_of_blocks(tmp_path: Path, most: float, factor: int) -> None:
    path = write(tmp_path / "a.jpg", photograph(), subsampling=0)
    image, reduced = read_reduced(path, 3, lambda _: most)
    assert reduced == factor
    whole = read_image(path)
    expected = cv2.resize(whole, (960 // factor, 640 // factor), interpolation=cv2.INTER_AREA)
    difference = np.abs(image.astype(int) - expected)
    assert image.shape == expected.shape
    assert (difference.mean(), np.percentile(difference, 99.9)) <= (0.8, 4) if factor > 1 else not difference.any()


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
def test_the_orientation_is_applied(tmp_path: Path, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    path = write(tmp_path / "a.jpg", photograph(), exif=exif)
    asked: list[Size] = []
    image, reduced = read_reduced(path, 3, lambda size: asked.append(size) or 4)
    whole = read_image(path)
    assert reduced == 4
    assert (image.shape[0] * 4, image.shape[1] * 4) == whole.shape[:2]
    assert set(asked) == {(640, 960), (960, 640)}
    expected = cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - expected).mean() < 1.5


def test_what_is_read_whole(tmp_path: Path) -> None:
    odd = write(tmp_path / "odd.jpg", photograph()[:639, :958])
    png = tmp_path / "a.png"
    Image.fromarray(photograph()).save(png)
    for path in (odd, png):
        image, reduced = read_reduced(path, 3, lambda _: 8)
        assert reduced == 1
        np.testing.assert_array_equal(image, read_image(path))
    even = write(tmp_path / "even.jpg", photograph()[:638, :958])
    assert read_reduced(even, 3, lambda _: 8)[1] == 2


def test_a_broken_file_is_told_as_ever(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", photograph())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="its end marker is missing"):
        read_reduced(path, 3, lambda _: 8)


@pytest.mark.parametrize("interpolation", AVERAGING)
@pytest.mark.parametrize("resize_type", ResizeType)
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_the_input_is_the_same_within_two_grey_levels(
    tmp_path: Path, interpolation: Interpolation, resize_type: ResizeType, crop: float
) -> None:
    path = write(tmp_path / "a.jpg", photograph())
    geometry = InputGeometry((64, 64), resize_type, crop=crop, interpolation=interpolation)
    image, reduced = read_reduced(path, 3, lambda size: spare_size(size, geometry))
    whole = read_image(path)
    scale = max(place((640, 960), geometry).scale)
    assert reduced == (4 if scale < 1 / 12 else 2)
    difference = np.abs(fit(image, geometry, reduced).astype(int) - fit(whole, geometry))
    assert difference.mean() < 0.35
    assert np.percentile(difference, 99.9) <= 2


@pytest.mark.parametrize("interpolation", [word for word in Interpolation if word not in AVERAGING])
def test_filters_that_look_at_single_pixels_spare_nothing(interpolation: Interpolation) -> None:
    assert spare_size((6000, 4000), InputGeometry((64, 64), interpolation=interpolation)) <= 1


FACTS = ModelFacts(Task.CLASSIFICATION, ("cat",), InputGeometry((64, 64), interpolation=Interpolation.BILINEAR))


@pytest.mark.parametrize(("longest", "factor"), [(None, 2), (0, 1), (400, 2), (481, 1)])
def test_pictures_may_need_more_than_the_network(tmp_path: Path, longest: int | None, factor: int) -> None:
    path = write(tmp_path / "a.jpg", photograph())
    assert read_for_network(path, FACTS, Decode.FAST, longest)[1] == factor
    assert read_for_network(path, FACTS, Decode.EXACT, longest)[1] == 1


def test_tiles_are_cut_out_of_the_whole_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", photograph())
    image, factor = read_for_network(path, replace(FACTS, tiling=Tiling(100)), Decode.FAST)
    assert (image.shape, factor) == ((640, 960, 3), 1)


@pytest.mark.parametrize("decode", Decode)
def test_what_is_fitted_in_comes_with_the_size_of_its_file(tmp_path: Path, decode: Decode) -> None:
    path = write(tmp_path / "a.jpg", photograph())
    fitted, size = read_fitted(path, FACTS, decode)
    difference = np.abs(fitted.astype(int) - fit(read_image(path), FACTS.geometry))
    assert size == (640, 960)
    assert difference.any() == (decode is Decode.FAST)
    assert np.percentile(difference, 99.9) <= 2
