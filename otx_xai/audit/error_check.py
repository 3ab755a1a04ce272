"""Is it the place that the wrong class looks at that makes an image wrong? It is covered, to see which score falls.

Where the model looked at another object or at the background, the wrong class falls and the annotated one rises. Where
it took one thing for another, the wrong class falls and the annotated one gains nothing: both lived on the same pixels.
The controls are the same cells, shifted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

import numpy as np

from otx_xai.audit.cells import cells_to_input, seen
from otx_xai.audit.error_causes import ErrorCauses, best_cells
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.audit.interventions import Edit, Fetch, Fill, Trial, cover, run_trials
from otx_xai.audit.statistics import mean_effect, paired
from otx_xai.counting import counted
from otx_xai.metrics import Forward
from otx_xai.records import BoolArray, IntArray

MATERIAL = 0.5
"""Log-odds by which the wrong class must fall, and the annotated one rise to gain, doubt included."""
CONTROLS = 8

_FILLS = (Fill.GREY, Fill.BLUR, Fill.SURROUNDINGS)
_IMAGES = 40
_LEAST = 3
_KINDS = (FindingKind.OTHER_OBJECT, FindingKind.LOOK_ALIKE, FindingKind.BACKGROUND_FOCUS)


@dataclass(frozen=True)
class ErrorCheck:
    """What covering the place that the wrong class looks at did, in log-odds.

    Args:
        fall: of the wrong class.
        control: its fall where the same cells are covered elsewhere.
        beyond: how much more the first is.
        rise: of the annotated class.
        righted: part of the covers with which the annotated class wins.
        p_value: of ``beyond`` being above 0 (Wilcoxon).
    """

    fall: Effect
    control: Effect
    beyond: Effect
    rise: Effect
    righted: Effect
    p_value: float

    def state(self, kind: FindingKind) -> FindingState:
        """Return what becomes of a cause of this kind."""
        if self.fall.high < MATERIAL or self.beyond.high <= 0:
            return FindingState.REFUTED
        gains = self.rise.low >= MATERIAL
        fits = not gains if kind is FindingKind.LOOK_ALIKE else gains
        depends = self.fall.low >= MATERIAL and self.beyond.low > 0
        return FindingState.VERIFIED if depends and fits else FindingState.SUSPECTED


def check_causes(
    evidence: Evidence,
    causes: ErrorCauses,
    found: Sequence[Finding],
    fetch: Fetch,
    forward: Forward,
    *,
    images: int = _IMAGES,
    seed: int = 0,
) -> list[Finding]:
    """Try the causes of errors that maps suggest.

    Args:
        evidence: of a classifier.
        causes: of its errors.
        found: of them; those that name a cause are tried.
        fetch: gives the images.
        forward: runs images through the model.
        images: how many are changed at most for each finding.
        seed: of what is drawn.

    Returns:
        The tried ones, verified, refuted, or suspected still.
    """
    checked = []
    for one in found:
        if one.kind in _KINDS:
            rows = _images_of(evidence, causes, one)
            check = check_errors(evidence, rows, fetch, forward, images=images, seed=seed)
            checked += [] if check is None else [_concluded(one, check)]
    return checked


def check_errors(
    evidence: Evidence, rows: IntArray, fetch: Fetch, forward: Forward, *, images: int = _IMAGES, seed: int = 0
) -> ErrorCheck | None:
    """Cover the best fifth of the cells of the predicted class in wrong images.

    Args:
        evidence: of a classifier.
        rows: of wrong images, ``int64`` ``(E,)``.
        fetch: gives the images.
        forward: runs images through the model.
        images: how many are changed at most.
        seed: of what is drawn.

    Returns:
        What it did; ``None`` where fewer than three images have a map, an annotated class and scores.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(rows)[:images]
    covers = [(image, masks) for image in chosen.tolist() if (masks := _masks(evidence, image, rng))]
    if len(covers) < _LEAST:
        return None
    trials = _trials(evidence, covers)
    outcome = run_trials(trials, fetch, forward, independent=evidence.multilabel)
    wrong = outcome.target == evidence.predicted[outcome.image]
    fall, rise = -outcome.margin[wrong].astype(np.float64), outcome.margin[~wrong].astype(np.float64)
    if min(len(fall), len(rise)) < _LEAST:
        return None
    beyond, p_value = paired(fall[:, 0] - fall[:, 1], alternative="greater")
    return ErrorCheck(
        mean_effect(fall[:, 0], beyond.unit),
        mean_effect(fall[:, 1], beyond.unit),
        beyond,
        mean_effect(rise[:, 0], beyond.unit),
        mean_effect(outcome.decided[~wrong, 0].astype(np.float64)),
        p_value,
    )


def _images_of(evidence: Evidence, causes: ErrorCauses, one: Finding) -> IntArray:
    """Return the rows of the images that a finding is about."""
    chosen: IntArray = causes.image[causes.cause == str(one.kind)]
    if one.subject == "all errors":
        return chosen
    names = [
        f"{evidence.labels[given]} as {evidence.labels[predicted]}" if min(given, predicted) >= 0 else ""
        for given, predicted in zip(
            evidence.given[chosen, 0].tolist(), evidence.predicted[chosen].tolist(), strict=True
        )
    ]
    of_pair: IntArray = chosen[np.array([name == one.subject for name in names], np.bool_)]
    return of_pair


def _masks(evidence: Evidence, image: int, rng: np.random.Generator) -> list[BoolArray]:
    """Return the pixels that the predicted class looks at, and as many elsewhere; nothing without a map."""
    row = evidence.maps.row(image, int(evidence.predicted[image]))
    if row is None or evidence.given[image, 0] == NO_CLASS:
        return []
    cells = (evidence.maps.grids.shape[1], evidence.maps.grids.shape[2])
    height, width = evidence.sizes[image].tolist()
    over = seen((height, width), evidence.geometry, evidence.grid, cells)
    best = best_cells(evidence.maps.grids[row][None], over[None])[0]
    shifts = [(down, right) for down in range(cells[0]) for right in range(cells[1])]
    shifted = (np.roll(best, shifts[number], (0, 1)) for number in rng.permutation(len(shifts)).tolist())
    controls = [other for other in shifted if (other & best).sum() <= 0.2 * best.sum()][:CONTROLS]
    if not best.any() or not controls:
        return []
    return [cells_to_input(mask, evidence.geometry, evidence.grid) for mask in (best, *controls)]


def _trials(evidence: Evidence, covers: Sequence[tuple[int, list[BoolArray]]]) -> Iterator[Trial]:
    """Yield of each image the covers, for the predicted and for the annotated class."""
    for image, (best, *controls) in covers:
        done: tuple[Edit, ...] = tuple(partial(cover, mask=best, fill=fill) for fill in _FILLS)
        pairs = zip(controls, cycle(_FILLS), strict=False)
        control: tuple[Edit, ...] = tuple(partial(cover, mask=mask, fill=fill) for mask, fill in pairs)
        for target in (int(evidence.predicted[image]), int(evidence.given[image, 0])):
            yield Trial(image, target, (done, control))


def _concluded(one: Finding, check: ErrorCheck) -> Finding:
    state = check.state(one.kind)
    gains = "rises" if check.rise.value > 0 else "falls"
    numbers = {name: getattr(check, name).content() for name in ("fall", "control", "beyond", "rise", "righted")}
    return replace(
        one,
        statement=f"{one.statement} With that place covered, in {counted(check.fall.n, 'image')}, the wrong class "
        f"falls in log-odds by {said(check.fall)} ({check.control.value:.2f} elsewhere), the annotated one {gains} by "
        f"{abs(check.rise.value):.2f}, and {check.righted.value:.0%} turn right.",
        state=state,
        suggestion=one.suggestion if state is not FindingState.REFUTED else _IDLE,
        check={**one.check, **numbers, "p_value": check.p_value},
    )


_IDLE = "Do not trust these maps: the error does not depend on the place that they show."
