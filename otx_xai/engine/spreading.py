"""Stages of ``Engine.explain`` that spread a run over processes and machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from otx_xai.engine.explaining import Opened, manifest_of
from otx_xai.engine.workspace import make
from otx_xai.errors import ConfigError
from otx_xai.records import Precision, RayOptions
from otx_xai.report.manifest import plain
from otx_xai.settings import ExplainSettings
from otx_xai.shards.shard_plan import join_plan
from otx_xai.shards.shard_run import Workplace
from otx_xai.storage import Place


def whole(settings: ExplainSettings) -> ExplainSettings:
    """Return the settings of the whole run that a shard is of."""
    return replace(settings, shard=None, shard_size=ExplainSettings.shard_size, ray=RayOptions())


def refuse_what_is_not_spread(settings: ExplainSettings, work_dir: Place | None) -> Place:
    """Return the work directory that all processes share.

    Raises:
        ConfigError: there is none, or something is wanted that one process alone can do.
    """
    if work_dir is None:
        raise ConfigError(
            "Shards of a run share one folder, and --work_dir was not given. Expected the same folder for all of them."
        )
    if settings.output_model is not None:
        raise ConfigError(
            "--output_model was given beside --shard or --ray: processes would overwrite each other's file. Leave it "
            "out, and save the model by a run of one image."
        )
    if settings.precision is Precision.AUTO:
        raise ConfigError(
            "--precision auto was given beside --shard or --ray: each process would measure, and might decide "
            "otherwise. Find out by a run of some images, and name what it took."
        )
    return work_dir


def workplace(opened: Opened, work_dir: Place, shards: int) -> Workplace:
    """Join the plan of a run in shards, or make it.

    Args:
        opened: what explains; its settings are those of the whole run.
        work_dir: folder of the run.
        shards: number of shards.

    Raises:
        ConfigError: the plan is of another run, or images come from a loader.
        OutputError: the plan cannot be written or read.
    """
    if opened.data.loader is not None:
        raise ConfigError(
            "Images of a loader were given beside --shard or --ray. Expected files, which every process can find: a "
            "folder, a list, a pattern, or an OTXDataModule."
        )
    if isinstance(work_dir, Path):
        make(work_dir)
    told, settings = manifest_of(work_dir, opened).told, opened.settings
    plan = join_plan(work_dir, told, plain(settings.arguments()), opened.data.images, shards, opened.data.root)
    return Workplace(plan, opened.planned, opened.session, settings.explain_config, settings.dump, settings.decode)
