"""A run and an audit on a cluster of Ray whose results go into a store that answers a fifth of all requests by 503."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classifiers
import openvino as ov
import pytest
from shard_runs import LABELS, differing, left_by, write_photos

from otx_xai import Engine
from otx_xai.storage import Url, read_bytes, write_whole
from otx_xai.storage.objects import objects_below

sys.path.append(str(Path(__file__).parents[1] / "object_stores"))

from s3_server import s3_server

pytestmark = [pytest.mark.usefixtures("ctrl_c"), pytest.mark.filterwarnings("default")]

COUNT = 11


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
    folder = tmp_path / "left"
    for name in objects_below(Url(url)):
        write_whole(folder / name, read_bytes(Url(url) / name))
    if verb == "explain":
        left, alone = left_by(folder), left_by(local / "out")
        assert b"s3://bucket/explain" in left.pop("config.yaml")
        alone.pop("config.yaml")
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
