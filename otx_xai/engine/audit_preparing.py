"""Stages of ``Engine.audit`` before its first image: settings, both models, and what is known of the images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from otx_xai.audit.audit_folder import BASELINE, EVIDENCE
from otx_xai.audit.deliverables import read_review
from otx_xai.audit.gates import parse_gates
from otx_xai.audit.metadata import read_metadata
from otx_xai.data.loader_labels import is_shuffled
from otx_xai.engine.evidence_job import how_of
from otx_xai.engine.evidence_pass import Look, Subject, look_of
from otx_xai.engine.judge_job import JudgedData, known_of
from otx_xai.engine.told_by_loader import note_labels
from otx_xai.errors import ConfigError, DataError, OtxXaiError
from otx_xai.judging.cases import Known
from otx_xai.judging.trial import evenly
from otx_xai.methods.table import find_method
from otx_xai.model import Model
from otx_xai.settings import AuditSettings
from otx_xai.storage import Place, place_of

logger = logging.getLogger("otx_xai")


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that an audit needs before its first image.

    Args:
        model: the audited one, open.
        baseline: the one that it is compared with, open.
        data: the images, and their annotations.
        known: name → what annotations tell, in the classes of the model.
    """

    model: Model
    baseline: Model | None
    data: JudgedData
    known: Mapping[str, Known]

    def looks(self, settings: AuditSettings) -> dict[str, Look]:
        """Return the passes over all images, by their names.

        Raises:
            GraphError, ConfigError: a model cannot be explained as it is told.
        """
        models = {EVIDENCE: self.model} | ({} if self.baseline is None else {BASELINE: self.baseline})
        how, images = how_of(settings), self.data.images
        return {
            name: look_of(Subject(model, how, settings.device, settings.precision), settings, images, self.known)
            for name, model in models.items()
        }


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


def prepare(settings: AuditSettings, model: Model, baseline: Model | None, data: JudgedData) -> Prepared:
    """Choose the images, and read what is known of them, before anything takes time.

    Raises:
        ConfigError: the baseline has other classes, or settings do not fit the model.
        DataError: a table does not fit the images.
    """
    _check_baseline(model, baseline)
    _check_order(data, baseline)
    data = chosen(data, settings.max_images)
    known = _known(settings, model, data)
    if data.images.loader is not None:
        data = replace(data, images=note_labels(data.images, model.facts, known))
    elif settings.metadata is not None:
        read_metadata(settings.metadata, [image.name for image in data.images.images])
    return Prepared(model, baseline, data, known)


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


def chosen(data: JudgedData, most: int | None) -> JudgedData:
    """Return so many of the images at most, spread evenly; all of a loader."""
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
