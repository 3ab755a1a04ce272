"""A model of a store is fetched with what belongs to it, once, and again when it has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import classifiers
import openvino as ov
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import memory_store, upload

from otx_xai.errors import ModelError
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
