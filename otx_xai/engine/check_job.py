"""The stage of ``Engine.audit`` that changes pixels and watches the scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from otx_xai.audit.background import BackgroundLoss, background_losses, reliance_findings
from otx_xai.audit.box_background import FAINT, box_background_losses
from otx_xai.audit.drift_check import check_drift
from otx_xai.audit.edge_colours import edge_findings, edge_reliances
from otx_xai.audit.error_check import check_causes
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.gates import Figure
from otx_xai.audit.questions import Answers, Tried, with_checked
from otx_xai.audit.shortcuts import shared_by_classes, shortcuts
from otx_xai.audit.tables import cluster_table
from otx_xai.data.reduced import read_fitted
from otx_xai.engine.judge_job import JudgedData
from otx_xai.judging.cases import Network
from otx_xai.metrics import Forward, Stopped
from otx_xai.metrics.stream import Draw
from otx_xai.model import Model
from otx_xai.process import interruptible, one_thread_each
from otx_xai.records import Decode, UInt8Array
from otx_xai.settings import AuditSettings

logger = logging.getLogger("otx_xai")

_STOPPING = "Stopping: what was not checked stays a suspicion; Ctrl-C again ends at once."
_FITTED_OTHERWISE = (
    "Whether scores follow where the maps have moved was not checked: the models take images of other sizes, or fitted "
    "otherwise. The options --input.* and --baseline_input.* make that alike where the models leave it open."
)
_HELD = 256
"""Fitted images that are kept at hand; checks come back to the same ones."""


@dataclass(frozen=True, eq=False)
class Checked:
    """What the checks came to.

    Args:
        answers: with what was verified and refuted.
        passes: number of changed images that the model was shown.
        interrupted: whether it was stopped.
    """

    answers: Answers
    passes: int = 0
    interrupted: bool = False


def check(answers: Answers, settings: AuditSettings, model: Model, baseline: Model | None, data: JudgedData) -> Checked:
    """Check what was found, and what only checks can find.

    Args:
        answers: of the questions.
        settings: of the audit; their precision is the one that the evidence was taken in.
        model: the audited one.
        baseline: the other one.
        data: the images.
    """
    why = _why_not(settings, model, data)
    if why:
        return Checked(replace(answers, notes=(*answers.notes, why)))
    counter = _Counter()
    with interruptible(_STOPPING) as stop, one_thread_each():
        open_network = partial(Network, device=settings.device, stop=stop, precision=settings.precision)
        network = open_network(model)
        forward = counter.counting(network.forward if network.is_classifier else network.detections(FAINT))
        wanted = baseline if answers.moved is not None and answers.moved.moved.any() else None
        compared = wanted if wanted and _takes_the_same(model, wanted) else None
        if wanted and not compared:
            answers = replace(answers, notes=(*answers.notes, _FITTED_OTHERWISE))
        other = counter.counting(open_network(compared).forward) if compared else None
        fetch = _fetcher(model, answers, data, settings.decode)
        try:
            for tried in _checks(answers, settings, fetch, forward, other):
                answers = with_checked(answers, tried)
        except Stopped:
            logger.warning("Stopped before everything was checked.")
    return Checked(answers, counter.passes, stop.is_set())


def _takes_the_same(model: Model, other: Model) -> bool:
    """Whether two models take images fitted alike, so that a region is the same for both."""
    alike = model.facts.geometry.places_as(other.facts.geometry)
    return alike and model.facts.channels == other.facts.channels


def _checks(
    answers: Answers,
    settings: AuditSettings,
    fetch: Callable[[int], UInt8Array],
    forward: Forward,
    before: Forward | None,
) -> Iterator[Tried]:
    """Run one check after the other.

    Args:
        answers: of the questions.
        settings: of the audit.
        fetch: gives images by their row.
        forward: runs them through the audited model.
        before: runs them through the baseline; ``None`` without one, or where it takes other images.
    """
    evidence, images, seed = answers.evidence, settings.check_images, settings.seed
    if answers.box_errors is not None:
        logger.info("Checking whether objects are found by their backgrounds.")
        losses = box_background_losses(evidence, answers.box_errors, fetch, forward, images=images, seed=seed)
        yield Tried(reliance_findings(evidence, losses), _reliance(evidence, losses))
        return
    logger.info("Checking what classes share off their objects.")
    shared = shared_by_classes(evidence, fetch, seed=seed)
    found = shortcuts(evidence, shared, fetch, forward, images=images, seed=seed)
    yield Tried(found, clusters=cluster_table(evidence, shared))
    logger.info("Checking whether classes rely on their backgrounds.")
    yield _backgrounds(evidence, fetch, forward, images, seed)
    if answers.causes is not None and len(answers.causes.image):
        logger.info("Checking why images are wrong.")
        suspected = answers.findings
        yield Tried(check_causes(evidence, answers.causes, suspected, fetch, forward, images=images, seed=seed))
    if answers.moved is not None and answers.baseline is not None and before is not None:
        logger.info("Checking whether scores follow where maps have moved.")
        suspected, moved = answers.findings, answers.moved
        yield Tried(check_drift(answers.baseline, evidence, moved, suspected, fetch, before, forward, images=images))


def _backgrounds(
    evidence: Evidence, fetch: Callable[[int], UInt8Array], forward: Forward, images: int, seed: int
) -> Tried:
    """Replace all but the objects; where nobody says where they are, only colours and edges can be told from them."""
    if evidence.objects is None:
        return Tried(edge_findings(evidence, edge_reliances(evidence, fetch, forward, images=images, seed=seed)))
    losses = background_losses(evidence, fetch, forward, images=images, seed=seed)
    return Tried(reliance_findings(evidence, losses), _reliance(evidence, losses))


def _reliance(evidence: Evidence, losses: Sequence[BackgroundLoss]) -> list[Figure]:
    """Return the figure of the class that relies most on its background."""
    if not losses:
        return []
    worst = max(losses, key=lambda loss: loss.reliance.value)
    hint = (
        f"What {evidence.labels[worst.target]}, the worst class, loses on backgrounds of other classes beyond its own."
    )
    return [Figure("background_reliance", "Reliance on background", worst.reliance, False, hint)]


def _why_not(settings: AuditSettings, model: Model, data: JudgedData) -> str:
    """Say why nothing is checked; nothing where it is."""
    if not settings.check_images:
        return "Nothing was checked by changing pixels, as --check_images 0 asks; findings stay suspicions."
    if data.images.loader is not None:
        return "Nothing was checked by changing pixels: the images of a loader cannot be taken out one by one."
    return ""


class _Counter:
    """Counts the images that pass through models."""

    def __init__(self) -> None:
        self.passes = 0

    def counting(self, forward: Forward) -> Forward:
        """Return a forward that is counted."""

        def run(draws: Iterable[Draw]) -> Generator[Any, None, None]:
            for scores in forward(draws):
                self.passes += 1
                yield scores

        return run


def _fetcher(model: Model, answers: Answers, data: JudgedData, decode: Decode) -> Callable[[int], UInt8Array]:
    """Return what gives the fitted image of a row of the evidence; safe in threads."""
    infos = {image.name: image for image in data.images.images}
    names, facts = answers.evidence.names, model.facts

    @lru_cache(_HELD)
    def fetch(number: int) -> UInt8Array:
        return read_fitted(infos[names[number]].file, facts, decode)[0]

    return fetch
