"""Is what many images of a class share a shortcut? It is covered, and pasted onto images of other classes.

Both must matter for a shortcut to be *verified*: without it the class loses more than when as large places that are
as hot are covered, and with it other classes' images turn towards the class, more than with other pixels there. Where
objects are annotated, the other places lie off them as well, for what an object does is known; where they are not, hot
places elsewhere are the object itself, and the same places in images of other classes are the control instead. A hot
place alone proves nothing, since the object is hot, too, and matters; and a mark in the data proves nothing, since a
model may ignore it. Without annotations, content that is merely alike may be the object, and stays a suspicion; content
of which every pixel is the same is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
from scipy import stats

from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit
from otx_xai.audit.hot_places import Cell, other_windows, window_means, window_region
from otx_xai.audit.interventions import Edit, Fetch, Fill, Outcome, Region, Trial, cover, paste, run_trials
from otx_xai.audit.object_places import object_mask
from otx_xai.audit.repeated_pixels import repeated_pixels
from otx_xai.audit.shortcut_candidates import Candidate, fixed_places, objects_in, shared_contents
from otx_xai.audit.statistics import TESTS, mean_effect, paired
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.metrics import Forward
from otx_xai.records import UInt8Array

MATERIAL = 0.5
"""Change of log-odds from which a cover or a paste matters, doubt included: odds fall to 61 %, or rise to 165 %."""
CONTROLS = 8

_FILLS = (Fill.GREY, Fill.SURROUNDINGS, Fill.OTHER)
_IMAGES = 40
_DONORS = 3
_LEAST = 3
_TRIED = 20
_ON_OBJECT = 0.5
_DONE, _CONTROL = 0, 1


@dataclass(frozen=True)
class ShortcutCheck:
    """What became of the scores.

    Args:
        covered: fall of the class's log-odds where it is covered.
        covered_controls: fall where as large, hot places elsewhere are covered, the median of up to eight; of a place
            or the same pixels in images without annotated objects, fall of other classes where the same places are
            covered in their images.
        cover: how much more the first is.
        pasted: rise of the class's log-odds in images of other classes with it.
        pasted_controls: rise with pixels of other images.
        paste: how much more the first is.
        covered_probability: as ``cover``, of the score.
        pasted_probability: as ``paste``, of the score.
        won: part of the images of other classes that the class wins with it.
        cover_p: of ``cover`` being above 0 (Wilcoxon).
        paste_p: of ``paste`` being above 0.
    """

    covered: Effect
    covered_controls: Effect
    cover: Effect
    pasted: Effect
    pasted_controls: Effect
    paste: Effect
    covered_probability: Effect
    pasted_probability: Effect
    won: Effect
    cover_p: float
    paste_p: float

    @property
    def state(self) -> FindingState:
        """Verified where both matter, doubt included; refuted where one of them does not; else suspected."""
        if self.covered.low >= MATERIAL and self.cover.low > 0 and self.paste.low >= MATERIAL:
            return FindingState.VERIFIED
        is_idle = min(self.covered.high, self.paste.high) < MATERIAL or self.cover.high <= 0
        return FindingState.REFUTED if is_idle else FindingState.SUSPECTED

    @property
    def p_value(self) -> float:
        """The larger of both, as both are claimed."""
        return max(self.cover_p, self.paste_p)


def shared_by_classes(evidence: Evidence, fetch: Fetch, *, seed: int = 0) -> list[Candidate]:
    """Find what many images of a class share off the object: places, without annotations equal pixels, then contents.

    Args:
        evidence: of a classifier, with maps; annotations are not needed, but with boxes more is found.
        fetch: gives the images.
        seed: of what is drawn.

    Returns:
        Of places, of equal pixels, and of contents, the 20 that concern most images.
    """
    copies = repeated_pixels(evidence, fetch, seed=seed) if evidence.objects is None else []
    contents = shared_contents(evidence, fetch, seed=seed)
    return [*_foremost(fixed_places(evidence)), *_foremost(copies), *_foremost(contents)]


def shortcuts(
    evidence: Evidence,
    shared: Sequence[Candidate],
    fetch: Fetch,
    forward: Forward,
    *,
    images: int = _IMAGES,
    seed: int = 0,
) -> list[Finding]:
    """Try whether the model relies on what many images of a class share.

    Args:
        evidence: of a classifier, with maps.
        shared: what they share, see :func:`shared_by_classes`.
        fetch: gives the images.
        forward: runs images through the model.
        images: how many are changed for a class at most.
        seed: of what is drawn.

    Returns:
        Findings, verified, suspected or refuted; none of a class that shares nothing.
    """
    tests, found = len(np.unique(evidence.predicted)), []
    explained: set[int] = set()
    for candidate in shared:
        if candidate.target in explained:
            continue
        check = check_candidate(evidence, candidate, fetch, forward, images=images, seed=seed)
        if check is None:
            continue
        found.append(_finding(evidence, candidate, check, tests))
        if _is_sure(evidence, candidate) and check.state is FindingState.VERIFIED:
            explained.add(candidate.target)
    return found


def _is_sure(evidence: Evidence, candidate: Candidate) -> bool:
    """Whether it cannot well be the object: it is off the annotated ones, fixed, or the same to the pixel."""
    return evidence.objects is not None or candidate.is_place or candidate.is_copy


def _foremost(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that concern most images beyond what other classes have."""
    return sorted(candidates, key=lambda one: -len(one.images) * (one.frequency.value - one.elsewhere.value))[:_TRIED]


def check_candidate(
    evidence: Evidence, candidate: Candidate, fetch: Fetch, forward: Forward, *, images: int = _IMAGES, seed: int = 0
) -> ShortcutCheck | None:
    """Cover and paste what images of a class share.

    Args:
        evidence: of a classifier, with maps.
        candidate: what is tried, found in the maps or named by somebody.
        fetch: gives the images.
        forward: runs images through the model.
        images: of the class, and of others, that are changed at most.
        seed: of what is drawn.

    Returns:
        What became of the scores; ``None`` where fewer than three images of the class, or of others, have scores.
    """
    rng = np.random.default_rng(seed)
    others = rng.permutation(np.flatnonzero(evidence.predicted != candidate.target))[: 2 * images].tolist()
    if not others:
        return None
    covers = _covers(evidence, candidate, fetch, others, images)
    covered = run_trials(covers, fetch, forward, independent=evidence.multilabel)
    pastes = _pastes(evidence, candidate, fetch, others[:images], rng)
    pasted = run_trials(pastes, fetch, forward, independent=evidence.multilabel)
    if min(len(covered), len(pasted)) < _LEAST:
        return None
    if evidence.objects is not None or not (candidate.is_place or candidate.is_copy):
        return _check(covered, pasted)
    there = run_trials(
        _same_place(evidence, candidate, fetch, others[:images]), fetch, forward, independent=evidence.multilabel
    )
    return _against_others(_check(covered, pasted), covered, there) if len(there) >= _LEAST else None


def _covers(
    evidence: Evidence, candidate: Candidate, fetch: Fetch, others: Sequence[int], most: int
) -> Iterator[Trial]:
    """Yield for each image of the class the covers of the place, and of as hot ones elsewhere."""
    rows = evidence.maps.rows(np.full(len(evidence), candidate.target))
    for number, (image, window) in enumerate(islice(zip(candidate.images, candidate.windows, strict=True), most)):
        grid = evidence.maps.grids[rows[image]]
        free = window_means(objects_in(evidence, image), candidate.size) < _ON_OBJECT
        elsewhere = other_windows(grid, window, candidate.size, CONTROLS, free)
        if not elsewhere:
            continue
        stranger = partial(fetch, others[number % len(others)])
        done = tuple(_cover(evidence, window, candidate, fill, stranger) for fill in _FILLS)
        controls = zip(elsewhere, cycle(_FILLS), strict=False)
        control = tuple(_cover(evidence, place, candidate, fill, stranger) for place, fill in controls)
        yield Trial(image, candidate.target, (done, control))


def _same_place(evidence: Evidence, candidate: Candidate, fetch: Fetch, others: Sequence[int]) -> Iterator[Trial]:
    """Yield for each image of another class the covers of the same places, which its own class has to bear."""
    for number, (image, window) in enumerate(zip(others, cycle(candidate.windows), strict=False)):
        stranger = partial(fetch, others[number - 1])
        done = tuple(_cover(evidence, window, candidate, fill, stranger) for fill in _FILLS)
        yield Trial(image, int(evidence.predicted[image]), (done,))


def _cover(evidence: Evidence, window: Cell, candidate: Candidate, fill: Fill, stranger: Any) -> Edit:
    return partial(_covered, region=window_region(evidence, window, candidate.size), fill=fill, stranger=stranger)


def _covered(image: UInt8Array, *, region: Region, fill: Fill, stranger: Any) -> UInt8Array:
    size = (image.shape[0], image.shape[1])
    return cover(image, region.mask(size), fill, stranger() if fill is Fill.OTHER else None)


def _pastes(
    evidence: Evidence, candidate: Candidate, fetch: Fetch, others: Sequence[int], rng: np.random.Generator
) -> Iterator[Trial]:
    """Yield for each image of another class it with the place of the class's images, and with that of other images."""
    regions = [window_region(evidence, window, candidate.size) for window in candidate.windows]
    donors = list(zip(candidate.images, regions, strict=True))[: max(_DONORS, len(regions) // 2)]
    for image in others:
        chosen = [donors[number] for number in rng.permutation(len(donors))[:_DONORS].tolist()]
        strangers = [other for other in rng.permutation(others).tolist() if other != image][:_DONORS] or [image]
        places = [_place(evidence, candidate, image, region, rng) for _, region in chosen]
        done = tuple(
            partial(_pasted, fetch=fetch, donor=donor, region=region, place=place)
            for (donor, region), place in zip(chosen, places, strict=True)
        )
        control = tuple(
            partial(_pasted, fetch=fetch, donor=donor, region=region, place=place)
            for donor, (_, region), place in zip(cycle(strangers), chosen, places, strict=False)
        )
        yield Trial(image, candidate.target, (done, control))


def _place(
    evidence: Evidence, candidate: Candidate, image: int, region: Region, rng: np.random.Generator
) -> tuple[int, int]:
    """Return where a patch goes: where it was, or of content to the place out of a few that covers least objects."""
    if candidate.is_place:
        return region.top, region.left
    objects = object_mask(evidence, image)
    highest = [length - part for length, part in zip(objects.shape, region.size, strict=True)]
    places = rng.integers(0, highest, (CONTROLS, 2), endpoint=True).tolist()
    taken = [objects[top : top + region.size[0], left : left + region.size[1]].sum() for top, left in places]
    top, left = places[int(np.argmin(taken))]
    return top, left


def _pasted(image: UInt8Array, *, fetch: Fetch, donor: int, region: Region, place: tuple[int, int]) -> UInt8Array:
    return paste(image, fetch(donor)[region.slices], place)


def _check(covered: Outcome, pasted: Outcome) -> ShortcutCheck:
    fall, rise = -covered.margin.astype(np.float64), pasted.margin.astype(np.float64)
    cover_effect, cover_p = paired(fall[:, _DONE] - fall[:, _CONTROL], alternative="greater")
    paste_effect, paste_p = paired(rise[:, _DONE] - rise[:, _CONTROL], alternative="greater")
    less, more = -covered.probability.astype(np.float64), pasted.probability.astype(np.float64)
    return ShortcutCheck(
        mean_effect(fall[:, _DONE], Unit.LOG_ODDS),
        mean_effect(fall[:, _CONTROL], Unit.LOG_ODDS),
        cover_effect,
        mean_effect(rise[:, _DONE], Unit.LOG_ODDS),
        mean_effect(rise[:, _CONTROL], Unit.LOG_ODDS),
        paste_effect,
        mean_effect(less[:, _DONE] - less[:, _CONTROL], Unit.PROBABILITY),
        mean_effect(more[:, _DONE] - more[:, _CONTROL], Unit.PROBABILITY),
        mean_effect(pasted.decided[:, _DONE].astype(np.float64)),
        cover_p,
        paste_p,
    )


def _against_others(check: ShortcutCheck, covered: Outcome, there: Outcome) -> ShortcutCheck:
    """Hold covers against those of the same places in images of other classes."""
    mine, theirs = -covered.margin[:, _DONE].astype(np.float64), -there.margin[:, _DONE].astype(np.float64)
    control = mean_effect(theirs, Unit.LOG_ODDS)
    first, difference = check.covered, check.covered.value - control.value
    low = difference - math.hypot(first.value - first.low, control.high - control.value)
    high = difference + math.hypot(first.high - first.value, control.value - control.low)
    less, own = there.probability[:, _DONE].astype(np.float64), covered.probability[:, _DONE].astype(np.float64)
    return replace(
        check,
        covered_controls=control,
        cover=Effect(difference, low, high, first.n, Unit.LOG_ODDS),
        covered_probability=mean_effect(less.mean() - own, Unit.PROBABILITY),
        cover_p=float(stats.mannwhitneyu(mine, theirs, alternative="greater").pvalue),
    )


def _finding(evidence: Evidence, candidate: Candidate, check: ShortcutCheck, tests: int) -> Finding:
    state, about_object = check.state, ""
    if state is FindingState.VERIFIED and evidence.objects is None:
        about_object = " No objects are annotated: look whether it is part of one."
        state = state if _is_sure(evidence, candidate) else FindingState.SUSPECTED
    label, shape = evidence.labels[candidate.target], (evidence.maps.grids.shape[1], evidence.maps.grids.shape[2])
    where = _where(candidate, shape) if candidate.is_place else "the same pixels"
    is_verified = state is FindingState.VERIFIED
    return Finding(
        FindingKind.SHORTCUT,
        f"{label}: {where}",
        f"{_LEAD[state].format(label=repr(label), what=_what(evidence, candidate, where))}, in "
        f"{counted(len(candidate.images), 'image')} ({candidate.frequency.value:.0%} of them; of other classes "
        f"{candidate.elsewhere.value:.0%}): covering it costs log-odds of {check.covered.value:.2f} "
        f"({check.covered_controls.value:.2f} {_control(evidence, candidate)}), pasting it onto other classes adds "
        f"{check.paste.value:.2f}, and wins {check.won.value:.0%} of them.",
        check.cover if state is FindingState.REFUTED else check.paste,
        state,
        len(candidate.images) / max(1, len(evidence)),
        examples(evidence, candidate.images),
        (_ADVICE[state].format(where=where, label=label) + about_object).strip(),
        _numbers(candidate, check, tests),
        check.p_value if is_verified else None,
    )


_LEAD = {
    FindingState.VERIFIED: "The model decides for {label} by {what}",
    FindingState.SUSPECTED: "The model looks at {what} for {label}",
    FindingState.REFUTED: "The model looks at {what} for {label}, and does not rely on it",
}

_ADVICE = {
    FindingState.VERIFIED: "Remove it, or add images of {label} without it and of other classes with it.",
    FindingState.SUSPECTED: "Look at the examples, and try more images: its effect is not settled.",
    FindingState.REFUTED: "Nothing needs to be done: the model does not rely on it.",
}


def _where(candidate: Candidate, cells: tuple[int, int]) -> str:
    """Name a place: ``lower left``, ``middle``, ..."""
    (row, column), (rows, columns) = candidate.windows[0], candidate.size
    middle = (row + rows / 2) / cells[0], (column + columns / 2) / cells[1]
    names = (("upper", "", "lower"), ("left", "", "right"))
    words = [names[axis][min(2, int(part * 3))] for axis, part in enumerate(middle)]
    return " ".join(word for word in words if word) or "middle"


def _control(evidence: Evidence, candidate: Candidate) -> str:
    if evidence.objects is not None or not (candidate.is_place or candidate.is_copy):
        return "elsewhere"
    return "in other classes"


def _what(evidence: Evidence, candidate: Candidate, where: str) -> str:
    if candidate.is_place:
        return f"the same place ({where})"
    if candidate.is_copy:
        return "pixels that are the same in many images, wherever they are"
    off = "" if evidence.objects is None else " off the object"
    return f"the same content{off}, wherever it is"


def _numbers(candidate: Candidate, check: ShortcutCheck, tests: int) -> dict[str, Any]:
    effects = {field.name: getattr(check, field.name) for field in fields(check)}
    return {
        TESTS: tests,
        "kind": "place" if candidate.is_place else "copy" if candidate.is_copy else "content",
        "window": [*candidate.windows[0], *candidate.size],
        "frequency": candidate.frequency.content(),
        "elsewhere": candidate.elsewhere.content(),
        "stability": round(candidate.stability, 3),
        **{name: effect.content() if isinstance(effect, Effect) else effect for name, effect in effects.items()},
    }
