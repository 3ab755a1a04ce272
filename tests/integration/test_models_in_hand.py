"""What a training script holds in its hand is explained as its exported IR is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import timm
import torch
import torchvision
from lightning import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from otx_xai import Engine, Explainer
from otx_xai.conversion import quietly

CLASSES = 5


class HandWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 12, 5, 4, 2), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


class Lit(LightningModule):
    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.net = HandWritten()
        self.example_input_array = torch.zeros(1, 3, size, size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)


class Data(LightningDataModule):
    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(images(5, 64)), batch_size=2)


def images(count: int, size: int) -> torch.Tensor:
    """Return normalised images with soft blobs."""
    coarse = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(coarse, (size, size), mode="bicubic")


def exported(net: nn.Module, size: int, path: Path) -> Path:
    """Convert by OpenVINO alone, and save."""
    with quietly():
        model = ov.convert_model(net.eval(), example_input=torch.zeros(1, 3, size, size), input=[1, 3, size, size])
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (HandWritten, 64),
        (lambda: torchvision.models.squeezenet1_1(weights=None, num_classes=CLASSES), 224),
        (lambda: timm.create_model("test_vit", num_classes=CLASSES), 160),
    ],
    ids=["hand-written", "torchvision", "timm"],
)
def test_a_network_gives_the_maps_of_its_ir(build: Callable[[], nn.Module], size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, logs = build().train(), logging.root.level
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tensor = images(1, size).numpy()
    named = {} if hasattr(net, "pretrained_cfg") or isinstance(net, torchvision.models.SqueezeNet) else {"input": size}
    mine = Explainer(net, input=_input_of(named))(tensor, targets=-1)
    assert net.training
    assert logging.root.level == logs
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    theirs = Explainer(exported(net, size, tmp_path / "net.xml"))(tensor, targets=-1)
    assert mine.maps.shape == theirs.maps.shape
    assert mine.maps.shape[0] == CLASSES
    np.testing.assert_allclose(mine.maps, theirs.maps, atol=2e-4)
    scores = torch.softmax(net(torch.from_numpy(tensor)), 1)[0].detach().numpy()
    best = mine.predictions[0]
    assert best.target == int(scores.argmax())
    assert best.score == pytest.approx(float(scores.max()), abs=1e-4)


def _input_of(named: dict[str, int]) -> Any:
    from otx_xai import InputOptions

    return InputOptions(size=named["input"]) if named else None


def test_a_lightning_module_on_somebodys_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lit = Lit()
    run = Engine(model=lit, work_dir=tmp_path / "kept").explain(datamodule=Data())
    assert (run.images, run.explained) == (5, 5)
    explainer = Explainer(exported(lit.net, 64, tmp_path / "lit.xml"))
    for explanation, tensor in zip(run.explanations, images(5, 64), strict=True):
        theirs = explainer(tensor[None].numpy(), targets=explanation.targets)
        np.testing.assert_allclose(explanation.maps, theirs.maps, atol=2e-4)
    dumped = Engine(model=lit, work_dir=tmp_path / "dumped").explain(datamodule=Data(), dump=True)
    assert dumped.files >= 10
    assert len(list((tmp_path / "dumped" / "saliency_map").rglob("*.png"))) == dumped.files


def test_other_weights_make_another_run(tmp_path: Path) -> None:
    """A module in hand has no file; its weights count in the fingerprint all the same."""
    manifests = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        Engine(model=Lit(), work_dir=tmp_path).explain(datamodule=Data(), dump=True)
        manifests.append((tmp_path / "run.json").read_text())
    digests = [text.split('"model_sha256": "')[1][:64] for text in manifests]
    assert digests[0] != digests[1]
