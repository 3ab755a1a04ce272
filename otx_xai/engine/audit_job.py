"""Stages of ``Engine.audit``: evidence, questions, checks, verdict, and what is written."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from otx_xai.audit.audit_folder import BASELINE, EVIDENCE, begin, end
from otx_xai.audit.audit_result import Audit
from otx_xai.audit.gates import Verdict, VerdictState, check_gates, conclude, parse_gates
from otx_xai.audit.metadata import folders_of, read_metadata
from otx_xai.audit.questions import ask, concluded
from otx_xai.counting import counted
from otx_xai.engine.audit_files import Told, write_audit
from otx_xai.engine.audit_preparing import Prepared, chosen
from otx_xai.engine.check_job import Checked, check
from otx_xai.engine.evidence_job import take_baseline, take_evidence
from otx_xai.engine.evidence_pass import Look, Pass
from otx_xai.engine.evidence_shards import bring_together, gathered
from otx_xai.engine.judge_job import JudgedData
from otx_xai.engine.map_noise import map_noise
from otx_xai.errors import DataError
from otx_xai.explain.run import ExplainRun
from otx_xai.model import Model
from otx_xai.records import AuditReport
from otx_xai.settings import AuditSettings
from otx_xai.storage import Place

logger = logging.getLogger("otx_xai")

_FORECAST = 16
"""Images that a forecast rests on."""


@dataclass(frozen=True, eq=False)
class _Looked:
    """What was seen of the images.

    Args:
        own: of the audited model.
        baseline: of the other model.
        noise: distance of two maps that is no more than noise; NaN where nobody asks.
    """

    own: Pass
    baseline: Pass | None
    noise: float

    @property
    def why_not_comparable(self) -> str:
        """Why maps of both models cannot be compared; empty where they can."""
        other = "" if self.baseline is None else self.baseline.planned.method
        if not other:
            return ""
        if other == self.own.planned.method:
            return "how much noise alone moves them was not measured" if math.isnan(self.noise) else ""
        return (
            f"they are explained by {other}, the model by {self.own.planned.method}, and methods differ by themselves"
        )


def _threshold(model: Model) -> float:
    return 0.5 if model.facts.task.is_classification else model.facts.confidence_threshold


def run_audit(here: Path, folder: Place, settings: AuditSettings, prepared: Prepared) -> Audit:
    """Audit a model.

    Args:
        here: folder in which the audit is made, which exists.
        folder: of the audit, where its files lie in the end.
        settings: of the audit.
        prepared: models and images.

    Raises:
        ConfigError: the folder holds parts of another audit, or settings do not fit the model.
        MissingPartsError: evidence is taken in shards, and some are not done.
        OutputError, ModelError, GraphError: as the stages say.
    """
    start = time.monotonic()
    gates, data = parse_gates(settings.fail_on), prepared.data
    looks = prepared.looks(settings)
    if settings.dry_run:
        return _forecast(here, folder, settings, prepared, looks)
    looked = _look(here, folder, settings, prepared, looks)
    if looked.own.run.interrupted or (looked.baseline is not None and looked.baseline.run.interrupted):
        return unfinished(folder, looked.own.run, time.monotonic() - start)
    answers = ask(
        _with_metadata(looked.own, settings, data),
        None if looked.baseline is None else looked.baseline.evidence,
        noise=looked.noise,
        threshold=_threshold(prepared.model),
        why_no_maps=looked.why_not_comparable,
    )
    checked = check(answers, replace(settings, precision=looked.own.precision), prepared.model, prepared.baseline, data)
    answers = concluded(checked.answers)
    told = _told(settings, looked, checked, data)
    results = check_gates(gates, answers.findings, answers.figures)
    evidence = answers.evidence
    labelled = bool(evidence.is_labelled.any()) or evidence.objects is not None
    doubt = answers.doubt if len(evidence) else "No image could be explained, so nothing was audited."
    verdict = conclude(answers.findings, results, labelled=labelled, doubt=doubt)
    audit = Audit(
        folder,
        verdict,
        answers.findings,
        {figure.name: figure for figure in answers.figures if math.isfinite(figure.effect.value)},
        tuple(results),
        len(answers.evidence),
        looked.own.run.failures,
        tuple(answers.notes),
        time.monotonic() - start,
        checked.interrupted,
    )
    links = data.images.images if _has_files(data) and settings.report is not AuditReport.NOIMAGES else None
    write_audit(here, audit, answers, told, looked.own.stored, links)
    if not audit.interrupted:
        end(here)
    return replace(audit, seconds=time.monotonic() - start)


def _look(here: Path, folder: Place, settings: AuditSettings, prepared: Prepared, looks: dict[str, Look]) -> _Looked:
    """Take the evidence of both models, or that of all shards, and measure what is noise."""
    data, known, other = prepared.data.images, prepared.known, looks.get(BASELINE)
    plan = gathered(looks, folder, data)
    begin(here, resume=settings.resume, baseline=other is not None)
    if plan is not None:
        bring_together(plan, looks, here)
    merged = plan is not None
    own = take_evidence(here, looks[EVIDENCE], settings, data, known, merged=merged)
    if other is None or own.run.interrupted:
        return _Looked(own, None, float("nan"))
    logger.info("The baseline:")
    alike = replace(other, subject=replace(other.subject, precision=own.precision))
    compared = take_baseline(here, alike, settings, data, known, merged=merged)
    if compared.run.interrupted:
        return _Looked(own, compared, float("nan"))
    same = replace(settings, precision=own.precision)
    failed = own.run.failures.keys() | compared.run.failures.keys()
    sound = replace(data, images=tuple(image for image in data.images if image.name not in failed))
    return _Looked(own, compared, map_noise(own.planned, same, sound, 2 * _FORECAST))


def _has_files(data: JudgedData) -> bool:
    return data.images.loader is None


def _with_metadata(own: Pass, settings: AuditSettings, data: JudgedData) -> Any:
    """Return the evidence with the texts that images can be sliced by."""
    names = own.evidence.names
    columns: dict[str, Sequence[str]] = dict(folders_of(names))
    if settings.metadata is not None:
        columns |= read_metadata(settings.metadata, names)
    return replace(own.evidence, metadata=columns)


def _told(settings: AuditSettings, looked: _Looked, checked: Checked, data: JudgedData) -> Told:
    planned = looked.own.planned
    checkpoint = "" if settings.checkpoint is None else Path(settings.checkpoint).name
    baseline = "" if settings.baseline is None else Path(settings.baseline).name
    return Told(
        settings=settings,
        model_name=checkpoint,
        baseline_name=baseline,
        data_name=Path(data.images.root).name,
        method=planned.method,
        reason=planned.reason,
        task=str(planned.facts.task),
        passes=checked.passes,
    )


def unfinished(folder: Place, run: ExplainRun, seconds: float) -> Audit:
    """Return what an audit has come to that was interrupted while evidence was taken."""
    verdict = Verdict(VerdictState.ATTENTION, "The audit was interrupted.")
    return Audit(folder, verdict, (), {}, (), run.explained, run.failures, (), seconds, interrupted=True)


def part_of_audit(folder: Place, shard: str, run: ExplainRun) -> Audit:
    """Return what a shard of an audit has come to: evidence, and no answers yet."""
    if run.interrupted:
        return unfinished(folder, run, run.seconds)
    note = (
        f"The evidence of shard {shard}, {counted(run.explained, 'image')}, is in {folder}. When all shards are done, "
        "the same command without --shard concludes the audit."
    )
    verdict = Verdict(VerdictState.PASS, note)
    return Audit(folder, verdict, (), {}, (), run.explained, run.failures, (note,), run.seconds, dry=True)


def _forecast(here: Path, folder: Place, settings: AuditSettings, prepared: Prepared, looks: dict[str, Look]) -> Audit:
    """Look at a few images, and say how long all would take, and how much they would leave."""
    count = len(prepared.data.images.images)
    few = chosen(prepared.data, _FORECAST)
    with TemporaryDirectory(dir=here) as place:
        anew = replace(settings, resume=False)
        done = take_evidence(Path(place), looks[EVIDENCE], anew, few.images, prepared.known)
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
    if not done.run.explained:
        raise DataError("None of the first images could be explained; the log says why.")
    seconds, bytes_each = done.run.seconds / done.run.explained, size / done.run.explained
    twice = 2 if settings.baseline is not None else 1
    note = (
        f"{counted(count, 'image')} would take about {_duration(twice * count * seconds)} and leave about "
        f"{_megabytes(twice * count * bytes_each)} of evidence, and as much again for the page; checks take up to "
        f"{counted(settings.check_images, 'image')} of each finding more. {_FORECAST} of the images were looked at for "
        "this."
    )
    verdict = Verdict(VerdictState.PASS, f"Nothing was audited. {note}")
    return Audit(folder, verdict, (), {}, (), done.run.explained, notes=(note,), seconds=done.run.seconds, dry=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _megabytes(size: float) -> str:
    return f"{max(1, round(size / 2**20))} MiB"
