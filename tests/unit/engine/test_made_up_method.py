"""A new row in the table of methods is all that it takes to explain by it, from every door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import classifiers
import cv2
import openvino as ov
import pytest

from otx_xai import Engine, Explainer, insert_xai
from otx_xai.cli import main
from otx_xai.errors import ConfigError
from otx_xai.methods import recipro_cam, table
from otx_xai.records import Method


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a picture, while the first row of the table is a method that nobody knows."""
    ov.save_model(classifiers.colour_classifier(), tmp_path / "model.xml", compress_to_fp16=False)
    cv2.imwrite(str(tmp_path / "photo.png"), classifiers.coloured_image((64, 96)))
    monkeypatch.setattr(table, "METHODS", (replace(recipro_cam.SPEC, name="guesswork"), *table.METHODS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [None, "GuessWork"])
def test_a_row_is_enough(desk: Path, name: str | None) -> None:
    Engine(work_dir="out").explain("model.xml", data_root="photo.png", explain_method=name, output_model="saved.xml")
    settings = json.loads((desk / "out" / "run.json").read_text())["settings"]
    assert settings["method"] == "guesswork"
    assert (desk / "saved.xml").is_file()
    explainer = Explainer("model.xml", explain_method=name)
    explanation = explainer(classifiers.coloured_image((64, 96)))
    assert not isinstance(explanation, list)
    assert explanation.method.startswith("guesswork")
    assert "saliency_map" in insert_xai("model.xml", explain_method=name).outputs[-1].get_names()


def test_the_command_line_takes_its_name_and_config_yaml_gives_it_back(desk: Path) -> None:
    assert main(["explain", "--checkpoint=model.xml", "--data_root=photo.png", "--explain_method=GUESSWORK"]) == 0
    run = (desk / "otx-workspace" / ".latest" / "explain").resolve()
    assert "explain_method: guesswork\n" in (run / "config.yaml").read_text()
    assert main(["explain", "--config", str(run / "config.yaml")]) == 0


def test_a_name_without_a_row_is_refused_with_the_names_that_have_one(desk: Path) -> None:
    with pytest.raises(ConfigError, match="'cooking' is no explain_method; expected one of guesswork, "):
        Engine().explain("absent.xml", data_root="absent", explain_method="cooking")
    with pytest.raises(ConfigError, match="'cooking' is no explain_method"):
        Explainer("model.xml", explain_method="cooking")


def test_the_words_that_help_lists_are_the_rows_of_the_table() -> None:
    assert {word.value: word.is_white_box for word in Method} == {row.name: row.is_white_box for row in table.METHODS}
