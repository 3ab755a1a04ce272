"""``weights`` decides which of two sets in a checkpoint is explained and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import classifiers
import cv2
import openvino as ov
import pytest
import torch
import torchvision

from otx_xai import Engine, InputOptions
from otx_xai.errors import ConfigError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint with both sets, one with each alone, a picture, and a model of OpenVINO's."""
    folder = tmp_path_factory.mktemp("weights")
    sets = {}
    for seed, name in enumerate(("raw", "ema")):
        torch.manual_seed(seed)
        sets[name] = torchvision.models.squeezenet1_1(num_classes=3).state_dict()
        torch.save(sets[name], folder / f"{name}.pth")
    torch.save({"state_dict": sets["raw"], "state_dict_ema": sets["ema"]}, folder / "both.pth")
    cv2.imwrite(str(folder / "photo.png"), classifiers.coloured_image((64, 64)))
    ov.save_model(classifiers.colour_classifier(), folder / "model.xml")
    return {path.name: path for path in folder.iterdir()}


def explain(work_dir: Path, checkpoint: Path, photo: Path, **options: Any) -> dict[str, Any]:
    engine = Engine(work_dir=work_dir)
    engine.explain(checkpoint, data_root=photo, input=InputOptions(size=64), targets=-1, **options)
    line = json.loads((work_dir / "predictions.jsonl").read_text())
    return {one["label"]: one["score"] for one in line["targets"]}


@pytest.fixture(scope="module")
def alone_scores(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Scores of each set alone."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: explain(folder / name, files[name], files["photo.png"]) for name in ("raw.pth", "ema.pth")}


@pytest.mark.parametrize(("weights", "alone"), [(None, "ema.pth"), ("EMA", "ema.pth"), ("raw", "raw.pth")])
def test_a_checkpoint_of_both_is_explained_like_one_of_the_set_that_is_wanted(
    files: dict[str, Path], alone_scores: dict[str, Any], tmp_path: Path, weights: str | None, alone: str
) -> None:
    scores = explain(tmp_path / "both", files["both.pth"], files["photo.png"], weights=weights)
    assert scores == pytest.approx(alone_scores[alone], abs=1e-6)
    other = {"ema.pth": "raw.pth", "raw.pth": "ema.pth"}[alone]
    assert scores != pytest.approx(alone_scores[other], abs=1e-3)
    settings = json.loads((tmp_path / "both" / "run.json").read_text())["settings"]
    assert settings.get("weights") == (weights and weights.lower())


def test_it_is_exported_likewise(files: dict[str, Path], alone_scores: dict[str, Any], tmp_path: Path) -> None:
    report = Engine(work_dir=tmp_path).export(files["both.pth"], input=InputOptions(size=64), weights="raw")
    exported = explain(tmp_path / "exported", report.path, files["photo.png"])
    assert exported == pytest.approx(alone_scores["raw.pth"], abs=1e-3)


def test_a_model_with_one_set_of_weights_has_no_choice(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--weights is raw, and .*model\.xml holds one set of weights"):
        explain(tmp_path, files["model.xml"], files["photo.png"], weights="raw")
