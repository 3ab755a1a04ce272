"""Stages of ``Engine.audit`` that look at images: the evidence of a model, in one streamed pass that can be resumed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from otx_xai.audit.audit_folder import BASELINE, EVIDENCE, SECOND_LOOK
from otx_xai.audit.evidence_reading import with_more_maps
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.counting import counted
from otx_xai.engine.evidence_pass import Look, Pass, Subject, each_class_costs, look_of, seen, take_pass
from otx_xai.engine.explaining import Images
from otx_xai.explain.plan import How, Plan, plan
from otx_xai.explain.run import ExplainRun
from otx_xai.judging.cases import Known
from otx_xai.report.manifest import MANIFEST
from otx_xai.settings import AuditSettings
from otx_xai.storage.json_text import parse_json

logger = logging.getLogger("otx_xai")

_COSTLY_GROUP = 10
"""Labelled classes that share a second look by such methods; images are looked at for their own group alone."""


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
    folder: Path,
    look: Look,
    settings: AuditSettings,
    data: Images,
    known: Mapping[str, Known],
    *,
    merged: bool = False,
) -> Pass:
    """Take the evidence of a model in one pass over all images, and of the labelled classes in a second look.

    Args:
        folder: of the audit, which exists.
        look: at all images.
        settings: of the audit.
        data: the images.
        known: name → what annotations tell, in the classes of the model.
        merged: the first pass was made in shards, and is there.

    Raises:
        OutputError, ModelError, GraphError, ConfigError: as the stages say.
    """
    subject, planned = look.subject, look.planned
    done = _first_pass(folder / EVIDENCE, look, settings, data, known, merged=merged)
    if not subject.model.facts.task.is_classification or done.run.interrupted:
        return done
    missing = _without_map(done.evidence) if len(done.evidence.maps) else set()  # else its maps know no classes
    if not missing or data.loader is not None or planned.black_box is not None:
        shutil.rmtree(folder / SECOND_LOOK, ignore_errors=True)  # of an audit that was stopped, and asked otherwise
        return done
    number = counted(len(missing), "image")
    logger.info("Looking again at %s, for maps of the classes that annotations name.", number)
    wanted = {name: frozenset(known[name].all_classes()) for name in missing}
    classes = sorted(frozenset().union(*wanted.values()))
    step = _COSTLY_GROUP if each_class_costs(planned) else len(classes)
    alike = replace(subject, how=_as_planned(subject, planned), precision=done.precision)
    for first in range(0, len(classes), step):
        some = frozenset(classes[first : first + step])
        images = tuple(image for image in data.images if some & wanted.get(image.name, frozenset()))
        wider = plan(alike.model, alike.how, targets=tuple(sorted(some)), told=False)
        place = folder / SECOND_LOOK if step == len(classes) else folder / SECOND_LOOK / str(first // step)
        few = replace(data, images=images)
        again = take_pass(place, look_of(alike, settings, few, known, wider), settings, few, known)
        done = replace(done, evidence=with_more_maps(done.evidence, again.evidence))
        if again.run.interrupted:
            break
    return done


def _as_planned(subject: Subject, planned: Plan) -> How:
    """Return how to explain other classes by the method that auto mode has chosen for some."""
    if subject.how.method is not None or subject.model.own_map is not None:
        return subject.how
    return replace(subject.how, method=planned.method, options={})


def take_baseline(
    folder: Path, look: Look, settings: AuditSettings, data: Images, known: Mapping[str, Known], *, merged: bool = False
) -> Pass:
    """Take the evidence of the model that the audited one is compared with; see :func:`take_evidence`."""
    return _first_pass(folder / BASELINE, look, settings, data, known, merged=merged)


def _first_pass(
    folder: Path, look: Look, settings: AuditSettings, data: Images, known: Mapping[str, Known], *, merged: bool
) -> Pass:
    if not merged:
        return take_pass(folder, look, settings, data, known)
    told = parse_json((folder / MANIFEST).read_bytes())
    failures = {one["name"]: one["error"] for one in told["failures"]}
    explained = told["counts"]["explained"]
    done = ExplainRun(folder, len(data.images), explained, explained, failures, 0, told["seconds"])
    return seen(folder, look, done, look.subject.precision, known)


def _without_map(evidence: Evidence) -> set[str]:
    """Return the images of which there is no map of a class that they are labelled with."""
    mapped = set(zip(evidence.maps.image.tolist(), evidence.maps.target.tolist(), strict=True))
    missing = set()
    for i, classes in enumerate(evidence.given.tolist()):
        if any(target != NO_CLASS and (i, target) not in mapped for target in classes):
            missing.add(evidence.names[i])
    return missing
