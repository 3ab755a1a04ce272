"""Audits whose evidence is taken in shards: they end in the files of an audit of one process, whatever happens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import classifiers
import openvino as ov
import pytest
from shard_runs import LABELS, differing, left_by, write_photos

from otx_xai import Audit, AuditConfig, Engine
from otx_xai.cli import main
from otx_xai.errors import BusyError, ConfigError, MissingPartsError, OutputError
from otx_xai.report import Journal, locked
from otx_xai.runtime import Session
from otx_xai.shards import evidence_merging
from otx_xai.shards.shard_plan import read_plan
from otx_xai.shards.shard_run import note_lethal

COUNT = 23
SHARDS = 3


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, one that differs a little, and photos in folders of their classes, of which two are broken."""
    folder = tmp_path_factory.mktemp("desk")
    for name, strength in {"model": 0.2, "other": 0.15}.items():
        model = classifiers.colour_classifier(strength=strength)
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
    write_photos(folder / "photos", COUNT, (4, 20))
    for number, path in enumerate(sorted((folder / "photos").rglob("*.png"))):
        colour = "red" if number == 7 else ("red", "green", "blue")[int(path.stem) % 3]
        (folder / "val" / colour).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "val" / colour / path.name)
    return folder


def audit(desk: Path, work_dir: Path, shard: str | None = None, **more: Any) -> Audit:
    told = {"audit_config": AuditConfig(check_images=4), "baseline": desk / "other.xml", "labels": LABELS} | more
    return Engine(work_dir=work_dir).audit(desk / "model.xml", data_root=desk / "val", shard=shard, **told)


def gather(desk: Path, work_dir: Path, *numbers: int, **more: Any) -> None:
    for number in numbers:
        audit(desk, work_dir, f"{number}/{SHARDS}", **more)


@pytest.fixture(scope="module")
def single(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an audit of one process leaves."""
    work_dir = tmp_path_factory.mktemp("single")
    audit(desk, work_dir)
    return left_by(work_dir / "audit")


@pytest.mark.parametrize("merges", [True, False])
def test_shards_end_in_the_files_of_one_process(
    desk: Path, single: dict[str, bytes], tmp_path: Path, merges: bool
) -> None:
    gather(desk, tmp_path, 3, 1, 2)
    assert not (tmp_path / "audit" / "index.html").exists()
    if merges:
        assert main(["merge", str(tmp_path)]) == 7
    done = audit(desk, tmp_path)
    assert (done.images, len(done.failures), done.exit_code) == (COUNT - 2, 2, 7)
    assert not differing(left_by(tmp_path / "audit"), single)
    assert {"index.html", "evidence/maps.bin", "baseline/images.bin"} <= single.keys()
    files = [path for path in (tmp_path / "audit").rglob("*") if path.is_file()]
    assert tmp_path / "audit/plan.jsonl" in files
    assert not [path for path in files for place in (desk, tmp_path) if str(place).encode() in path.read_bytes()]


def test_shards_find_images_where_they_are_now(desk: Path, single: dict[str, bytes], tmp_path: Path) -> None:
    """As on a machine on which the data are mounted elsewhere."""
    gather(desk, tmp_path / "out", 1)
    shutil.copytree(desk, tmp_path / "desk")
    gather(tmp_path / "desk", tmp_path / "out", 2, 3)
    assert audit(desk, tmp_path / "out").images == COUNT - 2
    alike = {name: left_by(tmp_path / "out/audit").get(name) for name in ("evidence/maps.bin", "baseline/images.bin")}
    assert alike == {name: single[name] for name in alike}


def test_another_conclusion_takes_no_evidence_again(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"baseline": None, "audit_config": AuditConfig(check_images=0)}
    gather(desk, tmp_path, 1, 2, 3, **more)
    monkeypatch.setattr(Session, "stream", None)
    assert audit(desk, tmp_path, fail_on="accuracy=0.99", **more).exit_code == 8
    assert audit(desk, tmp_path, fail_on="accuracy=0.1", **more).exit_code == 7


def test_missing_parts_are_named(desk: Path, tmp_path: Path) -> None:
    gather(desk, tmp_path, 2)
    for conclude in (lambda: audit(desk, tmp_path), Engine(work_dir=tmp_path).merge):
        with pytest.raises(MissingPartsError, match=r"2 of 3 shards .* not done: 1, 3\..*audit each with --shard K/3"):
            conclude()
    gather(desk, tmp_path, 1, 3)
    (tmp_path / "audit/parts/00002/evidence/maps.bin").write_bytes(b"")
    with pytest.raises(OutputError, match=r"00002/evidence is shorter than its journal"):
        audit(desk, tmp_path)
    shutil.rmtree(tmp_path / "audit/parts/00002")
    gather(desk, tmp_path, 2, resume=False)
    assert audit(desk, tmp_path).images == COUNT - 2


def test_another_audit_is_refused(desk: Path, tmp_path: Path) -> None:
    gather(desk, tmp_path, 1)
    with pytest.raises(ConfigError, match=r"What differs: baseline\.model_sha256"):
        audit(desk, tmp_path, f"2/{SHARDS}", baseline=desk / "model.xml")
    with pytest.raises(ConfigError, match=r"What differs: batch_size \(1 before, 2 now\)"):
        audit(desk, tmp_path, batch_size=2)
    with pytest.raises(ConfigError, match=r"shards \(3 before, 4 now\)"):
        audit(desk, tmp_path, "1/4")
    with pytest.raises(ConfigError, match="--dry_run was given beside --shard"):
        audit(desk, tmp_path, "1/3", dry_run=True)
    with pytest.raises(ConfigError, match="--precision auto was given beside --shard"):
        audit(desk, tmp_path, "1/3", precision="auto")
    (folder := tmp_path / "audit/shards/00002").mkdir(parents=True)
    with locked(folder), pytest.raises(BusyError, match="Another run is writing into"):
        audit(desk, tmp_path, "2/3")


def test_a_shard_that_dies_goes_on(
    desk: Path, single: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here in the pass of its baseline."""
    gather(desk, tmp_path, 1, 3)
    plain, seen, lines = Journal.append, 0, 9

    def dying(self: Journal, record: Any) -> None:
        nonlocal seen
        seen += 1
        if seen > lines:
            raise KeyboardInterrupt
        plain(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            gather(desk, tmp_path, 2)
    journals = [path.read_text().count("\n") for path in (tmp_path / "audit/shards/00002").glob("*/predictions.jsonl")]
    assert sum(journals) == lines
    assert not (tmp_path / "audit/parts/00002.jsonl").exists()
    gather(desk, tmp_path, 2)
    assert not (tmp_path / "audit/shards").exists()
    audit(desk, tmp_path)
    assert not differing(left_by(tmp_path / "audit"), single)


def test_a_merge_that_dies_is_begun_again(
    desk: Path, single: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather(desk, tmp_path, 1, 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(evidence_merging.Counted, "conclude", _die)
        with pytest.raises(KeyboardInterrupt):
            audit(desk, tmp_path)
    torn = [tmp_path / f"audit/{folder}/.0123456789abcdef.tmp" for folder in (".", "parts", "parts/00001")]
    for file in torn:  # killed processes were writing them
        file.touch()
    audit(desk, tmp_path)
    assert not differing(left_by(tmp_path / "audit"), single)
    assert (tmp_path / "audit.yaml").is_file()
    assert not (tmp_path / "audit/audit.yaml").exists()
    assert not [file for file in torn if file.exists()]


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_images_that_kill_are_not_tried_in_the_end(desk: Path, tmp_path: Path) -> None:
    gather(desk, tmp_path, 1, 3)
    name = note_lethal(read_plan(tmp_path / "audit"), 2, 1, "It kills.")
    gather(desk, tmp_path, 2)
    done = audit(desk, tmp_path)
    assert done.failures[name] == "It kills."
    assert done.images == COUNT - 3
    told = json.loads((tmp_path / "audit/baseline/run.json").read_text())
    assert {"name": name, "error": "It kills."} in told["failures"]
