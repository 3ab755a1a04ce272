"""The demo of a task: a recipe, from drawn pictures to judged maps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from otx_xai.data.shape_sets import SceneFile, write_coco, write_image_folder
from otx_xai.demo.classroom import QUIET, classroom
from otx_xai.demo.judging_maps import Finding, count_found, judge_picture, mean_covered, write_contact_sheet
from otx_xai.demo.result import DemoResult
from otx_xai.engine import Engine
from otx_xai.errors import ConfigError, DataError
from otx_xai.records import DumpContent, ExplainConfig, Task
from otx_xai.report import read_journal

logger = logging.getLogger("otx_xai")


@dataclass(frozen=True)
class _Plan:
    """How a task is shown.

    Args:
        recipe: what is trained.
        network: the same in words.
        draw: draws the data set.
        images: pictures to train on.
        epochs: passes over them.
        side: typical side of a picture in pixels.
        looks_for: what a map should peak on, in words.
        options: what is said otherwise than in the recipe.
    """

    recipe: str
    network: str
    draw: Callable[..., tuple[SceneFile, ...]]
    images: int
    epochs: int
    side: int
    looks_for: str
    options: tuple[tuple[str, Any], ...] = ()


_THREADS_OF_DETECTORS = 2
"""That gain from a second one: a third of the time of Mask R-CNN."""

_PLANS = {
    Task.CLASSIFICATION: _Plan(
        "resnet_slim",
        "a slim ResNet",
        partial(write_image_folder, radius=(0.24, 0.36)),
        images=1400,
        epochs=10,
        side=72,
        looks_for="inside the outline of the shape",
        options=(("data.augment", False), ("data.batch_size", 16), ("model.init_args.learning_rate", 4e-3)),
    ),
    Task.DETECTION: _Plan(
        "fcos_slim",
        "FCOS on its body",
        write_coco,
        images=600,
        epochs=6,
        side=96,
        looks_for="in the box of a shape of that class",
        options=(("data.augment", False), ("model.init_args.input_size", 96)),
    ),
    Task.INSTANCE_SEGMENTATION: _Plan(
        "maskrcnn_slim",
        "Mask R-CNN on its body",
        write_coco,
        images=600,
        epochs=5,
        side=96,
        looks_for="inside the outline of a shape of that class",
        options=(("data.augment", False), ("model.init_args.input_size", 96)),
    ),
}


def demonstrate_task(
    work_dir: str | Path,
    task: Task,
    *,
    seed: int = 0,
    start_from: str | Path | None = None,
    train_images: int | None = None,
    test_images: int = 48,
    epochs: int | None = None,
) -> DemoResult:
    """Draw shapes, train a slim network on them by its recipe, export it, explain new pictures, and measure the maps.

    Training runs on whatever accelerator Lightning finds, explaining on the CPU. What is done, and what there is to
    look at, is logged before each step.

    Args:
        work_dir: folder of data, runs and results; created if it is missing.
        task: classification, detection or instance segmentation.
        seed: of the pictures and of the training.
        start_from: checkpoint of the classifier, whose body the detectors share; at random by default.
        train_images: pictures to train on; as many as the network needs by default.
        test_images: pictures to explain.
        epochs: passes over the pictures; as many as the network needs by default.

    Raises:
        ConfigError: torch or Lightning is missing, or a number is too small.
        DataError: pictures cannot be explained.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C; files that were written are whole.
    """
    plan, work_dir = _PLANS[task], Path(work_dir)
    images = plan.images if train_images is None else train_images
    passes = plan.epochs if epochs is None else epochs
    for name, number in (("train_images", images), ("test_images", test_images), ("epochs", passes)):
        if number < 1:
            raise ConfigError(f"{name} is {number}; expected at least 1.")
    data = work_dir / "data"
    _tell(task, 1, f"drawing {images} pictures of shapes to learn from, and {test_images} to explain, in {data}.")
    counts = {"train": images, "val": 12, "test": test_images}
    files = plan.draw(data, counts, seed=seed, size=plan.side, patterned=True)
    test = [file for file in files if file.split == "test"]
    start = time.monotonic()
    with classroom(1 if task.is_classification else _THREADS_OF_DETECTORS):
        engine = Engine.from_config(
            plan.recipe, data_root=data, work_dir=work_dir, max_epochs=passes, **QUIET, **dict(plan.options)
        )
        _tell(task, 2, f"training {plan.network}, as `otx train --config {plan.recipe} --data_root {data}` does.")
        engine.train(seed=seed, start_from=start_from, check_val_every_n_epoch=passes)
    train_seconds = time.monotonic() - start
    _tell(task, 3, "exporting it to OpenVINO, as `otx export` does, and comparing what it says with torch.")
    checkpoint = engine.export().path
    _tell(task, 4, f"explaining the {test_images} new pictures, as `otx explain --checkpoint {checkpoint}` does.")
    entries = _explained(work_dir, checkpoint, test[0].path.parents[task is Task.CLASSIFICATION])
    findings = [finding for file in test for finding in judge_picture(work_dir, task, file, entries[file.path.name])]
    sheet = write_contact_sheet(work_dir / "contact_sheet.png", findings, test[0].path)
    _tell(task, 5, f"look at {sheet}: the ring, which marks the peak of each map, should lie {plan.looks_for}.")
    return _result(task, plan.network, checkpoint, sheet, train_seconds, test, entries, findings)


def _tell(task: Task, step: int, what: str) -> None:
    logger.info("%s %d/5: %s", task.value.replace("_", " ").capitalize(), step, what)


def _explained(work_dir: Path, checkpoint: Path, pictures: Path) -> dict[str, dict[str, Any]]:
    """Explain a folder of pictures, and return what the journal tells of each, by its file name."""
    run = Engine(work_dir=work_dir).explain(
        checkpoint=checkpoint,
        data_root=pictures,
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


def _result(
    task: Task,
    network: str,
    checkpoint: Path,
    sheet: Path,
    train_seconds: float,
    test: list[SceneFile],
    entries: dict[str, dict[str, Any]],
    findings: list[Finding],
) -> DemoResult:
    true = [finding for finding in findings if finding.covered > 0]
    return DemoResult(
        task=task,
        network=network,
        work_dir=sheet.parent,
        checkpoint=checkpoint,
        contact_sheet=sheet,
        objects=sum(len(file.scene.targets) for file in test),
        found=sum(count_found(task, file, entries[file.path.name]["predictions"]) for file in test),
        maps=len(true),
        hits=sum(finding.hit for finding in true),
        chance=mean_covered(true),
        train_seconds=train_seconds,
    )
