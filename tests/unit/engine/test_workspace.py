"""Folders of runs, and how the latest is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.engine.workspace import explain_run, new_run, newest_checkpoint
from otx_xai.errors import ConfigError, OutputError


def test_every_run_gets_a_folder_and_the_link_leads_to_the_last(tmp_path: Path):
    runs = [new_run(tmp_path, "train") for _ in range(3)]
    assert len(set(runs)) == 3
    assert all(run.parent == tmp_path and run.is_dir() for run in runs)
    link = tmp_path / ".latest" / "train"
    assert link.is_symlink()
    assert link.resolve() == runs[-1].resolve()
    assert not Path(link.readlink()).is_absolute(), "a workspace that is moved keeps its links"


def test_explaining_writes_into_the_folder_that_was_given(tmp_path: Path):
    assert explain_run(tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / ".latest" / "explain").resolve() == (tmp_path / "out").resolve()


def test_without_a_folder_runs_go_to_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for run in (new_run(None, "train"), explain_run(None)):
        assert run.parent == Path("otx-workspace")
        assert run.is_dir()


def test_the_best_checkpoint_of_the_latest_training_comes_first(tmp_path: Path):
    old, new = new_run(tmp_path, "train"), new_run(tmp_path, "train")
    (old / "best.ckpt").touch()
    with pytest.raises(ConfigError, match=r"holds none of best\.ckpt, last\.ckpt.*pass it as --checkpoint"):
        newest_checkpoint(tmp_path)
    (new / "last.ckpt").touch()
    assert newest_checkpoint(tmp_path) == (new / "last.ckpt").resolve()
    (new / "best.ckpt").touch()
    assert newest_checkpoint(tmp_path) == (new / "best.ckpt").resolve()


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        new_run(tmp_path / "file" / "out", "train")
