"""What quantisation, pruning or a new version of a model changed: in its scores, and in where it looks.

Two audits of the same images are laid side by side, "before" (the baseline) and "after". Scores are compared by
McNemar's exact test (1947) on the images that one of both has right. Maps of the same class are compared by
``d = 1 - Pearson's correlation`` over the cells that lie over the image: 0 of equal maps, 1 of unrelated ones, 2 of
opposite ones. Where the models fit images in differently, or their maps have other places, the earlier map is looked up
where the later one has its cells, as far as both models see the image there. A map has drifted where d is above the
noise floor, a number that is measured beside: 99 % of maps change less under a change of the image that nobody sees.
Drift is silent where the image is right before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from otx_xai.audit.cells import centres, looked_up, seen_each
from otx_xai.audit.certainty import right_images
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, said
from otx_xai.audit.statistics import mean_effect, share
from otx_xai.audit.wording import examples, falling
from otx_xai.counting import are, counted, have
from otx_xai.records import BoolArray, FloatArray, IntArray, UInt8Array

NOISE = 0.01
"""Part of the maps that lie above the noise floor by its definition."""
CHANCE = 0.01
"""Probability below which more maps than that have drifted."""

_CHUNK = 4096
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class Drift:
    """Two models on the same images, a row an image that both have.

    Args:
        image: row in the evidence of the model after, ``int64`` ``(P,)``, rising.
        before: row in the evidence of the model before, ``int64`` ``(P,)``.
        target: class whose maps are compared: the best one of both where they agree, else the annotated one; -1 where
            there is neither.
        distance: 1 - Pearson of its maps, ``float32`` ``(P,)`` in [0, 2]; NaN where one of them is missing or flat.
        same_class: whether the best class is the same, ``(P,)``.
        right_before: ``(P,)``; false without annotations.
        right_after: ``(P,)``.
        score_before: of the best class before, ``float32`` ``(P,)``; NaN of a detector.
        score_after: of the best class after.
        labelled: whether a class is annotated, ``(P,)``.
        floor: of the distance, in [0, 2].
        why_no_maps: why no maps could be compared, in words; empty where they could.
        laid_over: whether earlier maps were looked up where the later ones have their cells, which alone moves them.
    """

    image: IntArray
    before: IntArray
    target: IntArray
    distance: FloatArray
    same_class: BoolArray
    right_before: BoolArray
    right_after: BoolArray
    score_before: FloatArray
    score_after: FloatArray
    labelled: BoolArray
    floor: float
    why_no_maps: str = ""
    laid_over: bool = False

    def __len__(self) -> int:
        return len(self.image)

    @property
    def compared(self) -> BoolArray:
        """Where maps of the same best class were compared, ``(P,)``."""
        return self.same_class & np.isfinite(self.distance)

    @property
    def moved(self) -> BoolArray:
        """Where the best class is the same, and its map another one, ``(P,)``."""
        return self.compared & (np.nan_to_num(self.distance) > self.floor)

    @property
    def silent(self) -> BoolArray:
        """Where this is so and the image is right before and after, ``(P,)``."""
        return self.moved & self.right_before & self.right_after


def drift(before: Evidence, after: Evidence, floor: float, why_no_maps: str = "") -> Drift:
    """Lay two models side by side, image by image.

    Args:
        before: evidence of the baseline.
        after: evidence of the model that is audited.
        floor: of the distance of maps, in [0, 2]: what noise alone makes.
        why_no_maps: why their maps are not comparable; empty where they are.

    Returns:
        A row an image that both have, by its name. Of detectors, only images are matched: they have no best class.

    Raises:
        ValueError: the models have other classes, so their scores and maps are of different things.
    """
    if before.labels != after.labels:
        raise ValueError(
            f"The baseline has {len(before.labels)} classes ({_few(before.labels)}), the model {len(after.labels)} "
            f"({_few(after.labels)}); expected the same classes in the same order."
        )
    rows = {name: row for row, name in enumerate(before.names)}
    pairs = [(row, rows[name]) for row, name in enumerate(after.names) if name in rows]
    image, earlier = np.array(pairs, np.int64).reshape(-1, 2).T
    best_before, best_after = before.predicted[earlier], after.predicted[image]
    same = (best_before == best_after) & (best_after != NO_CLASS)
    given = after.given[image, 0] if after.given.shape[1] else np.full(len(image), NO_CLASS, np.int64)
    target = np.where(same, best_after, given)
    why = why_no_maps or _why_no_maps(before, after)
    return Drift(
        image,
        earlier,
        target,
        np.full(len(image), np.nan, np.float32) if why else _distances(before, after, earlier, image, target),
        same,
        right_images(before)[earlier],
        right_images(after)[image],
        _best_scores(before)[earlier],
        _best_scores(after)[image],
        after.is_labelled[image],
        floor,
        why,
        not why and not _lie_alike(before, after),
    )


def map_distances(first: UInt8Array | FloatArray, second: UInt8Array | FloatArray, seen: FloatArray) -> FloatArray:
    """Return 1 - Pearson's correlation of maps, over the cells that lie over the image by half or more.

    Args:
        first: ``(M, h, w)``, of any scale.
        second: of the same shape.
        seen: part of each cell that lies over the image, ``(M, h, w)``.

    Returns:
        ``float32`` ``(M,)`` in [0, 2]; NaN where one of them is flat.
    """
    over = (seen >= np.minimum(0.5, seen.max(axis=(1, 2), keepdims=True, initial=0))).astype(np.float64)
    number = np.maximum(over.sum(axis=(1, 2), keepdims=True), 1)
    centred = []
    for maps in (first, second):
        values = maps.astype(np.float64)
        centred.append((values - (values * over).sum(axis=(1, 2), keepdims=True) / number) * over)
    shared = (centred[0] * centred[1]).sum(axis=(1, 2))
    spread = np.sqrt(np.square(centred[0]).sum(axis=(1, 2)) * np.square(centred[1]).sum(axis=(1, 2)))
    correlation = shared / np.maximum(spread, _LEAST_SPREAD)
    return np.where(spread > _LEAST_SPREAD, np.clip(1 - correlation, 0, 2), np.nan).astype(np.float32)


def drift_findings(after: Evidence, compared: Drift) -> list[Finding]:
    """Tell what changed between two models.

    Args:
        after: evidence of the model that is audited, which names the images.
        compared: it and its baseline.

    Returns:
        ``drift`` of the accuracy (McNemar) and of the best class, measured; ``drift`` of the maps and ``silent_drift``,
        suspected, where more maps than the hundredth that noise alone makes lie above the floor (binomial test). None
        of a model and itself.
    """
    maps = [
        _moved(after, compared, FindingKind.DRIFT, compared.compared, compared.moved),
        _moved(
            after,
            compared,
            FindingKind.SILENT_DRIFT,
            compared.compared & compared.right_before & compared.right_after,
            compared.silent,
        ),
    ]
    return [one for one in (_accuracy(after, compared), _classes(after, compared), *maps) if one is not None]


def _accuracy(after: Evidence, compared: Drift) -> Finding | None:
    lost = compared.labelled & compared.right_before & ~compared.right_after
    won = compared.labelled & compared.right_after & ~compared.right_before
    losses, gains, number = int(lost.sum()), int(won.sum()), int(compared.labelled.sum())
    if not losses + gains:
        return None
    effect = paired_difference(losses, gains, number)
    statement = (
        f"Of {counted(number, 'image')} {losses} {are(losses)} right before and wrong after, and {gains} the other way "
        f"round (change of accuracy {said(effect)})."
    )
    return Finding(
        FindingKind.DRIFT,
        "accuracy",
        statement,
        effect,
        FindingState.MEASURED,
        (losses + gains) / len(after),
        examples(after, compared.image[falling(compared.score_before, lost)]),
        "Look at the images that were lost: if they share a class or a look, calibrate with images of that kind."
        if losses > gains
        else "Nothing to do: as many images were won as were lost, or more.",
        {"lost": losses, "won": gains},
        float(stats.binomtest(losses, losses + gains).pvalue),
    )


def _classes(after: Evidence, compared: Drift) -> Finding | None:
    number, changed = len(compared), ~compared.same_class
    if not after.best.shape[1] or not changed.any():
        return None
    effect, count = share(changed), int(changed.sum())
    return Finding(
        FindingKind.DRIFT,
        "best class",
        f"{count} of {counted(number, 'image')} {have(count)} another best class than before ({said(effect)}).",
        effect,
        FindingState.MEASURED,
        count / len(after),
        examples(after, compared.image[falling(np.minimum(compared.score_before, compared.score_after), changed)]),
        "Look at those that were sure before and are sure after: the others were close calls.",
    )


def _moved(after: Evidence, compared: Drift, kind: FindingKind, among: BoolArray, moved: BoolArray) -> Finding | None:
    number, total = int(moved.sum()), int(among.sum())
    p_value = beyond_noise(number, total)
    if p_value is None:
        return None
    silent = kind is FindingKind.SILENT_DRIFT
    distance = mean_effect(compared.distance[moved], Unit.DISTANCE)
    effect = share(number, total)
    which = "that are right before and after" if silent else "with the same best class"
    caveat = " Part of it is that the models take images fitted otherwise, or that their maps are of other sizes."
    return Finding(
        kind,
        "maps",
        f"On {number} of {total} images {which} the map points elsewhere than the baseline's ({said(effect)}; their "
        f"maps are {distance.value:.2g} apart, noise reaches {compared.floor:.2g}).",
        effect,
        FindingState.SUSPECTED,
        number / len(after),
        examples(after, compared.image[falling(compared.distance, moved)]),
        "Look at both maps side by side: is the new place the object?" + (caveat if compared.laid_over else ""),
        {"distance": distance.value, "floor": compared.floor},
        p_value,
    )


def beyond_noise(moved: int, compared: int) -> float | None:
    """Return the p-value of more maps having moved than the hundredth that noise alone makes (binomial test).

    Args:
        moved: number of maps above the noise floor.
        compared: number of all that were compared.

    Returns:
        ``None`` where it may be chance, or nothing was compared.
    """
    if not compared:
        return None
    p_value = float(stats.binomtest(moved, compared, NOISE, alternative="greater").pvalue)
    return p_value if p_value <= CHANCE else None


def paired_difference(losses: int, gains: int, number: int) -> Effect:
    """Return the change of a share, with Wald's interval for pairs and 1/2 in each cell (Agresti and Min 2005).

    Args:
        losses: number of those that were right before, and are not after.
        gains: the other way round.
        number: of all.
    """
    change = (gains - losses) / number
    wide = number + 2
    moved, mean = (losses + gains + 1) / wide, (gains - losses) / wide
    half = stats.norm.ppf(0.975) * np.sqrt(max(moved - mean * mean, 0) / wide)
    return Effect(change, max(-1.0, min(change, mean - half)), min(1.0, max(change, mean + half)), number)


def _best_scores(evidence: Evidence) -> FloatArray:
    return evidence.best_scores[:, 0] if evidence.best.shape[1] else np.full(len(evidence), np.nan, np.float32)


def _why_no_maps(before: Evidence, after: Evidence) -> str:
    if not len(before.maps) or not len(after.maps):
        return "one of the models has no maps"
    return ""


def _lie_alike(before: Evidence, after: Evidence) -> bool:
    """Whether the maps of both models have the same places in an image."""
    cells = before.maps.grids.shape[1:] == after.maps.grids.shape[1:]
    return cells and before.geometry.places_as(after.geometry) and before.grid == after.grid


def _distances(before: Evidence, after: Evidence, earlier: IntArray, image: IntArray, target: IntArray) -> FloatArray:
    """Return the distances of the maps of these classes, NaN where one has none."""
    wanted_before = np.full(len(before), NO_CLASS, np.int64)
    wanted_before[earlier] = target
    wanted_after = np.full(len(after), NO_CLASS, np.int64)
    wanted_after[image] = target
    rows_before, rows_after = before.maps.rows(wanted_before)[earlier], after.maps.rows(wanted_after)[image]
    return pair_distances(before, after, rows_before, np.where(target == NO_CLASS, -1, rows_after), image)


def pair_distances(
    before: Evidence, after: Evidence, rows_before: IntArray, rows_after: IntArray, image: IntArray
) -> FloatArray:
    """Return the distances of maps of two models.

    Args:
        before: evidence of the baseline.
        after: evidence of the model that is audited.
        rows_before: of its maps, ``int64`` ``(P,)``; -1 where there is none.
        rows_after: of the maps of the other, likewise.
        image: rows of their images in ``after``, ``int64`` ``(P,)``.

    Returns:
        ``float32`` ``(P,)`` in [0, 2]; NaN where one is missing or flat.
    """
    found = np.full(len(image), np.nan, np.float32)
    both = np.flatnonzero((rows_before >= 0) & (rows_after >= 0))
    for at in range(0, len(both), _CHUNK):
        some = both[at : at + _CHUNK]
        sizes, later = after.sizes[image[some]], after.maps.grids[rows_after[some]]
        cells = (later.shape[1], later.shape[2])
        over = seen_each(sizes, after.geometry, after.grid, cells)
        earlier_maps, sees = laid_over(before, after, rows_before[some], sizes)
        found[some] = map_distances(earlier_maps, later, over * sees)
    return found


def laid_over(
    before: Evidence, after: Evidence, rows: IntArray, sizes: IntArray
) -> tuple[UInt8Array | FloatArray, BoolArray]:
    """Return maps of the baseline where the model has its places.

    Args:
        before: evidence of the baseline.
        after: evidence of the model that is audited.
        rows: of maps in the evidence of the baseline, ``(M,)``.
        sizes: of the image of each, ``(M, 2)``.

    Returns:
        ``(M, h, w)`` in [0, 255], of the grid of ``after``; and where the baseline sees the image there, likewise.
    """
    grids, cells = before.maps.grids[rows], (after.maps.grids.shape[1], after.maps.grids.shape[2])
    if _lie_alike(before, after):
        return grids, np.ones(grids.shape, np.bool_)
    points = centres(sizes, after.geometry, after.grid, cells)
    return looked_up(grids, sizes, before.geometry, before.grid, points)


def _few(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
