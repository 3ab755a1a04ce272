"""Stages of ``Engine.audit`` that spread its evidence over processes and machines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from otx_xai.audit.audit_folder import BASELINE, EVIDENCE
from otx_xai.audit.evidence_files import FILES, LAYOUT
from otx_xai.engine.evidence_pass import Look
from otx_xai.engine.explaining import Images, open_session, tell_decoding
from otx_xai.engine.spreading import refuse_loader
from otx_xai.engine.workspace import make
from otx_xai.errors import ConfigError, OutputError
from otx_xai.explain.run import ExplainRun
from otx_xai.report import JOURNAL, Line, read_journal
from otx_xai.report.files import unwritable_text
from otx_xai.report.manifest import Manifest
from otx_xai.runtime import Session
from otx_xai.shards.evidence_merging import PASSES, merge_evidence, part_name
from otx_xai.shards.merging import refuse_missing
from otx_xai.shards.parts import Part, part_folder, write_part
from otx_xai.shards.shard_plan import ShardPlan, has_plan, join_plan, read_plan, refuse_others
from otx_xai.shards.shard_run import Shard, Tried, shard_manifest
from otx_xai.storage import Place, Url, is_url
from otx_xai.storage.fetching import scratch_folder
from otx_xai.storage.objects import send_files


@dataclass(frozen=True, eq=False)
class Gathering:
    """A workplace that takes the evidence of an audit.

    Args:
        plan: of the audit.
        looks: name of a pass → what it needs, that of the audited model first.
        sessions: name of a pass → what explains, compiled.
    """

    plan: ShardPlan
    looks: Mapping[str, Look]
    sessions: Mapping[str, Session]

    def attempt(self, shard: Shard) -> Tried:
        """Take the evidence of a shard, of one model after the other, as runs of their own in the folder of the shard.

        Records go into the folder of parts; in a store when the shard is done, so that one that dies begins anew.
        """
        folder = self.plan.folder(shard.number)
        here = folder if isinstance(folder, Path) else scratch_folder(folder)
        runs: dict[str, ExplainRun] = {}
        for name in self.looks:
            runs[name] = self._take(name, shard, here / name)
            if runs[name].interrupted and shard.only is None:
                break
        interrupted = any(done.interrupted for done in runs.values())
        return Tried(replace(runs[EVIDENCE], interrupted=interrupted), partial(self._lines, shard, here, runs))

    def _take(self, name: str, shard: Shard, here: Path) -> ExplainRun:
        records = part_folder(self.plan, shard.number, name)
        records = records if isinstance(records, Path) else here
        make(here)
        make(records)
        manifest = shard_manifest(self.plan, shard, here, self.plan.arguments[PASSES][name])
        run = self.looks[name].run(here, manifest, shard.tried, records, None)
        return run.execute(self.sessions[name], resume=shard.resume, only=shard.only)

    def _lines(self, shard: Shard, here: Path, runs: Mapping[str, ExplainRun]) -> Sequence[Line]:
        lines: Sequence[Line] = ()
        for name, done in reversed(list(runs.items())):
            place = part_folder(self.plan, shard.number, name)
            if isinstance(place, Url):
                _send_records(here / name, place)
            lines = read_journal(here / name / JOURNAL)
            if part_name(name):
                part = Part(tuple(lines), {**done.failures, **shard.lethal}, done.seconds)
                write_part(self.plan, shard.number, [image.info.name for image in shard.images], part, part_name(name))
        return lines


def gathering(looks: Mapping[str, Look], folder: Place, data: Images, shards: int) -> Gathering:
    """Join the plan of an audit whose evidence is taken in shards, or make it.

    Args:
        looks: name of a pass → what it needs.
        folder: of the audit.
        data: the images.
        shards: number of shards.

    Raises:
        ConfigError: the plan is of another audit, images come from a loader, or maps have a grid an image.
        OutputError: the plan cannot be written or read.
    """
    refuse_loader(data)
    if any(look.planned.facts.tiling is not None for look in looks.values()):
        raise ConfigError(
            "The model looks at tiles, so that maps of large images have more cells, and the first image decides to "
            "how many all are brought, of which shards know nothing. Expected an audit of one process: leave --shard "
            "and --ray out; --max_images takes fewer images."
        )
    for look in looks.values():
        tell_decoding(look.planned.facts, look.decode)
    if isinstance(folder, Path):
        make(folder)
    told, passes = _told(looks, folder, data)
    plan = join_plan(folder, told, {PASSES: passes}, data.images, shards, data.root, _common_folder(data))
    sessions = {
        name: open_session(look.planned, look.subject.device, look.subject.precision, normalised=False)
        for name, look in looks.items()
    }
    return Gathering(plan, looks, sessions)


def gathered(looks: Mapping[str, Look], folder: Place, data: Images) -> ShardPlan | None:
    """Return the plan of an audit whose evidence was taken in shards; ``None`` where one process takes it.

    Raises:
        ConfigError: the plan is of another audit.
        MissingPartsError: shards are not done; the error names them.
        OutputError: it cannot be read.
    """
    if not has_plan(folder):
        return None
    plan = read_plan(folder)
    refuse_others(plan, _told(looks, folder, data)[0], data.images, plan.shards)
    refuse_missing(plan)
    return plan


def bring_together(plan: ShardPlan, looks: Mapping[str, Look], here: Path) -> None:
    """Merge the evidence of all shards, unless that is done.

    Args:
        plan: of the audit.
        looks: name of a pass → what it needs.
        here: folder on this machine, where the audit is made.

    Raises:
        OutputError: a part is broken, or a file cannot be written.
    """
    manifests = [look.manifest(here / name, plan.images) for name, look in looks.items()]
    if any(manifest.kept("status") != "complete" for manifest in manifests):
        merge_evidence(plan, here)


def _common_folder(data: Images) -> str:
    """Return the folder that all files lie in, so that a plan need not tell it; nothing where they are in a store."""
    if is_url(data.root) or not data.images:
        return ""
    return os.path.commonpath([os.path.dirname(os.path.abspath(image.file)) for image in data.images])


def _told(looks: Mapping[str, Look], folder: Place, data: Images) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the plan tells of the whole audit, and of each pass."""
    count, own = len(data.images), looks[EVIDENCE]
    decisive = dict(own.decisive)
    if (other := looks.get(BASELINE)) is not None:
        decisive["baseline"] = {**other.decisive, "model_sha256": other.subject.model.digest}
    whole = Manifest(folder, "audit", decisive, own.subject.model.digest, count).told
    return whole, {name: look.manifest(folder / name, count).told for name, look in looks.items()}


def _send_records(here: Path, url: Url) -> None:
    files = {name: here / name for name in (LAYOUT, *(f"{name}.bin" for name in FILES))}
    try:
        send_files({url / name: path for name, path in files.items() if path.exists()})
    except OSError as error:
        raise OutputError(unwritable_text(url, error)) from error
