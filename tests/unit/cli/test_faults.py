"""What users read who mistype an option."""

from __future__ import annotations

import argparse

import pytest

from otx_xai.cli import main
from otx_xai.cli.faults import told_plainly

OPTIONS = ("--data_root", "--input.mean", "--input.scale", "--explain_config.threshold", "--trainer.max_epochs")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--mean 1", " (did you mean --input.mean?)"),
        ("--data_rot=x", " (did you mean --data_root?)"),
        ("--max_epochs 3", " (did you mean --trainer.max_epochs?)"),
        ("--nothing", ""),
    ],
)
def test_an_option_that_was_meant_is_named(typed: str, meant: str) -> None:
    error = argparse.ArgumentError(None, f"unrecognized arguments: {typed}")
    assert told_plainly(error, OPTIONS) == f"unrecognized arguments: {typed}{meant}"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--trainer.max_epochs", "many"), "--trainer.max_epochs: Expected int; it was given 'many'. `otx train"),
        (("--model.class_path", "nowhere.Net"), "--model: Problem with given class_path 'nowhere.Net': No module"),
        (("--model", "torch.nn.Linear"), "--model: Import path does not correspond to a subclass of OTXModel; it was"),
        (("--max_epochs", "many"), "--max_epochs: "),
        (("--max_epoch", "3"), "unrecognized arguments: --max_epoch 3 (did you mean --max_epochs?)."),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_a_line(
    typed: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *typed]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"otx: error: {told}")
    assert "Union" not in error
    assert "NoneType" not in error
    assert error.count("\n") == 1
