"""Does a class rely on its background? The object stays, and everything else is replaced.

An object on a grey or blurred background is a strange picture, and a model may stumble over that alone; so the
background is also swapped for that of images of other classes, and, as the control, for that of images of the same
class: both are cut and joined in the same way. What the swap to other classes costs more than the swap within the class
is what the model takes from the background (Xiao et al., *Noise or Signal: The Role of Image Backgrounds in Object
Recognition*, ICLR 2021: mixed-same and mixed-rand).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, said
from otx_xai.audit.interventions import Edit, Fetch, Fill, Outcome, Trial, keep, run_trials, surroundings
from otx_xai.audit.object_places import image_mask, object_mask
from otx_xai.audit.statistics import TESTS, mean_effect, paired
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.metrics import Forward
from otx_xai.records import BoolArray, IntArray, UInt8Array

MATERIAL = 0.1
"""Loss of probability from which a reliance matters."""
MATERIAL_ODDS = 1.0
"""Loss of log-odds from which it matters: odds fall to 37 %."""

IMAGES = 40
"""Images of a class that are tried at most."""
DONORS = 3
"""Backgrounds of a kind that are tried for each."""
LARGEST = 0.8
"""Part of an image that its object may cover."""
LEAST = 8
"""Images of a class that are needed at least."""
_PLAIN, _OTHERS, _OWN = range(3)


@dataclass(frozen=True)
class BackgroundLoss:
    """What the images of one class lose without their background.

    Args:
        target: the class.
        plain: loss of its score on grey and blur, in probability.
        swapped: loss of its score on the backgrounds of other classes, in probability.
        own: loss of its score on backgrounds of its own class, in probability: the cost of cutting and joining.
        reliance: loss on those of other classes beyond the loss on those of its own, in probability.
        reliance_odds: the same in log-odds.
        changed: part of the images that another class wins on the backgrounds of other classes, beyond the part that
            one wins on those of their own; negative where there are fewer.
        p_value: of ``reliance_odds`` being above 0 (Wilcoxon).
        images: rows of the images, those that lose most first.
    """

    target: int
    plain: Effect
    swapped: Effect
    own: Effect
    reliance: Effect
    reliance_odds: Effect
    changed: Effect
    p_value: float
    images: tuple[int, ...]

    @property
    def is_material(self) -> bool:
        """Whether even the lower ends of the intervals matter, of probability or of decisions."""
        odds = self.reliance_odds.low >= MATERIAL_ODDS
        return bool(odds and (self.reliance.low >= MATERIAL or self.changed.low >= MATERIAL))


def background_losses(
    evidence: Evidence, fetch: Fetch, forward: Forward, *, images: int = IMAGES, seed: int = 0
) -> list[BackgroundLoss]:
    """Measure for each class what its images lose when only their objects stay.

    Args:
        evidence: of a classifier, with annotated boxes; images that are right are tried, whose boxes cover at most
            four fifths of them.
        fetch: gives the images.
        forward: runs images through the model.
        images: of a class at most; they are drawn at random.
        seed: of what is drawn.

    Returns:
        One a class with at least eight such images, where another class has some as well; nothing without boxes.
    """
    if evidence.objects is None or not evidence.task.is_classification:
        return []
    rng = np.random.default_rng(seed)
    usable = _usable(evidence, rng, images)
    tried = {target: rows for target, rows in usable.items() if len(rows) >= LEAST and len(usable) > 1}
    trials = _trials(evidence, tried, usable, fetch, rng)
    outcome = run_trials(trials, fetch, forward, independent=evidence.multilabel)
    losses = (class_loss(target, outcome) for target in tried)
    return [loss for loss in losses if loss is not None]


def reliance_findings(evidence: Evidence, losses: Sequence[BackgroundLoss]) -> list[Finding]:
    """Name the classes that rely on their background.

    Args:
        evidence: of a classifier.
        losses: of its classes, see :func:`background_losses`.

    Returns:
        One verified finding a class whose score depends on the background materially; nothing of others.
    """
    return [_finding(evidence, loss, len(losses)) for loss in losses if loss.is_material]


def _usable(evidence: Evidence, rng: np.random.Generator, most: int) -> dict[int, list[int]]:
    """Return the images of each class that are right and whose object leaves room for a background."""
    given = evidence.given[:, 0] if evidence.given.shape[1] else np.full(len(evidence), NO_CLASS)
    classes = evidence.predicted if evidence.multilabel else given
    drawn = rng.permutation(np.flatnonzero(evidence.is_right))
    return some_of_each(drawn, classes, most, lambda image, target: _leaves_room(evidence, image, target))


def some_of_each(
    drawn: IntArray, classes: IntArray, most: int, fits: Callable[[int, int], bool] = lambda image, target: True
) -> dict[int, list[int]]:
    """Return images of each class, those that come first.

    Args:
        drawn: rows of images, ``(N,)``.
        classes: class of every image.
        most: images of a class.
        fits: whether an image can be taken for its class.
    """
    found: dict[int, list[int]] = {}
    for image in drawn.tolist():
        rows = found.setdefault(int(classes[image]), [])
        if len(rows) < most and fits(image, int(classes[image])):
            rows.append(image)
    return {target: sorted(rows) for target, rows in sorted(found.items()) if rows}


def _leaves_room(evidence: Evidence, image: int, target: int) -> bool:
    kept, shown = _kept(evidence, image, target), image_mask(evidence, image)
    return bool(0 < (kept & shown).sum() <= LARGEST * shown.sum())


def _kept(evidence: Evidence, image: int, target: int) -> BoolArray:
    """Return the pixels of the class's boxes; of all boxes where none is of this class."""
    own = object_mask(evidence, image, target)
    return own if own.any() else object_mask(evidence, image)


def _trials(
    evidence: Evidence,
    tried: dict[int, list[int]],
    usable: dict[int, list[int]],
    fetch: Fetch,
    rng: np.random.Generator,
) -> Iterator[Trial]:
    for target, rows in tried.items():
        strangers = [row for other, others in usable.items() if other != target for row in others]
        for image in rows:
            mask = _kept(evidence, image, target) | ~image_mask(evidence, image)
            siblings = [row for row in rows if row != image]
            plain = tuple(partial(keep, mask=mask, fill=fill) for fill in (Fill.GREY, Fill.BLUR))
            others, own = (
                swaps(evidence, fetch, mask, rng.permutation(donors)[:DONORS].tolist())
                for donors in (strangers, siblings)
            )
            yield Trial(image, target, (plain, others, own))


def swaps(evidence: Evidence, fetch: Fetch, mask: BoolArray, donors: Sequence[int]) -> tuple[Edit, ...]:
    """Return changes that put what a mask keeps onto the backgrounds of other images.

    Args:
        evidence: of the audit.
        fetch: gives the images.
        mask: what stays, ``(H, W)``.
        donors: rows of the other images; their annotated objects are drawn over.
    """
    return tuple(partial(_swap, mask=mask, evidence=evidence, fetch=fetch, donor=donor) for donor in donors)


def _swap(image: UInt8Array, *, mask: BoolArray, evidence: Evidence, fetch: Fetch, donor: int) -> UInt8Array:
    """Return an image on the background of another, whose own objects are drawn over."""
    hidden = object_mask(evidence, donor, margin=1) | ~image_mask(evidence, donor)
    return keep(image, mask, Fill.OTHER, surroundings(fetch(donor), hidden))


def class_loss(target: int, outcome: Outcome) -> BackgroundLoss | None:
    """Return what trials of one class came to; ``None`` where there are fewer than eight.

    Args:
        target: the class.
        outcome: of trials with three groups of changes: plain backgrounds, those of other classes, those of its own.
    """
    rows = np.flatnonzero(outcome.target == target)
    if len(rows) < LEAST:
        return None
    fall, margin = -outcome.probability[rows].astype(np.float64), -outcome.margin[rows].astype(np.float64)
    decided = outcome.decided[rows].astype(np.float64)
    odds, p_value = paired(margin[:, _OTHERS] - margin[:, _OWN], alternative="greater")
    order = np.argsort(margin[:, _OWN] - margin[:, _OTHERS], kind="stable")
    return BackgroundLoss(
        target,
        plain=mean_effect(fall[:, _PLAIN], Unit.PROBABILITY),
        swapped=mean_effect(fall[:, _OTHERS], Unit.PROBABILITY),
        own=mean_effect(fall[:, _OWN], Unit.PROBABILITY),
        reliance=mean_effect(fall[:, _OTHERS] - fall[:, _OWN], Unit.PROBABILITY),
        reliance_odds=odds,
        changed=mean_effect(decided[:, _OWN] - decided[:, _OTHERS]),
        p_value=p_value,
        images=tuple(outcome.image[rows[order]].tolist()),
    )


def _finding(evidence: Evidence, loss: BackgroundLoss, tests: int) -> Finding:
    label = evidence.labels[loss.target]
    of_class = (evidence.given == loss.target).any(axis=1).sum()
    changed = (
        "" if math.isnan(loss.changed.value) else f"; {max(0.0, loss.changed.value):.0%} more of them lose the class"
    )
    return Finding(
        FindingKind.BACKGROUND_RELIANCE,
        label,
        f"On backgrounds of other classes the score of {label} falls by {loss.reliance.value:.2f} more than on "
        f"backgrounds of its own class ({said(loss.reliance).partition(', ')[2]}), in "
        f"{counted(loss.reliance.n, 'image')} whose objects stayed as they were{changed}.",
        loss.reliance,
        FindingState.VERIFIED,
        float(of_class) / max(1, len(evidence)),
        examples(evidence, loss.images),
        f"Add images of {label} on other backgrounds, or train with backgrounds swapped.",
        _numbers(loss, tests),
        loss.p_value,
    )


def _numbers(loss: BackgroundLoss, tests: int) -> dict[str, Any]:
    names = ("plain", "swapped", "own", "reliance", "reliance_odds", "changed")
    return {TESTS: tests, **{name: getattr(loss, name).content() for name in names}}
