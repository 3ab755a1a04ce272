from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otx_xai.errors import ConfigError
from otx_xai.records import DumpContent, ExplainConfig, ImageInfo, InputGeometry, MapGrid, Prediction, ResizeType
from otx_xai.report import ExplainedImage, PlacedMaps, writers_of
from otx_xai.report.numbers_writer import NumbersWriter

SIZE = (30, 41)
MAPS = np.random.default_rng(0).random((2, 5, 7), np.float32)
TARGETS = (Prediction(3, "größe", 0.75), Prediction(1, "hot dog", 0.5, (1.5, 2, 30, 20.25), 4))
BOXES = tuple(Prediction(1, "hot dog", 0.5, (1.5, 2, 30, 20.25), number) for number in range(5))


def explained(maps: np.ndarray = MAPS, geometry: InputGeometry | None = None, grid: MapGrid | None = None):
    placed = PlacedMaps(maps, SIZE, geometry or InputGeometry((64, 48)), grid)
    image = np.zeros((*SIZE, 3), np.uint8)
    return ExplainedImage(ImageInfo("in/a.jpg", "b/a.jpg", "b/a"), image, BOXES, TARGETS[: len(maps)], placed)


def test_what_is_read_back(tmp_path: Path) -> None:
    assert NumbersWriter(tmp_path).write(explained()) == ("saliency_map/b/a_maps.npz",)
    with np.load(tmp_path / "saliency_map/b/a_maps.npz", allow_pickle=False) as file:
        read = dict(file)
    assert read["maps"].dtype == np.float32
    np.testing.assert_array_equal(read["maps"], MAPS)
    assert read["targets"].tolist() == [3, 1]
    assert read["labels"].tolist() == ["größe", "hot dog"]
    assert read["scores"].tolist() == [0.75, 0.5]
    assert read["numbers"].tolist() == [-1, 4]
    np.testing.assert_array_equal(read["boxes"], [[np.nan] * 4, [1.5, 2, 30, 20.25]])
    assert (read["image_size"].tolist(), read["input_size"].tolist()) == ([30, 41], [64, 48])


def test_an_image_without_maps(tmp_path: Path) -> None:
    (file,) = NumbersWriter(tmp_path).write(explained(np.zeros((0, 5, 7), np.float32)))
    with np.load(tmp_path / file) as read:
        shapes = {name: read[name].shape for name in ("maps", "targets", "labels", "scores", "boxes", "numbers")}
    assert shapes.pop("maps") == (0, 5, 7)
    assert shapes.pop("boxes") == (0, 4)
    assert set(shapes.values()) == {(0,)}


@pytest.mark.parametrize("resize_type", list(ResizeType))
@pytest.mark.parametrize("grid", [None, MapGrid((-2.5, 3), (11, 6.5))])
def test_the_numbers_place_the_maps(resize_type: ResizeType, grid: MapGrid | None, tmp_path: Path) -> None:
    """As ``docs/reference/files.md`` says it, pixel by pixel, against the pictures."""
    item = explained(geometry=InputGeometry((64, 48), resize_type), grid=grid)
    (file,) = NumbersWriter(tmp_path).write(item)
    with np.load(tmp_path / file) as read:
        (top, height), (left, width) = read["seen"].tolist()
        for y, x in ((0, 0), (3, 17), (29, 40), (15, 2), (28, 9)):
            place = ((np.array([y, x]) + 0.5) * read["scale"] + read["offset"] - read["start"]) / read["step"]
            expected = 0.0
            if top <= y < top + height and left <= x < left + width:
                expected = bilinear(read["maps"][1], *place)
            assert item.placed.on_image(1)[y, x] == pytest.approx(expected, abs=1e-5)


def bilinear(saliency_map: np.ndarray, y: float, x: float) -> float:
    """Look up one value between four; beyond the outermost ones the map is constant."""
    rows, columns = saliency_map.shape
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    value = 0.0
    for row in range(rows):
        for column in range(columns):
            value += max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x)) * float(saliency_map[row, column])
    return value


@pytest.mark.parametrize(
    ("content", "kept", "endings"),
    [
        ("npz", "npz", ["maps.npz"]),
        ("NPZ, both", "npz,both", ["class_d_saliency_map.png", "class_d_overlay.png", "maps.npz"]),
        (("sheet", DumpContent.NPZ, "sheet"), "sheet,npz", ["sheet.png", "maps.npz"]),
        (["overlays"], "overlays", ["class_d_overlay.png"]),
        ("[maps,both]", "maps,both", ["class_d_saliency_map.png", "class_d_overlay.png"]),
    ],
)
def test_contents_in_several_words(content: object, kept: str, endings: list[str], tmp_path: Path) -> None:
    config = ExplainConfig(content=content)  # type: ignore[arg-type]
    assert (config.content, isinstance(config.content, DumpContent)) == (kept, "," not in kept)
    item = explained(MAPS[:1])
    files = [file for writer in writers_of(config, tmp_path, list("abcd")) for file in writer.write(item)]
    assert files == [f"saliency_map/b/a_{ending}" for ending in endings]
    assert all((tmp_path / file).stat().st_size for file in files)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("gif", "'gif' is no DumpContent; expected one of maps, overlays, both, sheet, npz"),
        ("both,", "'' is no DumpContent"),
        ("", "'' is no DumpContent"),
        ((), "content is empty; expected maps, overlays"),
        (3, "3 is no DumpContent"),
    ],
)
def test_words_that_are_no_content(content: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ExplainConfig(content=content)  # type: ignore[arg-type]
