"""What is said of a cluster: how it is written, and how its cores are shared out. Ray itself is in tests/ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otx_xai import Engine
from otx_xai.cli.explain import spelled_out
from otx_xai.cli.parsing import parse
from otx_xai.errors import ConfigError
from otx_xai.openvino_core import allowed_cores, core, limit_cores
from otx_xai.records import RayOptions
from otx_xai.settings import ExplainSettings
from otx_xai.shards import ray_crew


@pytest.mark.parametrize("words", [["--ray", "auto"], ["--ray=auto"], ["--ray.address", "auto"]], ids=" ".join)
def test_where_is_said_for_short(words: list[str]) -> None:
    from otx_xai.cli.explain import explain_parser

    options = parse(explain_parser(), "explain", spelled_out([*words, "--ray.actors", "3", "--ray.cpus", "0.5"]))
    assert ExplainSettings.from_options(options).ray == RayOptions("auto", 3, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ray": "somewhere"}, "expected auto, local, or HOST:PORT"),
        ({"ray": RayOptions("auto"), "shard": "1/2"}, "--shard and --ray were both given"),
        ({"shard_size": 0}, "--shard_size is 0; expected at least 1"),
        ({"ray": "local", "precision": "auto"}, "--precision auto was given beside --shard or --ray"),
        ({"ray": "local"}, "--ray needs images that other processes can find"),
    ],
    ids=str,
)
def test_what_cannot_be_spread_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Engine(work_dir=tmp_path).explain("model.xml", **options)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--ray.actors is 0; expected at least 1"):
        RayOptions(actors=0)
    with pytest.raises(ConfigError, match=r"--ray.cpus is -1; expected a number of cores"):
        RayOptions(cpus=-1)


@pytest.mark.parametrize(
    ("options", "nodes", "expected"),
    [
        (RayOptions(), [8.0, 8.0, 8.0], (3, 8.0)),
        (RayOptions(), [16.0, 6.0], (2, 6.0)),
        (RayOptions(actors=4), [8.0, 8.0], (4, 4.0)),
        (RayOptions(actors=3), [8.0, 8.0], (3, 4.0)),
        (RayOptions(cpus=4), [8.0, 6.0], (3, 4.0)),
        (RayOptions(actors=2, cpus=0.5), [1.0], (2, 0.5)),
        (RayOptions(actors=4), [2.0], (4, 0.5)),
    ],
    ids=str,
)
def test_cores_are_shared_out(options: RayOptions, nodes: list[float], expected: tuple[int, float]) -> None:
    actors, cpus = ray_crew.shared_out(options, nodes)
    assert (actors, cpus) == expected
    assert sum(int(cores / cpus + 1e-9) for cores in nodes) >= actors, "they fit"


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--ray.actors 5 of --ray.cpus 4 do not fit .* have 8, 8 cores"):
        ray_crew.shared_out(RayOptions(actors=5, cpus=4), [8.0, 8.0])
    with pytest.raises(ConfigError, match="no machine with a core"):
        ray_crew.shared_out(RayOptions(), [])


def test_cores_are_limited_for_reading_and_for_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    present = allowed_cores()
    before = core().get_property("CPU", "INFERENCE_NUM_THREADS")
    monkeypatch.setattr("otx_xai.openvino_core._limits", [])
    try:
        limit_cores(1)
        assert allowed_cores() == 1 <= present
        assert core().get_property("CPU", "INFERENCE_NUM_THREADS") == 1
        assert core().get_property("CPU", "ENABLE_CPU_PINNING") is False
    finally:
        core().set_property("CPU", {"INFERENCE_NUM_THREADS": before, "ENABLE_CPU_PINNING": True})


def test_ray_is_loaded_where_it_is_asked_for_only() -> None:
    script = "import sys, otx_xai.cli, otx_xai.engine.ray_job, otx_xai.shards.foreman; print('ray' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
