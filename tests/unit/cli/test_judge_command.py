"""``otx judge``: its options reach the engine, its table is printed, and its errors end with their codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import classifiers
import cv2
import pytest

from otx_xai import cli
from otx_xai.engine import Engine
from otx_xai.records import InputOptions, JudgedClass


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    classifiers.save_colour_classifier(tmp_path / "model.xml", "red green blue mix")
    for number, colour in enumerate(("red", "green")):
        picture = classifiers.coloured_image((64, 96), colour)
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
    return tmp_path


def run(*argv: str) -> int:
    return cli.main(["judge", *argv])


def test_a_table_is_printed_and_written(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--checkpoint", "model.xml", "--data_root", "*.png", "--methods", "reciprocam,activationmap"]
    assert run(*argv, "--steps", "3", "--work_dir", "out", "--debug") == 0
    text = capsys.readouterr().out
    assert "insertion zero ↑" in text
    assert "reciprocam - centre" in text
    folder = (desk / "out" / ".latest" / "judge").resolve()
    assert {path.name for path in folder.iterdir()} == {"judge.json", "judge.png"}
    rows = json.loads((folder / "judge.json").read_text())["methods"]
    assert [row["name"] for row in rows] == ["reciprocam", "activationmap", "random", "centre"]


def test_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Judged:
        exit_code = 7

        def summary(self) -> str:
            return "a table"

    def judge(self: Engine, **options: Any) -> Judged:
        seen.append(options | vars(self))
        return Judged()

    monkeypatch.setattr(Engine, "judge", judge)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("images: 7\nmethods: [rise, aise]\ninput:\n  mean: 3\n")
    argv = ["--config", str(recipe), "--judged", "Truth", "--sanity", "True", "--data_root", "photos", "--images", "8"]
    assert run(*argv) == 7
    told = seen[0]
    assert (told["images"], told["methods"], told["judged"]) == (8, ["rise", "aise"], JudgedClass.TRUTH)
    assert (told["sanity"], told["data_root"], told["input"]) == (True, "photos", InputOptions(mean=3))


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--images", "0"], 2, "--images is 0; expected at least 1"),
        (["--images", "many"], 2, "--images: Expected int"),
        (["--judged", "guess"], 2, "expected one of predicted, truth"),
        (["--methods", "cooking"], 2, "expected one of vitreciprocam, "),
        (["--methods", "rise,rise"], 2, "names rise more than once"),
        (["--data_root", "nowhere"], 5, "nowhere"),
        (["--checkpoint", "absent.xml"], 3, "absent.xml"),
        (["--methods", "vitreciprocam"], 4, "None of the methods fits: vitreciprocam"),
        (["--nonsense", "1"], 2, "--nonsense"),
    ],
)
def test_errors_end_with_their_codes(
    desk: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str
) -> None:
    assert run("--checkpoint", "model.xml", "--data_root", ".", "--work_dir", "out", *argv) == code
    message = capsys.readouterr().err
    assert "otx: error: " in message
    assert words in message
    assert "Traceback" not in message
