"""Classifiers of Ultralytics, which say in ONNX metadata and ``metadata.yaml`` what they want."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import classifying
import torch
from answering import answer, tensors
from record import Entry, Made
from ultralytics import YOLO
from ultralytics.data.augment import classify_transforms

SIDE = 224
MODELS = (("yolov8n-cls", "onnx"), ("yolo11n-cls", "openvino"), ("yolo26n-cls", "onnx"))
WORDS = {"onnx": "export(format='onnx')", "openvino": "export(format='openvino'), the folder"}


def entries() -> list[Entry]:
    return [
        Entry(f"ultralytics-{name}", "classifier", "ultralytics", WORDS[how], partial(_make, name, how))
        for name, how in MODELS
    ]


def _make(name: str, how: str, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    yolo = with_classes(f"{name}.yaml", classifying.CLASSES)
    network = _LogitsOf(yolo.model)
    answer(network, tensors((SIDE, SIDE)), classifying.CLASSES)
    answers = classifying.answers(
        network, classify_transforms(SIDE), pictures, (SIDE, SIDE), classifying.drawn.wider(SIDE)
    )
    return Made(exported(yolo, how, folder / name, imgsz=SIDE), answers, classifying.CLASSES)


def with_classes(config: str, classes: int) -> YOLO:
    """Make a model with random weights."""
    yolo = YOLO(config)
    described = yolo.model
    yolo.model = type(described)(config, nc=classes, verbose=False)
    yolo.model.args, yolo.model.task = described.args, described.task
    yolo.model.names = {number: f"thing {number}" for number in range(classes)}
    return yolo


def exported(yolo: YOLO, how: str, stem: Path, **settings: Any) -> Path:
    """Export as Ultralytics does, beside a file of weights, and return what was written."""
    yolo.overrides["model"] = yolo.model.pt_path = yolo.ckpt_path = str(stem.with_suffix(".pt"))
    settings |= {"simplify": False} if how == "onnx" else {}
    written = Path(yolo.export(format=how, device="cpu", **settings))
    target = stem.parent / written.name
    if written.resolve() != target.resolve():
        shutil.move(written, target)
    return target


class _LogitsOf(torch.nn.Module):
    """A classifier that gives logits, not probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output = self.network(image)
        return output if self.network.training or not isinstance(output, tuple) else output[1]
