import threading

import cv2
import numpy as np
import pytest

from otx_xai.postprocess import to_uint8
from otx_xai.report import annotate, colormap, overlay, pictures, sheet
from otx_xai.report import text as lettering

TEXTS = ["", "cat 0.93", "a very long class name, also known as something else " * 3 + "0.07", "Größe 猫 кошка 0.50"]


@pytest.fixture(params=["hershey", *(["truetype"] if lettering._HAS_TRUETYPE else [])])
def letters(request, monkeypatch):
    """All ways to draw text that the installed OpenCV has: version 4 draws no TrueType."""
    if request.param == "hershey":
        monkeypatch.setattr(lettering, "_HAS_TRUETYPE", False)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_colormap_is_jet_in_rgb():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_JET)[..., ::-1]
    coloured = colormap(levels)
    assert coloured.dtype == np.uint8
    np.testing.assert_array_equal(coloured, expected)
    assert coloured[0, 0, 2] > coloured[0, 0, 0] == 0, "low is blue"
    assert coloured[0, 255, 0] > coloured[0, 255, 2] == 0, "high is red"


@pytest.mark.parametrize("weight", [0, 0.3, 0.5, 1])
def test_overlay_is_the_weighted_mean(weight):
    image = noise(11, 17)
    saliency_map = np.random.default_rng(1).random((11, 17), np.float32)
    before = image.copy()
    expected = image * (1 - weight) + colormap(saliency_map) * float(weight)
    np.testing.assert_allclose(overlay(image, saliency_map, weight), expected, atol=0.51)
    np.testing.assert_array_equal(image, before)


def test_overlay_refuses_another_size():
    with pytest.raises(ValueError, match=r"map is \(7, 7\) and the image \(11, 17\)"):
        overlay(noise(11, 17), np.zeros((7, 7), np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (10, 10), (32, 32), (375, 500), (3, 2000), (1500, 2000)])
@pytest.mark.parametrize("text", TEXTS)
def test_annotate_changes_a_copy_at_the_top(letters, size, text):
    picture = noise(*size)
    before = picture.copy()
    annotated = annotate(picture, text)
    assert annotated.shape == picture.shape
    assert annotated.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)
    band = lettering.letter_size(min(size)) * 7 // 3
    np.testing.assert_array_equal(annotated[band:], picture[band:])
    if text and min(size) >= 32:
        assert annotated[:band].max() > 200, "there are letters"
        assert (annotated != picture).mean(axis=(1, 2))[0] > 0.9, "on a band"
    if not text:
        np.testing.assert_array_equal(annotated, picture)


@pytest.mark.parametrize("width", [60, 100, 224, 500])
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_shortened_to_fit_and_keeps_its_score(letters, text, width):
    size = lettering.letter_size(width)
    shown = lettering.shorten(text, width, size)
    assert lettering.text_width(shown, size) <= width
    if text.endswith("0.07"):
        assert shown.endswith("... 0.07")
        assert text.startswith(shown.removesuffix("... 0.07"))
    if width == 500 and len(text) < 30:
        assert shown == text


@pytest.mark.parametrize(
    ("text", "width", "expected"), [("name 0.93", 0, ""), ("ab\ncd\t 0.5", 999, "ab cd 0.5"), (" a ", 999, "a")]
)
def test_shortening_at_the_edges(letters, text, width, expected):
    assert lettering.shorten(text, width, 16) == expected


def test_ascii_of_other_letters():
    assert lettering._ascii("Ärger ñandú 猫 0.5") == "Arger nandu ? 0.5"


def test_annotating_in_threads_is_annotating_alone():
    picture = noise(100, 200)
    expected = [annotate(picture, f"Größe 猫 {i} 0.50") for i in range(30)]
    found = [None] * 30

    def work(start):
        for i in range(start, 30, 3):
            found[i] = annotate(picture, f"Größe 猫 {i} 0.50")

    threads = [threading.Thread(target=work, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 10, 17, 30])
def test_sheet_holds_every_tile(letters, count):
    colours = [(10 + 8 * i, 250 - 8 * i, 5) for i in range(count)]
    tiles = [(np.full((60 + i, 90, 3), colour, np.uint8), f"tile {i}\n0.5") for i, colour in enumerate(colours)]
    page = sheet(tiles, tile_size=(40, 50))
    for colour in colours:
        area = (page == colour).all(axis=2).sum()
        assert 50 * 30 <= area <= 50 * 40
    np.testing.assert_array_equal(page[:4], np.broadcast_to(page[0, 0], page[:4].shape))
    np.testing.assert_array_equal(page[-4:], np.broadcast_to(page[0, 0], page[-4:].shape))


def test_sheet_of_given_columns():
    tiles = [(noise(20, 20), "")] * 5
    assert sheet(tiles, columns=1).shape[0] > 4 * 240
    assert sheet(tiles, columns=5).shape[1] > sheet(tiles, columns=2).shape[1]
    np.testing.assert_array_equal(sheet(tiles, columns=50), sheet(tiles, columns=5))


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 2000), (240, 240), (32, 32)])
def test_sheet_of_extreme_pictures(size):
    page = sheet([(noise(*size), "name 0.5"), (noise(240, 240), "")])
    assert page.shape[1] == 2 * 240 + 3 * 12


def test_sheet_refuses_nonsense():
    with pytest.raises(ValueError, match="no tiles"):
        sheet([])
    with pytest.raises(ValueError, match="0 columns"):
        sheet([(noise(4, 4), "")], columns=0)


def test_sheet_keeps_the_aspect_ratio():
    assert pictures.shrink(noise(100, 50), (40, 40)).shape == (40, 20, 3)
    assert pictures.shrink(noise(10, 30), (40, 60)).shape == (20, 60, 3)


def test_there_is_one_rounding():
    saliency_map = np.array([[0.5, 0.25]], np.float32)
    np.testing.assert_array_equal(colormap(saliency_map)[0], colormap(to_uint8(saliency_map) / np.float32(255))[0])


def test_small_pictures_have_no_caption():
    """Letters are 8 pixels high at least; over twenty rows they would hide what the picture shows."""
    small, larger = noise(20, 200), noise(60, 200)
    np.testing.assert_array_equal(annotate(small, "cat 0.93"), small)
    assert (annotate(larger, "cat 0.93") != larger).any()
