"""Sanity checks of saliency maps (Adebayo et al. 2018, arXiv 1810.03292): do maps depend on what was learned?

*Randomised layers.* The weights of the last layer are put into a random order, then of more and more layers, from the
output backwards (cascading). A map that stays alike does not depend on them. The paper draws new weights from the
initialiser; the order of the old ones is as random, and keeps their scale, whatever their type.

*Randomised labels.* The paper trains a network on permuted labels. No training is needed for what a head can show of
it: a network whose classes have changed their names is the same network with the rows of its last layer in another
order, and its map of a class is the map that the network as it is gives of another class. A map that stays alike does
not depend on the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otx_xai.counting import counted
from otx_xai.errors import ImageError
from otx_xai.judging.cases import JudgedCase
from otx_xai.judging.map_makers import MapMaker, PlainMap
from otx_xai.judging.redrawn import count_layers, redrawn
from otx_xai.metrics import Estimate, Stopped, rank_correlation, structural_similarity
from otx_xai.metrics.summaries import lined_up, mean_of
from otx_xai.model import Model
from otx_xai.records import Size

UNCHANGED = 0.7
"""Rank correlation from which a map counts as unchanged: it shares half of its variance with what it was."""

STAGES = 8
"""Numbers of random layers that are looked at."""

_SIDE = 128
"""Pixels of the longer side at which maps are compared."""

MakerOf = Callable[[Model, str], MapMaker]
"""Makes the maps of a method by the classes of a model that may have random weights."""


@dataclass(frozen=True)
class Alike:
    """How alike maps are to what they were, averaged over the images in which both say something.

    Args:
        rank: Spearman's rank correlation, in [-1, 1].
        structure: structural similarity, in [-1, 1].
    """

    rank: Estimate
    structure: Estimate

    @property
    def is_unchanged(self) -> bool:
        """Whether the maps are what they were."""
        return self.rank.count > 0 and self.rank.mean >= UNCHANGED

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        return {
            name: {"mean": found.mean, "standard_error": found.error, "images": found.count}
            for name, found in (("rank_correlation", self.rank), ("structural_similarity", self.structure))
        }


@dataclass(frozen=True)
class MethodSanity:
    """What changes the maps of one method.

    Args:
        layers: a stage each: maps of a network with so many random layers against those of the network as it is.
        labels: maps of another class against those of the judged one; ``None`` where there is but one class.
        is_whole: the last stage has been reached, in which all layers are random.
    """

    layers: tuple[Alike, ...]
    labels: Alike | None
    is_whole: bool

    @property
    def all(self) -> tuple[Alike, ...]:
        """Everything that maps were held against."""
        return self.layers if self.labels is None else (*self.layers, self.labels)

    @property
    def unchanged(self) -> tuple[str, ...]:
        """What may change without that the maps do: ``layers`` (all of them random), ``labels``."""
        found = [("layers", self.layers[-1] if self.layers and self.is_whole else None), ("labels", self.labels)]
        return tuple(name for name, alike in found if alike is not None and alike.is_unchanged)

    @property
    def untold(self) -> bool:
        """Whether no image has a map in a network of random layers, so that there is nothing to compare."""
        return self.is_whole and bool(self.layers) and not self.layers[-1].rank.count


@dataclass(frozen=True)
class Sanity:
    """Sanity checks of several methods.

    Args:
        layers: number of layers of the model that have weights.
        stages: numbers of layers, from the output, that were random; rising.
        images: number of images that were looked at.
        methods: name → what changes its maps.
    """

    layers: int
    stages: tuple[int, ...]
    images: int
    methods: Mapping[str, MethodSanity]

    def lines(self) -> list[str]:
        """Return a table, and a line for each method that does not change."""
        titles = [f"{count} of {self.layers}" for count in self.stages]
        cells = [["rank correlation with", *titles, "another class", "does not change with"]]
        for name, own in self.methods.items():
            shown = [*own.layers, *([own.labels] if own.labels else [])]
            words = [str(alike.rank) for alike in shown] + ["-"] * (len(cells[0]) - 2 - len(shown))
            cells.append([name, *words, ", ".join([*own.unchanged, *(["(layers: no maps)"] if own.untold else [])])])
        number = counted(self.images, "image")
        head = f"Sanity, {number}: maps with so many random layers, from the output, against those without"
        return [head, *("  ".join(line).rstrip() for line in lined_up(cells)), *self.warnings()]

    def warnings(self) -> list[str]:
        """Return what is to be said of methods that do not change."""
        said = {
            "layers": "does not change where all layers are random: its maps do not show what the network has learned.",
            "labels": "does not change with the class: its maps do not show why this class rather than another.",
        }
        return [f"{name} {said[what]}" for name, own in self.methods.items() for what in own.unchanged]

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        return {
            "layers": self.layers,
            "stages": list(self.stages),
            "images": self.images,
            "unchanged_from": UNCHANGED,
            "methods": [
                {
                    "name": name,
                    "layers": [alike.content() for alike in own.layers],
                    "labels": None if own.labels is None else own.labels.content(),
                    "unchanged": list(own.unchanged),
                }
                for name, own in self.methods.items()
            ],
        }


def stages_of(layers: int, most: int = STAGES) -> tuple[int, ...]:
    """Return numbers of layers to make random: the last one, all, and some between, evenly spaced.

    >>> stages_of(3), stages_of(53)
    ((1, 2, 3), (1, 8, 16, 23, 31, 38, 46, 53))
    """
    return tuple(sorted({round(count) for count in np.linspace(1, layers, most).tolist()})) if layers else ()


def check_sanity(
    model: Model,
    methods: Sequence[str],
    cases: Sequence[JudgedCase],
    maker_of: MakerOf,
    *,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Sanity:
    """Compare maps of a model with those of the same model with random layers, and with those of other classes.

    Args:
        model: the model.
        methods: names.
        cases: a few images; their maps are held.
        maker_of: makes their maps.
        seed: of the weights and of the other classes.
        advance: is called ``passes_of`` times.

    Returns:
        What was found up to where it ended: a run that is stopped has fewer stages.
    """
    layers = count_layers(model)
    stages = stages_of(layers)
    before: dict[str, list[PlainMap | None]] = {}
    labels: dict[str, Alike] = {}
    curves: list[dict[str, Alike]] = []
    others = _others(cases, len(model.facts.labels), seed)
    try:
        for name in methods:
            maker = maker_of(model, name)
            maker.prepare([case.target for case in (*cases, *others)])
            before[name] = [_explained(maker, case, advance) for case in cases]
            if others:
                labels[name] = _compare(before[name], [_explained(maker, case, advance) for case in others], model)
        for count in stages:
            drawn = redrawn(model, count, seed)
            found = {name: _redone(drawn, name, cases, maker_of, advance) for name in methods}
            curves.append({name: _compare(before[name], maps, model) for name, maps in found.items()})
    except Stopped:
        pass
    whole = len(curves) == len(stages)
    own = {name: MethodSanity(tuple(stage[name] for stage in curves), labels.get(name), whole) for name in before}
    return Sanity(layers, stages[: len(curves)], len(cases), own)


def passes_of(model: Model, methods: int, cases: int) -> int:
    """Return how many maps :func:`check_sanity` makes."""
    others = 1 if len(model.facts.labels) > 1 else 0
    return methods * cases * (1 + others + len(stages_of(count_layers(model))))


def _redone(
    drawn: Model, name: str, cases: Sequence[JudgedCase], maker_of: MakerOf, advance: Callable[[], object]
) -> list[PlainMap | None]:
    maker = maker_of(drawn, name)
    maker.prepare([case.target for case in cases])
    return [_explained(maker, case, advance) for case in cases]


def _explained(maker: MapMaker, case: JudgedCase, advance: Callable[[], object]) -> PlainMap | None:
    """Return the map of a case, ``None`` where there is none: random weights may overflow, and find no box."""
    try:
        return maker.explain(case)
    except (ImageError, ValueError):
        return None
    finally:
        advance()


def _others(cases: Sequence[JudgedCase], classes: int, seed: int) -> list[JudgedCase]:
    """Return the same images with other classes, drawn at random."""
    if classes < 2:
        return []
    steps = np.random.default_rng(seed).integers(1, classes, len(cases)).tolist()
    return [
        JudgedCase(case.image, (case.target + step) % classes, name=case.name, box=case.box)
        for case, step in zip(cases, steps, strict=True)
    ]


def _compare(before: Sequence[PlainMap | None], after: Sequence[PlainMap | None], model: Model) -> Alike:
    size = model.facts.geometry.size
    shown = _shown(size)
    ranks, structures = [], []
    for first, second in zip(before, after, strict=True):
        if first is None or second is None or first.is_constant or second.is_constant:
            continue
        pair = first.over(shown, size), second.over(shown, size)
        ranks.append(rank_correlation(*pair))
        structures.append(structural_similarity(*pair))
    return Alike(mean_of(np.array(ranks, np.float32)), mean_of(np.array(structures, np.float32)))


def _shown(size: Size) -> Size:
    scale = min(1.0, _SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
