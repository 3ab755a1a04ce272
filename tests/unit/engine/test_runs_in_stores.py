"""A run that reads from a store, or writes into one, gives the bytes of one on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import classifiers
import cv2
import openvino as ov
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import contents, memory_store, refuse_some, upload

from otx_xai import AuditConfig, Engine
from otx_xai.errors import BusyError, ConfigError, MissingPartsError, OutputError
from otx_xai.explain.run import ExplainRun
from otx_xai.records import ImageInfo
from otx_xai.report import lease, locked, results
from otx_xai.shards import shard_plan
from otx_xai.shards.shard_plan import join_plan
from otx_xai.storage import Url, patience, write_whole
from otx_xai.storage.patience import Patience

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


def test_a_run_in_a_store_leaves_the_bytes_of_one_in_a_folder(local: Path, bucket: Url, tmp_path: Path) -> None:
    run = explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert (run.explained, run.exit_code, str(run.work_dir)) == (9, 0, "memory://bucket/out")
    assert "memory://bucket/out" in run.summary()
    here, there = files_of(local / "out"), contents(bucket / "out")
    assert sorted(there) == sorted(here)
    assert pictures(there) == pictures(here)
    assert lines(there) == lines(here)
    assert json.loads(there["run.json"])["status"] == "complete"
    assert b"work_dir: memory://bucket/out" in there["config.yaml"]
    assert not list((tmp_path / "cache").rglob("*.png")), "nothing of it stays on this machine"


@pytest.mark.parametrize(("pack", "lines_a_segment"), [(None, 2), (None, 512), ("tar", 2)])
def test_a_run_that_is_cut_short_goes_on_to_the_same_bytes(
    local: Path, bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str | None, lines_a_segment: int
) -> None:
    """Killed after some calls to the store, again and again: no line and no picture is lost, doubled or left over."""
    monkeypatch.setattr(results, "SEGMENT_LINES", lines_a_segment)
    told = {"pack": pack, "pack_size": 4}
    explain(local / "colours.xml", local / "photos", tmp_path / "out", **told)
    explain(local / "colours.xml", local / "photos", f"{bucket}/out", targets="mixture")
    segments = []
    for calls in (6, 11, 17, 24):
        with monkeypatch.context() as patch, suppress(Killed):
            die_after(patch, calls)
            explain(local / "colours.xml", local / "photos", f"{bucket}/out", **told)
        segments.append(len(contents(bucket / "out/.journal")))
    assert any(segments)
    run = explain(local / "colours.xml", local / "photos", f"{bucket}/out", **told)
    here, there = files_of(tmp_path / "out"), contents(bucket / "out")
    assert run.explained == 9
    assert pictures(there) == pictures(here)
    assert lines(there) == lines(here)
    assert sorted(there) == sorted(here)


def test_work_that_is_in_the_store_is_not_done_again(local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "SEGMENT_LINES", 3)
    with monkeypatch.context() as patch:
        die_after(patch, 2, "pipe_file", "/.journal/")
        with pytest.raises(Killed):
            explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    run = explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert (run.resumed, run.explained) == (6, 9)


def test_a_store_that_refuses_a_third_of_all_calls_changes_nothing(
    local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counts = refuse_some(patch, 1 / 3)
        run = explain(
            f"{bucket}/model/colours.xml", f"{bucket}/photos", f"{bucket}/out", labels=f"{bucket}/model/labels.txt"
        )
    refused, made = counts()
    assert refused > made / 5 > 10
    here, there = files_of(local / "out"), contents(bucket / "out")
    assert run.exit_code == 0
    assert pictures(there) == pictures(here)
    assert lines(there) == lines(here)


def test_an_image_that_is_never_read_fails_alone(local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, path: str, *more: Any, **named: Any) -> bytes:
        if path.endswith("/3.png"):
            raise RuntimeError("503 Slow Down")
        return plain(self, path, *more, **named)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    run = explain(local / "colours.xml", f"{bucket}/photos", f"{bucket}/out")
    assert (run.explained, run.exit_code, list(run.failures)) == (8, 7, ["b/3.png"])
    assert "'memory://bucket/photos/b/3.png' cannot be read: 503 Slow Down (after 10 tries)" in run.failures["b/3.png"]


def test_a_store_that_takes_no_pictures_ends_the_run_and_it_goes_on_later(
    local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_file(*_: Any, **__: Any) -> None:
        raise RuntimeError("507 Insufficient Storage")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", put_file)
        with pytest.raises(OutputError, match=r"memory://bucket/out.* cannot be written: 507 Insufficient") as caught:
            explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert caught.value.exit_code == 6
    assert json.loads(contents(bucket / "out")["run.json"])["status"] == "failed"
    run = explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert run.explained == 9
    assert pictures(contents(bucket / "out")) == pictures(files_of(local / "out"))


def test_pictures_of_an_earlier_run_go_and_others_stay(local: Path, bucket: Url) -> None:
    explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    upload(local / "photos", bucket / "out/saliency_map/own")
    first = set(contents(bucket / "out"))
    explain(local / "colours.xml", local / "photos", f"{bucket}/out", pack="tar", pack_size=4)
    names = set(contents(bucket / "out"))
    assert {name for name in names if name.endswith(".tar")} == {f"saliency_map/0000{i}.tar" for i in range(3)}
    assert names - first == {f"saliency_map/0000{i}.tar" for i in range(3)}
    assert {name for name in names if name.endswith(".png")} == {name for name in first if "/own/" in name}
    explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert set(contents(bucket / "out")) == first


def test_one_run_at_a_time_in_a_folder(local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(bucket / "out"):
        with pytest.raises(OutputError, match=r"Another run is writing into 'memory://bucket/out' \(on this machine\)"):
            explain(local / "colours.xml", local / "photos", f"{bucket}/out")
        owner = json.loads(contents(bucket / "out")[".lock"])
    assert contents(bucket / "out") == {}
    elsewhere = json.dumps(owner | {"host": "elsewhere"}).encode()
    write_whole(bucket / "out/.lock", elsewhere)
    with pytest.raises(OutputError, match=r"\(on elsewhere, process \d+, for 1\d\d s at least\)"):
        explain(local / "colours.xml", local / "photos", f"{bucket}/out")
    assert contents(bucket / "out") == {".lock": elsewhere}
    monkeypatch.setattr(lease, "WATCHED", 0.01)
    for gone in ({"host": "elsewhere", "until": time.time() - 1}, {"process": 2**22 + 1}):
        write_whole(bucket / "out/.lock", json.dumps(owner | gone).encode())
        assert explain(local / "colours.xml", local / "photos", f"{bucket}/out").explained == 9


@pytest.mark.parametrize("hours", [-10, 10])
def test_clocks_of_machines_need_not_agree(bucket: Url, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """A lease counts as long as somebody renews it, and no longer, whatever the clock of its machine says."""
    monkeypatch.setattr(lease, "WATCHED", 0.2)
    monkeypatch.setattr(lease, "_TOLD_APART", 0)
    is_over = Event()

    def renew() -> None:
        while not is_over.wait(0.02):
            write_whole(bucket / "out/.lock", json.dumps(owner | {"until": time.time() + hours * 3600}).encode())

    owner = {"token": "its own", "host": "elsewhere", "process": 1}
    write_whole(bucket / "out/.lock", json.dumps(owner | {"until": hours * 3600 + time.time()}).encode())
    renewing = Thread(target=renew)
    renewing.start()
    with pytest.raises(BusyError, match=r"\(on elsewhere, process 1"), locked(bucket / "out"):
        pytest.fail("two runs are at work")
    is_over.set()
    renewing.join()
    with locked(bucket / "out"):
        assert json.loads(contents(bucket / "out")[".lock"])["host"] != "elsewhere"


def test_a_store_that_hangs_costs_an_image_or_ends_the_run(
    local: Path, bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read blocks for ever; what hangs is named."""
    awake, plain = Event(), MemoryFileSystem.cat_file

    def hang(name: str) -> None:
        def cat_file(self: MemoryFileSystem, path: str, *more: Any, **named: Any) -> bytes:
            if path.endswith(name):
                awake.wait(20)
            content: bytes = plain(self, path, *more, **named)
            return content

        monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)

    monkeypatch.setattr(patience, "PATIENCE", Patience(timeouts=2, seconds=0.2, first_wait=0.001))
    hang("photos/a/4.png")
    for number in (1, 2):
        run = explain(local / "colours.xml", f"{bucket}/photos", f"{bucket}/out", shard=f"{number}/2")
        expected = {1: ["a/4.png"], 2: []}[number]
        assert list(run.failures) == expected
        assert all("has not answered within 0 s (after 2 tries)" in why for why in run.failures.values())
    hang("parts/00002.jsonl")
    with pytest.raises(OutputError, match=r"parts/00002\.jsonl cannot be read: the storage has not answered within"):
        Engine(work_dir=f"{bucket}/out").merge()
    awake.set()


@pytest.mark.parametrize("pack", [None, "tar"])
def test_shards_in_a_store_merge_to_the_files_of_one_process(
    local: Path, bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str | None
) -> None:
    """Also where one was killed, and where the folder held another run before."""
    told = {"pack": pack, "pack_size": 2}
    explain(local / "colours.xml", local / "photos", tmp_path / "out", **told)
    explain(local / "colours.xml", local / "photos", f"{bucket}/out", targets="mixture")
    monkeypatch.setattr(results, "SEGMENT_LINES", 2)
    for number in (3, 1):
        explain(local / "colours.xml", local / "photos", f"{bucket}/out", shard=f"{number}/3", **told)
    with pytest.raises(MissingPartsError, match=r"1 of 3 shards of memory://bucket/out/plan.jsonl are not done: 2\."):
        Engine(work_dir=f"{bucket}/out").merge()
    with monkeypatch.context() as patch:
        die_after(patch, 1, "pipe_file", "/.journal/")
        with pytest.raises(Killed):
            explain(local / "colours.xml", local / "photos", f"{bucket}/out", shard="2/3", **told)
    assert [name for name in contents(bucket / "out/shards") if "/.journal/" in name]
    run = explain(local / "colours.xml", local / "photos", f"{bucket}/out", shard="2/3", **told)
    assert (run.resumed, run.explained) == (2, 4 if pack else 3)
    with pytest.raises(ConfigError, match="is the work directory of a run in shards"):
        explain(local / "colours.xml", local / "photos", f"{bucket}/out", **told)
    with pytest.raises(ConfigError, match=r"is of another run\. What differs: targets"):
        explain(local / "colours.xml", local / "photos", f"{bucket}/out", shard="2/3", targets="red", **told)
    merged = Engine(work_dir=f"{bucket}/out").merge()
    assert (merged.explained, str(merged.work_dir)) == (9, f"{bucket}/out")
    here, there = files_of(tmp_path / "out"), contents(bucket / "out")
    plan = {name for name in there if name.startswith(("parts/", "plan.jsonl"))}
    assert len(plan) == 4
    assert sorted(set(there) - plan) == sorted(here)
    assert pictures(there) == pictures(here)
    assert lines(there) == lines(here)


def test_of_two_who_plan_at_once_the_first_one_counts(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [ImageInfo(f"{bucket}/{name}", name, name) for name in "abc"]
    told = {"fingerprint": "x", "settings": {}}
    monkeypatch.setattr(shard_plan, "has_plan", lambda _: False)
    first, second = (join_plan(bucket / "out", told, {}, images, 2) for _ in range(2))
    assert first.identity == second.identity
    with pytest.raises(ConfigError, match=r"shards \(2 before, 3 now\)"):
        join_plan(bucket / "out", told, {}, images, 3)
    assert [image.info for image in second.images_of(2)] == images[1:]


def test_a_model_with_its_branch_is_saved_to_a_store(local: Path, bucket: Url) -> None:
    explain(local / "colours.xml", local / "photos", f"{bucket}/out", output_model=f"{bucket}/new/explained.xml")
    assert sorted(contents(bucket / "new")) == ["explained.bin", "explained.xml"]
    run = explain(f"{bucket}/new/explained.xml", local / "photos", f"{bucket}/again")
    assert run.explained == 9


def test_other_jobs_write_here_only(local: Path, bucket: Url) -> None:
    with pytest.raises(ConfigError, match="`otx judge` writes to this machine only"):
        Engine(work_dir=f"{bucket}/out").judge(local / "colours.xml", data_root=local / "photos", labels=LABELS)
    with pytest.raises(ConfigError, match="nothing is trained in memory://bucket/out"):
        Engine(work_dir=f"{bucket}/out").explain(data_root=local / "photos")


def test_an_audit_reads_from_a_store_what_it_reads_from_a_folder(local: Path, bucket: Url, tmp_path: Path) -> None:
    for colour, numbers in {"red": "0369", "green": "147", "blue": "258", "mixture": "47"}.items():
        for number in numbers:
            image = next((local / "photos").rglob(f"{int(number) % 9}.png"))
            (file := tmp_path / "data" / colour / f"{number}.png").parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image.read_bytes())
    (tmp_path / "data/tags.csv").write_text("name,tag\nred/0.png,old\n")
    upload(tmp_path / "data", bucket / "data")
    pages = []
    for number, (data, model) in enumerate([(tmp_path, local), (bucket, f"{bucket}/model")]):
        work_dir = tmp_path / f"audit{number}"
        config = AuditConfig(check_images=0, metadata=f"{data}/data/tags.csv")
        audit = Engine(work_dir=work_dir).audit(
            f"{model}/colours.xml", data_root=f"{data}/data", labels=LABELS, audit_config=config
        )
        assert audit.exit_code == 0
        content = json.loads((work_dir / "audit/audit.json").read_text())
        pages.append({key: content[key] for key in ("findings", "figures") if key in content})
    assert pages[0] == pages[1]
    assert pages[0]


class Killed(BaseException):
    """In place of a kill: nothing is put in order afterwards."""


def die_after(patch: pytest.MonkeyPatch, calls: int, name: str = "", part: str = "") -> None:
    """Let the store take so many calls that write, and none at all afterwards."""
    count = 0

    def dying(plain: Any) -> Any:
        def call(self: MemoryFileSystem, *paths: str, **named: Any) -> Any:
            nonlocal count
            count += part in str(paths)
            if count > calls:
                raise Killed
            return plain(self, *paths, **named)

        return call

    for each in [name] if name else ("pipe_file", "put_file", "rm_file"):
        patch.setattr(MemoryFileSystem, each, dying(getattr(MemoryFileSystem, each)))


def _settings(config: Path) -> dict[str, Any]:
    """Return what a configuration says of model, data and labels."""
    import yaml

    content = yaml.safe_load(config.read_text())
    return {name: content[name] for name in ("checkpoint", "data_root", "labels", "dump")}
