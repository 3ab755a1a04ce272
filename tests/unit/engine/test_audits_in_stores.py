"""An audit whose work directory is in a store leaves there what one on this machine leaves in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classifiers
import openvino as ov
import pytest
from shard_runs import LABELS, differing, left_by, write_photos
from stores import contents, memory_store, refuse_some, upload

from otx_xai import Audit, AuditConfig, Engine
from otx_xai.engine import audit_job
from otx_xai.engine.audit_files import links
from otx_xai.errors import BusyError, ConfigError, GraphError
from otx_xai.records import ImageInfo
from otx_xai.report import locked
from otx_xai.storage import Url, write_whole
from otx_xai.storage.fetching import scratch_folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, photos, and their audit on this machine."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "model").mkdir()
    ov.save_model(classifiers.colour_classifier(), folder / "model/colours.xml", compress_to_fp16=False)
    write_photos(folder / "photos", 9, (4,))
    audit(folder, folder / "out")
    return folder


@pytest.fixture
def bucket(local: Path, tmp_path: Path) -> Iterator[Url]:
    """The same photos and model in a store."""
    with memory_store(tmp_path / "cache") as url:
        upload(local / "photos", url / "photos")
        upload(local / "model", url / "model")
        yield url


def audit(root: Path | Url, work_dir: Any, **more: Any) -> Audit:
    told = {"audit_config": AuditConfig(check_images=2), "labels": LABELS} | more
    return Engine(work_dir=work_dir).audit(f"{root}/model/colours.xml", data_root=f"{root}/photos", **told)


def copied(url: Url, folder: Path) -> dict[str, bytes]:
    """Return what an audit has left in a store, as its folder on this machine is compared."""
    for name, data in contents(url).items():
        write_whole(folder / name, data)
    return left_by(folder)


def test_all_files_are_put(local: Path, bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although a third of all calls is refused; what an earlier audit has left beside them goes."""
    write_whole(bucket / "out/audit/data/of_more_images.js", b"old")
    counts = refuse_some(monkeypatch, 0.3)
    done = audit(bucket, f"{bucket}/out")
    monkeypatch.undo()
    assert counts()[0] > 5
    assert str(done.page) == f"{bucket}/out/audit/index.html"
    assert not differing(copied(bucket / "out/audit", tmp_path / "left"), left_by(local / "out/audit"))
    assert b"data_root: memory://bucket/photos" in contents(bucket / "out")["audit.yaml"]


def test_what_was_stopped_goes_on_elsewhere(
    local: Path, bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise GraphError("the checks fail")

    with monkeypatch.context() as patch:
        patch.setattr(audit_job, "check", fail)
        with pytest.raises(GraphError, match="the checks fail"):
            audit(bucket, f"{bucket}/out")
    assert ".unfinished" in contents(bucket / "out/audit")
    assert not scratch_folder(bucket / "out/audit").exists()
    monkeypatch.setenv("OTX_XAI_CACHE", str(tmp_path / "elsewhere"))
    with caplog.at_level("INFO"):
        audit(bucket, f"{bucket}/out", audit_config=AuditConfig(check_images=0))
    assert "Resuming: 8 of 9 images are done." in caplog.text
    assert ".unfinished" not in contents(bucket / "out/audit")
    audit(bucket, f"{bucket}/out")
    assert not differing(copied(bucket / "out/audit", tmp_path / "left"), left_by(local / "out/audit"))
    with locked(bucket / "out/audit"), pytest.raises(BusyError, match="Another run is writing into"):
        audit(bucket, f"{bucket}/out")


def test_shards_in_a_store_end_in_the_same_files(local: Path, bucket: Url, tmp_path: Path) -> None:
    for number in (2, 1):
        audit(bucket, f"{bucket}/out", shard=f"{number}/2")
    assert not [name for name in contents(bucket / "out/audit/shards") if not name.endswith(".lock")]
    with pytest.raises(ConfigError, match="need no merge in a store"):
        Engine(work_dir=f"{bucket}/out").merge()
    audit(bucket, f"{bucket}/out")
    expected = left_by(local / "out/audit")
    expected = {name: data for name, data in expected.items() if not name.startswith("evidence/")}  # it stays in parts
    assert not differing(copied(bucket / "out/audit", tmp_path / "left"), expected)


def test_the_page_links_to_originals_in_its_own_bucket() -> None:
    def link(file: str, folder: Path | Url) -> str:
        class _Evidence:
            names = ("a",)

        return links(_Evidence(), [ImageInfo(file, "a", "a")], folder)[0]  # type: ignore[arg-type]

    assert link("s3://b/val/a b.jpg", Url("s3://b/out/audit")) == "../../val/a%20b.jpg"
    assert link("s3://b/val/a.jpg", Url("s3://other/out")) == ""
    assert link("s3://b/val/a.jpg", Path("out")) == ""
    assert link("val/a.jpg", Url("s3://b/out")) == ""
    assert link("val/a.jpg", Path("out/audit")) == "../../val/a.jpg"
