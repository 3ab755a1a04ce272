from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import pytest
import torch
from drawn_sets import write_multilabel_csv, write_voc

from otx_xai import OTXDataModule
from otx_xai.data import find_images
from otx_xai.data.shape_sets import write_coco, write_image_folder
from otx_xai.errors import ConfigError, DataError
from otx_xai.records import InputGeometry, ResizeType, Task

LABELS = ("circle", "square")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_image_folder(root / "classes", 10, labels=LABELS, size=40)
    write_coco(root / "coco", {"train": 5, "val": 3, "test": 2}, labels=LABELS, size=40)
    write_voc(root / "voc", 6, labels=LABELS, size=40)
    write_multilabel_csv(root / "csv", 6, labels=LABELS, size=40)
    write_image_folder(root / "plain", 3, labels=("star",), size=40)
    return root


def module(root: Path, task: str | None = None, **arguments: Any) -> OTXDataModule:
    return OTXDataModule(root, task, **{"batch_size": 4, "input_size": (32, 48)} | arguments)


def batches(loader: Any) -> list[Any]:
    return list(loader)


def test_nothing_is_looked_at_before_it_is_needed(tmp_path: Path) -> None:
    assert OTXDataModule().data_root == "data"
    missing = OTXDataModule(tmp_path / "missing")
    with pytest.raises(DataError, match="does not exist"):
        missing.images()


def test_batches_of_classes(sets: Path) -> None:
    data = module(sets / "classes")
    assert (data.task, data.labels) == (Task.MULTI_CLASS_CLS, LABELS)
    train, val = batches(data.train_dataloader()), batches(data.val_dataloader())
    assert [len(images) for images, _ in train] == [4, 4]
    assert [len(images) for images, _ in val] == [2]
    images, targets = val[0]
    assert (images.shape, images.dtype) == ((2, 3, 32, 48), torch.uint8)
    assert (targets.tolist(), targets.dtype) == ([0, 1], torch.int64)


def test_batches_of_several_labels(sets: Path) -> None:
    data = module(sets / "csv")
    images, targets = batches(data.train_dataloader())[0]
    assert (data.task, images.shape[1:], targets.shape[1]) == (Task.MULTI_LABEL_CLS, (3, 32, 48), 2)
    assert (targets.dtype, set(targets.ravel().tolist()) <= {0.0, 1.0}) == (torch.float32, True)


@pytest.mark.parametrize(
    ("name", "task", "keys"),
    [
        ("coco", None, {"boxes", "labels"}),
        ("voc", "detection", {"boxes", "labels"}),
        ("coco", "instance_segmentation", {"boxes", "labels", "masks"}),
    ],
)
def test_batches_of_boxes(sets: Path, name: str, task: str | None, keys: set[str]) -> None:
    data = module(sets / name, task)
    assert data.task is Task(task or "detection")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, targets = batches(loader)[0]
        assert isinstance(images, list)
        assert len(images) == len(targets)
        assert all(image.shape == (3, 32, 48) and image.dtype == torch.uint8 for image in images)
        assert all(set(target) == keys for target in targets)
        assert max(int(target["labels"].max()) for target in targets if len(target["labels"])) <= 1
        for target in targets:
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"][:, 2:] <= torch.tensor([48, 32])).all()


def test_explain_goes_through_all_images_and_needs_no_annotations(sets: Path) -> None:
    plain = OTXDataModule(sets / "plain" / "star")
    assert plain.images() == find_images(sets / "plain" / "star")
    assert (plain.task, plain.labels) == (None, ())
    file = next((sets / "plain").rglob("*.jpg"))
    assert [info.path for info in OTXDataModule(file).images()] == [file]
    assert {info.path for info in OTXDataModule(sets / "coco").images()} == set((sets / "coco").rglob("*.jpg"))


def test_predict_follows_the_order_of_images(sets: Path) -> None:
    for name in ("plain", "coco", "classes"):
        data = module(sets / name)
        sizes = torch.cat([sizes for _, sizes in data.predict_dataloader()])
        expected = [cv2.imread(str(info.path)).shape[:2] for info in data.images()]
        assert sizes.tolist() == [list(size) for size in expected]


def test_training_without_annotations_says_what_is_missing(sets: Path) -> None:
    with pytest.raises(DataError, match=r"no annotated images for subset 'train'.*one folder only.*Expected an Imag"):
        module(sets / "plain").train_dataloader()
    with pytest.raises(
        DataError, match=r"no annotated images .*Pascal VOC is there, which does not serve task instance_s"
    ):
        module(sets / "voc", "instance_segmentation").train_dataloader()


def test_same_seed_same_batches_whatever_the_workers(sets: Path) -> None:
    def epochs(**arguments: Any) -> list[torch.Tensor]:
        loader = module(sets / "classes", **arguments).train_dataloader()
        torch.rand(1)  # moves torch's own generator on
        return [torch.cat([images for images, _ in loader]) for _ in range(2)]

    first, again, workers, other = epochs(), epochs(), epochs(num_workers=1), epochs(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, workers, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_augment_can_be_left_off(sets: Path) -> None:
    def images(**arguments: Any) -> set[bytes]:
        loader = module(sets / "classes", **arguments).train_dataloader()
        return {image.numpy().tobytes() for batch, _ in loader for image in batch}

    assert images(augment=False) == images(augment=False, seed=0)
    assert images(augment=False) & {
        image.numpy().tobytes() for batch, _ in module(sets / "classes").predict_dataloader() for image in batch
    } == images(augment=False)
    assert not images() & images(augment=False)


def test_a_single_last_image_is_not_trained_on(sets: Path) -> None:
    data = module(sets / "classes", val_fraction=0, batch_size=3)
    assert [len(images) for images, _ in data.train_dataloader()] == [3, 3, 3]
    assert batches(data.val_dataloader()) == []
    alone = module(sets / "classes", val_fraction=0, batch_size=1)
    assert len(batches(alone.train_dataloader())) == 10


def test_geometry_comes_from_the_model(sets: Path) -> None:
    data = OTXDataModule(sets / "classes")
    with pytest.raises(ConfigError, match="network's input is not known"):
        data.train_dataloader()
    data.fit_to(InputGeometry((24, 40), ResizeType.FIT_TO_WINDOW, 114))
    assert next(iter(data.val_dataloader()))[0].shape[2:] == (24, 40)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input_size": 32}, r"input_size of the data is \(32, 32\), of the model \(24, 40\)"),
        ({"resize_type": "crop"}, "resize_type of the data is crop, of the model standard"),
        ({"pad_value": 3}, "pad_value of the data is 3, of the model 0"),
    ],
)
def test_arguments_must_not_contradict_the_model(sets: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        OTXDataModule(sets, **arguments).fit_to(InputGeometry((24, 40)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"num_workers": -1},
        {"input_size": (1, 2, 3)},
        {"input_size": 0},
        {"pad_value": 256},
        {"val_fraction": 1.0},
        {"resize_type": "squeeze"},
        {"task": "dancing"},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        OTXDataModule("data", **arguments)


def test_settings_make_the_same_module_again(sets: Path) -> None:
    data = module(sets, resize_type="crop", pad_value=4, augment=False, num_workers=2, val_fraction=0.5, seed=9)
    assert OTXDataModule(sets, **data.settings).settings == data.settings
    assert data.settings["input_size"] == [32, 48]


def test_reports_what_it_recognised(sets: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "otx_xai"):
        data = module(sets / "coco")
        assert data.labels == data.labels == LABELS
    assert caplog.messages == [
        f"{sets / 'coco'}: COCO, detection, 2 labels (circle, square), train 5, val 3, test 2 images"
    ]


def test_lightning_trains_on_it(sets: Path, tmp_path: Path) -> None:
    class Mean(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.seen: list[int] = []

        def training_step(self, batch: Any, _: int) -> Any:
            images, targets = batch
            self.seen.append(len(images))
            return torch.nn.functional.cross_entropy(self.layer(images.float().mean((2, 3)) / 255), targets)

        def validation_step(self, batch: Any, _: int) -> None:
            self.seen.append(-len(batch[0]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    model = Mean()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    from otx_xai.engine.training import lightning_manners

    data = module(sets / "classes")
    with lightning_manners():
        trainer.fit(model, datamodule=data)
    assert model.seen == [4, 4, -2] * 2
    assert data.train_dataloader().sampler.epoch == 0
    assert trainer.train_dataloader.sampler.epoch == 2


def test_formats_are_recognised_without_torch(sets: Path) -> None:
    script = (
        "import sys; from otx_xai.data.formats import recognise;"
        f"print(recognise({str(sets / 'voc')!r}).summary()); assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Pascal VOC, detection, 2 labels")


def test_exif_orientation_is_applied_in_training(tmp_path: Path) -> None:
    """A picture stored on its side arrives upright, as in explain."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 30:] = 255
    _, encoded = cv2.imencode(".jpg", image)
    tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = encoded.tobytes()
    segment = b"\xff\xe1" + (len(tiff) + 2).to_bytes(2, "big") + tiff
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(data[:2] + segment + data[2:])
    loader = module(tmp_path, input_size=(40, 20), val_fraction=0, augment=False).train_dataloader()
    images, _ = next(iter(loader))
    assert images[0, 0, 35:].min() > 200
    assert images[0, 0, :25].max() < 50
