"""What a killed run was writing, and a disk that is full when a journal is closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otx_xai.errors import OutputError
from otx_xai.report.files import write_atomic
from otx_xai.report.journal import Journal
from otx_xai.report.staging import clear_staging, clear_torn


class Killed(BaseException):
    """In place of a kill: nothing is put in order afterwards."""


def test_what_a_kill_leaves_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise Killed

    write_atomic(tmp_path / "run.json", b"{}")
    with monkeypatch.context() as patches:
        patches.setattr(os, "replace", die)
        patches.setattr(os, "unlink", die)
        with pytest.raises(Killed):
            write_atomic(tmp_path / "run.json", b"new")
    assert len(os.listdir(tmp_path)) == 2
    clear_torn(tmp_path)
    assert os.listdir(tmp_path) == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"{}"


@pytest.mark.parametrize("name", ["a.tmp", ".a.tmp", ".0123456789abcdeg.tmp", "0123456789abcdef.tmp", ".latest"])
def test_files_of_others_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    clear_staging(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_folder_that_is_missing_has_nothing_to_clear(tmp_path: Path) -> None:
    clear_torn(tmp_path / "absent")
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_told_when_the_journal_is_closed(tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path / "full.jsonl")
    with pytest.raises(OutputError, match=r"full\.jsonl.*cannot be written: No space left"):
        journal.append({"name": "a"})
    with pytest.raises(OutputError, match=r"full\.jsonl.*cannot be written: No space left"):
        journal.close()
    journal.close()


def test_a_full_disk_is_told_out_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"), Journal(tmp_path / "full.jsonl") as journal:
        journal.append({"name": "a"})
