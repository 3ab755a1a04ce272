from __future__ import annotations

import logging
import sys
from pathlib import Path

import classifiers
import cv2
import matplotlib as mpl
import numpy as np
import openvino as ov
import pytest

from otx_xai import Engine
from otx_xai.errors import ConfigError, OutputError, TargetError
from otx_xai.explain import Explainer, Explanation
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import InputGeometry, MapGrid, Prediction, ResizeType
from otx_xai.report import PlacedMaps

mpl.use("Agg")

GREY = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
COLOUR = np.zeros((32, 48, 3), np.uint8)
COLOUR[:, :16, 0], COLOUR[:, 16:32, 1], COLOUR[:, 32:, 2] = 250, 200, 150


@pytest.fixture
def explanation() -> Explanation:
    return Explanation({2: COLOUR, 0: COLOUR // 2}, ["cat", "dog", "hot dog"], [Prediction(2, "hot dog", 0.8)])


def test_what_it_tells(explanation: Explanation):
    assert explanation.targets == [2, 0]
    assert explanation.shape == (32, 48, 3)
    assert repr(explanation) == "Explanation(targets=[2, 0], shape=(32, 48, 3))"


def test_an_empty_one(tmp_path: Path):
    empty = Explanation({})
    assert (empty.targets, empty.shape, empty.save(tmp_path)) == ([], (), [])


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (None, ["target_hot_dog.jpg", "target_cat.jpg"]),
        ("", ["target_hot_dog.jpg", "target_cat.jpg"]),
        ("n02105641_2491", ["n02105641_2491_target_hot_dog.jpg", "n02105641_2491_target_cat.jpg"]),
        ("../up", ["up_target_hot_dog.jpg", "up_target_cat.jpg"]),
    ],
)
def test_file_names(explanation: Explanation, tmp_path: Path, name: str | None, files: list[str]):
    written = explanation.save(tmp_path / "new" / "folder", name)
    assert written == [tmp_path / "new" / "folder" / file for file in files]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(files)


def test_files_without_label_names(tmp_path: Path):
    assert Explanation({206: GREY}).save(str(tmp_path)) == [tmp_path / "target_206.jpg"]
    assert Explanation({"per_image_map": GREY}, ["cat"]).save(tmp_path, "a") == [
        tmp_path / "a_target_per_image_map.jpg"
    ]


def test_colours_survive_saving(explanation: Explanation, tmp_path: Path):
    path = explanation.save(tmp_path)[0]
    read = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    inside = np.s_[4:-4, [8, 24, 40]]
    assert np.abs(read[inside].astype(int) - COLOUR[inside]).max() <= 12


def test_grey_survives_saving(tmp_path: Path):
    path = Explanation({0: GREY}).save(tmp_path)[0]
    assert np.abs(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int) - GREY).max() <= 12


def test_hostile_labels_stay_in_the_folder_and_apart(tmp_path: Path):
    labels = [
        "../../etc/passwd",
        "/root",
        "a/b",
        "a\\b",
        "CON",
        "",
        ".",
        "..",
        "x" * 500,
        "nul\0",
        "A_B",
        "line\nbreak",
    ]
    folder = tmp_path / "out"
    files = Explanation(dict.fromkeys(range(len(labels)), GREY), labels).save(folder, "..")
    assert len(set(files)) == len(labels)
    assert {path.parent for path in files} == {folder}
    assert {path.resolve() for path in files} == {path.resolve() for path in folder.iterdir()}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_made(explanation: Explanation, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        explanation.save(tmp_path / "file")


def placed(grid: MapGrid | None = None) -> PlacedMaps:
    maps = np.random.default_rng(0).random((2, 3, 4), np.float32)
    return PlacedMaps(maps, (30, 40), InputGeometry((24, 24), ResizeType.FIT_TO_WINDOW_LETTERBOX), grid)


def test_maps_as_numbers() -> None:
    given = placed(MapGrid((1, 2), (9, 5)))
    explanation = Explanation({2: GREY, "box_0": GREY}, ["cat", "dog", "hot dog"], placed=given)
    assert explanation.maps is given.maps
    assert (explanation.geometry, explanation.grid) == (given.geometry, given.grid)
    laid = to_image(given.maps, (30, 40), given.geometry, grid=given.grid)
    for target, expected in ((2, laid[0]), ("hot_dog", laid[0]), ("box_0", laid[1])):
        on_image = explanation.on_image(target)
        assert (on_image.dtype, on_image.shape) == (np.float32, (30, 40))
        np.testing.assert_array_equal(on_image, expected)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (0, r"Target 0 was not explained; this explanation has \[2, 'box_0'\]"),
        ("cat", "Target 'cat' was not explained"),
        (-1, "Target -1 was not explained"),
        ("box_1", "Target 'box_1' is no class"),
        (7, "Target 7 is no class"),
    ],
)
def test_a_map_that_is_not_there(target: int | str, says: str) -> None:
    explanation = Explanation({2: GREY, "box_0": GREY}, ["cat", "dog", "hot dog"], placed=placed())
    with pytest.raises(TargetError, match=says):
        explanation.on_image(target)
    with pytest.raises(TargetError, match="was not explained"):
        Explanation({2: GREY}, placed=placed()).on_image("cat")


def test_pictures_alone_are_no_numbers(explanation: Explanation) -> None:
    with pytest.raises(ConfigError, match="made of pictures only"):
        _ = explanation.maps
    with pytest.raises(ConfigError, match="made of pictures only"):
        explanation.on_image(2)


def test_explainer_and_engine_give_the_same_numbers(tmp_path: Path) -> None:
    info = {"task_type": "classification", "labels": "red green blue mixture", "resize_type": "fit_to_window_letterbox"}
    model, image = classifiers.colour_classifier(model_info=info), classifiers.coloured_image((40, 52))
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    one = Explainer(model)(image, targets=["blue", "red"], colormap=False)
    assert isinstance(one, Explanation)
    (other,) = (
        Engine(work_dir=tmp_path / "out")
        .explain(tmp_path / "model.xml", data_root=tmp_path / "a.png", targets="blue,red")
        .explanations
    )
    np.testing.assert_allclose(one.maps, other.maps, atol=1e-5)
    assert (one.geometry, one.grid) == (other.geometry, other.grid)
    assert one.maps.dtype == other.maps.dtype == np.float32
    for row, target in enumerate(one.targets):
        np.testing.assert_array_equal(other.saliency_map[target], to_uint8(other.maps[row]))
        np.testing.assert_array_equal(one.saliency_map[target], to_uint8(one.on_image(target)))
        assert one.on_image(target).shape == (40, 52)


@pytest.fixture
def plot(explanation: Explanation):
    from matplotlib import pyplot

    yield explanation.plot
    pyplot.close("all")


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.images]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (None, ["hot dog", "cat"]),
        (-1, ["hot dog", "cat"]),
        (0, ["cat"]),
        ("hot_dog", ["hot dog"]),
        (["cat", 2], ["cat", "hot dog"]),
        ("predicted", ["hot dog"]),
    ],
)
def test_plot(plot, targets: object, expected: list[str]):
    assert titles(plot(targets)) == expected


def test_plot_limits(plot, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "otx_xai"):
        assert titles(plot(max_num_plots=1)) == ["hot dog"]
    assert "1 of 2" in caplog.text
    rows = {axis.get_subplotspec().rowspan.start for axis in plot(num_columns=1).axes}
    assert rows == {0, 1}


def test_plot_refuses(plot, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TargetError, match=r"\[1\] were not explained; this explanation has \[2, 0\]"):
        plot("dog")
    with pytest.raises(ConfigError, match="expected 'matplotlib'"):
        plot(backend="cv")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="pip install"):
        plot()


def test_plot_without_names_or_classes():
    from matplotlib import pyplot

    assert titles(Explanation({7: GREY}).plot(7)) == ["7"]
    assert titles(Explanation({"per_image_map": GREY}).plot(3)) == ["per_image_map"]
    assert titles(Explanation({}).plot()) == []
    pyplot.close("all")
