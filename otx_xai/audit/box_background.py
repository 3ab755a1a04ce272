"""Does a detector find objects by their background? One object stays, and everything else is replaced.

The same check as of classifiers (:mod:`otx_xai.audit.background`), object by object: what is watched is the score by
which the object is found at its place. As the background of its own class counts that of other images with objects of
the class, as that of other classes that of images without any; annotated objects on them are drawn over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from otx_xai.audit.background import (
    DONORS,
    IMAGES,
    LARGEST,
    LEAST,
    BackgroundLoss,
    class_loss,
    swaps,
)
from otx_xai.audit.box_errors import FOUND, BoxCase, BoxErrors
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.interventions import Fetch, Fill, Trial, keep, run_trials
from otx_xai.audit.object_places import boxes_in_input, image_mask
from otx_xai.metrics import Forward
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import BoolArray, Detections, FloatArray

FAINT = 0.01
"""Score of a class at a place where no box of it is found; boxes count from it on."""


@dataclass(frozen=True, eq=False)
class _Object:
    """An object that is found.

    Args:
        image: its row.
        box: ``float32`` ``(4,)``, xyxy in pixels of the network's input.
        mask: the pixels of the box, ``(H, W)``.
    """

    image: int
    box: FloatArray
    mask: BoolArray


def box_background_losses(
    evidence: Evidence, errors: BoxErrors, fetch: Fetch, forward: Forward, *, images: int = IMAGES, seed: int = 0
) -> list[BackgroundLoss]:
    """Measure for each class what the scores of its objects lose when nothing else stays.

    Args:
        evidence: of a detector, with annotated boxes.
        errors: see :func:`~otx_xai.audit.box_errors.box_errors`: objects that are found are tried, the largest of a
            class and an image, that cover at most four fifths of it.
        fetch: gives the images.
        forward: runs images through the model; yields the :class:`~otx_xai.records.Detections` of each in its input,
            from a score of :data:`FAINT` on.
        images: of a class at most; they are drawn at random.
        seed: of what is drawn.

    Returns:
        One a class with at least eight such images, where others have none of its objects; nothing without boxes.
    """
    if evidence.objects is None or evidence.found is None:
        return []
    rng = np.random.default_rng(seed)
    usable = _usable(evidence, errors, rng, images)
    tried = {target: found for target, found in usable.items() if len(found) >= LEAST}
    strangers = {target: _without(evidence, target) for target in tried}
    tried = {target: found for target, found in tried.items() if len(strangers[target])}
    trials = (
        trial
        for target, found in tried.items()
        for trial in _trials(evidence, target, found, strangers[target], fetch, rng)
    )
    outcome = run_trials(trials, fetch, forward, independent=True)
    losses = (class_loss(target, outcome) for target in tried)
    return [loss for loss in losses if loss is not None]


def place_scores(detections: Detections, *, box: FloatArray, count: int) -> FloatArray:
    """Return by which score each class is found at a place.

    Args:
        detections: of an image.
        box: the place, ``float32`` ``(4,)`` xyxy.
        count: number of classes.

    Returns:
        ``float32`` ``(count,)``: the best of the class's boxes that overlap the place by an IoU of at least 0.5, and at
        least :data:`FAINT`.
    """
    scores = np.full(count, FAINT, np.float32)
    at = overlaps(box[None], np.asarray(detections.boxes, np.float32))[0] >= FOUND
    known = at & (detections.labels < count)
    np.maximum.at(scores, detections.labels[known], detections.scores[known])
    return scores


def _usable(evidence: Evidence, errors: BoxErrors, rng: np.random.Generator, most: int) -> dict[int, list[_Object]]:
    """Return the objects of each class that are found and leave room for a background, one an image."""
    objects = evidence.objects
    assert objects is not None
    found: dict[int, list[_Object]] = {}
    for image in rng.permutation(np.unique(objects.image)).tolist():
        rows = np.arange(objects.of(image).start, objects.of(image).stop)
        rows = rows[errors.of_object[rows] == str(BoxCase.RIGHT)]
        for target in np.unique(objects.target[rows]).tolist():
            others = found.setdefault(int(target), [])
            own = rows[objects.target[rows] == target]
            if len(others) < most and (one := _largest(evidence, image, objects.xyxy[own])) is not None:
                others.append(one)
    return {target: sorted(some, key=lambda one: one.image) for target, some in sorted(found.items())}


def _largest(evidence: Evidence, image: int, boxes: FloatArray) -> _Object | None:
    placed = boxes_in_input(evidence, image, boxes)
    if not len(placed):
        return None
    box = placed[np.argmax((placed[:, 2] - placed[:, 0]) * (placed[:, 3] - placed[:, 1]))]
    left, top, right, bottom = (int(side) for side in (*np.floor(box[:2]), *np.ceil(box[2:])))
    mask, shown = np.zeros(evidence.geometry.size, np.bool_), image_mask(evidence, image)
    mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return _Object(image, box, mask) if 0 < (mask & shown).sum() <= LARGEST * shown.sum() else None


def _without(evidence: Evidence, target: int) -> list[int]:
    """Return the annotated images that show no object of a class."""
    assert evidence.objects is not None
    rows: list[int] = np.setdiff1d(
        evidence.objects.image, evidence.objects.image[evidence.objects.target == target]
    ).tolist()
    return rows


def _trials(
    evidence: Evidence, target: int, found: list[_Object], strangers: list[int], fetch: Fetch, rng: np.random.Generator
) -> Iterator[Trial]:
    for one in found:
        mask = one.mask | ~image_mask(evidence, one.image)
        siblings = [other.image for other in found if other.image != one.image]
        plain = tuple(partial(keep, mask=mask, fill=fill) for fill in (Fill.GREY, Fill.BLUR))
        others, own = (
            swaps(evidence, fetch, mask, rng.permutation(donors)[:DONORS].tolist()) for donors in (strangers, siblings)
        )
        read = partial(place_scores, box=one.box, count=len(evidence.labels))
        yield Trial(one.image, target, (plain, others, own), read)
