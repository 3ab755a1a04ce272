"""Images of a store are found and named as those of a folder are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from stores import memory_store, upload

from otx_xai.data import search_images
from otx_xai.data.reading import read_image
from otx_xai.errors import DataError, ImageError
from otx_xai.storage import Url, write_whole

PNG = cv2.imencode(".png", np.full((4, 6, 3), (30, 60, 90), np.uint8))[1].tobytes()
NAMES = (
    "b/2.png",
    "b/10.PNG",
    "a.jpg",
    "a.png",
    "no_suffix",
    "b/.hidden/x.png",
    ".y.png",
    "notes.txt",
    "c/d/e.png",
    "z",
)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Url]:
    with memory_store(tmp_path / "cache") as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, bucket: Url) -> Path:
    """The same files in a folder and in the store."""
    for name in NAMES:
        file = tmp_path / "val" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no image" if name in ("notes.txt", "z") else PNG)
    upload(tmp_path / "val", bucket / "val")
    return tmp_path / "val"


@pytest.mark.parametrize(
    "tail", ["", "/**/*.png", "/*", "/b/*", "/**", "/*/[0-9].png", "/b/.hidden/*.png", "/?.jpg", "/a.jpg"]
)
def test_a_store_is_searched_as_a_folder_is(folder: Path, bucket: Url, tail: str) -> None:
    here, there = search_images(f"{folder}{tail}"), search_images(f"{bucket}/val{tail}")
    assert [(image.name, image.stem) for image in there.images] == [(image.name, image.stem) for image in here.images]
    assert [image.file for image in there.images] == [
        image.file.replace(str(folder), f"{bucket}/val") for image in here.images
    ]
    assert [words.replace(f"{bucket}/val", str(folder)) for words in there.not_read] == list(here.not_read)


def test_lists_name_what_lies_beside_them_and_elsewhere(folder: Path, bucket: Url) -> None:
    write_whole(bucket / "val/list.txt", b"# images\r\nb/2.png\r\n\r\na.jpg\n./c/../b/10.PNG\n")
    found = search_images(str(bucket / "val/list.txt")).images
    assert [image.name for image in found] == ["b/2.png", "a.jpg", "b/10.PNG"]
    assert found[2].file == "memory://bucket/val/b/10.PNG"
    (folder / "urls.txt").write_text("memory://bucket/val/b/2.png\nmemory://bucket/other/a.jpg\n")
    found = search_images(folder / "urls.txt").images
    assert [(image.name, image.file) for image in found] == [
        ("val/b/2.png", "memory://bucket/val/b/2.png"),
        ("other/a.jpg", "memory://bucket/other/a.jpg"),
    ]


def test_lists_do_not_mix_paths_and_urls(folder: Path, bucket: Url) -> None:
    (folder / "mixed.txt").write_text(f"a.jpg\n{bucket}/val/a.jpg\n")
    with pytest.raises(DataError, match="names paths and URLs"):
        search_images(folder / "mixed.txt")


def test_images_of_a_store_are_read_as_files_are(folder: Path, bucket: Url) -> None:
    assert np.array_equal(read_image(f"{bucket}/val/a.jpg"), read_image(folder / "a.jpg"))
    with pytest.raises(ImageError, match=r"'memory://bucket/val/none.png' does not exist"):
        read_image(f"{bucket}/val/none.png")
    write_whole(bucket / "empty.png", b"")
    with pytest.raises(ImageError, match="is an empty file"):
        read_image(f"{bucket}/empty.png")


def test_what_is_not_there_is_told(folder: Path, bucket: Url) -> None:
    with pytest.raises(DataError, match=r"'memory://bucket/none' does not exist, or is empty"):
        search_images(f"{bucket}/none")
    with pytest.raises(DataError, match="matches no image, and no file at all was found"):
        search_images(f"{bucket}/val/*.tif")
    with pytest.raises(DataError, match="names no bucket"):
        search_images("memory://b*/x.png")
    write_whole(bucket / "texts/a.txt", b"no image")
    with pytest.raises(DataError, match=r"holds no image: .* 1 other files were found \(1 .txt\)"):
        search_images(f"{bucket}/texts")
    with pytest.raises(DataError, match=r"The list 'memory://bucket/none.txt' cannot be read: No such file"):
        search_images(f"{bucket}/none.txt")
