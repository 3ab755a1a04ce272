"""Does a class rely on the colour of its background, where nobody says where the objects are?

A picture that is nothing but the colour of an image's edge holds no object at all. If the model tells a class by such
pictures alone, and an image loses the class as its outer tenth is taken from images of other classes, more than as it
is taken from its own class, then the colour around decides. The first alone may be what a model says of anything
unusual, and the second alone an object that reaches the edge. With annotated boxes
:mod:`otx_xai.audit.background` asks for more than colour, and is asked instead.

The mean colour alone decides as in Xiao et al., *Noise or Signal: The Role of Image Backgrounds in Object
Recognition*, ICLR 2021 (only-BG-T, of which nothing but the colour is left; mixed-same and mixed-rand).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from otx_xai.audit.background import DONORS, IMAGES, LEAST, MATERIAL, MATERIAL_ODDS, some_of_each
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit
from otx_xai.audit.interventions import Edit, Fetch, Fill, Outcome, Trial, cover, run_trials
from otx_xai.audit.object_places import image_mask
from otx_xai.audit.statistics import TESTS, mean_effect, paired
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.metrics import Forward
from otx_xai.records import BoolArray, FloatArray, UInt8Array

EDGE = 0.1
"""Width of an image's edge, as a part of its shorter side."""

_TELLING = 0.7
"""How often the edges of a class are of more (or less) of some colour than those of others, from which it is tried."""
_TRIED = 20
_FLAT, _FLAT_OTHERS, _OTHERS, _OWN = range(4)


@dataclass(frozen=True)
class EdgeReliance:
    """What the colour of the edge does to the score of one class.

    Args:
        target: the class.
        flat: rise of its log-odds in pictures of nothing but the colour of its edges, over those of other classes.
        flat_won: part of those pictures that it wins, beyond the part that it wins of those of other classes.
        swapped: fall of its log-odds with the edges of images of other classes.
        own: fall with the edges of images of its own class.
        edge: how much more the first is.
        p_value: the larger one of ``flat`` and ``edge`` being above 0 (Wilcoxon), as both are claimed.
        images: rows of the images, those that lose most first.
    """

    target: int
    flat: Effect
    flat_won: Effect
    swapped: Effect
    own: Effect
    edge: Effect
    p_value: float
    images: tuple[int, ...]

    @property
    def is_material(self) -> bool:
        """Whether both matter, doubt included."""
        colour = self.flat.low >= MATERIAL_ODDS and self.flat_won.low >= MATERIAL
        return bool(colour and self.edge.low >= MATERIAL_ODDS)


def edge_reliances(
    evidence: Evidence, fetch: Fetch, forward: Forward, *, images: int = IMAGES, seed: int = 0
) -> list[EdgeReliance]:
    """Measure what the colours of edges do, for the classes whose edges have colours of their own.

    Args:
        evidence: of a classifier; neither labels nor annotations are needed.
        fetch: gives the images.
        forward: runs images through the model.
        images: of a class at most; they are drawn at random.
        seed: of what is drawn.

    Returns:
        One for each of the 20 predicted classes at most whose edges differ most from those of the others.
    """
    if not evidence.task.is_classification:
        return []
    rng = np.random.default_rng(seed)
    drawn = _drawn(evidence, rng, images)
    if len(drawn) < 2:
        return []
    colours = {target: np.stack([_edge_colour(evidence, fetch, row) for row in rows]) for target, rows in drawn.items()}
    of_class = {target: rows for target, rows in drawn.items() if target in _telling(colours)}
    trials = _trials(evidence, of_class, drawn, colours, fetch, rng)
    outcome = run_trials(trials, fetch, forward, independent=evidence.multilabel)
    found = (_reliance(target, outcome) for target in of_class)
    return [one for one in found if one is not None]


def edge_findings(evidence: Evidence, reliances: Sequence[EdgeReliance]) -> list[Finding]:
    """Name the classes that rely on the colour around.

    Args:
        evidence: of a classifier.
        reliances: of its classes, see :func:`edge_reliances`.

    Returns:
        One verified finding a class where both checks matter; nothing of others.
    """
    tests = len(np.unique(evidence.predicted))
    return [_finding(evidence, one, tests) for one in reliances if one.is_material]


def _drawn(evidence: Evidence, rng: np.random.Generator, most: int) -> dict[int, list[int]]:
    """Return some images of each predicted class that has enough of them."""
    found = some_of_each(rng.permutation(len(evidence)), evidence.predicted, most)
    return {target: rows for target, rows in found.items() if len(rows) >= LEAST}


def edge_mask(evidence: Evidence, image: int) -> BoolArray:
    """Return which pixels of the network's input are the outer tenth of an image, ``(H, W)``; no padding is."""
    shown = image_mask(evidence, image)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    mask = shown.copy()
    if not len(rows):
        return mask
    width = max(1, round(EDGE * min(len(rows), len(columns))))
    mask[rows[0] + width : rows[-1] + 1 - width, columns[0] + width : columns[-1] + 1 - width] = False
    return mask


def _edge_colour(evidence: Evidence, fetch: Fetch, image: int) -> UInt8Array:
    colour: UInt8Array = np.median(fetch(image)[edge_mask(evidence, image)], axis=0).astype(np.uint8)
    return colour


def _telling(colours: dict[int, UInt8Array]) -> list[int]:
    """Return the classes whose edges have more or less of some colour than the others', the clearest first."""
    told: dict[int, float] = {}
    for target, own in colours.items():
        others = np.concatenate([some for other, some in colours.items() if other != target])
        told[target] = max(
            abs(float(stats.mannwhitneyu(one, two).statistic) / (len(one) * len(two)) - 0.5) + 0.5
            for one, two in zip(_shades(own).T, _shades(others).T, strict=True)
        )
    clear = sorted((target for target, part in told.items() if part >= _TELLING), key=lambda target: -told[target])
    return clear[:_TRIED]


def _shades(colours: UInt8Array) -> FloatArray:
    """Return channels, and their differences from the mean of all, ``(N, 2 C)``: a tint may be in either."""
    channels = colours.astype(np.float32)
    shades: FloatArray = np.concatenate([channels, channels - channels.mean(axis=1, keepdims=True)], axis=1)
    return shades


def _trials(
    evidence: Evidence,
    tried: dict[int, list[int]],
    drawn: dict[int, list[int]],
    colours: dict[int, UInt8Array],
    fetch: Fetch,
    rng: np.random.Generator,
) -> Iterator[Trial]:
    for target, rows in tried.items():
        strangers = [(other, place) for other, some in drawn.items() if other != target for place in range(len(some))]
        for number, image in enumerate(rows):
            shown, edge = image_mask(evidence, image), edge_mask(evidence, image)
            chosen = [strangers[place] for place in rng.permutation(len(strangers))[:DONORS].tolist()]
            siblings = rng.permutation([row for row in rows if row != image])[:DONORS].tolist()
            flat = (_flat(shown, colours[target][number]),)
            others = tuple(_flat(shown, colours[other][place]) for other, place in chosen)
            swapped = tuple(_edges_of(edge, fetch, drawn[other][place]) for other, place in chosen)
            yield Trial(image, target, (flat, others, swapped, tuple(_edges_of(edge, fetch, row) for row in siblings)))


def _flat(shown: BoolArray, colour: UInt8Array) -> Edit:
    return partial(_flattened, shown=shown, colour=colour)


def _flattened(image: UInt8Array, *, shown: BoolArray, colour: UInt8Array) -> UInt8Array:
    return np.where(shown[..., None], colour, image)


def _edges_of(edge: BoolArray, fetch: Fetch, donor: int) -> Edit:
    return partial(_with_edges, edge=edge, fetch=fetch, donor=donor)


def _with_edges(image: UInt8Array, *, edge: BoolArray, fetch: Fetch, donor: int) -> UInt8Array:
    return cover(image, edge, Fill.OTHER, fetch(donor))


def _reliance(target: int, outcome: Outcome) -> EdgeReliance | None:
    rows = np.flatnonzero(outcome.target == target)
    if len(rows) < LEAST:
        return None
    margin, decided = outcome.margin[rows].astype(np.float64), outcome.decided[rows].astype(np.float64)
    flat, flat_p = paired(margin[:, _FLAT] - margin[:, _FLAT_OTHERS], alternative="greater")
    edge, edge_p = paired(margin[:, _OWN] - margin[:, _OTHERS], alternative="greater")
    order = np.argsort(margin[:, _OTHERS] - margin[:, _OWN], kind="stable")
    return EdgeReliance(
        target,
        flat=flat,
        flat_won=mean_effect(decided[:, _FLAT] - decided[:, _FLAT_OTHERS]),
        swapped=mean_effect(-margin[:, _OTHERS], Unit.LOG_ODDS),
        own=mean_effect(-margin[:, _OWN], Unit.LOG_ODDS),
        edge=edge,
        p_value=max(flat_p, edge_p),
        images=tuple(outcome.image[rows[order]].tolist()),
    )


def _finding(evidence: Evidence, one: EdgeReliance, tests: int) -> Finding:
    label = evidence.labels[one.target]
    effects = {field.name: getattr(one, field.name) for field in fields(one)}
    numbers: dict[str, Any] = {name: value.content() for name, value in effects.items() if isinstance(value, Effect)}
    return Finding(
        FindingKind.BACKGROUND_RELIANCE,
        label,
        f"The model decides for {label!r} by the colour around: of pictures of nothing but the colour at the edge of "
        f"its images it wins {one.flat_won.value:.0%} more than of other classes' colours, and the edges of other "
        f"classes cost it log-odds of {one.swapped.value:.2f} ({one.own.value:.2f} those of its own class), in "
        f"{counted(one.edge.n, 'image')}.",
        one.edge,
        FindingState.VERIFIED,
        float((evidence.predicted == one.target).mean()),
        examples(evidence, one.images),
        f"Add images of {label} on other backgrounds, or train with backgrounds swapped. No objects are annotated: "
        "boxes would tell how much the whole background decides.",
        {TESTS: tests, "kind": "colour", **numbers},
        one.p_value,
    )
