"""One pass of an audit over images: what decides it, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from otx_xai.audit.evidence_files import MOST_CLASSES, EvidenceFiles, Kept
from otx_xai.audit.evidence_reading import Setting, Stored, open_stored, read_evidence
from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.data.loader_labels import NotedLoader
from otx_xai.engine.explaining import Images, open_session, tell_decoding
from otx_xai.engine.precision_choice import settled
from otx_xai.engine.told_by_loader import GivenNow
from otx_xai.engine.workspace import make
from otx_xai.explain.plan import How, Plan, plan
from otx_xai.explain.run import ExplainRun, Run
from otx_xai.explain.targets import BOXES
from otx_xai.judging.cases import Known
from otx_xai.methods.table import METHODS
from otx_xai.model import Model
from otx_xai.records import AuditReport, Decode, ExplainConfig, ImageInfo, InputGeometry, ModelFacts, Precision
from otx_xai.report.manifest import Manifest
from otx_xai.settings import AuditSettings
from otx_xai.storage import Place

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
        return few if each_class_costs(few) else plan(self.model, self.how, best=MOST_CLASSES, told=False)


@dataclass(frozen=True, eq=False)
class Look:
    """A pass over images, before it begins.

    Args:
        subject: the model.
        planned: what explains.
        kept: what is kept of each image.
        decisive: all that its evidence depends on, apart from the content of the model.
        decode: how files of images are decoded.
    """

    subject: Subject
    planned: Plan
    kept: Kept
    decisive: Mapping[str, Any]
    decode: Decode

    def manifest(self, folder: Place, images: int) -> Manifest:
        """Return the manifest of a run that takes this look at all its images."""
        return Manifest(
            folder,
            "audit",
            self.decisive,
            self.subject.model.digest,
            images,
            refusals=self.planned.refusals,
            keeps_complete=True,  # what is of an audit that has ended is gone
        )

    def run(self, folder: Path, manifest: Manifest, images: Sequence[ImageInfo], records: Path, loader: Any) -> Run:
        """Return a run over some of the images.

        Args:
            folder: of its journal, which exists.
            manifest: of the run.
            images: that are looked at.
            records: folder of its records, which exists.
            loader: gives their pixels; ``None``: they are files.
        """
        return Run(
            folder,
            manifest,
            self.planned,
            ExplainConfig(),
            images,
            dump=False,
            keep=False,
            loader=loader,
            recorder=EvidenceFiles(records, self.kept),
            decode=self.decode,
        )


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


def look_of(
    subject: Subject, settings: AuditSettings, data: Images, known: Mapping[str, Known], planned: Plan | None = None
) -> Look:
    """Return what a pass over images needs to begin.

    Args:
        subject: the model.
        settings: of the audit.
        data: the images.
        known: name → what annotations tell, in the classes of the model.
        planned: what explains; by default its best classes, or each of its boxes.
    """
    planned = planned or subject.planned
    facts, given, loader = planned.facts, _given(known), data.loader
    noted = loader if isinstance(loader, NotedLoader) else None
    kept = Kept(
        given if noted is None else GivenNow(known),
        len(facts.labels) if facts.task.is_classification else 0,
        facts.multilabel,
        thumbnails=settings.report is not AuditReport.NOIMAGES,
        at_most=0 if noted is None else _at_most(facts, noted),
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
    return Look(subject, planned, kept, decisive, settings.decode)


def take_pass(folder: Path, look: Look, settings: AuditSettings, data: Images, known: Mapping[str, Known]) -> Pass:
    """Look at all images.

    Args:
        folder: of the pass.
        look: at them.
        settings: of the audit.
        data: the images.
        known: see :func:`look_of`.

    Raises:
        OutputError, ModelError: as of a run.
    """
    make(folder)
    subject, planned, manifest = look.subject, look.planned, look.manifest(folder, len(data.images))
    run = look.run(folder, manifest, data.images, folder, data.loader)
    tell_decoding(planned.facts, settings.decode)
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
    return seen(folder, look, run.execute(session, resume=resume), session.precision, known)


def seen(folder: Path, look: Look, done: ExplainRun, precision: Precision, known: Mapping[str, Known]) -> Pass:
    """Return what a pass has left, of a loader with what its batches have told by now.

    Raises:
        OutputError: its files are missing or broken.
    """
    stored = open_stored(folder)
    objects = objects_of(stored.names, known) if known else None
    evidence = read_evidence(stored, setting_of(look.planned), _given(known), objects)
    return Pass(look.planned, done, stored, evidence, precision)


def each_class_costs(planned: Plan) -> bool:
    """Whether each class that a plan explains takes a pass more."""
    return any(spec.each_class_costs for spec in METHODS if spec.name == planned.method)


def setting_of(planned: Plan) -> Setting:
    """Return what the records of a plan stand in."""
    facts = planned.facts
    if facts.tiling is not None:  # maps of tiled images lie over the image itself
        return Setting(facts.task, facts.labels, facts.multilabel, InputGeometry(facts.geometry.size), None)
    return Setting(facts.task, facts.labels, facts.multilabel, facts.geometry, planned.grid)


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


def _digest(entries: Mapping[str, Sequence[int]]) -> str:
    """Return a number that tells whether entries are the same."""
    whole = sha256()
    for name, classes in sorted(entries.items()):
        whole.update(f"{name}\0{','.join(map(str, classes))}\n".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
