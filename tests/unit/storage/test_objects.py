"""Objects of a store: whole, listed, conditional; patience with what may pass, and none with what stays."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from otx_xai.errors import ConfigError
from otx_xai.storage import Url, patience, read_bytes, read_text, write_whole
from otx_xai.storage.objects import (
    look,
    objects_below,
    read_head,
    remove_object,
    remove_objects,
    send_files,
    write_object,
)
from otx_xai.storage.patience import Patience, patiently

BUCKET = Url("memory://bucket")


@pytest.fixture(autouse=True)
def _empty_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(patience, "PATIENCE", Patience(tries=4, timeouts=2, seconds=0.3, first_wait=0.001))
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_objects_are_read_as_they_were_written() -> None:
    write_whole("memory://bucket/a/b.bin", b"\r\nfirst")
    write_whole(BUCKET / "a/b.bin", b"\r\nsecond")
    assert read_bytes(BUCKET / "a/b.bin") == b"\r\nsecond"
    assert read_text("memory://bucket/a/b.bin") == "\nsecond"
    assert read_head(BUCKET / "a/b.bin", 4) == b"\r\nse"
    assert read_head(BUCKET / "a/b.bin", 400) == b"\r\nsecond"


def test_what_is_missing_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _count(monkeypatch, "cat_file")
    with pytest.raises(FileNotFoundError) as caught:
        read_bytes(BUCKET / "none")
    assert (caught.value.strerror, caught.value.filename) == ("No such file or directory", "memory://bucket/none")
    assert len(calls) == 1
    assert look(BUCKET / "none") is None


def test_objects_are_listed_by_name_and_tagged_by_content() -> None:
    for name in ("b/2", "a", "b/1", "bb"):
        write_whole(BUCKET / "top" / name, name.encode())
    write_whole(Url("memory://bucket/topmost"), b"another")
    assert list(objects_below(BUCKET / "top")) == ["a", "b/1", "b/2", "bb"]
    assert [entry.size for entry in objects_below(BUCKET / "top").values()] == [1, 3, 3, 2]
    assert objects_below(BUCKET / "none") == {}
    before = look(BUCKET / "top/a")
    write_whole(BUCKET / "top/a", b"A")
    after = look(BUCKET / "top/a")
    assert before is not None
    assert after is not None
    assert before.size == after.size
    assert before.tag != after.tag


def test_of_several_who_put_what_must_be_new_one_succeeds() -> None:
    write_object(BUCKET / "lock", b"first", only_new=True)
    with pytest.raises(FileExistsError, match="File exists"):
        write_object(BUCKET / "lock", b"second", only_new=True)
    assert read_bytes(BUCKET / "lock") == b"first"


def test_a_store_without_conditions_is_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryFileSystem.pipe_file

    def put(self: MemoryFileSystem, path: str, value: bytes) -> None:
        plain(self, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", put)
    write_object(BUCKET / "lock", b"first", only_new=True)
    with pytest.raises(FileExistsError):
        write_object(BUCKET / "lock", b"second", only_new=True)
    assert read_bytes(BUCKET / "lock") == b"first"


def test_files_are_sent_and_removed_side_by_side(tmp_path: Path) -> None:
    files = {BUCKET / f"{number:02d}": tmp_path / f"{number:02d}" for number in range(40)}
    for file in files.values():
        file.write_bytes(file.name.encode())
    send_files(files)
    assert [read_bytes(url) for url in files] == [file.name.encode() for file in files.values()]
    assert remove_object(BUCKET / "00")
    assert not remove_object(BUCKET / "00")
    remove_objects(files)
    assert objects_below(BUCKET) == {}


def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(BUCKET / "a", b"content")
    calls = _count(monkeypatch, "cat_file", fail_first=3)
    assert read_bytes(BUCKET / "a") == b"content"
    assert len(calls) == 4


def test_what_does_not_pass_is_an_error_that_says_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    _count(monkeypatch, "pipe_file", fail_first=99)
    with pytest.raises(OSError, match=r"503 Slow Down \(after 4 tries\).*memory://bucket/a"):
        write_whole(BUCKET / "a", b"content")


def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    awake = threading.Event()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: awake.wait(20))
    start = time.monotonic()
    with pytest.raises(OSError, match=r"has not answered within 0 s \(after 2 tries\)"):
        read_bytes(BUCKET / "a")
    assert time.monotonic() - start < 5
    awake.set()


def test_errors_of_ours_are_passed_on_at_once() -> None:
    tries = []

    def call() -> None:
        tries.append(1)
        raise ConfigError("an option is wrong")

    with pytest.raises(ConfigError, match="an option is wrong"):
        patiently(call, "testing")
    assert len(tries) == 1


@pytest.mark.parametrize(("url", "extra"), [("s3://b/a", "s3"), ("gs://b/a", "gcs"), ("hf://o/m", "hf")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, url: str, extra: str) -> None:
    for name in ("s3fs", "gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'otx-xai\[{extra}\]'"):
        read_bytes(url)


def _count(monkeypatch: pytest.MonkeyPatch, name: str, fail_first: int = 0) -> list[str]:
    """Note the calls of a method of the store, and let the first of them fail as an overloaded store does."""
    plain, calls = getattr(MemoryFileSystem, name), []

    def call(self: object, path: str, *more: object, **named: object) -> object:
        calls.append(path)
        if len(calls) <= fail_first:
            raise RuntimeError("503 Slow Down")
        return plain(self, path, *more, **named)

    monkeypatch.setattr(MemoryFileSystem, name, call)
    return calls
