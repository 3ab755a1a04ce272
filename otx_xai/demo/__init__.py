"""The whole road on data that is made on the spot: draw, train, export, explain, and check the maps.

The pictures are drawn shapes on cluttered backgrounds (:mod:`otx_xai.data.shapes`), so it is known to the pixel where
the evidence lies, and a saliency map can be held against it: its peak must lie on the shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from otx_xai.demo.box_demo import demonstrate_boxes
from otx_xai.demo.class_demo import demonstrate_classification
from otx_xai.demo.result import DemoResult
from otx_xai.errors import ConfigError
from otx_xai.records import Task

__all__ = ["TASKS", "DemoResult", "demonstrate_boxes", "demonstrate_classification", "run_demo"]

TASKS = (Task.CLASSIFICATION, Task.DETECTION, Task.INSTANCE_SEGMENTATION)


def run_demo(work_dir: str | Path, task: Task | str | None = None, *, seed: int = 0) -> Iterator[DemoResult]:
    """Run the demo of one task, or of all three one after the other.

    Each draws shapes, trains a small network on them, exports it, explains new pictures, and measures the maps.
    Training runs on whatever accelerator Lightning finds, explaining on the CPU.

    Args:
        work_dir: folder of results; each task gets one of its own in it.
        task: ``classification``, ``detection`` or ``instance_segmentation``; all by default.
        seed: of the pictures and of the training.

    Yields:
        What was measured, task by task.

    Raises:
        ConfigError: torch or Lightning is missing, or there is no demo of the task.
        DataError: pictures in the folder cannot be explained.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C; files that were written are whole.
    """
    chosen = TASKS if task is None else (Task(task),)
    if not set(chosen) <= set(TASKS):
        raise ConfigError(f"There is no demo of {chosen[0]}; expected one of {', '.join(TASKS)}.")
    for each in chosen:
        folder = Path(work_dir) / each.value
        if each is Task.CLASSIFICATION:
            yield demonstrate_classification(folder, seed=seed)
        else:
            yield demonstrate_boxes(folder, each, seed=seed)
