"""Runs in shards: what they merge to, what they refuse, and what dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import classifiers
import detectors
import openvino as ov
import pytest
from shard_runs import LABELS, differing, left_by, write_photos
from stores import memory_store, upload

from otx_xai import Engine, ExplainConfig, ExplainRun, InputOptions
from otx_xai.cli import main
from otx_xai.errors import BusyError, ConfigError, MissingPartsError, OutputError
from otx_xai.report import Journal, locked
from otx_xai.runtime import Session
from otx_xai.shards import shard_run
from otx_xai.shards.shard_plan import bounds, read_plan
from otx_xai.storage import write_whole

COUNT = 23
BROKEN = (4, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.xml"
    ov.save_model(classifiers.colour_classifier(), path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), COUNT, BROKEN)


@pytest.fixture(scope="module")
def single(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run of one process leaves."""
    work_dir = tmp_path_factory.mktemp("single")
    explain(model, photos, work_dir)
    return left_by(work_dir)


def explain(model: Path, photos: Path | str, work_dir: Path, shard: str | None = None, **options: Any) -> ExplainRun:
    options = {"dump": True, "labels": LABELS, "keep_explanations": False} | options
    return Engine(work_dir=work_dir).explain(model, data_root=photos, shard=shard, **options)


def explain_all(model: Path, photos: Path, work_dir: Path, shards: int, **options: Any) -> ExplainRun:
    for number in reversed(range(1, shards + 1)):
        explain(model, photos, work_dir, f"{number}/{shards}", **options)
    return Engine(work_dir=work_dir).merge()


@pytest.mark.parametrize("shards", [1, 4])
def test_shards_merge_to_the_files_of_one_process(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path, shards: int
) -> None:
    run = explain_all(model, photos, tmp_path, shards)
    assert not differing(left_by(tmp_path), single)
    assert (run.images, run.explained, len(run.failures), run.exit_code) == (COUNT, COUNT - 2, 2, 7)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("pack_size", [3, 40])
def test_tar_files_are_those_of_one_process(model: Path, photos: Path, tmp_path: Path, pack_size: int) -> None:
    """No tar file holds images of two shards, so that none has two authors."""
    packed = {"pack": "tar", "pack_size": pack_size}
    explain(model, photos, tmp_path / "single", **packed)
    explain(model, photos, tmp_path / "shards")  # its pictures go
    assert explain_all(model, photos, tmp_path / "shards", 3, **packed).explained == COUNT - 2
    assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))
    assert {path.suffix for path in (tmp_path / "shards/saliency_map").iterdir()} == {".tar"}


def test_of_more_shards_than_images_some_are_empty(model: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    explain(model, photos, tmp_path / "single")
    assert explain_all(model, photos, tmp_path / "shards", 3).explained == 2
    assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))


@pytest.mark.parametrize("content", ["sheet", "overlays,npz"])
def test_other_files_of_images_are_the_same_too(model: Path, photos: Path, tmp_path: Path, content: str) -> None:
    config = ExplainConfig(content=content)  # type: ignore[arg-type]
    explain(model, photos, tmp_path / "single", explain_config=config, batch_size=2, targets=-1)
    explain_all(model, photos, tmp_path / "shards", 3, explain_config=config, batch_size=2, targets=-1)
    assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))


def test_without_pictures_only_lines_are_merged(model: Path, photos: Path, tmp_path: Path) -> None:
    explain(model, photos, tmp_path / "single", dump=False)
    explain_all(model, photos, tmp_path / "shards", 3, dump=False)
    assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))
    assert "saliency_map" not in os.listdir(tmp_path / "shards")


def test_boxes_merge_to_the_files_of_one_process(photos: Path, tmp_path: Path) -> None:
    ov.save_model(detectors.case("fastestdet").model, tmp_path / "model.xml")
    names = [str(i) for i in range(detectors.CLASSES)]
    config = ExplainConfig(confidence_threshold=0.01)
    options: dict[str, Any] = {"labels": names, "explain_config": config, "input": InputOptions(scale=64)}
    for work_dir, shards in ((tmp_path / "single", None), (tmp_path / "shards", 4)):
        engine = Engine(work_dir=work_dir, task="detection")
        for shard in [None] if shards is None else [f"{number}/{shards}" for number in range(1, shards + 1)]:
            engine.explain(
                tmp_path / "model.xml", data_root=photos, dump=True, shard=shard, keep_explanations=False, **options
            )
    Engine(work_dir=tmp_path / "shards").merge()
    assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))
    assert b'"box": [' in left_by(tmp_path / "shards")["predictions.jsonl"]


def test_pictures_of_an_earlier_run_go_with_the_merge(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path
) -> None:
    explain(model, photos, tmp_path, targets=-1)
    assert len(left_by(tmp_path)) > len(single)
    explain_all(model, photos, tmp_path, 2)
    assert not differing(left_by(tmp_path), single)


def test_a_shard_that_is_done_is_not_done_again(model: Path, photos: Path, tmp_path: Path) -> None:
    first = explain(model, photos, tmp_path, "2/3")
    part = tmp_path / "parts" / "00002.jsonl"
    before = part.stat().st_mtime_ns, part.read_bytes()
    second = explain(model, photos, tmp_path, "2/3")
    assert (part.stat().st_mtime_ns, part.read_bytes()) == before
    assert (second.explained, second.resumed, second.failures) == (first.explained, first.explained, first.failures)
    explain(model, photos, tmp_path, "2/3", resume=False)
    assert part.stat().st_mtime_ns > before[0]


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_shard_goes_on_from_its_journal(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, lines = Journal.append, []

    def stopping(self: Journal, record: Any) -> None:
        append(self, record)
        lines.append(record["name"])
        if len(lines) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Journal, "append", stopping)
    monkeypatch.setattr(Session, "_window", lambda *_: 2)
    stopped = explain(model, photos, tmp_path, "1/2")
    assert (stopped.interrupted, stopped.exit_code) == (True, 130)
    assert not (tmp_path / "parts").exists()
    run = explain(model, photos, tmp_path, "1/2")
    assert run.resumed == stopped.explained > 0
    assert len(lines) == len(set(lines)), "no image is explained twice"
    explain(model, photos, tmp_path, "2/2")
    Engine(work_dir=tmp_path).merge()
    assert not differing(left_by(tmp_path), single)


def test_a_shard_whose_part_was_not_written_any_more_costs_no_image(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "write_part", full)
        with pytest.raises(OutputError, match="the disk is full"):
            explain(model, photos, tmp_path, "1/2")
    run = explain(model, photos, tmp_path, "1/2")
    assert run.resumed == run.explained > 0
    explain(model, photos, tmp_path, "2/2")
    Engine(work_dir=tmp_path).merge()
    assert not differing(left_by(tmp_path), single)


def test_a_part_that_was_written_before_its_process_died_counts(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "_remove", lambda _: None)
        explain(model, photos, tmp_path, "1/1")
    assert (tmp_path / "shards" / "00001" / "run.json").exists()
    Engine(work_dir=tmp_path).merge()
    assert not differing(left_by(tmp_path), single)


def test_the_same_shard_twice_at_once_is_refused_and_others_are_not(model: Path, photos: Path, tmp_path: Path) -> None:
    explain(model, photos, tmp_path, "1/3")
    plan = read_plan(tmp_path)
    plan.folder(2).mkdir(parents=True)
    with locked(plan.folder(2)):
        with pytest.raises(BusyError, match=r"Another run is writing into .*00002") as refused:
            explain(model, photos, tmp_path, "2/3")
        assert refused.value.exit_code == 6
        assert explain(model, photos, tmp_path, "3/3").explained


def test_files_that_killed_processes_were_writing_go_with_the_merge(model: Path, photos: Path, tmp_path: Path) -> None:
    explain_all(model, photos, tmp_path, 2, dump=False)
    torn = [tmp_path / folder / f".{number:016x}.tmp" for number, folder in enumerate((".", "parts"))]
    for file in torn:
        file.write_bytes(b"torn")
    (tmp_path / "notes.tmp").write_text("of the user")
    assert Engine(work_dir=tmp_path).merge().failures
    assert not [file for file in torn if file.exists()]
    assert (tmp_path / "notes.tmp").exists()


def test_missing_parts_are_named(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (2, 6):
        explain(model, photos, tmp_path, f"{number}/7")
    with pytest.raises(MissingPartsError, match=r"5 of 7 shards .* are not done: 1, 3-5, 7\."):
        Engine(work_dir=tmp_path).merge()
    assert main(["merge", str(tmp_path)]) == 6
    assert "--shard K/7" in capsys.readouterr().err
    assert not (tmp_path / "predictions.jsonl").exists()
    assert main(["merge", str(tmp_path / "elsewhere")]) == 6
    assert main(["merge"]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, r"seed \(0 before, 1 now\)"),
        ({"targets": -1}, r"targets \(not given before, -1 now\)"),
        ({"shard": "1/3"}, r"shards \(2 before, 3 now\)"),
    ],
    ids=str,
)
def test_a_run_of_other_settings_is_refused(
    model: Path, photos: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    explain(model, photos, tmp_path, "1/2")
    with pytest.raises(ConfigError, match=f"is of another run. What differs: {words}"):
        explain(model, photos, tmp_path, **({"shard": "2/2"} | options))
    assert sorted(os.listdir(tmp_path / "parts")) == ["00001.jsonl"]


def test_a_run_of_another_model_or_other_images_is_refused(model: Path, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 6), tmp_path / "out"
    explain(model, photos, out, "1/2")
    other = tmp_path / "other.xml"
    ov.save_model(classifiers.colour_classifier(strength=0.3), other, compress_to_fp16=False)
    with pytest.raises(ConfigError, match=r"What differs: checkpoint.*model_sha256"):
        explain(other, photos, out, "2/2")
    last = photos / "b" / "0005.png"
    content = last.read_bytes()
    last.write_bytes(content + b"more")
    with pytest.raises(ConfigError, match=r"1 of 3 images of shard 2 have changed .*b/0005.png \(\d+ bytes before"):
        explain(model, photos, out, "2/2")
    assert explain(model, photos, out, "1/2").explained == 3, "of the other shard nothing has changed"
    last.rename(photos / "b" / "0007.png")
    with pytest.raises(ConfigError, match="What differs: names of images"):
        explain(model, photos, out, "2/2")
    (photos / "b" / "0007.png").unlink()
    with pytest.raises(ConfigError, match=r"images \(6 before, 5 now\)"):
        explain(model, photos, out, "2/2")


def test_images_in_a_store_are_explained_in_shards_until_they_change(model: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 6)
    with memory_store(tmp_path / "cache") as url:
        upload(photos, url / "photos")
        for work_dir, shards in ((tmp_path / "single", [None]), (tmp_path / "shards", ["1/2", "2/2"])):
            for shard in shards:
                explain(model, f"{url}/photos", work_dir, shard)
        Engine(work_dir=tmp_path / "shards").merge()
        assert not differing(left_by(tmp_path / "shards"), left_by(tmp_path / "single"))
        explain(model, f"{url}/photos", tmp_path / "other", "1/2")
        write_whole(url / "photos/b/0003.png", (photos / "b" / "0003.png").read_bytes())
        with pytest.raises(ConfigError, match=r"1 of 3 images of shard 2 have changed .*: b/0003.png\."):
            explain(model, f"{url}/photos", tmp_path / "other", "2/2")
        explain(model, f"{url}/photos/*/*.png", tmp_path / "pattern", "1/2")
        write_whole(url / "photos/b/0005.png", (photos / "b" / "0003.png").read_bytes())
        assert explain(model, f"{url}/photos/*/*.png", tmp_path / "pattern", "2/2").explained == 3, "not known"


def test_what_does_not_go_with_shards_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--work_dir was not given"):
        Engine().explain(model, data_root=photos, shard="1/2")
    with pytest.raises(ConfigError, match="--output_model was given beside --shard"):
        explain(model, photos, tmp_path, "1/2", output_model=tmp_path / "saved.xml")
    with pytest.raises(ConfigError, match="--precision auto was given beside --shard"):
        explain(model, photos, tmp_path, "1/2", precision="auto")
    for word in ("3", "0/2", "3/2", "a/b", "1/2/3"):
        with pytest.raises(ConfigError, match="expected K/N"):
            explain(model, photos, tmp_path, word)
    explain(model, photos, tmp_path, "1/2")
    with pytest.raises(ConfigError, match="is the work directory of a run in shards"):
        explain(model, photos, tmp_path)
    with pytest.raises(ConfigError, match="No work_dir was given"):
        Engine().merge()


def test_parts_of_another_plan_do_not_count(model: Path, photos: Path, tmp_path: Path) -> None:
    explain(model, photos, tmp_path, "1/2")
    (tmp_path / "plan.jsonl").unlink()
    explain(model, photos, tmp_path, "2/2", seed=1)
    with pytest.raises(MissingPartsError, match=r"1 of 2 shards .* are not done: 1\."):
        Engine(work_dir=tmp_path).merge()


@pytest.mark.parametrize("damage", ["torn", "other"])
def test_a_broken_part_is_told_and_nothing_is_written(model: Path, photos: Path, tmp_path: Path, damage: str) -> None:
    for number in (1, 2):
        explain(model, photos, tmp_path, f"{number}/2")
    part = tmp_path / "parts" / "00002.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines)[:-9] if damage == "torn" else b"".join(lines[:-1]))
    with pytest.raises(OutputError, match=r"00002.jsonl cannot be read .* explain the shard again"):
        Engine(work_dir=tmp_path).merge()
    assert not (tmp_path / "predictions.jsonl").exists()
    assert not (tmp_path / "run.json").exists()


def test_every_image_is_in_exactly_one_shard() -> None:
    for images in (0, 1, 7, 100, 1001):
        for shards in (1, 2, 7, 64):
            spans = [bounds(shards, number, images) for number in range(1, shards + 1)]
            assert [i for first, behind in spans for i in range(first, behind)] == list(range(images))
            sizes = [behind - first for first, behind in spans]
            assert max(sizes) - min(sizes) <= 1
            spans = [bounds(shards, number, images, 6) for number in range(1, shards + 1)]
            assert [i for first, behind in spans for i in range(first, behind)] == list(range(images))
            assert all(first % 6 == 0 or first == images for first, _ in spans)


@pytest.mark.usefixtures("ctrl_c")
def test_processes_at_once_one_of_them_killed(
    model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path
) -> None:
    """Two processes begin at the same moment, without a plan; one is killed in the middle, and begun again."""
    command = [sys.executable, "-W", "error", "-m", "otx_xai.cli", "explain", "--checkpoint", str(model)]
    command += ["--data_root", str(photos), "--dump", "True", "--labels", LABELS, "--work_dir", str(tmp_path)]
    running = [
        subprocess.Popen([*command, "--shard", f"{number}/2"], stderr=subprocess.PIPE, text=True) for number in (1, 2)
    ]
    deadline = time.monotonic() + 60
    while not (tmp_path / "plan.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    running[0].kill()
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert running[1].returncode in (0, 7), errors[1]
    again = subprocess.run([*command, "--shard", "1/2"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode in (0, 7), again.stderr
    assert main(["merge", str(tmp_path)]) == 7
    assert not differing(left_by(tmp_path), single)
    assert json.loads((tmp_path / "run.json").read_text())["counts"]["explained"] == COUNT - len(BROKEN)
