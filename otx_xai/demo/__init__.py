"""The whole road on data that is made on the spot: draw, train, export, explain, and check the maps.

The pictures are drawn shapes on cluttered backgrounds (:mod:`otx_xai.data.shapes`), so it is known to the pixel where
the evidence lies, and a saliency map can be held against it: its peak must lie on the shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from otx_xai.demo.audit_demo import AuditDemo, demonstrate_audit
from otx_xai.demo.result import DemoResult
from otx_xai.demo.task_demo import demonstrate_task
from otx_xai.engine.workspace import newest_checkpoint
from otx_xai.errors import ConfigError
from otx_xai.records import Task

__all__ = [
    "AUDIT",
    "TASKS",
    "AuditDemo",
    "DemoResult",
    "demonstrate_audit",
    "demonstrate_task",
    "run_demo",
]

TASKS = (Task.CLASSIFICATION, Task.DETECTION, Task.INSTANCE_SEGMENTATION)
AUDIT = "audit"
"""Word for the demo of the audit, in the place of a task."""


def run_demo(
    work_dir: str | Path, task: Task | str | None = None, *, seed: int = 0
) -> Iterator[DemoResult | AuditDemo]:
    """Run the demo of one task, or of all three one after the other, and of the audit at the end.

    Each draws shapes, trains a slim network on them by a recipe, exports it, explains new pictures, and measures the
    maps; the detectors begin with the body of the classifier where that was trained before. The one of the audit
    plants a mark in its pictures, and tells whether the audit finds it. Training runs on whatever accelerator
    Lightning finds, explaining on the CPU.

    Args:
        work_dir: folder of results; each task gets one of its own in it.
        task: ``classification``, ``detection``, ``instance_segmentation`` or ``audit``; all by default.
        seed: of the pictures and of the training.

    Yields:
        What was measured, task by task.

    Raises:
        ConfigError: torch or Lightning is missing, or there is no demo of the task.
        DataError: pictures in the folder cannot be explained.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C; files that were written are whole.
    """
    only_audit = str(task).lower() == AUDIT
    chosen: tuple[Task, ...] = TASKS if task is None else () if only_audit else (Task(task),)
    if not set(chosen) <= set(TASKS):
        raise ConfigError(f"There is no demo of {chosen[0]}; expected one of {', '.join(TASKS)} or {AUDIT}.")
    classifier = None
    for each in chosen:
        folder = Path(work_dir) / each.value
        yield demonstrate_task(folder, each, seed=seed, start_from=classifier)
        if each is Task.CLASSIFICATION:
            classifier = newest_checkpoint(folder)
    if task is None or only_audit:
        yield demonstrate_audit(Path(work_dir) / AUDIT, seed=seed)
