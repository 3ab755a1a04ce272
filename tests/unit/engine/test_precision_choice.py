"""``--precision`` through the doors: what a run finds out, writes down, and keeps to when it goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import classifiers
import cv2
import numpy as np
import pytest

from otx_xai import Engine, ExplainConfig
from otx_xai.errors import ConfigError
from otx_xai.explain import precision
from otx_xai.explain.run import ExplainRun
from otx_xai.records import Precision
from otx_xai.report import Journal
from otx_xai.runtime import Session

pytestmark = pytest.mark.usefixtures("ctrl_c", "both")


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that says it can bfloat16, whatever it is; it emulates that or goes on in float32."""
    known = (Precision.F32, Precision.BF16)
    for place in ("otx_xai.openvino_core", "otx_xai.explain.precision"):
        monkeypatch.setattr(f"{place}.precisions", lambda device: known)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.xml"
    return classifiers.save_colour_classifier(path, "red green blue mixture")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(18):
        picture = classifiers.coloured_image((40, 52), ("red", "green", "blue")[i % 3], (0.3 + 0.02 * i, 0.5))
        assert cv2.imwrite(str(folder / f"{i:02}.png"), picture[..., ::-1])
    return folder


def explain(model: Path, photos: Path, work_dir: Path, **options: Any) -> ExplainRun:
    told = {"dump": True, "explain_config": ExplainConfig(content="npz"), "precision": "auto"} | options
    return Engine(work_dir=work_dir).explain(model, data_root=photos, **told)


def manifest(work_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((work_dir / "run.json").read_text())
    return content


def arrays(work_dir: Path) -> dict[str, bytes]:
    """The maps of all images, as bytes."""
    found = {}
    for path in sorted(work_dir.rglob("*.npz")):
        with np.load(path) as content:
            found[path.name] = content["maps"].tobytes()
    assert found
    return found


@pytest.mark.parametrize(("least", "taken"), [(0.0, "bf16"), (1e9, "f32")])
def test_a_run_takes_what_it_measured_and_writes_it_down(
    model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    least: float,
    taken: str,
) -> None:
    monkeypatch.setattr(precision, "_FASTER", least)
    caplog.set_level("INFO", "otx_xai")
    explain(model, photos, tmp_path / "auto")
    found = manifest(tmp_path / "auto")
    assert found["settings"]["precision"] == "auto"
    measured = found["precision"]
    assert (measured["taken"], measured["tried"]) == (taken, "bf16")
    assert (measured["images"], measured["same_best"]) == (16, 16)
    assert measured["least_correlation"] > 0.99
    assert measured["speed_up"] > 0
    assert f"Precision: {measured['why']}" in caplog.text
    explain(model, photos, tmp_path / "told", precision=taken)
    assert "precision" not in manifest(tmp_path / "told")
    assert arrays(tmp_path / "auto") == arrays(tmp_path / "told")


def test_a_run_that_goes_on_keeps_what_it_has_found_out(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_FASTER", 0.0)
    explain(model, photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert explain(model, photos, tmp_path / "out").interrupted
    before = manifest(tmp_path / "out")["precision"]
    assert before["taken"] == "bf16"
    monkeypatch.setattr(precision, "_FASTER", 1e9)
    run = explain(model, photos, tmp_path / "out")
    assert (run.explained, run.resumed) == (18, 3)
    assert manifest(tmp_path / "out")["precision"] == before
    assert arrays(tmp_path / "out") == arrays(tmp_path / "whole")
    explain(model, photos, tmp_path / "out")
    assert manifest(tmp_path / "out")["precision"]["taken"] == "f32", "a complete run does not go on"


def stop_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """Let Ctrl-C be pressed when so many images have been written."""
    append, written = Journal.append, iter(range(1, 1000))

    def counted(self: Journal, record: Any) -> None:
        append(self, record)
        if next(written) == count:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(Journal, "append", counted)
    patch.setattr(Session, "_window", lambda *_: 1)


def test_precision_tells_runs_apart(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        explain(model, photos, tmp_path, precision="f32")
    run = explain(model, photos, tmp_path, precision="bf16")
    assert run.resumed == 0
    assert "precision ('f32' before, 'bf16' now)" in caplog.text


def test_perturbed_images_are_compared_as_well(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_FASTER", 0.0)
    explain(model, photos, tmp_path, explain_method="rise", num_masks=20, seed=1)
    measured = manifest(tmp_path)["precision"]
    assert (measured["images"], measured["same_best"]) == (4, 4)


def test_a_device_that_computes_in_nothing_else(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("otx_xai.openvino_core", "otx_xai.explain.precision"):
        monkeypatch.setattr(f"{place}.precisions", lambda device: (Precision.F32,))
    explain(model, photos, tmp_path)
    assert manifest(tmp_path)["precision"]["taken"] == "f32"
    with pytest.raises(ConfigError, match=r"--precision is bf16.*'CPU'.*It can do f32, or auto"):
        explain(model, photos, tmp_path / "other", precision="bf16")
    assert not (tmp_path / "other").exists()


def test_judging_takes_one_precision_for_all_methods(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_FASTER", 0.0)
    judgement = Engine(work_dir=tmp_path).judge(
        model, data_root=photos, methods="reciprocam", steps=3, images=3, precision="auto"
    )
    content = json.loads((judgement.work_dir / "judge.json").read_text())
    assert content["settings"]["precision"] == "auto"
    assert (content["precision"]["taken"], content["precision"]["images"]) == ("bf16", 3)


def test_an_audit_keeps_to_the_precision_of_its_evidence(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_FASTER", 0.0)
    made = []
    original = Session.__init__

    def noted(self: Session, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        made.append(str(self.precision))

    monkeypatch.setattr(Session, "__init__", noted)
    Engine(work_dir=tmp_path).audit(model, data_root=photos, baseline=model, precision="auto")
    assert manifest(tmp_path / "audit" / "evidence")["precision"]["taken"] == "bf16"
    assert made.count("f32") == 1
    assert made.count("bf16") >= 3, "evidence, baseline, noise of maps"
