"""The stages of a run that is spread over a cluster of Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from otx_xai.engine.spreading import whole
from otx_xai.errors import ConfigError
from otx_xai.explain.run import ExplainRun
from otx_xai.openvino_core import limit_cores
from otx_xai.process import interruptible, progress
from otx_xai.settings import AuditSettings, ExplainSettings, SpreadSettings
from otx_xai.shards.foreman import Crew, Foreman, Order
from otx_xai.shards.merging import merge_parts
from otx_xai.shards.parts import missing_parts, read_part
from otx_xai.shards.shard_plan import ShardPlan, read_plan
from otx_xai.shards.shard_run import explain_shard
from otx_xai.storage import Place, Url

if TYPE_CHECKING:
    from otx_xai.engine import Engine

logger = logging.getLogger("otx_xai")

SettingsT = TypeVar("SettingsT", bound=SpreadSettings)
Opener = Callable[[SettingsT, int], Callable[[Order], ExplainRun]]

_PATIENCE = 60.0
"""Seconds that another run of the same shards may take to merge them."""

_STOPPING = "Stopping: shards at work are finished; Ctrl-C again ends at once, and leaves them to the next run."


def open_shards(settings: ExplainSettings, cores: int) -> Callable[[Order], ExplainRun]:
    """Make a process ready to explain shards: open and compile the model, and read the plan, or make it.

    Args:
        settings: of the whole run; ``work_dir`` is given.
        cores: that the process may use.

    Returns:
        What explains a shard.
    """
    place = _engine(settings, cores).workplace(whole(settings), settings.shard_size)
    return lambda order: explain_shard(place, order.shard, only=order.only)


def open_evidence(settings: AuditSettings, cores: int) -> Callable[[Order], ExplainRun]:
    """Make a process ready to take the evidence of shards of an audit; see :func:`open_shards`."""
    place = _engine(settings, cores).evidence_workplace(whole(settings), settings.shard_size)
    return lambda order: explain_shard(place, order.shard, only=order.only)


def _engine(settings: SpreadSettings, cores: int) -> Engine:
    from otx_xai.engine import Engine

    limit_cores(cores)
    return Engine(settings.model, task=settings.task, work_dir=settings.work_dir, device=settings.device)


def explain_on_ray(
    settings: ExplainSettings, work_dir: Place, opener: Opener[ExplainSettings] = open_shards
) -> ExplainRun:
    """Explain all shards on a cluster, and merge them.

    Args:
        settings: of the run; checkpoint and images are given.
        work_dir: folder of the run, which all machines see.
        opener: makes a process ready.

    Raises:
        OtxXaiError: a shard cannot be explained; those at work are finished before.
        KeyboardInterrupt: the second Ctrl-C; the first one lets shards at work be finished.
    """
    start = time.monotonic()
    spread = _spread(settings, work_dir, opener)
    if spread is None:
        return ExplainRun(work_dir, 0, 0, 0, {}, 0, 0.0, interrupted=True)
    plan, before = spread
    done = _so_far(plan) if missing_parts(plan) else merge_parts(work_dir, _PATIENCE)
    return replace(done, resumed=min(before, done.explained), seconds=time.monotonic() - start)


def gather_on_ray(settings: AuditSettings, folder: Place, opener: Opener[AuditSettings] = open_evidence) -> ExplainRun:
    """Take the evidence of all shards of an audit on a cluster; it stays in parts.

    Args:
        settings: of the audit; checkpoint and images are given.
        folder: of the audit, in the work directory, which all machines see.
        opener: makes a process ready.

    Raises:
        OtxXaiError, KeyboardInterrupt: as of :func:`explain_on_ray`.
    """
    start = time.monotonic()
    spread = _spread(settings, folder, opener)
    if spread is None:
        return ExplainRun(folder, 0, 0, 0, {}, 0, 0.0, interrupted=True)
    done = _so_far(spread[0])
    return replace(done, interrupted=bool(missing_parts(spread[0])), seconds=time.monotonic() - start)


def _spread(settings: SettingsT, folder: Place, opener: Opener[SettingsT]) -> tuple[ShardPlan, int] | None:
    """Have all shards done; return the plan, and how many images were done before, or nothing where it was stopped.

    Args:
        settings: of the whole.
        folder: of the plan.
        opener: makes a process ready.
    """
    from otx_xai.shards.ray_crew import RayCrew, cluster

    # In this order: Ray has a handler of its own for signals that end processes
    with cluster(settings.ray.address or "local"), interruptible(_STOPPING) as stop:
        crew = RayCrew(partial(opener, replace(settings, ray=type(settings.ray)())), settings.ray)
        try:
            plan = _first_plan(crew, folder, stop)
            if plan is None:
                return None
            before = plan.images - sum(_size(plan, number) for number in missing_parts(plan))
            with progress(plan.images, before) as bar:
                Foreman(plan, crew, stop, bar.update).run()
        finally:
            crew.close()
    return plan, before


def spread_by_ray(settings: SettingsT, work_dir: Place, source: Any) -> SettingsT:
    """Return the settings as other processes can follow them.

    Raises:
        ConfigError: the model or the images are in the memory of this process.
    """
    if not isinstance(source, Path | Url):
        raise ConfigError(
            "--ray needs a model file, which other processes can open. Save the model; give --checkpoint."
        )
    if settings.data_root is None:
        raise ConfigError("--ray needs images that other processes can find; give --data_root.")
    return replace(settings, checkpoint=str(source), work_dir=str(work_dir))


def _first_plan(crew: Crew, work_dir: Place, stop: Event) -> ShardPlan | None:
    """Wait until one process is ready, and so has read the plan or made it; ``None`` where the user stops before."""
    deaths = 0
    while not crew.idle():
        if stop.is_set():
            return None
        for news in crew.news(0.5):
            deaths += bool(news.died)
            if news.error is not None:
                raise news.error
            if deaths >= 3:
                raise ConfigError(
                    f"The processes that are to explain die before they are ready: {news.died} Try `otx explain` "
                    "without --ray on one image; with several processes a machine, memory may be short."
                )
    return read_plan(work_dir)


def _size(plan: ShardPlan, number: int) -> int:
    first, behind = plan.bounds(number)
    return behind - first


def _so_far(plan: ShardPlan) -> ExplainRun:
    """Return what was done of a run that was stopped."""
    missing = set(missing_parts(plan))
    parts = [read_part(plan, number) for number in range(1, plan.shards + 1) if number not in missing]
    failures = {name: why for part in parts for name, why in part.failures.items()}
    explained, files = sum(len(part.lines) for part in parts), sum(part.files for part in parts)
    return ExplainRun(plan.work_dir, plan.images, explained, 0, failures, files, 0.0, interrupted=True)
