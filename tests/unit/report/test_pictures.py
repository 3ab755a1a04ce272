import threading

import cv2
import matplotlib
import numpy as np
import pytest

from otx_xai.postprocess import to_uint8
from otx_xai.records import Colormap
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


LEVELS = np.arange(256, dtype=np.float32)[None] / 255


@pytest.mark.parametrize("colours", [colours for colours in Colormap if colours is not Colormap.JET])
def test_colormaps_are_those_of_matplotlib_in_rgb(colours):
    expected = matplotlib.colormaps[colours.value](LEVELS)[..., :3] * 255
    coloured = colormap(LEVELS, colours)
    assert coloured.dtype == np.uint8
    np.testing.assert_allclose(coloured, expected, atol=1)


def test_jet_is_that_of_opencv():
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_JET)[..., ::-1]
    np.testing.assert_array_equal(colormap(LEVELS, Colormap.JET), expected)


def test_low_is_blue_and_high_is_red():
    coloured = colormap(LEVELS).astype(int)
    np.testing.assert_array_equal(coloured, colormap(LEVELS, Colormap.TURBO))
    assert coloured[0, 30, 2] > coloured[0, 30, 0]
    assert coloured[0, 255, 0] > 100 > coloured[0, 255, 2]


@pytest.mark.parametrize("weight", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("colours", [Colormap.TURBO, Colormap.INFERNO])
def test_an_overlay_is_as_strong_as_its_map(weight, colours):
    image = noise(11, 17)
    saliency_map = np.random.default_rng(1).random((11, 17), np.float32)
    before = image.copy()
    rise = np.clip(saliency_map / 0.6, 0, 1)[..., None]
    strength = weight * (3 * rise**2 - 2 * rise**3)
    expected = image * (1 - strength) + colormap(saliency_map, colours) * strength
    np.testing.assert_allclose(overlay(image, saliency_map, weight, colours), expected, atol=2.5)
    np.testing.assert_array_equal(image, before)


def test_where_a_map_is_high_its_weight_counts():
    image, high = noise(11, 17), np.linspace(0.61, 1, 11 * 17, dtype=np.float32).reshape(11, 17)
    np.testing.assert_allclose(overlay(image, high, 0.5), image * 0.5 + colormap(high) * 0.5, atol=1.01)
    np.testing.assert_array_equal(overlay(image, high, 1), colormap(high))


@pytest.mark.parametrize("weight", [0.5, 1])
def test_a_map_that_says_nothing_leaves_the_image_as_it_is(weight):
    image = noise(11, 17)
    np.testing.assert_array_equal(overlay(image, np.zeros((11, 17), np.float32), weight), image)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((3000, 4000), 1024, (768, 1024)),
        ((4000, 3000), 1024, (1024, 768)),
        ((375, 500), 1024, (375, 500)),
        ((375, 500), 500, (375, 500)),
        ((375, 500), 0, (375, 500)),
        ((301, 499), 100, (60, 100)),
        ((1, 5000), 50, (1, 50)),
        ((5000, 3), 50, (50, 1)),
    ],
)
def test_pictures_are_limited_by_their_longer_side(size, longest, expected):
    rows, columns = (np.linspace(0, 255, side) for side in size)
    picture = np.stack(np.broadcast_arrays(rows[:, None], columns, 7.0), -1).astype(np.uint8)
    small = pictures.limited(picture, pictures.limited_size(size, longest))
    assert small.shape == (*expected, 3)
    assert pictures.limited_size(size, longest) == expected
    if size == expected:
        assert small is picture
    elif min(expected) > 1:  # a ramp stays a ramp of the same height
        ideal = (np.arange(expected[0]) + 0.5) / expected[0] * 255
        np.testing.assert_allclose(small[:, expected[1] // 2, 0], ideal, atol=2)


def test_a_smaller_picture_is_a_mean_of_its_pixels():
    """Of black and white pixels in turn no limit makes white, as nearest pixels would."""
    board = np.indices((1200, 1600)).sum(axis=0) % 2 * np.uint8(255)
    small = pictures.limited(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), (300, 400))
    assert np.abs(small.astype(int) - 128).max() <= 1


def test_a_sheet_shows_the_scale_of_its_colours():
    tiles = [(noise(60, 90), "cat 0.5")] * 2
    plain, scaled = sheet(tiles), sheet(tiles, scale=Colormap.INFERNO)
    np.testing.assert_array_equal(scaled[: len(plain) - 12], plain[: len(plain) - 12])
    row = scaled[len(plain) :].reshape(-1, 3)
    for value in (0.1, 0.5, 0.9):
        colour = colormap(np.full((1, 1), value, np.float32), Colormap.INFERNO)[0, 0]
        assert (np.abs(row.astype(int) - colour).max(axis=1) <= 3).any()


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


@pytest.mark.parametrize("colours", Colormap)
@pytest.mark.parametrize("size", [(375, 500), (60, 240), (1500, 2000)])
def test_the_scale_stands_behind_the_caption(letters, colours, size):
    picture = noise(*size)
    plain, scaled = annotate(picture, "cat 0.93"), annotate(picture, "cat 0.93", scale=colours)
    changed = (plain != scaled).any(axis=2)
    band = lettering.band_height(min(size))
    columns = np.flatnonzero(changed.any(axis=0))
    assert not changed[band:].any()
    assert columns[0] > lettering.text_width("cat 0.93", lettering.letter_size(min(size)))
    assert columns[-1] < size[1]
    ramp = colormap(np.linspace(0, 1, 9, dtype=np.float32)[None], colours)[0]
    for colour in ramp.astype(int):
        near = np.abs(scaled[:band][changed[:band]].astype(int) - colour).max(axis=1) <= 40
        assert near.any()


@pytest.mark.parametrize(("size", "text"), [((375, 500), "a long name " * 4 + "0.50"), ((200, 90), "cat 0.93")])
def test_a_scale_without_room_is_left_out(letters, size, text):
    picture = noise(*size)
    np.testing.assert_array_equal(annotate(picture, text, scale=Colormap.TURBO), annotate(picture, text))


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
