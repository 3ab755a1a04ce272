"""The verbs beside explain: which there are, what they refuse, and when a traceback is shown."""

from __future__ import annotations

from inspect import signature

import pytest

from otx_xai import cli
from otx_xai.cli import VERBS
from otx_xai.cli.parsing import open_config
from otx_xai.cli.train import data_parser, export_parser
from otx_xai.engine import Engine
from otx_xai.errors import ConfigError
from otx_xai.recipe import list_recipes


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: otx {verb}" in capsys.readouterr().out


def test_find_lists_the_recipes(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["find"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + len(list_recipes())
    assert cli.main(["find", "--task", "detection"]) == 0
    only = capsys.readouterr().out.splitlines()[1:]
    assert len(only) == len(list_recipes("detection"))
    assert all(line.startswith("detection/") for line in only)


@pytest.mark.parametrize("argv", [["find", "--task", "cooking"], ["demo", "--work_dir", ""], ["export", "--work_dir="]])
def test_what_would_do_nothing_or_harm_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(argv) == 2
    assert "expected" in capsys.readouterr().err


def test_a_recipe_is_put_in_the_place_of_its_name():
    argv, left_out = open_config(["--config", "fcos_resnet18", "--seed", "3"], leave_out=("model", "data"))
    assert argv == ['--config={"task": "detection", "trainer": {"max_epochs": 30}}', "--seed", "3"]
    assert left_out["model"]["init_args"]["architecture"] == "fcos_resnet18"
    assert open_config(["--config=fcos_resnet18"], leave_out=("model", "data"))[0] == argv[:1]


@pytest.mark.parametrize("recipe", [it for it in list_recipes() if it.architecture], ids=lambda recipe: recipe.name)
def test_every_recipe_is_read_for_training(recipe):
    argv, _ = open_config(["--config", f"{recipe.folder}/{recipe.name}"])
    options = data_parser("train").parse_args(argv).as_dict()
    assert options["model"]["init_args"]["architecture"] == recipe.architecture
    assert options["task"] == recipe.task


@pytest.mark.parametrize("verb", ["train", "test", "predict", "export", "demo", "find"])
def test_a_wrong_option_ends_with_2_and_one_line(verb: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main([verb, "--nonsense", "3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("otx: error: ")
    assert "--nonsense" in message
    assert message.count("\n") == 1


def test_data_is_asked_for(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", "--config", "fcos_resnet18"]) == 2
    assert "No data was given" in capsys.readouterr().err


def test_tracebacks_only_with_debug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fail(self: Engine, **_: object) -> None:
        raise RuntimeError("a fault\nof ours")

    monkeypatch.setattr(Engine, "export", fail)
    assert cli.main(["export"]) == 1
    assert capsys.readouterr().err == (
        "otx: internal error: RuntimeError: a fault of ours. The same command with --debug shows where.\n"
    )
    with pytest.raises(RuntimeError, match="a fault"):
        cli.main(["export", "--debug"])
    with pytest.raises(ConfigError, match="nonsense"):
        cli.main(["export", "--debug", "--nonsense", "3"])


def test_export_has_an_option_for_every_argument():
    options = export_parser().parse_args([]).as_dict()
    arguments = signature(Engine.export).parameters.keys() - {"self"}
    assert options.keys() - {"config", "work_dir", "model", "task"} == arguments
    assert options["input"].keys() == {"mean", "scale", "resize_type", "pad_value", "size"}
