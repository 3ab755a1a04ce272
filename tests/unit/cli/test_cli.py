"""What the command line understands, and what it says when it does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from otx_xai import cli
from otx_xai.cli.explain import explain_parser
from otx_xai.cli.parsing import parse
from otx_xai.engine import Engine
from otx_xai.errors import TargetError
from otx_xai.explain.run import ExplainRun
from otx_xai.records import ExplainConfig, InputOptions
from otx_xai.settings import ExplainSettings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Replace the engine's work; gives the arguments that it was called with."""
    seen: list[dict[str, Any]] = []

    def explain(self: Engine, **options: Any) -> ExplainRun:
        given = {
            name: getattr(self, name) for name in ("work_dir", "checkpoint", "data_root", "task", "device", "model")
        }
        seen.append(given | options)
        return ExplainRun(tmp_path, images=3, explained=3, resumed=0, failures={}, files=0, seconds=1)

    monkeypatch.setattr(Engine, "explain", explain)
    return seen


def run(*argv: str) -> int:
    return cli.main(["explain", *argv])


def test_without_options_the_defaults_are_those_of_the_records(calls: list[dict[str, Any]]) -> None:
    assert run() == 0
    assert calls[0]["explain_config"] == ExplainConfig()
    assert calls[0]["input"] == InputOptions()


def test_options_are_those_of_the_record() -> None:
    options = parse(explain_parser(), "explain", [])
    assert ExplainSettings.from_options(options) == ExplainSettings()
    assert options.keys() == {field.name for field in fields(ExplainSettings)}
    assert options["explain_config"].keys() == {field.name for field in fields(ExplainConfig)}
    assert options["input"].keys() == {field.name for field in fields(InputOptions)}


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--dump", "True"], "dump", True),
        (["--dump"], "dump", True),
        (["--dump", "false"], "dump", False),
        (["--targets", "-1"], "targets", "-1"),
        (["--targets=-1"], "targets", "-1"),
        (["--targets", "cat,dog"], "targets", "cat,dog"),
        (["--targets", '["dog", 3]'], "targets", ["dog", 3]),
        (["--targets", "[dog, 3]"], "targets", "[dog, 3]"),
        (["--targets", "no"], "targets", "no"),
        (["--labels", "yes,no"], "labels", "yes,no"),
        (["--labels", '["a, b", "c"]'], "labels", ["a, b", "c"]),
        (["--batch_size", "8"], "batch_size", 8),
        (["--resume", "False"], "resume", False),
        (["--seed", "7"], "seed", 7),
        (["--device", "AUTO"], "device", "AUTO"),
        (["--task", "MULTI_CLASS_CLS"], "task", "multi_class_cls"),
        (["--output_model", "a.xml"], "output_model", "a.xml"),
        (["--input.mean", "127.5"], "input", InputOptions(mean="127.5")),
        (["--input.mean", "1,2,3", "--input.pad_value", "114"], "input", InputOptions(mean="1,2,3", pad_value=114)),
        (["--input.reverse_input_channels", "True"], "input", InputOptions(reverse_input_channels=True)),
        (["--explain_config.overlay_weight", "0.7"], "explain_config", ExplainConfig(overlay_weight=0.7)),
        (["--explain_config.postprocess", "False"], "explain_config", ExplainConfig(postprocess=False)),
    ],
)
def test_options(calls: list[dict[str, Any]], argv: list[str], name: str, value: object) -> None:
    assert run(*argv) == 0
    assert calls[0][name] == value


def test_a_recipe_gives_options_and_the_command_line_outranks_it(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("dump: true\ntargets: [dog, 3]\ninput:\n  mean: [1, 2, 3]\nexplain_config:\n  content: sheet\n")
    assert run("--config", str(recipe), "--explain_config.image_format", "JPG", "--dump", "False") == 0
    assert calls[0]["targets"] == ["dog", 3]
    assert calls[0]["dump"] is False
    assert calls[0]["input"] == InputOptions(mean=[1, 2, 3])
    config = calls[0]["explain_config"]
    assert (str(config.content), str(config.image_format)) == ("sheet", "jpg")


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(calls: list[dict[str, Any]], recipe: Path) -> None:
    assert run("--config", str(recipe)) == 0
    assert set(yaml.safe_load(recipe.read_text())) - {"data", "trainer"} <= calls[0].keys()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nonsense", "3"], "--nonsense"),
        (["--batch_size", "x"], "--batch_size: Expected int"),
        (["--dump", "maybe"], "--dump"),
        (["--input.pad_value", "x"], "--input.pad_value"),
        (["--explain_config.overlay_weight", "3"], "from 0 to 1"),
        (["--explain_config.nonsense", "3"], "nonsense"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--task", "cooking"], "expected one of classification"),
        (["--work_dir", ""], "--work_dir is empty"),
    ],
)
def test_a_wrong_option_ends_with_2_and_one_line(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert run(*argv) == 2
    message = capsys.readouterr().err
    assert message.startswith("otx: error: ")
    assert words in message
    assert message.count("\n") == 1
    assert not calls


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--preset", "turbo"], "expected one of speed, balance, quality"),
        (
            ["--explain_config.target_explain_group", "IMAGE", "--explain_mode", "blackbox"],
            "target_explain_group IMAGE asks for one map an image",
        ),
    ],
)
def test_a_wrong_option_is_refused_before_the_model_is_read(
    capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert run("--checkpoint", "absent.xml", "--data_root", "absent", *argv) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "dump: [\n  a",
        "just text",
        "foo: 3",
        "batch_size: many",
        "- 1\n- 2",
        "a: b: c",
        "config: {}",
        "explain_config: a",
    ],
)
def test_a_broken_recipe_ends_with_2_and_one_line(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert run("--config", str(tmp_path / "recipe.yaml")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not calls


def test_help_names_every_group_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for words in ("Model:", "What is explained:", "What is written:", "examples:", "--checkpoint FILE", "(default: 1)"):
        assert words in text
    assert "Union" not in text


@pytest.mark.parametrize(("argv", "code"), [([], 0), (["--help"], 0), (["--version"], 0), (["cook"], 2)])
def test_verbs(argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == code
    assert "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "code"), [(TargetError("no such class"), 2), (KeyboardInterrupt(), 130)], ids=["target", "interrupt"]
)
def test_errors_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def explain(self: Engine, **options: Any) -> ExplainRun:
        raise error

    monkeypatch.setattr(Engine, "explain", explain)
    assert run() == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["explain", "--help"], ["explain", "--nonsense"]])
def test_help_and_wrong_options_do_not_wait_for_openvino(argv: list[str]) -> None:
    script = f"""
import sys
from otx_xai.cli import main
try:
    main({argv!r})
except SystemExit:
    pass
assert not {{"openvino", "cv2", "torch", "lightning"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
