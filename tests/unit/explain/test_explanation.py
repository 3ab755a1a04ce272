from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from otx_xai.errors import ConfigError, OutputError, TargetError
from otx_xai.explain import Explanation
from otx_xai.records import Prediction

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
