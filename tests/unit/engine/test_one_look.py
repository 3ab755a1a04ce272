"""A run looks at the graph of its model once: every question is asked no more than one time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import classifiers
import cv2
import detectors
import networks
import numpy as np
import openvino as ov
import pytest

from otx_xai import Engine, Explainer
from otx_xai.explain import plan
from otx_xai.graph import features
from otx_xai.methods import class_gradients
from otx_xai.model import identity, opening, structure

QUESTIONS = {
    "find_class_scores": identity,
    "find_format": identity,
    "label_axes": structure,
    "find_features": structure,
    "find_class_heads": structure,
    "map_grids": features,
    "missing_rules": class_gradients,
    "first_that_works": plan,
    "View": opening,
}


LOOKS = {"View": 1, "label_axes": 1, "first_that_works": 1}
CLASSIFIER = LOOKS | {"find_class_scores": 1, "find_features": 1, "map_grids": 1}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each question was asked of a graph."""
    counts: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **named)

        return counted

    for name, module in QUESTIONS.items():
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    return counts


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


def test_a_classifier(asked: Counter[str], images: Path, tmp_path: Path) -> None:
    ov.save_model(classifiers.colour_classifier((-1, 3, 64, 96)), tmp_path / "model.xml")
    Engine(work_dir=tmp_path / "out").explain(tmp_path / "model.xml", data_root=images, batch_size=2)
    print(dict(asked))
    assert asked == CLASSIFIER


def test_a_notebook(asked: Counter[str]) -> None:
    explainer = Explainer(networks.convert(networks.build("mobilenet_v3_small"), (1, 3, 64, 96)))
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    first, *_ = explainer(image, "predicted"), explainer(image, "predicted")
    print(dict(asked))
    assert first.method.startswith("multistridecam")
    assert asked == CLASSIFIER | {"find_format": 1, "missing_rules": 1}


@pytest.mark.parametrize(("preset", "heads"), [("speed", {"find_class_heads": 1}), (None, {})])
def test_a_detector(
    preset: str | None, heads: dict[str, int], asked: Counter[str], images: Path, tmp_path: Path
) -> None:
    model = detectors.convert(detectors.build("yolov8"), detectors.images(1))
    ov.save_model(model, tmp_path / "model.xml")
    labels = ",".join("abcde")
    Engine(work_dir=tmp_path / "out", task="detection").explain(
        tmp_path / "model.xml", data_root=images, labels=labels, targets="boxes", preset=preset
    )
    print(dict(asked))
    assert asked == LOOKS | {"find_format": 1} | heads
