"""Stages of ``Engine.audit`` that look at images: the evidence of a model, in one streamed pass that can be resumed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from otx_xai.audit.evidence_files import MOST_CLASSES, EvidenceFiles, Kept
from otx_xai.audit.evidence_reading import Setting, Stored, open_stored, read_evidence, with_more_maps
from otx_xai.audit.evidence_table import NO_CLASS, BoxTable, Evidence
from otx_xai.data.loader_labels import NotedLoader
from otx_xai.engine.explaining import Images, open_session, tell_decoding
from otx_xai.engine.precision_choice import settled
from otx_xai.engine.told_by_loader import GivenNow
from otx_xai.engine.workspace import make
from otx_xai.errors import OutputError
from otx_xai.explain.plan import How, Plan, plan
from otx_xai.explain.run import ExplainRun, Run
from otx_xai.explain.targets import BOXES
from otx_xai.judging.cases import Known
from otx_xai.methods.table import METHODS
from otx_xai.model import Model
from otx_xai.records import AuditReport, ExplainConfig, InputGeometry, ModelFacts, Precision
from otx_xai.report.files import unwritable_text, write_atomic
from otx_xai.report.manifest import Manifest
from otx_xai.report.staging import clear_torn
from otx_xai.settings import AuditSettings

logger = logging.getLogger("otx_xai")

EVIDENCE, SECOND_LOOK, BASELINE = "evidence", "second_look", "baseline"
"""Folders of an audit: the pass over all images, that over wrong ones for the labelled class, that of the baseline."""

UNFINISHED = ".unfinished"
"""File that is there as long as an audit has not ended."""

_FOUND_OTHERWISE = (
    "checkpoint",
    "data_root",
    "baseline",
    "metadata",
    "review",
    "labels",
    "max_images",
    "check_images",
    "dry_run",
    "fail_on",
)
"""Settings that evidence does not depend on, or of which it counts what they led to; none of them is a path then."""

_FAINT = 0.05
"""Score from which a box is listed, as average precision needs it; it has a map from the model's own threshold."""

_GIVEN_BY_LOADER = 16
"""Classes of the boxes of an image of a loader that count where images are grouped by class."""

_COSTLY_CLASSES = 2
"""Best classes an image that are explained by methods of which each class takes a pass more."""


_COSTLY_GROUP = 10
"""Labelled classes that share a second look by such methods; images are looked at for their own group alone."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model whose evidence is taken.

    Args:
        model: open.
        how: how it is explained.
        device: OpenVINO device.
        precision: of its numbers.
    """

    model: Model
    how: How
    device: str
    precision: Precision = Precision.F32

    @property
    def planned(self) -> Plan:
        """Return what explains its best classes, or each of its boxes."""
        facts = self.model.facts
        if not facts.task.is_classification:
            listed = replace(facts, confidence_threshold=min(_FAINT, facts.confidence_threshold))
            faint = replace(self.model, facts=listed)
            return plan(faint, self.how, targets=BOXES, least_box=facts.confidence_threshold)
        few = plan(self.model, self.how, best=_COSTLY_CLASSES)
        if few.black_box is not None:
            return replace(few, wanted=replace(few.wanted, best=1))
        return few if _each_class_costs(few) else plan(self.model, self.how, best=MOST_CLASSES, told=False)


@dataclass(frozen=True, eq=False)
class Pass:
    """What a pass over images has left.

    Args:
        planned: what explained.
        run: what it did.
        stored: its files.
        evidence: in columns.
        precision: that the model was explained in: what was found out, where that was left open.
    """

    planned: Plan
    run: ExplainRun
    stored: Stored
    evidence: Evidence
    precision: Precision


def begin(folder: Path, *, resume: bool, baseline: bool) -> None:
    """Remove what earlier audits have left, but for the evidence of one that has not ended.

    Args:
        folder: of the audit, which exists.
        resume: go on with one that has not ended.
        baseline: there is another model.

    Raises:
        OutputError: the folder cannot be written to.
    """
    goes_on = resume and (folder / UNFINISHED).exists()
    for name in (EVIDENCE, SECOND_LOOK, BASELINE):
        if not goes_on or (name == BASELINE and not baseline):
            shutil.rmtree(folder / name, ignore_errors=True)
    clear_torn(folder)
    write_atomic(folder / UNFINISHED, b"")


def end(folder: Path) -> None:
    """Remember that an audit has ended: the next one begins anew.

    Raises:
        OutputError: it cannot be remembered.
    """
    mark = folder / UNFINISHED
    try:
        mark.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(unwritable_text(mark, error)) from error


def how_of(settings: AuditSettings) -> How:
    """Return how a model is explained for its audit: maps unscaled, and pooled features beside them."""
    return How(
        method=settings.explain_method,
        target_layer=settings.target_layer,
        options=settings.of_method(),
        embed_scaling=False,
        feature_vector=True,
    )


def take_evidence(
    folder: Path, subject: Subject, settings: AuditSettings, data: Images, known: Mapping[str, Known]
) -> Pass:
    """Take the evidence of a model in one pass over all images, and of the labelled classes in a second look.

    Args:
        folder: of the audit, which exists.
        subject: the model.
        settings: of the audit.
        data: the images.
        known: name → what annotations tell, in the classes of the model.

    Raises:
        OutputError, ModelError, GraphError, ConfigError: as the stages say.
    """
    planned = subject.planned
    done = _pass(folder / EVIDENCE, subject, planned, settings, data, known)
    if not subject.model.facts.task.is_classification or done.run.interrupted:
        return done
    missing = _without_map(done.evidence) if len(done.evidence.maps) else set()  # else its maps know no classes
    if not missing or data.loader is not None or planned.black_box is not None:
        shutil.rmtree(folder / SECOND_LOOK, ignore_errors=True)  # of an audit that was stopped, and asked otherwise
        return done
    logger.info("Looking again at %d images for the maps of the classes that they are labelled with.", len(missing))
    wanted = {name: frozenset(known[name].all_classes()) for name in missing}
    classes = sorted(frozenset().union(*wanted.values()))
    step = _COSTLY_GROUP if _each_class_costs(planned) else len(classes)
    alike = replace(subject, how=_as_planned(subject, planned), precision=done.precision)
    for first in range(0, len(classes), step):
        some = frozenset(classes[first : first + step])
        images = tuple(image for image in data.images if some & wanted.get(image.name, frozenset()))
        wider = plan(alike.model, alike.how, targets=tuple(sorted(some)), told=False)
        place = folder / SECOND_LOOK if step == len(classes) else folder / SECOND_LOOK / str(first // step)
        again = _pass(place, alike, wider, settings, replace(data, images=images), known)
        done = replace(done, evidence=with_more_maps(done.evidence, again.evidence))
        if again.run.interrupted:
            break
    return done


def _as_planned(subject: Subject, planned: Plan) -> How:
    """Return how to explain other classes by the method that auto mode has chosen for some."""
    if subject.how.method is not None or subject.model.own_map is not None:
        return subject.how
    return replace(subject.how, method=planned.method, options={})


def _each_class_costs(planned: Plan) -> bool:
    """Whether each class that a plan explains takes a pass more."""
    return any(spec.each_class_costs for spec in METHODS if spec.name == planned.method)


def take_baseline(
    folder: Path, subject: Subject, settings: AuditSettings, data: Images, known: Mapping[str, Known]
) -> Pass:
    """Take the evidence of the model that the audited one is compared with."""
    return _pass(folder / BASELINE, subject, subject.planned, settings, data, known)


def setting_of(planned: Plan) -> Setting:
    """Return what the records of a plan stand in."""
    facts = planned.facts
    if facts.tiling is not None:  # maps of tiled images lie over the image itself
        return Setting(facts.task, facts.labels, facts.multilabel, InputGeometry(facts.geometry.size), None)
    return Setting(facts.task, facts.labels, facts.multilabel, facts.geometry, planned.grid)


def _pass(
    folder: Path,
    subject: Subject,
    planned: Plan,
    settings: AuditSettings,
    data: Images,
    known: Mapping[str, Known],
) -> Pass:
    make(folder)
    facts, given = planned.facts, _given(known)
    noted = isinstance(data.loader, NotedLoader)
    kept = Kept(
        GivenNow(known) if noted else given,
        len(facts.labels) if facts.task.is_classification else 0,
        facts.multilabel,
        thumbnails=settings.report is not AuditReport.NOIMAGES,
        at_most=_at_most(facts, data.loader) if noted else 0,
    )
    told = {name: value for name, value in settings.decisive().items() if name not in _FOUND_OTHERWISE}
    decisive = {
        **told,
        "labels": list(facts.labels),
        "report": str(settings.report),
        "given": _digest(given),
        "images": _digest({image.name: () for image in data.images}),
        "wanted": planned.wanted.indices,
    }
    manifest = Manifest(
        folder,
        "audit",
        decisive,
        subject.model.digest,
        len(data.images),
        refusals=planned.refusals,
        keeps_complete=True,  # what is of an audit that has ended is gone
    )
    run = Run(
        folder,
        manifest,
        planned,
        ExplainConfig(),
        data.images,
        dump=False,
        keep=False,
        loader=data.loader,
        recorder=EvidenceFiles(folder, kept),
        decode=settings.decode,
    )
    tell_decoding(facts, settings.decode)
    resume = settings.resume and data.loader is None
    session = settled(
        open_session(planned, subject.device, subject.precision, normalised=data.normalised),
        planned,
        subject.precision,
        subject.device,
        data.images,
        manifest,
        loader=data.loader.loader if isinstance(data.loader, NotedLoader) else data.loader,
        normalised=data.normalised,
        resume=resume,
    )
    done = run.execute(session, resume=resume)
    stored = open_stored(folder)
    objects = objects_of(stored.names, known) if known else None
    given = _given(known)  # of a loader, that of its images is known now
    return Pass(planned, done, stored, read_evidence(stored, setting_of(planned), given, objects), session.precision)


def _at_most(facts: ModelFacts, loader: NotedLoader) -> int:
    """Return how many classes an image of a loader is given at most; of a detector, how many of them are kept."""
    return loader.most_classes if facts.task.is_classification else min(len(facts.labels), _GIVEN_BY_LOADER)


def _given(known: Mapping[str, Known]) -> dict[str, tuple[int, ...]]:
    return {name: classes for name, one in known.items() if (classes := one.all_classes())}


def objects_of(names: Sequence[str], known: Mapping[str, Known]) -> BoxTable | None:
    """Return the annotated boxes of images; ``None`` where the annotations have none at all."""
    rows = [(i, known[name]) for i, name in enumerate(names) if name in known]
    boxed = [(i, one.boxes, one.labels) for i, one in rows if one.boxes is not None and len(one.boxes)]
    if not boxed:
        return None
    image = np.concatenate([np.full(len(boxes), i, np.int64) for i, boxes, _ in boxed])
    target = np.concatenate([np.asarray(labels, np.int64) for _, _, labels in boxed])
    xyxy = np.concatenate([np.asarray(boxes, np.float32).reshape(-1, 4) for _, boxes, _ in boxed])
    return BoxTable(image, target, xyxy, np.ones(len(image), np.float32))


def _without_map(evidence: Evidence) -> set[str]:
    """Return the images of which there is no map of a class that they are labelled with."""
    mapped = set(zip(evidence.maps.image.tolist(), evidence.maps.target.tolist(), strict=True))
    missing = set()
    for i, classes in enumerate(evidence.given.tolist()):
        if any(target != NO_CLASS and (i, target) not in mapped for target in classes):
            missing.add(evidence.names[i])
    return missing


def _digest(entries: Mapping[str, Sequence[int]]) -> str:
    """Return a number that tells whether entries are the same."""
    whole = sha256()
    for name, classes in sorted(entries.items()):
        whole.update(f"{name}\0{','.join(map(str, classes))}\n".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
