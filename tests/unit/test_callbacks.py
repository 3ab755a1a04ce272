"""Overlays of validation images, in TensorBoard and on disk, while a model trains."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from otx_xai import Engine, Explainer, SaliencyCallback
from otx_xai.callbacks import log_picture
from otx_xai.conversion import module_to_openvino
from otx_xai.data.reading import read_image
from otx_xai.data.shape_sets import write_image_folder
from otx_xai.errors import ConfigError, ModelError
from otx_xai.models import Detector
from otx_xai.records import InputOptions

LABELS = ("circle", "star")


def test_the_same_images_every_second_epoch_in_tensorboard_and_on_disk(tmp_path: Path):
    write_image_folder(tmp_path / "data", {"train": 6, "val": 5}, labels=LABELS, size=64)
    board = TensorBoardLogger(tmp_path / "board", name="", version="")
    engine = Engine.from_config(
        "mobilenet_v3_large",
        data_root=tmp_path / "data",
        work_dir=tmp_path / "out",
        **{"model.init_args.architecture": "squeezenet1_1", "model.init_args.input_size": 64},
        callbacks=[SaliencyCallback(images=3, every_n_epochs=2, targets=-1)],
        logger=[board, CSVLogger(tmp_path / "csv")],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    engine.train(max_epochs=4, log_every_n_steps=1)
    folder = (tmp_path / "out" / ".latest" / "train" / "saliency").resolve()
    assert sorted(epoch.name for epoch in folder.iterdir()) == ["epoch_0002", "epoch_0004"]
    names = [f"{number:02d}_{label}" for number in range(3) for label in ("circle", "star")]
    assert sorted(path.stem for path in (folder / "epoch_0004").iterdir()) == sorted(names)
    events = EventAccumulator(str(tmp_path / "board"), {"images": 0}).Reload()
    assert sorted(events.Tags()["images"]) == sorted(f"saliency/{name}" for name in names)
    logged = events.Images("saliency/00_circle")
    assert [event.step for event in logged] == [2, 4]
    pixels = cv2.imdecode(np.frombuffer(logged[-1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(pixels, read_image(folder / "epoch_0004" / "00_circle.png"))


def test_detectors_are_explained_with_their_boxes(tmp_path: Path):
    images = torch.zeros(2, 3, 96, 96)
    model = Detector("fcos_resnet18", LABELS, input_size=96)
    callback = SaliencyCallback(images=1, targets=-1, folder=tmp_path)
    trainer = SimpleNamespace(
        current_epoch=0,
        sanity_checking=False,
        is_global_zero=True,
        loggers=[],
        global_step=1,
        default_root_dir=tmp_path,
    )
    callback.on_fit_start(trainer, model)
    callback.on_validation_batch_start(trainer, model, (images, []), 0)
    callback.on_validation_epoch_end(trainer, model)
    names = sorted(path.name for path in (tmp_path / "epoch_0001").iterdir())
    assert names == ["00_circle.png", "00_star.png"]


def test_loggers_that_take_images_by_name_get_them():
    seen = []
    logger = SimpleNamespace(log_image=lambda **arguments: seen.append(arguments))
    picture = np.zeros((2, 3, 3), np.uint8)
    assert log_picture(logger, "saliency/00", picture, 7)
    assert seen == [{"key": "saliency/00", "images": [picture], "step": 7}]
    assert not log_picture(SimpleNamespace(experiment=object()), "saliency/00", picture, 7)


@pytest.mark.parametrize("name", ["images", "every_n_epochs"])
def test_numbers_below_one_are_refused(name: str):
    with pytest.raises(ConfigError, match=f"{name}=0"):
        SaliencyCallback(**{name: 0})


class Lit(lightning.LightningModule):
    """Anybody's module, of which nothing is known but that it takes images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).relu().mean((2, 3)))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        assert self.training
        return self(batch["image"]).square().mean()

    def validation_step(self, batch: Any, index: int) -> None:
        assert not self.training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Loops(Lit):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            raise ValueError("not to be followed")
        return super().forward(images)


MEAN, SCALE = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 160, 3), np.uint8)


def fit(module: lightning.LightningModule, callback: SaliencyCallback, folder: Path, epochs: int = 2) -> None:
    normalised = (PICTURES - np.array(MEAN)) / np.array(SCALE)
    batches = [{"image": torch.from_numpy(one[None].astype(np.float32))} for one in normalised.transpose(0, 3, 1, 2)]
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[callback], default_root_dir=folder, **quiet
        )
        loaders = [torch.utils.data.DataLoader(batches, batch_size=None) for _ in range(2)]
        trainer.fit(module, *loaders)


def test_any_lightning_module_is_explained_while_it_trains(tmp_path: Path):
    options = InputOptions(mean=MEAN, scale=SCALE)
    callback = SaliencyCallback(images=2, targets=-1, folder=tmp_path, labels=("a", "b", "c"), input_options=options)
    module = Lit()
    before = module.head.weight.clone()
    fit(module, callback, tmp_path)
    assert not torch.equal(module.head.weight, before)
    for epoch in ("epoch_0001", "epoch_0002"):
        names = sorted(path.stem for path in (tmp_path / epoch).iterdir())
        assert names == [f"{number:02d}_{label}" for number in range(2) for label in "abc"]
    pictures = [read_image(tmp_path / "epoch_0002" / f"{number:02d}_a.png") for number in range(2)]
    graph = module_to_openvino(module, (40, 160)).graph
    for number, picture in enumerate(pictures):
        data = ((PICTURES[number] - np.array(MEAN)) / np.array(SCALE)).astype(np.float32).transpose(2, 0, 1)[None]
        wanted = Explainer(graph)(data, targets=0, original_input_image=PICTURES[number], overlay=True)
        overlay = wanted.saliency_map[0].astype(int)
        assert np.abs(picture[-20:].astype(int) - overlay[-20:]).max() <= 1  # below what is written on it
        assert np.ptp(picture[:12, 80:], axis=2).max() > 120  # the scale of colours, on the darkened band


def test_a_module_that_cannot_be_converted_is_told_before_the_first_epoch(tmp_path: Path):
    with pytest.raises(ModelError, match="Loops cannot be converted to OpenVINO"):
        fit(Loops(), SaliencyCallback(folder=tmp_path), tmp_path)
    assert not list(tmp_path.rglob("*.png"))
