"""Runs that read from S3 and write into it, through s3fs and a server that follows S3's protocol: ``make stores``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import classifiers
import cv2
import fsspec
import openvino as ov
import pytest
from s3_server import S3Server, s3_server

from otx_xai import Engine
from otx_xai.model.stored_model import fetch_model
from otx_xai.report import locked
from otx_xai.storage import Url, patience, read_bytes, write_whole
from otx_xai.storage.objects import objects_below, write_object
from otx_xai.storage.patience import Patience

pytestmark = [pytest.mark.usefixtures("ctrl_c"), pytest.mark.filterwarnings("default")]

LABELS = "red,green,blue,mixture"
SECRET = "hush-4f1c"
COUNT = 40


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images, and runs of them on this machine."""
    folder = tmp_path_factory.mktemp("local")
    ov.save_model(classifiers.colour_classifier(), folder / "model/colours.xml", compress_to_fp16=False)
    (folder / "model/labels.txt").write_text("\n".join(LABELS.split(",")))
    for number in range(COUNT):
        photo = folder / "photos" / "abc"[number % 3] / f"{number:02d}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        colour = ("red", "green", "blue")[number % 3]
        assert cv2.imwrite(str(photo), classifiers.coloured_image((40, 52), colour)[..., ::-1])
    for pack in (None, "tar"):
        explain(folder / "model/colours.xml", folder / "photos", folder / f"out_{pack}", pack=pack)
    return folder


@pytest.fixture(scope="module")
def started() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(started: S3Server, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, with model and images in it; s3fs is told of it as users do, by the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": started.address,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # what is refused comes through to us
        "OTX_XAI_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(patience, "PATIENCE", Patience(tries=14, first_wait=0.01, longest_wait=0.2))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store = fsspec.filesystem("s3")
    store.mkdir("bucket")
    for file in local.rglob("*"):
        if file.is_file() and file.is_relative_to(local / "photos") | file.is_relative_to(local / "model"):
            store.pipe_file(f"bucket/{file.relative_to(local).as_posix()}", file.read_bytes())
    yield started
    started.refused_part = 0.0
    for url in (f"s3://bucket/{name}" for name in objects_below(Url("s3://bucket"))):
        store.rm_file(url)
    store.rmdir("bucket")


def explain(model: Any, photos: Any, work_dir: Any, **options: Any) -> Any:
    told = {"dump": True, "labels": LABELS, "pack_size": 8} | options
    return Engine(work_dir=work_dir).explain(model, data_root=photos, **told)


def here(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def there(url: str) -> dict[str, bytes]:
    return {name: read_bytes(Url(url) / name) for name in objects_below(Url(url))}


def same(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Compare two runs: the same files, the same pictures, the same lines but for places and times."""
    assert sorted(one) == sorted(other)
    for name, data in one.items():
        if name.startswith("saliency_map/"):
            assert data == other[name], name
    assert _lines(one) == _lines(other)


def _lines(files: dict[str, bytes]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in files["predictions.jsonl"].splitlines()]
    return [{key: value for key, value in line.items() if key not in ("path", "seconds")} for line in found]


@pytest.mark.parametrize("pack", [None, "tar"])
def test_a_third_of_all_requests_refused_changes_no_byte(server: S3Server, local: Path, pack: str | None) -> None:
    made, refused, server.refused_part = server.requests, server.refused, 1 / 3
    run = explain(
        "s3://bucket/model/colours.xml",
        "s3://bucket/photos",
        "s3://bucket/out",
        labels="s3://bucket/model/labels.txt",
        pack=pack,
    )
    server.refused_part = 0.0
    made, refused = server.requests - made, server.refused - refused
    print(f"pack {pack}: {refused} of {made} requests were refused, {run.explained} images explained")
    assert refused > made / 4
    assert (run.explained, run.exit_code) == (COUNT, 0)
    same(there("s3://bucket/out"), here(local / f"out_{pack}"))
    assert not [name for name, data in there("s3://bucket/out").items() if SECRET.encode() in data]


@pytest.mark.parametrize("pack", [None, "tar"])
def test_killed_runs_go_on_to_the_same_bytes(server: S3Server, local: Path, pack: str | None) -> None:
    """The process is killed at four moments, the last time it may end."""
    command = [sys.executable, "-m", "otx_xai.cli", "explain", "--checkpoint", "s3://bucket/model/colours.xml"]
    command += ["--data_root", "s3://bucket/photos", "--work_dir", "s3://bucket/killed", "--labels", LABELS]
    command += ["--dump", "True", "--pack_size", "8", *(["--pack", pack] if pack else [])]
    environment = os.environ | {"AWS_MAX_ATTEMPTS": "3"}
    moments = 0
    for requests in (30, 60, 95, 130):
        before = server.requests
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while server.requests - before < requests and process.poll() is None:
                time.sleep(0.002)
            moments += process.poll() is None
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
    assert moments >= 2
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(there("s3://bucket/killed"), here(local / f"out_{pack}"))
    assert SECRET not in done.stderr


def test_processes_at_once_each_at_its_shard(server: S3Server, local: Path) -> None:
    """They begin at the same moment, without a plan, and a third of their requests is refused."""
    command = [sys.executable, "-m", "otx_xai.cli", "explain", "--checkpoint", "s3://bucket/model/colours.xml"]
    command += ["--data_root", "s3://bucket/photos", "--work_dir", "s3://bucket/shards", "--labels", LABELS]
    command += ["--dump", "True", "--pack", "tar", "--pack_size", "8"]
    environment = os.environ | {"AWS_MAX_ATTEMPTS": "3"}
    server.refused_part = 1 / 3
    with ThreadPoolExecutor(3) as pool:
        done = list(
            pool.map(
                lambda number: subprocess.run(
                    [*command, "--shard", f"{number}/3"], env=environment, capture_output=True, text=True, check=False
                ),
                (1, 2, 3),
            )
        )
    server.refused_part = 0.0
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert Engine(work_dir="s3://bucket/shards").merge().explained == COUNT
    files = there("s3://bucket/shards")
    same({name: files[name] for name in files if not name.startswith(("parts/", "plan"))}, here(local / "out_tar"))


def test_of_many_who_put_what_must_be_new_one_succeeds(server: S3Server) -> None:
    def put(number: int) -> bool:
        try:
            write_object(Url("s3://bucket/lock"), str(number).encode(), only_new=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number, won in enumerate(pool.map(put, range(16))) if won]
    assert [str(number).encode() for number in winners] == [read_bytes("s3://bucket/lock")]


def test_a_folder_is_leased(server: S3Server) -> None:
    with locked(Url("s3://bucket/leased")):
        assert set(there("s3://bucket/leased")) == {".lock"}
    assert there("s3://bucket/leased") == {}


def test_a_model_is_fetched_again_when_its_etag_has_changed(server: S3Server) -> None:
    first = fetch_model(Url("s3://bucket/model/colours.xml"))
    made = server.requests
    assert fetch_model(Url("s3://bucket/model/colours.xml")) == first
    assert server.requests == made + 1, "one listing"
    write_whole("s3://bucket/model/colours.xml", first.read_bytes() + b"\n")
    assert fetch_model(Url("s3://bucket/model/colours.xml")) != first


def test_what_is_missing_is_told(server: S3Server) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        read_bytes("s3://bucket/none")
    with pytest.raises(FileNotFoundError):
        read_bytes("s3://no-such-bucket/none")
    assert objects_below(Url("s3://bucket/none")) == {}


def test_a_server_that_does_not_answer_is_given_up(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", Patience(timeouts=2, seconds=1.0))
    server.is_deaf = True
    start = time.monotonic()
    with pytest.raises(OSError, match=r"has not answered within 1 s \(after 2 tries\)"):
        read_bytes("s3://bucket/model/labels.txt")
    server.is_deaf = False
    server.awake.set()
    assert time.monotonic() - start < 10
