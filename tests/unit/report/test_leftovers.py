from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from otx_xai.errors import OutputError
from otx_xai.report import Journal
from otx_xai.report.depots import FolderDepot
from otx_xai.report.leftovers import EARLIER, remove_leftovers, set_aside, set_journal_aside
from otx_xai.report.shelves import PlainShelf
from otx_xai.report.staging import STAGING, clear_staging


def make(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(os.fsencode(file))


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def journal(folder: Path, *lists: list[str]) -> Path:
    path = folder / "predictions.jsonl"
    with Journal(path) as new:
        for files in lists:
            new.append({"name": "x", "files": files})
    return path


def remove(path: Path) -> int:
    return remove_leftovers(path, FolderDepot(path.parent))


def publish(folder: Path, files: list[str]) -> None:
    PlainShelf(FolderDepot(folder), folder / STAGING).put({}, files)


def test_only_what_a_journal_listed_and_lists_no_more_is_removed(tmp_path: Path) -> None:
    old = ["saliency_map/a/1.png", "saliency_map/a/2.png", "saliency_map/b/c/3.png", "saliency_map/4.png"]
    own = ["saliency_map/a/own_overlay.png", "saliency_map/notes.txt", "saliency_map.png"]
    make(tmp_path, *old, *own)
    set_journal_aside(journal(tmp_path, old[:2], [], old[2:]))
    path = journal(tmp_path, [old[3]], ["saliency_map/new.png"])
    assert remove(path) == 3
    assert files_in(tmp_path) == {old[3], *own, "predictions.jsonl"}
    assert not (tmp_path / "saliency_map/b").exists(), "folders that are empty go as well"
    assert remove(path) == 0


def test_lists_of_several_runs_add_up_and_may_be_torn(tmp_path: Path) -> None:
    make(tmp_path, "saliency_map/1.png", "saliency_map/2.png", "saliency_map/3.png")
    set_aside(tmp_path, [{"files": ["saliency_map/1.png"]}, {"files": []}, {}])
    with open(tmp_path / EARLIER, "ab") as file:
        file.write(b'["saliency_map/')
    set_journal_aside(journal(tmp_path, ["saliency_map/2.png"]))
    path = journal(tmp_path)
    path.write_bytes(b'{"files": ["saliency_map/3.png"]}\nbroken\n{"files": 3}\n[]\n')
    assert remove(path) == 2
    assert files_in(tmp_path / "saliency_map") == {"3.png"}


@pytest.mark.parametrize("entry", ["../outside.png", "saliency_map/../../outside.png", "run.json", "/etc/x", 3, None])
def test_nothing_outside_of_the_pictures_is_touched(entry: object, tmp_path: Path) -> None:
    make(tmp_path, "outside.png", "out/run.json", "out/saliency_map/a.png")
    path = journal(tmp_path / "out")
    (tmp_path / "out" / EARLIER).write_text(json.dumps([entry]) + "\n")
    assert remove(path) == 0
    assert {"outside.png", "out/run.json", "out/saliency_map/a.png"} < files_in(tmp_path)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"saliency_map/\xff_overlay.png")
    try:
        make(tmp_path, name)
    except OSError:  # a file system of another kind
        make(tmp_path, name := "saliency_map/ß_overlay.png")
    set_journal_aside(journal(tmp_path, [name]))
    assert remove(journal(tmp_path)) == 1


def test_a_file_system_that_does_not_tell_upper_and_lower_case_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the old name is another name of the new file."""
    make(tmp_path, "saliency_map/Cat.png", "saliency_map/dog.png")
    set_journal_aside(journal(tmp_path, ["saliency_map/Cat.png"], ["saliency_map/dog.png"]))
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name == "SALIENCY_MAP" or exists(path))
    assert remove(journal(tmp_path, ["saliency_map/cat.png"])) == 1
    assert files_in(tmp_path / "saliency_map") == {"Cat.png"}


def test_what_cannot_be_removed_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "saliency_map/1.png", "saliency_map/2.png")
    set_journal_aside(journal(tmp_path, ["saliency_map/1.png", "saliency_map/2.png"]))
    path, unlink = journal(tmp_path), os.unlink

    def refused(target: Path) -> None:
        if target.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        assert remove(path) == 1
    assert "1.png is of an earlier run, and cannot be removed: Permission denied" in caplog.text
    assert remove(path) == 1
    assert not (tmp_path / EARLIER).exists()


def test_a_list_that_cannot_be_removed_or_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_journal_aside(journal(tmp_path, ["saliency_map/1.png"]))
    path, unlink = journal(tmp_path), os.unlink

    def refused(target: Path) -> None:
        if target.name == EARLIER:
            raise OSError(errno.EIO, "Input/output error")
        unlink(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        with pytest.raises(OutputError, match=r"\.earlier\.jsonl' cannot be written: Input/output error"):
            remove(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match=r"predictions\.jsonl cannot be read: Is a directory"):
        set_journal_aside(path)


def test_a_folder_that_takes_no_list(tmp_path: Path) -> None:
    (tmp_path / EARLIER).mkdir()
    set_aside(tmp_path, [{"files": []}])
    with pytest.raises(OutputError, match=r"\.earlier\.jsonl' cannot be written"):
        set_aside(tmp_path, [{"files": ["saliency_map/a.png"]}])


@pytest.mark.parametrize("other_disk", [False, True])
def test_files_are_moved_to_their_places(other_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / STAGING, "saliency_map/a/1.png", "saliency_map/2.png", "saliency_map/waits.png")
    make(tmp_path, "saliency_map/2.png")
    (tmp_path / "saliency_map/2.png").write_text("old")
    replace = os.replace

    def between_disks(source: Path, target: Path) -> None:
        if other_disk and STAGING in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", between_disks)
    publish(tmp_path, ["saliency_map/a/1.png", "saliency_map/2.png"])
    assert files_in(tmp_path / STAGING) == {"saliency_map/waits.png"}
    clear_staging(tmp_path)
    assert files_in(tmp_path) == {"saliency_map/a/1.png", "saliency_map/2.png"}
    assert (tmp_path / "saliency_map/2.png").read_text() == "saliency_map/2.png"
    clear_staging(tmp_path)


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    make(tmp_path / STAGING, "saliency_map/1.png")
    (tmp_path / "saliency_map").touch()
    with pytest.raises(OutputError, match=r"saliency_map.1\.png' cannot be written"):
        publish(tmp_path, ["saliency_map/1.png"])
