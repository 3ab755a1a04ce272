"""A model of a store is fetched with what belongs to it, once, and again when it has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import classifiers
import openvino as ov
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import memory_store, upload

from otx_xai.errors import ConfigError, ModelError
from otx_xai.model.stored_model import fetch_model
from otx_xai.storage import Url, place_of, write_whole


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Url]:
    with memory_store(tmp_path / "cache") as url:
        ov.save_model(classifiers.colour_classifier(), tmp_path / "model/colours.xml", compress_to_fp16=False)
        (tmp_path / "model/config.json").write_text("{}")
        (tmp_path / "model/other.bin").write_bytes(b"weights of another model")
        upload(tmp_path / "model", url / "model")
        yield url


def _model(url: Url, name: str) -> Url:
    place = place_of(f"{url}/{name}")
    assert isinstance(place, Url)
    return place


def test_a_model_comes_with_its_weights_and_what_tells_of_it(bucket: Url, tmp_path: Path) -> None:
    file = fetch_model(bucket / "model/colours.xml")
    assert file.is_relative_to(tmp_path / "cache")
    assert sorted(path.name for path in file.parent.iterdir()) == ["colours.bin", "colours.xml", "config.json"]
    for name in ("colours.bin", "colours.xml"):
        assert (file.parent / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_it_is_fetched_once_and_again_when_it_has_changed(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    plain = MemoryFileSystem.get_file

    def get_file(self: MemoryFileSystem, path: str, *more: object, **named: object) -> None:
        fetched.append(path)
        plain(self, path, *more, **named)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    first = fetch_model(bucket / "model/colours.xml")
    assert len(fetched) == 3
    assert fetch_model(bucket / "model/colours.xml") == first
    assert len(fetched) == 3
    write_whole(bucket / "model/config.json", b"[]")
    second = fetch_model(bucket / "model/colours.xml")
    assert second != first
    assert (second.parent / "config.json").read_bytes() == b"[]"
    assert (first.parent / "config.json").read_bytes() == b"{}"


def test_old_states_go_where_they_take_too_much(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that a run may be reading."""

    def fetched(content: bytes) -> Path:
        write_whole(bucket / "model/config.json", content)
        return fetch_model(bucket / "model/colours.xml").parent

    old, older, recent = fetched(b"[1]"), fetched(b"[2]"), fetched(b"[3]")
    for days, state in ((2, old), (3, older)):
        os.utime(state, (time.time() - days * 86400,) * 2)
    size = sum(file.stat().st_size for file in recent.iterdir())
    monkeypatch.setenv("OTX_XAI_CACHE_GB", str(3.5 * size / 1e9))
    fourth = fetched(b"[4]")
    assert [state.exists() for state in (older, old, recent, fourth)] == [False, True, True, True]
    monkeypatch.setenv("OTX_XAI_CACHE_GB", "0")
    assert fetch_model(bucket / "model/colours.xml").parent == fourth
    assert old.exists(), "nothing is looked at where nothing was fetched"
    fifth = fetched(b"[5]")
    assert [state.exists() for state in (old, recent, fourth, fifth)] == [False, True, True, True]
    monkeypatch.setenv("OTX_XAI_CACHE_GB", "much")
    with pytest.raises(ConfigError, match=r"OTX_XAI_CACHE_GB is 'much'; expected a number of gigabytes"):
        fetch_model(bucket / "model/colours.xml")


def test_a_folder_is_fetched_as_a_whole(bucket: Url) -> None:
    folder = fetch_model(_model(bucket, "model/"))
    assert sorted(path.name for path in folder.iterdir()) == ["colours.bin", "colours.xml", "config.json", "other.bin"]


def test_weights_that_an_onnx_model_names_are_fetched(bucket: Url) -> None:
    location = b"\x0a\x08location\x12\x0bweights.dat"
    write_whole(bucket / "onnx/model.onnx", location + b"\x0a\x08location\x12\x0a../secrets")
    write_whole(bucket / "onnx/weights.dat", b"weights")
    write_whole(bucket / "secrets", b"hush")
    file = fetch_model(bucket / "onnx/model.onnx")
    assert (file.parent / "weights.dat").read_bytes() == b"weights"
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.onnx", "weights.dat"]
    assert not (file.parent.parent / "secrets").exists()


def test_what_is_missing_is_told(bucket: Url) -> None:
    with pytest.raises(ModelError, match=r"The checkpoint memory://bucket/model/none\.xml does not exist"):
        fetch_model(bucket / "model/none.xml")
    with pytest.raises(ModelError, match="The checkpoint memory://bucket/none does not exist"):
        fetch_model(bucket / "none")


def test_a_store_that_refuses_is_told(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "get_file", refuse)
    with pytest.raises(ModelError, match=r"cannot be fetched: .*(Access Denied|Permission denied)"):
        fetch_model(bucket / "model/colours.xml")
