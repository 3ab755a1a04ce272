"""A run and an audit on a cluster of Ray whose results go into a store that answers a fifth of all requests by 503."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classifiers
import openvino as ov
import pytest
from shard_runs import LABELS, differing, left_by, waiting, write_photos

from otx_xai import Engine
from otx_xai.storage import Url, read_bytes, write_whole
from otx_xai.storage.objects import objects_below

sys.path.append(str(Path(__file__).parents[1] / "object_stores"))

from s3_server import s3_server

pytestmark = [pytest.mark.usefixtures("ctrl_c"), pytest.mark.filterwarnings("default")]

COUNT = 11

KILLS = [("actor", "mid"), ("all", "before")]
MORE_KILLS = [("actor", "after"), ("all", "plan")]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, photos, and what one process makes of them on this machine."""
    folder = tmp_path_factory.mktemp("local")
    ov.save_model(classifiers.colour_classifier(), folder / "colours.xml", compress_to_fp16=False)
    write_photos(folder / "photos", COUNT, (4,))
    for job in (Engine(work_dir=folder / "out").explain, Engine(work_dir=folder / "audited").audit):
        job(folder / "colours.xml", data_root=folder / "photos", labels=LABELS, **_more(job.__name__))
    return folder


def _more(verb: str) -> dict[str, Any]:
    return {"dump": True} if verb == "explain" else {}


@pytest.fixture(scope="module")
def _bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A bucket; s3fs of this process and of all that it starts is told of it by the environment."""
    import fsspec

    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": server.address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "OTX_XAI_CACHE": str(tmp_path_factory.mktemp("cache")),
        }.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir("bucket")
        server.refused_part = 0.2
        yield


def _fetched(url: str, folder: Path) -> Path:
    for name in objects_below(Url(url)):
        write_whole(folder / name, read_bytes(Url(url) / name))
    return folder


def _explained(folder: Path, told: str) -> dict[str, bytes]:
    """Return what a run of explaining has left, but for its settings, which name its folder."""
    left = left_by(folder)
    assert told.encode() in left.pop("config.yaml")
    return left


@pytest.mark.usefixtures("_bucket")
@pytest.mark.parametrize(("what", "when"), KILLS + (MORE_KILLS if os.environ.get("OTX_XAI_RAY") == "all" else []))
def test_what_is_killed_is_made_good_in_a_store(local: Path, tmp_path: Path, what: str, when: str) -> None:
    """A process is killed, or the whole cluster: leases, plan, segments and parts in the store are taken up."""
    url = f"s3://bucket/{what}_{when}"
    settings = {"checkpoint": str(local / "colours.xml"), "data_root": str(local / "photos"), "labels": LABELS}
    settings |= {"work_dir": url, "shard_size": 4, "dump": True}
    ray = {"address": "local", "actors": 2, "cpus": 0.5}
    told = {"settings": settings, "ray": ray, "marker": str(tmp_path / "marker"), "point": when}
    command = [sys.executable, str(Path(__file__).with_name("drive.py")), json.dumps(told)]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        pid = waiting(tmp_path / "marker", 60)
        if what == "actor":
            os.kill(pid, signal.SIGKILL)
        else:  # the cluster ends with the process that has started it
            driver.kill()
            driver.wait()
            driver = subprocess.Popen(command, stdout=log, stderr=log)
        code = driver.wait(120)
    said = (tmp_path / "log").read_text()
    assert code == 7, said
    assert "Traceback" not in said, said
    left = _explained(_fetched(url, tmp_path / "left"), url)
    assert not [name for name in left if name.startswith((".journal", "shards/"))]
    assert not differing(left, _explained(local / "out", str(local)))


@pytest.mark.usefixtures("_bucket")
@pytest.mark.parametrize("verb", ["explain", "audit"])
def test_results_are_those_of_one_process(local: Path, tmp_path: Path, verb: str) -> None:
    url = f"s3://bucket/{verb}"
    options = {
        "checkpoint": local / "colours.xml",
        "data_root": local / "photos",
        "labels": LABELS,
        "work_dir": url,
        "shard_size": 4,
        "ray": "local",
        "ray.actors": 2,
        "ray.cpus": 0.5,
        **_more(verb),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "otx_xai.cli", verb, *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
    assert ended.returncode == 7, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
    folder = _fetched(url, tmp_path / "left")
    if verb == "explain":
        left, alone = _explained(folder, url), _explained(local / "out", str(local))
    else:  # rows of the page link to photos beside it; evidence stays in parts
        left, alone = (
            {
                name: data
                for name, data in left_by(place / "audit").items()
                if not name.startswith(("evidence/", "data/"))
            }
            for place in (folder, local / "audited")
        )
        assert "index.html" in left
    assert not differing(left, alone)
