"""Stages of ``Engine.explain`` and ``audit`` that spread a run over processes and machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from otx_xai.engine.explaining import Images, Opened, manifest_of
from otx_xai.engine.workspace import make
from otx_xai.errors import ConfigError
from otx_xai.records import Precision, RayOptions
from otx_xai.report.manifest import plain
from otx_xai.settings import ExplainSettings, SpreadSettings
from otx_xai.shards.shard_plan import join_plan
from otx_xai.shards.shard_run import Explaining
from otx_xai.storage import Place

SettingsT = TypeVar("SettingsT", bound=SpreadSettings)


def whole(settings: SettingsT) -> SettingsT:
    """Return the settings of the whole run that a shard is of."""
    return replace(settings, shard=None, shard_size=SpreadSettings.shard_size, ray=RayOptions())


def refuse_what_is_not_spread(settings: SpreadSettings, work_dir: Place | None) -> Place:
    """Return the work directory that all processes share.

    Raises:
        ConfigError: there is none, or something is wanted that one process alone can do.
    """
    if work_dir is None:
        raise ConfigError(
            "Shards of a run share one folder, and --work_dir was not given. Expected the same folder for all of them."
        )
    if isinstance(settings, ExplainSettings) and settings.output_model is not None:
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


def refuse_loader(data: Images) -> None:
    """Refuse images that other processes cannot find.

    Raises:
        ConfigError: they come from a loader.
    """
    if data.loader is not None:
        raise ConfigError(
            "Images of a loader were given beside --shard or --ray. Expected files, which every process can find: a "
            "folder, a list, a pattern, or an OTXDataModule."
        )


def workplace(opened: Opened, work_dir: Place, shards: int) -> Explaining:
    """Join the plan of a run in shards, or make it.

    Args:
        opened: what explains; its settings are those of the whole run.
        work_dir: folder of the run.
        shards: number of shards.

    Raises:
        ConfigError: the plan is of another run, or images come from a loader.
        OutputError: the plan cannot be written or read.
    """
    refuse_loader(opened.data)
    if isinstance(work_dir, Path):
        make(work_dir)
    told, settings = manifest_of(work_dir, opened).told, opened.settings
    plan = join_plan(work_dir, told, plain(settings.arguments()), opened.data.images, shards, opened.data.root)
    return Explaining(plan, opened.planned, opened.session, settings.explain_config, settings.dump, settings.decode)
