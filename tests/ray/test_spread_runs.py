"""Runs on a cluster of Ray, and what is killed of it: each ends in the bytes of the run that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import classifiers
import openvino as ov
import psutil
import pytest
from shard_runs import LABELS, differing, left_by, waiting, write_photos

from otx_xai import Engine
from otx_xai.cli import main

pytestmark = pytest.mark.usefixtures("ctrl_c")

EVERYTHING = os.environ.get("OTX_XAI_RAY") == "all"
"""Kill in all ways, rather than in those that fit into a few minutes."""

COUNT = 23
BROKEN = (4,)
SHARD = 4
DRIVE = Path(__file__).with_name("drive.py")
SECONDS = 120
"""After which a run is taken for one that hangs."""


class Machines:
    """A cluster on this machine: a head without cores, and three machines of one core each."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **self._small()})
        self.complete()

    def complete(self) -> None:
        """Have three machines beside the head, also where some have been killed."""
        for _ in range(3 - len(self._cluster.worker_nodes)):
            self._cluster.add_node(num_cpus=1, **self._small())
        self._cluster.wait_for_nodes(30)

    @staticmethod
    def _small() -> dict[str, Any]:
        return {"object_store_memory": 80 * 2**20, "include_dashboard": False}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def kill_machine_of(self, pid: int) -> None:
        """Kill the machine that a process runs on, with all that is on it."""
        raylet = psutil.Process(pid).ppid()
        for node in self._cluster.worker_nodes:
            if any(info.process.pid == raylet for info in node.all_processes["raylet"]):
                self._cluster.remove_node(node, allow_graceful=False)
                return
        pytest.fail(f"no machine has the process {raylet}")

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    machines = Machines()
    yield machines
    machines.stop()


@pytest.fixture
def machines(cluster: Machines) -> Machines:
    cluster.complete()
    return cluster


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
    work_dir = tmp_path_factory.mktemp("single")
    Engine(work_dir=work_dir).explain(model, data_root=photos, dump=True, labels=LABELS)
    return left_by(work_dir)


@pytest.fixture
def drive(machines: Machines, model: Path, photos: Path, tmp_path: Path) -> Iterator[Any]:
    """Begin a run as a process; whatever is left of all is ended with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(**told: Any) -> subprocess.Popen[str]:
        settings = {"checkpoint": str(model), "data_root": str(photos), "labels": LABELS, "dump": True}
        settings |= {"work_dir": str(tmp_path / "out"), "shard_size": SHARD}
        ray = {"address": machines.address, "actors": 2, "cpus": 0.5}
        told = {"settings": settings, "ray": ray, "marker": str(tmp_path / "marker"), **told}
        command = [sys.executable, str(DRIVE), json.dumps(told)]
        begun.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
        )
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str], code: int) -> str:
    out = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == code, out
    assert "Traceback" not in out, out
    return out


def test_an_undisturbed_run_is_that_of_one_process(
    drive: Any, model: Path, photos: Path, single: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ended(drive(), 7)
    assert f"Explained {COUNT - 1} of {COUNT} images" in out
    assert "Ray: 2 processes of 0.5 cores" in out
    assert not differing(left_by(tmp_path / "out"), single)
    assert main(["merge", str(tmp_path / "out")]) == 7, "can be repeated"
    assert not differing(left_by(tmp_path / "out"), single)
    capsys.readouterr()
    again = ended(drive(), 7)
    assert f"{COUNT - 1} of them by an earlier run" in again


KILLS = [
    ("actor", "plan"),
    ("actor", "mid"),
    ("actor", "before"),
    ("actor", "after"),
    ("node", "mid"),
    ("node", "before"),
    ("driver", "mid"),
    ("driver", "after"),
    ("all", "before"),
]
MORE_KILLS = [
    ("driver", "plan"),
    ("node", "plan"),
    ("node", "after"),
    ("driver", "before"),
    ("all", "plan"),
    ("all", "mid"),
    ("all", "after"),
]


@pytest.mark.parametrize(("what", "when"), KILLS + (MORE_KILLS if EVERYTHING else []))
def test_what_is_killed_costs_nothing_but_time(
    machines: Machines, drive: Any, single: dict[str, bytes], tmp_path: Path, what: str, when: str
) -> None:
    driver = drive(point=when)
    pid = waiting(tmp_path / "marker", SECONDS)
    if what == "actor":
        os.kill(pid, signal.SIGKILL)
    elif what == "node":
        machines.kill_machine_of(pid)
    else:
        driver.kill()
        driver.communicate()
    if what == "all":
        machines.stop()
        machines.start()
    if what in ("driver", "all"):
        driver = drive(point=when)  # nobody waits there again
    ended(driver, 7)
    assert not differing(left_by(tmp_path / "out"), single)


def test_two_runs_at_once_share_the_shards(drive: Any, single: dict[str, bytes], tmp_path: Path) -> None:
    first, second = drive(sleep=0.05), drive(sleep=0.05)
    ended(first, 7)
    ended(second, 7)
    assert not differing(left_by(tmp_path / "out"), single)


def test_images_that_kill_are_found_and_all_others_are_explained(
    drive: Any, single: dict[str, bytes], tmp_path: Path
) -> None:
    lethal = ["a/0006.png", "b/0021.png"] if EVERYTHING else ["a/0006.png"]
    out = ended(drive(lethal=lethal), 7)
    assert out.count("is given up") == len(lethal)
    left = left_by(tmp_path / "out")
    failures = {one["name"]: one["error"] for one in json.loads(left["run.json"])["failures"]}
    assert list(failures) == ["a/0004.png", *lethal]
    assert all("died 2 times" in failures[name] for name in lethal)
    kept = [line for line in single["predictions.jsonl"].splitlines() if json.loads(line)["name"] not in lethal]
    assert left["predictions.jsonl"].splitlines() == kept
    pictures = {
        place
        for place in single
        if place.startswith("saliency_map/")
        and not place.startswith(tuple(f"saliency_map/{name.removesuffix('.png')}_" for name in lethal))
    }
    assert {place for place in left if place.startswith("saliency_map/")} == pictures
    assert all(left[place] == single[place] for place in pictures)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM] if EVERYTHING else [signal.SIGINT])
def test_a_signal_lets_shards_at_work_be_finished(
    drive: Any, single: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    driver = drive(sleep=0.2)
    deadline = time.monotonic() + SECONDS
    while not list((tmp_path / "out").glob("parts/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(number)
    out = ended(driver, 130)
    assert "Stopping: shards at work are finished" in out
    assert "Interrupted: the same command goes on" in out
    assert not (tmp_path / "out" / "shards").exists(), "nothing is left half done"
    assert 1 <= len(list((tmp_path / "out").glob("parts/*.jsonl"))) < 6
    ended(drive(), 7)
    assert not differing(left_by(tmp_path / "out"), single)


def test_faults_of_the_user_are_told_in_a_paragraph(drive: Any, tmp_path: Path) -> None:
    settings = {"checkpoint": "absent.xml", "data_root": str(tmp_path), "work_dir": str(tmp_path / "out")}
    assert "holds no image" in ended(drive(settings=settings), 5)
    out = ended(drive(ray={"address": "localhost:1", "actors": 1}), 2)
    assert "There is no cluster of Ray at 'localhost:1'" in out
