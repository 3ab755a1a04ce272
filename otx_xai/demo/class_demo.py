"""The demo of classification: a small network of its own, trained on pictures of one shape each."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.data import read_image
from otx_xai.data.shapes import SHAPE_LABELS, ShapeFile, draw_shape, draw_size, write_shapes
from otx_xai.demo.peaks import find_peak, mark_peak
from otx_xai.demo.result import DemoResult
from otx_xai.demo.shape_training import MEAN, SCALE, Batches, classroom, fit
from otx_xai.engine import Engine
from otx_xai.errors import ConfigError, DataError, OutputError
from otx_xai.records import Task, UInt8Array
from otx_xai.report import overlay, read_journal, sheet, write_picture

INPUT_SIDE = 96
_SHEET_TILES = 24


@dataclass(frozen=True)
class _Lesson:
    """One stage of training.

    Args:
        draw_side: typical side of the pictures that are drawn, in pixels.
        side: what they are stretched to before the network sees them.
        radius: of the shape, as a part of the shorter side of the picture.
        peak_rate: the highest learning rate.
        repeats: passes over the pictures for each epoch that is asked for.
    """

    draw_side: int
    side: int
    radius: tuple[float, float]
    peak_rate: float
    repeats: int


_LESSONS = (
    _Lesson(draw_side=56, side=INPUT_SIDE // 2, radius=(0.34, 0.49), peak_rate=2e-3, repeats=2),
    _Lesson(draw_side=112, side=INPUT_SIDE, radius=(0.18, 0.30), peak_rate=1e-3, repeats=1),
)
"""Close-ups first, then whole pictures. A global average pool thins the gradient of a small shape by the area around
it, so that a network which begins with whole pictures learns nothing for minutes. In pixels, shapes are about as
large in both."""


def demonstrate_classification(
    work_dir: str | Path,
    *,
    seed: int = 0,
    train_images: int = 2400,
    test_images: int = 60,
    epochs: int = 4,
) -> DemoResult:
    """Draw shapes, train a small network on them, export it, explain new pictures, and measure the maps.

    Training runs on whatever accelerator Lightning finds, explaining on the CPU.

    Args:
        work_dir: folder for the model, the pictures, the maps and the contact sheet; created if it is missing.
        seed: of the pictures and of the training.
        train_images: number of pictures to train on in each lesson; they stay in memory.
        test_images: number of pictures to explain; they are written to ``<work_dir>/test``.
        epochs: how often each training picture is seen, mirrored and turned at random, in each of two lessons:
            close-ups of a shape, then whole pictures.

    Returns:
        Accuracy, hit rate, chance level, and where to look.

    Raises:
        ConfigError: torch or Lightning is missing, or a number is too small.
        DataError: there are pictures in ``<work_dir>/test`` that cannot be explained.
        OutputError: the work directory cannot be written.
        KeyboardInterrupt: Ctrl-C; files that were written are whole.
    """
    _require_positive(train_images=train_images, test_images=test_images, epochs=epochs)
    work_dir = Path(work_dir)
    test_files = write_shapes(work_dir / "test", test_images, seed=seed + 1)
    start = time.monotonic()
    network = train_network(seed=seed, images=train_images, epochs=epochs)
    train_seconds = time.monotonic() - start
    checkpoint = export_network(network, work_dir / "exported_model.xml")
    run = Engine(work_dir=work_dir).explain(checkpoint=checkpoint, data_root=work_dir / "test", dump=True)
    if run.interrupted:
        raise KeyboardInterrupt
    if run.failures:
        raise DataError(
            f"{len(run.failures)} of the pictures in {work_dir / 'test'} cannot be explained; {work_dir / 'run.json'} "
            "says why. Expected only pictures that the demo drew; choose another --work_dir."
        )
    findings = _check_maps(work_dir, test_files)
    correct = sum(finding.correct for finding in findings)
    return DemoResult(
        task=Task.CLASSIFICATION,
        network="a small network",
        work_dir=work_dir,
        checkpoint=checkpoint,
        contact_sheet=_write_contact_sheet(work_dir / "contact_sheet.png", findings),
        objects=len(findings),
        found=correct,
        maps=correct,
        hits=sum(finding.hit for finding in findings),
        chance=float(np.mean([finding.covered for finding in findings])),
        train_seconds=train_seconds,
    )


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"{name} is {number}; expected at least 1.")


# --------------------------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------------------------


def train_network(*, seed: int = 0, images: int = 2400, epochs: int = 4) -> Any:
    """Train a small network to tell the shapes apart.

    Its last feature map is 12 × 12 for a 96 × 96 input, and one cell sees about 60 pixels: fine enough for a map that
    points, wide enough for a whole shape.

    Args:
        seed: of the pictures, the initial weights and the order of training.
        images: number of pictures to draw and train on, in each of two lessons.
        epochs: how often each is seen.

    Returns:
        A ``torch.nn.Module`` in evaluation mode, on the CPU: normalised ``float32`` ``(N, 3, 96, 96)`` →
        logits ``(N, K)``.

    Raises:
        ConfigError: torch or Lightning is missing.
    """
    rng = np.random.default_rng(seed)
    with classroom(seed):
        network = _network()
        for lesson in _LESSONS:
            batches = Batches(*_draw_training_set(rng, images, lesson))
            fit(network, batches, peak_rate=lesson.peak_rate, passes=epochs * lesson.repeats)
    return network.cpu().eval()


def _draw_training_set(rng: np.random.Generator, count: int, lesson: _Lesson) -> tuple[UInt8Array, NDArray[np.int64]]:
    """Return pictures ``uint8`` ``(N, 3, side, side)``, stretched as the test pictures will be, and their targets."""
    targets = np.arange(count) % len(SHAPE_LABELS)
    images = np.empty((count, lesson.side, lesson.side, 3), np.uint8)
    for index, target in enumerate(targets.tolist()):
        image = draw_shape(rng, draw_size(rng, lesson.draw_side), target, radius=lesson.radius).image
        images[index] = cv2.resize(image, (lesson.side, lesson.side), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), targets


def _network() -> Any:
    """Return a residual network of stride 8: stem, two stages, global average pool, linear.

    The kernels that halve the resolution are even, so a cell of the last map lies exactly over the middle of the 8 × 8
    pixels it stands for; odd kernels would move every map by half a cell to the right and down. The average before the
    last convolution lets a cell speak for its neighbours: corners, which tell shapes apart, else draw the peak of a
    map just beyond the outline.
    """
    import torch
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc]
        """``x + f(x)``."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*same(channels), *same(channels))

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    def same(channels: int) -> list[nn.Module]:
        return normalised(nn.Conv2d(channels, channels, 3, padding=1, bias=False))

    def halve(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
        return normalised(nn.Conv2d(channels_in, channels_out, kernel, 2, padding=kernel // 2 - 1, bias=False))

    def normalised(convolution: nn.Conv2d) -> list[nn.Module]:
        return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]

    return nn.Sequential(
        *halve(3, 16, kernel=4),
        *halve(16, 32, kernel=2),
        Residual(32),
        *halve(32, 96, kernel=2),
        Residual(96),
        nn.AvgPool2d(3, stride=1, padding=1),
        *normalised(nn.Conv2d(96, 96, 1, bias=False)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, len(SHAPE_LABELS)),
    ).to(memory_format=torch.channels_last)


# --------------------------------------------------------------------------------------------------------------------
# Export
# --------------------------------------------------------------------------------------------------------------------


def export_network(
    network: Any, path: str | Path, *, labels: Sequence[str] = SHAPE_LABELS, side: int = INPUT_SIDE
) -> Path:
    """Write a network of a demo as OpenVINO IR that says all about itself in its ``model_info``.

    Args:
        network: the network, in evaluation mode.
        path: the ``.xml`` to write; the weights go into the ``.bin`` beside it.
        labels: class names.
        side: of the images that it takes, in pixels.

    Returns:
        ``path``.

    Raises:
        OutputError: the file cannot be written.
    """
    import openvino as ov
    import torch

    path = Path(path)
    shape = (3, side, side)
    program = torch.export.export(network, (torch.zeros(2, *shape),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    model = ov.convert_model(program)
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    model.reshape([-1, *shape])
    for key, value in _model_info(labels).items():
        model.set_rt_info(value, ["model_info", key])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".bin").touch()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}. Choose a folder that is writable.") from error
    ov.save_model(model, path)
    return path


def _model_info(labels: Sequence[str]) -> dict[str, str]:
    """Return what OTX writes of a classifier, as strings."""
    names = list(labels)
    ids = [str(target) for target in range(len(names))]
    return {
        "model_type": "Classification",
        "task_type": "classification",
        "labels": " ".join(names),
        "label_ids": " ".join(ids),
        "label_info": json.dumps({"label_names": names, "label_ids": ids, "label_groups": [names]}),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "True",
        "mean_values": " ".join([str(MEAN)] * 3),
        "scale_values": " ".join([str(SCALE)] * 3),
        "resize_type": "standard",
        "pad_value": "0",
        "reverse_input_channels": "False",
    }


# --------------------------------------------------------------------------------------------------------------------
# Checking the maps
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finding:
    """One explained test picture, held against its mask."""

    picture: UInt8Array
    caption: str
    correct: bool
    hit: bool
    covered: float


def _check_maps(work_dir: Path, test_files: Sequence[ShapeFile]) -> list[_Finding]:
    """Read what the run wrote and hold each map of a best class against the mask of the drawn shape."""
    records = {record["name"]: record for record in read_journal(work_dir / "predictions.jsonl")}
    return [_check_map(work_dir, file, records[f"{file.path.parent.name}/{file.path.name}"]) for file in test_files]


def _check_map(work_dir: Path, file: ShapeFile, record: dict[str, Any]) -> _Finding:
    best = record["predictions"][0]
    map_file = next(name for name in record["files"] if name.endswith("_saliency_map.png"))
    grey_map = read_image(work_dir / map_file)[:, :, 0]
    mask = read_image(file.mask_path)[:, :, 0] > 0
    peak = find_peak(grey_map)
    correct = best["target"] == file.target
    hit = bool(mask[peak])
    verdict = "wrong class" if not correct else "hit" if hit else "missed"
    picture = overlay(read_image(file.path), grey_map.astype(np.float32) / np.float32(255))
    return _Finding(
        picture=mark_peak(picture, mask, peak),
        caption=f"{best['label']} {best['score']:.2f}\n{verdict}",
        correct=correct,
        hit=correct and hit,
        covered=float(mask.mean()),
    )


def _write_contact_sheet(path: Path, findings: Sequence[_Finding]) -> Path:
    write_picture(path, sheet([(finding.picture, finding.caption) for finding in findings[:_SHEET_TILES]]))
    return path
