"""Annotated data of a store are recognised as those of a folder are; only the images are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from drawn_sets import write_multilabel_csv, write_voc
from stores import memory_store, upload

from otx_xai.data.formats import Recognised, recognise
from otx_xai.data.shape_sets import write_coco, write_image_folder
from otx_xai.errors import DataError
from otx_xai.storage import Url, write_whole


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Url]:
    with memory_store(tmp_path / "cache") as url:
        yield url


@pytest.mark.parametrize("write", [write_image_folder, write_coco, write_voc, write_multilabel_csv])
def test_every_format(write: Callable[..., object], tmp_path: Path, bucket: Url) -> None:
    write(tmp_path / "data", {"train": 4, "val": 2}, size=32)
    upload(tmp_path / "data", bucket / "data")
    _compare(recognise(tmp_path / "data"), recognise(f"{bucket}/data/"), tmp_path, bucket)


def test_one_file_of_annotations(tmp_path: Path, bucket: Url) -> None:
    write_coco(tmp_path / "data", {"train": 4, "val": 2}, size=32)
    upload(tmp_path / "data", bucket / "data")
    file = "data/annotations/instances_val.json"
    _compare(recognise(tmp_path / file), recognise(f"{bucket}/{file}"), tmp_path, bucket)


def test_images_alone_and_a_pattern(tmp_path: Path, bucket: Url) -> None:
    write_image_folder(tmp_path / "data", {"": 4}, size=32)
    upload(tmp_path / "data", bucket / "data")
    for tail in ("/square", "/**/*.jpg"):
        _compare(recognise(f"{tmp_path}/data{tail}"), recognise(f"{bucket}/data{tail}"), tmp_path, bucket)


def test_faults_name_the_store(bucket: Url) -> None:
    write_whole(bucket / "data/annotations/instances_default.json", b'{"images": ')
    with pytest.raises(DataError, match=r"memory://bucket/data/annotations/instances_default\.json"):
        recognise(f"{bucket}/data", "detection")
    with pytest.raises(DataError, match="'memory://bucket/none' does not exist, or is empty"):
        recognise(f"{bucket}/none")


def _compare(here: Recognised, there: Recognised, folder: Path, bucket: Url) -> None:
    """Compare all but the arrays of samples, whose bytes are compared."""
    assert _plain(there) == [
        (name, [(replace(image, file=image.file.replace(str(folder), str(bucket))), *more) for image, *more in samples])
        for name, samples in _plain(here)
    ]
    assert there.root == here.root.replace(str(folder), str(bucket))
    assert (there.format, there.task, there.labels) == (here.format, here.task, here.labels)
    assert there.summary() == here.summary().replace(str(folder), str(bucket))
    assert [image.name for image in there.images] == [image.name for image in here.images]


def _plain(found: Recognised) -> list[tuple[str, list[tuple]]]:
    return [
        (name, [(one.image, one.classes, one.boxes.tobytes(), one.box_labels, one.size) for one in samples])
        for name, samples in found.subsets.items()
    ]
