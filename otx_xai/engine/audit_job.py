"""Stages of ``Engine.audit``: evidence, questions, checks, verdict, and what is written."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from otx_xai.audit.audit_result import FOLDER, Audit
from otx_xai.audit.deliverables import read_review
from otx_xai.audit.gates import Verdict, VerdictState, check_gates, conclude, parse_gates
from otx_xai.audit.metadata import folders_of, read_metadata
from otx_xai.audit.questions import ask, concluded
from otx_xai.data.loader_labels import is_shuffled
from otx_xai.engine.audit_files import Told, write_audit
from otx_xai.engine.check_job import Checked, check
from otx_xai.engine.evidence_job import Pass, Subject, begin, end, how_of, take_baseline, take_evidence
from otx_xai.engine.judge_job import JudgedData, known_of
from otx_xai.engine.map_noise import map_noise
from otx_xai.engine.told_by_loader import note_labels
from otx_xai.engine.workspace import make
from otx_xai.errors import ConfigError, DataError, OtxXaiError
from otx_xai.judging.cases import Known
from otx_xai.judging.trial import evenly
from otx_xai.methods.table import find_method
from otx_xai.model import Model
from otx_xai.records import AuditReport
from otx_xai.report.manifest import write_config
from otx_xai.settings import AuditSettings
from otx_xai.storage import Place, place_of

logger = logging.getLogger("otx_xai")

CONFIG = "audit.yaml"
"""What repeats an audit."""

_FORECAST = 16
"""Images that a forecast rests on."""


def check_settings(settings: AuditSettings) -> None:
    """Read what can be wrong before anything is opened that takes time.

    Raises:
        ConfigError: a gate, a method, or a file that is none; or libraries of the audit are missing.
    """
    try:
        import jinja2  # noqa: F401
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"Audits need {error.name}: pip install 'otx-xai[audit]'.") from error
    parse_gates(settings.fail_on)
    own = [name for name, value in vars(settings.baseline_input).items() if value is not None]
    if own and settings.baseline is None:
        raise ConfigError(f"--baseline_input.{own[0]} is given, and no --baseline; expected both, or --input.{own[0]}.")
    if settings.explain_method is not None:
        find_method(settings.explain_method)
    for name in ("metadata", "review"):
        value = getattr(settings, name)
        place = None if value is None else place_of(value)
        if isinstance(place, Path) and not place.is_file():
            raise ConfigError(f"--{name} {str(value)!r} is no file; expected a CSV file.")


def open_baseline(settings: AuditSettings, opened: Callable[[Place, AuditSettings], Model]) -> Model:
    """Open the baseline, and say of what goes wrong that it is of the baseline.

    Args:
        settings: of the audit.
        opened: opens a model.

    Raises:
        OtxXaiError: as opening a model raises it.
    """
    try:
        return opened(place_of(str(settings.baseline)), of_baseline(settings))
    except OtxXaiError as error:
        raise type(error)(f"--baseline: {error}") from error


def of_baseline(settings: AuditSettings) -> AuditSettings:
    """Return the settings by which the baseline is opened: what is said of its input outranks what is said of both."""
    own = {name: value for name, value in vars(settings.baseline_input).items() if value is not None}
    return replace(settings, input=replace(settings.input, **own))


def folder_in(work_dir: Path) -> Path:
    """Return the folder of the audit in its work directory, made where it is missing."""
    folder = work_dir / FOLDER
    make(folder)
    return folder


def remember(settings: AuditSettings) -> None:
    """Write what repeats an audit, beside its folder: it holds absolute paths, which nothing in the folder does.

    Raises:
        OutputError: it cannot be written.
    """
    if not settings.dry_run:
        assert settings.work_dir is not None
        write_config(Path(settings.work_dir), settings.arguments(), CONFIG)


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


def run_audit(folder: Path, settings: AuditSettings, model: Model, baseline: Model | None, data: JudgedData) -> Audit:
    """Audit a model.

    Args:
        folder: of the audit, which exists.
        settings: of the audit.
        model: open.
        baseline: open.
        data: the images, and their annotations.

    Raises:
        ConfigError: the baseline has other classes, or settings do not fit the model.
        OutputError, ModelError, GraphError: as the stages say.
    """
    start = time.monotonic()
    gates = parse_gates(settings.fail_on)
    _check_baseline(model, baseline)
    _check_order(data, baseline)
    data = _chosen(data, settings.max_images)
    known = _known(settings, model, data)
    if not _has_files(data):
        data = replace(data, images=note_labels(data.images, model.facts, known))
    if settings.metadata is not None and _has_files(data):
        read_metadata(settings.metadata, [image.name for image in data.images.images])  # before anything takes time
    if settings.dry_run:
        return _forecast(folder, settings, model, data, known)
    begin(folder, resume=settings.resume, baseline=baseline is not None)
    looked = _look(folder, settings, model, baseline, data, known)
    if looked.own.run.interrupted or (looked.baseline is not None and looked.baseline.run.interrupted):
        return _unfinished(folder, looked, time.monotonic() - start)
    answers = ask(
        _with_metadata(looked.own, settings, data),
        None if looked.baseline is None else looked.baseline.evidence,
        noise=looked.noise,
        threshold=_threshold(model),
        why_no_maps=looked.why_not_comparable,
    )
    checked = check(answers, replace(settings, precision=looked.own.precision), model, baseline, data)
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
    write_audit(audit, answers, told, looked.own.stored, links)
    if not audit.interrupted:
        end(folder)
    return replace(audit, seconds=time.monotonic() - start)


def _look(
    folder: Path,
    settings: AuditSettings,
    model: Model,
    baseline: Model | None,
    data: JudgedData,
    known: Mapping[str, Known],
) -> _Looked:
    """Take the evidence of both models, and measure what is noise."""
    how = how_of(settings)
    own = take_evidence(folder, Subject(model, how, settings.device, settings.precision), settings, data.images, known)
    if baseline is None or own.run.interrupted:
        return _Looked(own, None, float("nan"))
    logger.info("The baseline:")
    alike = Subject(baseline, how, settings.device, own.precision)
    other = take_baseline(folder, alike, settings, data.images, known)
    if other.run.interrupted:
        return _Looked(own, other, float("nan"))
    same = replace(settings, precision=own.precision)
    return _Looked(own, other, map_noise(own.planned, same, data.images, 2 * _FORECAST))


def _has_files(data: JudgedData) -> bool:
    return data.images.loader is None


def _check_baseline(model: Model, baseline: Model | None) -> None:
    if baseline is None:
        return
    if baseline.facts.task.is_classification != model.facts.task.is_classification:
        raise ConfigError(
            f"--baseline does {baseline.facts.task}, the audited model {model.facts.task}; expected two models of one "
            "task."
        )
    own, other = model.facts.labels, baseline.facts.labels
    if len(own) != len(other):
        raise ConfigError(
            f"--baseline has {len(other)} classes, the audited model {len(own)}; expected a model of the same classes "
            "in the same order. What it explains could not be compared otherwise."
        )
    if own != other:
        logger.warning("The baseline calls its classes otherwise; they are taken to be the same, in their order.")


def _check_order(data: JudgedData, baseline: Model | None) -> None:
    if baseline is not None and is_shuffled(data.images.loader):
        raise ConfigError(
            "The loader shuffles, so that the baseline would be compared by other images. Expected shuffle=False."
        )


def _chosen(data: JudgedData, most: int | None) -> JudgedData:
    if most is None or most >= len(data.images.images):
        return data
    if data.images.loader is not None:
        logger.warning("--max_images: no effect on the images of a loader.")
        return data
    return replace(data, images=replace(data.images, images=tuple(evenly(data.images.images, most))))


def _known(settings: AuditSettings, model: Model, data: JudgedData) -> dict[str, Known]:
    """Return what annotations tell, with what a person has decided since."""
    known = known_of(data.annotations, data.images.images, model.facts.labels)
    if (
        data.annotations is not None
        and data.annotations.labels
        and not any(one.all_classes() for one in known.values())
    ):
        logger.warning(
            "No class of the annotations is a class of the model: %s against %s. What needs labels is not asked.",
            ", ".join(data.annotations.labels[:3]),
            ", ".join(model.facts.labels[:3]),
        )
    if settings.review is None:
        return known
    decided = read_review(settings.review, model.facts.labels)
    names = {image.name for image in data.images.images}
    ours = names & decided.keys()
    if decided and not ours:
        raise DataError(
            f"The review {str(settings.review)!r} names {next(iter(decided))!r}, and none of the {len(names)} images; "
            f"the first of them is {data.images.images[0].name!r}. Expected the review of an audit of these data."
        )
    logger.info("Labels taken from the review: %d, of %d lines with a verdict.", len(ours), len(decided))
    return known | {name: replace(known.get(name, Known()), classes=(target,)) for name, target in decided.items()}


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


def _unfinished(folder: Path, looked: _Looked, seconds: float) -> Audit:
    verdict = Verdict(VerdictState.ATTENTION, "The audit was interrupted.")
    return Audit(
        folder, verdict, (), {}, (), looked.own.run.explained, looked.own.run.failures, (), seconds, interrupted=True
    )


def _forecast(
    folder: Path, settings: AuditSettings, model: Model, data: JudgedData, known: Mapping[str, Known]
) -> Audit:
    """Look at a few images, and say how long all would take, and how much they would leave."""
    count = len(data.images.images)
    few = _chosen(data, _FORECAST)
    with TemporaryDirectory(dir=folder) as place:
        subject = Subject(model, how_of(settings), settings.device, settings.precision)
        done = take_evidence(Path(place), subject, replace(settings, resume=False), few.images, known)
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
    if not done.run.explained:
        raise DataError("None of the first images could be explained; the log says why.")
    seconds, bytes_each = done.run.seconds / done.run.explained, size / done.run.explained
    twice = 2 if settings.baseline is not None else 1
    note = (
        f"{count} images would take about {_duration(twice * count * seconds)} and leave about "
        f"{_megabytes(twice * count * bytes_each)} of evidence, and as much again for the page; checks take up to "
        f"{settings.check_images} images of each finding more. {_FORECAST} of the images were looked at for this."
    )
    verdict = Verdict(VerdictState.PASS, f"Nothing was audited. {note}")
    return Audit(folder, verdict, (), {}, (), done.run.explained, notes=(note,), seconds=done.run.seconds, dry=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _megabytes(size: float) -> str:
    return f"{max(1, round(size / 2**20))} MiB"
