"""A run that reads from a store, or writes into one, gives the bytes of one on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classifiers
import cv2
import openvino as ov
import pytest
from stores import memory_store, upload

from otx_xai import Engine
from otx_xai.explain.run import ExplainRun
from otx_xai.storage import Url

pytestmark = pytest.mark.usefixtures("ctrl_c")

LABELS = "red,green,blue,mixture"
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its labels, nine images, and a run of them on this machine."""
    folder = tmp_path_factory.mktemp("local")
    ov.save_model(classifiers.colour_classifier(), folder / "colours.xml", compress_to_fp16=False)
    (folder / "labels.txt").write_text("\n".join(LABELS.split(",")))
    for i in range(9):
        photo = folder / "photos" / "ab"[i % 2] / f"{i}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(photo), classifiers.coloured_image((40, 52), COLOURS[i % 3])[..., ::-1])
    explain(folder / "colours.xml", folder / "photos", folder / "out", labels=folder / "labels.txt")
    return folder


@pytest.fixture
def bucket(local: Path, tmp_path: Path) -> Iterator[Url]:
    """The same model, labels and images in a store."""
    with memory_store(tmp_path / "cache") as url:
        for name in ("colours.xml", "colours.bin", "labels.txt"):
            (url_file := tmp_path / "upload" / name).parent.mkdir(exist_ok=True)
            url_file.write_bytes((local / name).read_bytes())
        upload(tmp_path / "upload", url / "model")
        upload(local / "photos", url / "photos")
        yield url


def explain(model: Any, photos: Any, work_dir: Any, **options: Any) -> ExplainRun:
    options = {"dump": True, "labels": LABELS, "output": None} | options
    return Engine(work_dir=work_dir).explain(model, data_root=photos, **options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pictures(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("saliency_map/")}


def lines(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Return the lines of a run, without what differs from one place and one time to another."""
    found = [json.loads(line) for line in files["predictions.jsonl"].splitlines()]
    return [{key: value for key, value in line.items() if key not in ("path", "seconds")} for line in found]


def test_model_labels_and_images_are_read_from_a_store(local: Path, bucket: Url, tmp_path: Path) -> None:
    run = explain(
        f"{bucket}/model/colours.xml", f"{bucket}/photos", tmp_path / "out", labels=f"{bucket}/model/labels.txt"
    )
    assert (run.explained, run.exit_code) == (9, 0)
    here, there = files_of(local / "out"), files_of(tmp_path / "out")
    assert pictures(there) == pictures(here)
    assert len(pictures(here)) >= 18
    assert lines(there) == lines(here)
    manifest = json.loads(there["run.json"])
    assert manifest["model_sha256"] == json.loads(here["run.json"])["model_sha256"]
    assert manifest["settings"]["checkpoint"] == "memory://bucket/model/colours.xml"
    assert manifest["settings"]["data_root"] == "memory://bucket/photos"
    again = Engine(work_dir=tmp_path / "again").explain(**_settings(tmp_path / "out/config.yaml"))
    assert again.explained == 9


def _settings(config: Path) -> dict[str, Any]:
    """Return what a configuration says of model, data and labels."""
    import yaml

    content = yaml.safe_load(config.read_text())
    return {name: content[name] for name in ("checkpoint", "data_root", "labels", "dump")}
