"""The record of what a run of explaining can be told: it is complete, it survives YAML, and it says what decides."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from otx_xai import Engine, ExplainConfig, InputOptions
from otx_xai.errors import ConfigError
from otx_xai.options import options_of
from otx_xai.records import DumpContent, Method, ResizeType, Task
from otx_xai.report.manifest import plain
from otx_xai.settings import ExplainSettings

NOT_SETTINGS = {"self", "datamodule", "keep_explanations", "trainer_arguments", "trainer_kwargs"}
"""Arguments that no command line can be given: objects in memory, what is returned, and what is only accepted."""


def test_the_engine_takes_what_the_record_has_with_the_same_defaults() -> None:
    arguments = inspect.signature(Engine).parameters | inspect.signature(Engine.explain).parameters
    defaults = {
        field.name: field.default if field.default_factory is MISSING else None for field in fields(ExplainSettings)
    }
    taken = {name: parameter.default for name, parameter in arguments.items() if name not in NOT_SETTINGS}
    assert taken == defaults


def test_every_field_is_an_option_that_says_what_it_means() -> None:
    told = list(options_of(ExplainSettings))
    assert {option.name.partition(".")[0] for option in told} == {field.name for field in fields(ExplainSettings)}
    assert len({option.name for option in told}) == len(told)
    assert all(option.help and option.metavar and option.group for option in told)


SETTINGS = ExplainSettings(
    checkpoint="/a/model.xml",
    labels=("cat", "a, b"),
    task=Task.CLASSIFICATION,
    input=InputOptions(mean=(1, 2.5, 3), resize_type=ResizeType.CROP, reverse_input_channels=True),
    data_root="/a/photos",
    targets=["cat", 1],
    explain_method=Method.RISE,
    tolerance=0.05,
    seed=3,
    explain_config=ExplainConfig(content=DumpContent.SHEET, confidence_threshold=0.2),
)


def test_what_config_yaml_lists_makes_the_same_record() -> None:
    read = yaml.safe_load(yaml.safe_dump(plain(SETTINGS.arguments())))
    again = ExplainSettings.from_options(read)
    assert plain(again.arguments()) == plain(SETTINGS.arguments())
    lists = {"labels": ["cat", "a, b"], "input": replace(SETTINGS.input, mean=[1, 2.5, 3])}
    assert again == replace(SETTINGS, **lists)


def test_paths_are_listed_from_the_root_and_names_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("names.txt").touch()
    listed = ExplainSettings(
        checkpoint="m.xml", data_root="~/photos", labels="names.txt", model="names.txt"
    ).arguments()
    assert listed["checkpoint"] == str(tmp_path / "m.xml")
    assert listed["data_root"] == str(tmp_path / "home" / "photos")
    assert listed["labels"] == str(tmp_path / "names.txt")
    assert listed["model"] == "names.txt"
    assert listed["work_dir"] is None
    assert ExplainSettings(labels="cat,dog").arguments()["labels"] == "cat,dog"


def test_where_results_go_decides_nothing() -> None:
    elsewhere = replace(SETTINGS, work_dir="out", output_model="saved.xml", resume=False)
    assert elsewhere.decisive() == SETTINGS.decisive()
    assert elsewhere.arguments() != SETTINGS.arguments()


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": "/a/other.xml"},
        {"targets": "dog"},
        {"device": "GPU"},
        {"dump": True},
        {"input": InputOptions(mean=(1, 2, 3))},
        {"explain_config": ExplainConfig(overlay_weight=0.7)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_explained_and_how_decides(change: dict[str, object]) -> None:
    assert plain(replace(SETTINGS, **change).decisive()) != plain(SETTINGS.decisive())


def test_targets_may_be_an_array() -> None:
    assert plain(ExplainSettings(targets=np.array([2, 0])).arguments())["targets"] == [2, 0]


def test_words_are_read_without_regard_to_case() -> None:
    settings = ExplainSettings(task="MULTI_CLASS_CLS", explain_mode="WhiteBox", preset="Speed")  # type: ignore[arg-type]
    assert (settings.task, settings.explain_mode, settings.preset) == ("multi_class_cls", "whitebox", "speed")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "turbo"}, "expected one of speed, balance, quality"),
        ({"batch_size": 0}, "--batch_size is 0; expected at least 1"),
        ({"explain_config": {"overlay_weight": 2}}, "from 0 to 1"),
        ({"input": {"resize_type": "squeeze"}}, "expected one of standard"),
    ],
    ids=str,
)
def test_values_are_checked_when_the_record_is_made(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ExplainSettings.from_options(options)


def test_black_box_options_leave_to_the_method_what_is_not_given() -> None:
    names = ("preset", "num_masks", "tolerance", "seed", "num_steps", "noise")
    assert ExplainSettings().of_method() == dict.fromkeys(names)
    assert SETTINGS.of_method() == dict.fromkeys(names) | {"tolerance": 0.05, "seed": 3}
