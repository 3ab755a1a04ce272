"""The demo of detection and instance segmentation: a recipe, from drawn pictures to judged maps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.data import read_image
from otx_xai.data.shape_sets import SceneFile, write_coco
from otx_xai.demo.peaks import find_peak, mark_peak
from otx_xai.demo.result import DemoResult
from otx_xai.engine import Engine
from otx_xai.errors import ConfigError, DataError
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import DumpContent, ExplainConfig, Task, UInt8Array
from otx_xai.report import overlay, read_journal, sheet, write_picture

_SHEET_TILES = 24
_SAME = 0.5
"""Overlap from which a predicted box is the drawn one."""
_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


@dataclass(frozen=True)
class _Plan:
    """How a task is shown.

    Args:
        recipe: what is trained.
        network: the same in words.
        images: pictures to train on.
        epochs: passes over them.
        side: typical side of a picture in pixels.
        method: that explains; ``None``: the one that the product would choose.
    """

    recipe: str
    network: str
    images: int
    epochs: int
    side: int = 128
    method: str | None = None


_PLANS = {
    # maps of boxes light nothing that is not found
    Task.DETECTION: _Plan("fcos_resnet18", "FCOS on a part of ResNet-18", images=800, epochs=8, method="odam"),
    Task.INSTANCE_SEGMENTATION: _Plan("maskrcnn_resnet18", "Mask R-CNN on a part of ResNet-18", images=800, epochs=7),
}


def demonstrate_boxes(
    work_dir: str | Path,
    task: Task,
    *,
    seed: int = 0,
    train_images: int | None = None,
    test_images: int = 40,
    epochs: int | None = None,
) -> DemoResult:
    """Draw scenes of shapes, train a slim network on them by its recipe, export it, explain new pictures, measure maps.

    Args:
        work_dir: folder of data, runs and results; created if it is missing.
        task: detection or instance segmentation.
        seed: of the pictures and of the training.
        train_images: pictures to train on; as many as the network needs by default.
        test_images: pictures to explain.
        epochs: passes over the pictures; as many as the network needs by default.

    Raises:
        ConfigError: torch or Lightning is missing, or a number is too small.
        DataError: pictures cannot be explained.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    plan, work_dir = _PLANS[task], Path(work_dir)
    images = plan.images if train_images is None else train_images
    passes = plan.epochs if epochs is None else epochs
    for name, number in (("train_images", images), ("test_images", test_images), ("epochs", passes)):
        if number < 1:
            raise ConfigError(f"{name} is {number}; expected at least 1.")
    counts = {"train": images, "val": 8, "test": test_images}
    files = write_coco(work_dir / "data", counts, seed=seed, size=plan.side)
    engine = Engine.from_config(
        plan.recipe, data_root=work_dir / "data", work_dir=work_dir, max_epochs=passes, **_QUIET, logger=False
    )
    start = time.monotonic()
    engine.train(seed=seed, check_val_every_n_epoch=passes)
    train_seconds = time.monotonic() - start
    report = engine.export()
    test = [file for file in files if file.split == "test"]
    entries = _explained(work_dir, report.path, test[0].path.parent, plan.method)
    findings = [finding for file in test for finding in _judge(work_dir, task, file, entries[file.path.name])]
    path = work_dir / "contact_sheet.png"
    tiles = [(finding.picture, finding.caption) for finding in findings] or [
        (read_image(test[0].path), "nothing found")
    ]
    write_picture(path, sheet(tiles[:_SHEET_TILES]))
    true = [finding for finding in findings if finding.covered > 0]
    return DemoResult(
        task=task,
        network=plan.network,
        work_dir=work_dir,
        checkpoint=report.path,
        contact_sheet=path,
        objects=sum(len(file.scene.targets) for file in test),
        found=sum(_found(file, entries[file.path.name]["predictions"]) for file in test),
        maps=len(true),
        hits=sum(finding.hit for finding in true),
        chance=float(np.mean([finding.covered for finding in true])) if true else 0.0,
        train_seconds=train_seconds,
    )


def _explained(work_dir: Path, checkpoint: Path, pictures: Path, method: str | None) -> dict[str, dict[str, Any]]:
    """Explain a folder of pictures, and return what the journal tells of each, by its file name."""
    run = Engine(work_dir=work_dir).explain(
        checkpoint=checkpoint,
        data_root=pictures,
        explain_method=method,
        dump=True,
        explain_config=ExplainConfig(content=DumpContent.BOTH),
    )
    if run.interrupted:
        raise KeyboardInterrupt
    if run.failures:
        raise DataError(
            f"{len(run.failures)} of the pictures in {pictures} cannot be explained; {work_dir / 'run.json'} says why. "
            "Expected only pictures that the demo drew; choose another --work_dir."
        )
    return {Path(entry["path"]).name: entry for entry in read_journal(work_dir / "predictions.jsonl")}


@dataclass(frozen=True)
class _Finding:
    """One map of a class, held against the shapes of that class.

    Args:
        picture: the overlay, with the shapes' outlines and the peak.
        caption: class and verdict.
        hit: the peak lies on such a shape.
        covered: the part of the picture that these shapes cover; 0 where there is none.
    """

    picture: UInt8Array
    caption: str
    hit: bool
    covered: float


def _judge(work_dir: Path, task: Task, file: SceneFile, entry: dict[str, Any]) -> list[_Finding]:
    """Hold each map of a picture against the drawn shapes, that of a detector against their boxes."""
    map_files = [name for name in entry["files"] if name.endswith("_saliency_map.png")]
    findings = []
    for target, map_file in zip(entry["targets"], map_files, strict=True):
        grey_map = read_image(work_dir / map_file)[:, :, 0]
        mask = _boxes_of(file, target["target"]) if task is Task.DETECTION else _shapes_of(file, target["target"])
        peak = find_peak(grey_map)
        hit = bool(mask[peak])
        verdict = "hit" if hit else "missed" if mask.any() else "not in the picture"
        picture = overlay(read_image(file.path), grey_map.astype(np.float32) / np.float32(255))
        findings.append(
            _Finding(
                picture=mark_peak(picture, mask, peak),
                caption=f"{target['label']} {target['score']:.2f}\n{verdict}",
                hit=hit,
                covered=float(mask.mean()),
            )
        )
    return findings


def _shapes_of(file: SceneFile, target: int) -> NDArray[np.bool_]:
    """Return where shapes of a class are drawn, ``bool`` ``(H, W)``."""
    height, width = file.scene.image.shape[:2]
    masks = [mask for mask, label in zip(file.scene.masks, file.scene.targets, strict=True) if label == target]
    return np.any(masks, axis=0) if masks else np.zeros((height, width), bool)


def _boxes_of(file: SceneFile, target: int) -> NDArray[np.bool_]:
    """Return where boxes of a class are, ``bool`` ``(H, W)``."""
    mask = np.zeros(file.scene.image.shape[:2], bool)
    for (x1, y1, x2, y2), label in zip(np.rint(file.scene.boxes).astype(int), file.scene.targets, strict=True):
        if label == target:
            mask[y1:y2, x1:x2] = True
    return mask


def _found(file: SceneFile, predictions: Sequence[dict[str, Any]]) -> int:
    """Count the drawn shapes that a box of the right class covers."""
    found = 0
    for box, label in zip(file.scene.boxes, file.scene.targets, strict=True):
        boxes = [prediction["box"] for prediction in predictions if prediction["target"] == label]
        if boxes:
            found += bool((overlaps(box[None].astype(np.float32), np.array(boxes, np.float32)) >= _SAME).any())
    return found
