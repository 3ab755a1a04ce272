"""An audit of a training script's own loader comes to what one of the same files comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
import torch
import toy_boxes
from torch.utils.data import DataLoader, TensorDataset

import otx_xai as xai
from otx_xai.errors import ConfigError

COUNT, SIDE = 30, 32
LABELS = ["a", "b", "c"]
INPUT = xai.InputOptions(mean=128, scale=64)
CONFIG = xai.AuditConfig(check_images=0)


class Colours(torch.nn.Module):
    """Tells red, green and blue apart, by and large."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 3, 3, 2, 1)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3)[:, :, None, None] / 9)
            self.features.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 3 * self.features(image).relu().mean((2, 3))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    folder = tmp_path_factory.mktemp("loader")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (COUNT, SIDE, SIDE, 3), np.uint8)
    targets = np.sort(rng.integers(0, 3, COUNT))
    for i, target in enumerate(targets):
        images[i, ..., target] = np.maximum(images[i, ..., target], rng.integers(0, 200))
        place = folder / "val" / LABELS[target] / f"{i:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), images[i, ..., ::-1])
    exported = torch.export.export(Colours().eval(), (torch.zeros(1, 3, SIDE, SIDE),))
    model = ov.convert_model(exported)
    model.reshape([1, 3, SIDE, SIDE])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(targets)


def audit_of(folder: Path, work_dir: Path, **more: Any) -> xai.Audit:
    given = {"labels": LABELS, "input": INPUT, "audit_config": CONFIG, **more}
    return xai.Engine(work_dir=work_dir).audit(folder / "model.xml", **given)


def figures(audit: xai.Audit) -> dict[str, tuple[float, float]]:
    return {name: (figure.effect.value, figure.effect.n) for name, figure in audit.metrics.items()}


@pytest.mark.parametrize("normalised", [False, True])
def test_labels_of_a_loader_count(desk: Any, tmp_path: Path, normalised: bool) -> None:
    folder, images, targets = desk
    files = audit_of(folder, tmp_path / "files", data_root=folder / "val")
    assert 0.4 < files.metrics["accuracy"].effect.value < 1
    given = (images.float() - 128) / 64 if normalised else images
    loader = DataLoader(TensorDataset(given, targets), batch_size=4)
    loaded = audit_of(folder, tmp_path / "loader", datamodule=loader)
    assert figures(loaded).keys() == figures(files).keys()
    for name, figure in figures(files).items():
        assert figures(loaded)[name] == pytest.approx(figure, abs=1e-3), name
    kinds = [(finding.kind, finding.subject) for finding in loaded.findings]
    assert kinds == [
        (one.kind, one.subject) for one in files.findings if one.kind != "slice" or "folder" not in one.subject
    ]


def test_without_labels_what_needs_none_is_asked(desk: Any, tmp_path: Path) -> None:
    folder, images, _ = desk
    done = audit_of(folder, tmp_path, datamodule=DataLoader(TensorDataset(images), batch_size=4))
    assert done.images == COUNT
    assert any("no labels" in note for note in done.notes)


def test_several_classes_an_image(desk: Any, tmp_path: Path) -> None:
    folder, images, targets = desk
    ones = torch.nn.functional.one_hot(targets, 3)
    loader = DataLoader(TensorDataset(images, ones), batch_size=4)
    done = audit_of(folder, tmp_path, datamodule=loader)
    single = audit_of(folder, tmp_path / "one", datamodule=DataLoader(TensorDataset(images, targets)))
    assert done.metrics["accuracy"].effect.value == single.metrics["accuracy"].effect.value


def test_a_baseline_wants_one_order(desk: Any, tmp_path: Path) -> None:
    folder, images, targets = desk
    data = TensorDataset(images, targets)
    same = audit_of(folder, tmp_path, datamodule=DataLoader(data), baseline=folder / "model.xml")
    assert same.metrics["top1_agreement"].effect.value == 1
    with pytest.raises(ConfigError, match="shuffle=False"):
        audit_of(folder, tmp_path / "b", datamodule=DataLoader(data, shuffle=True), baseline=folder / "model.xml")


def test_boxes_of_a_loader_count(tmp_path: Path) -> None:
    cells = toy_boxes.Cells()
    ov.save_model(cells.model(pred_boxes=cells.centres(64), logits=cells.logits), tmp_path / "boxes.xml")
    picture = torch.from_numpy(toy_boxes.picture()[0].astype(np.uint8))
    told = [
        {"boxes": torch.tensor([toy_boxes.RED, toy_boxes.GREEN]).float(), "labels": torch.tensor([0, 1])},
        {"boxes": torch.tensor([toy_boxes.RED, (0, 48, 16, 64)]).float(), "labels": torch.tensor([0, 1])},
    ]
    loader = DataLoader(
        [(picture, one) for one in told], batch_size=2, collate_fn=lambda rows: tuple(zip(*rows, strict=True))
    )  # type: ignore[arg-type, var-annotated]
    engine = xai.Engine(work_dir=tmp_path)
    scale = xai.InputOptions(mean=0, scale=1)
    done = engine.audit(tmp_path / "boxes.xml", loader, CONFIG, labels=["red", "green"], input=scale)  # type: ignore[arg-type]
    assert done.metrics["missed"].effect.value == 1 / 4
    assert done.metrics["background_boxes"].effect.value == 1 / 4
