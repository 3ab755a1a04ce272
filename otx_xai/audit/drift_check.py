"""Do the scores of two models follow the places where their maps differ?

Where the map of one model is hotter than that of the other, pixels are covered: if the models do look at different
things, the score of the one falls and that of the other does not. Each model is the control of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from otx_xai.audit.cells import cells_to_input, seen
from otx_xai.audit.drift import Drift, laid_over
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Finding, FindingKind, FindingState, said
from otx_xai.audit.interventions import Fetch, Fill, Outcome, Trial, cover, run_trials
from otx_xai.audit.statistics import mean_effect, paired
from otx_xai.counting import counted
from otx_xai.metrics import Forward
from otx_xai.records import BoolArray, FloatArray, UInt8Array

MATERIAL = 0.3
"""Log-odds by which the score of the one model must fall more than that of the other, doubt included."""

_PART = 0.2
_FILLS = (Fill.GREY, Fill.BLUR, Fill.SURROUNDINGS)
_IMAGES = 40
_LEAST = 3
_OF_AFTER, _OF_BEFORE = 0, 1


def check_drift(
    before: Evidence,
    after: Evidence,
    compared: Drift,
    found: Sequence[Finding],
    fetch: Fetch,
    forward_before: Forward,
    forward_after: Forward,
    *,
    images: int = _IMAGES,
) -> list[Finding]:
    """Try what maps say of drift.

    Args:
        before: evidence of the baseline.
        after: evidence of the model that is audited.
        compared: both, side by side.
        found: of it; those that say that maps moved are tried.
        fetch: gives the images, by their row in ``after``.
        forward_before: runs images through the baseline.
        forward_after: runs images through the model.
        images: how many are changed at most for each finding, those that moved most.

    Returns:
        The tried ones, verified, refuted, or suspected still.
    """
    checked = []
    for one in found:
        if one.subject != "maps" or one.kind not in (FindingKind.DRIFT, FindingKind.SILENT_DRIFT):
            continue
        moved = compared.silent if one.kind is FindingKind.SILENT_DRIFT else compared.moved
        rows = np.flatnonzero(moved)
        rows = rows[np.argsort(-compared.distance[rows], kind="stable")][:images]
        trials = list(_trials(before, after, compared, rows.tolist()))
        outcomes = [
            run_trials(trials, fetch, forward, independent=after.multilabel)
            for forward in (forward_before, forward_after)
        ]
        if min(map(len, outcomes)) >= _LEAST:
            checked.append(_concluded(one, *outcomes))
    return checked


def differing_cells(first: UInt8Array | FloatArray, second: UInt8Array | FloatArray, over: BoolArray) -> BoolArray:
    """Return the fifth of the cells where a map is hotter than another by most.

    Args:
        first: map ``(h, w)``.
        second: of the same shape.
        over: cells that count, ``(h, w)``.

    Returns:
        ``(h, w)``; only cells where it is hotter at all.
    """
    difference = np.where(over, first.astype(np.float32) - second.astype(np.float32), 0)
    number = max(1, round(_PART * int(over.sum())))
    chosen = np.zeros(difference.size, np.bool_)
    chosen[np.argsort(-difference, axis=None, kind="stable")[:number]] = True
    return chosen.reshape(difference.shape) & (difference > 0)


def _trials(before: Evidence, after: Evidence, compared: Drift, rows: Sequence[int]) -> Iterator[Trial]:
    cells = (after.maps.grids.shape[1], after.maps.grids.shape[2])
    for row in rows:
        image, target = int(compared.image[row]), int(compared.target[row])
        earlier, later = before.maps.row(int(compared.before[row]), target), after.maps.row(image, target)
        if earlier is None or later is None:
            continue
        height, width = after.sizes[image].tolist()
        (old,), (sees,) = laid_over(before, after, np.array([earlier]), after.sizes[[image]])
        over = (seen((height, width), after.geometry, after.grid, cells) >= 0.5) & sees
        new = after.maps.grids[later]
        masks = [
            cells_to_input(differing_cells(first, second, over), after.geometry, after.grid)
            for first, second in ((new, old), (old, new))
        ]
        arms = tuple(tuple(partial(cover, mask=mask, fill=fill) for fill in _FILLS) for mask in masks)
        yield Trial(image, target, arms)


def _concluded(one: Finding, before: Outcome, after: Outcome) -> Finding:
    both, of_before, of_after = np.intersect1d(before.image, after.image, return_indices=True)
    old, new = -before.margin[of_before].astype(np.float64), -after.margin[of_after].astype(np.float64)
    apart = np.stack([new[:, _OF_AFTER] - old[:, _OF_AFTER], old[:, _OF_BEFORE] - new[:, _OF_BEFORE]]).mean(axis=0)
    effect, p_value = paired(apart, alternative="greater")
    state = FindingState.SUSPECTED
    if effect.low >= MATERIAL:
        state = FindingState.VERIFIED
    elif effect.high < MATERIAL:
        state = FindingState.REFUTED
    named = {
        "after_where_it_looks": new[:, _OF_AFTER],
        "before_there": old[:, _OF_AFTER],
        "before_where_it_looked": old[:, _OF_BEFORE],
        "after_there": new[:, _OF_BEFORE],
    }
    numbers = {name: mean_effect(values, effect.unit).content() for name, values in named.items()}
    return replace(
        one,
        statement=f"{one.statement} Where only one of them looks is covered in {counted(len(both), 'image')}: its "
        f"score falls in log-odds by {said(effect)} more than the other's.",
        state=state,
        suggestion=_ADVICE[state],
        check={**one.check, "apart": effect.content(), "p_value": p_value, **numbers},
    )


_ADVICE = {
    FindingState.VERIFIED: "Look whether the new places are the object; if not, calibrate or train again.",
    FindingState.SUSPECTED: "Look at the examples, and try more images: the effect is not settled.",
    FindingState.REFUTED: "Nothing needs to be done: the maps differ, but the scores do not depend on where.",
}
