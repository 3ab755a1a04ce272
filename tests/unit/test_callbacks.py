"""Overlays of validation images, in TensorBoard and on disk, while a model trains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from otx_xai import Engine, SaliencyCallback
from otx_xai.callbacks import log_picture
from otx_xai.data.reading import read_image
from otx_xai.data.shape_sets import write_image_folder
from otx_xai.errors import ConfigError
from otx_xai.models import Detector

LABELS = ("circle", "star")


def test_the_same_images_every_second_epoch_in_tensorboard_and_on_disk(tmp_path: Path):
    write_image_folder(tmp_path / "data", {"train": 6, "val": 5}, labels=LABELS, size=64)
    board = TensorBoardLogger(tmp_path / "board", name="", version="")
    engine = Engine.from_config(
        "mobilenet_v3_large",
        data_root=tmp_path / "data",
        work_dir=tmp_path / "out",
        **{"model.init_args.architecture": "mobilenet_v3_small", "model.init_args.input_size": 64},
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


def test_models_of_others_are_refused():
    with pytest.raises(ConfigError, match=r"explains models of otx_xai\.models; this is LightningModule"):
        SaliencyCallback().on_fit_start(None, lightning.LightningModule())
