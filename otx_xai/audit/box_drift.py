"""What quantisation, pruning or a new version of a detector changed: in its boxes, and in where it looks for them.

Boxes of both models that count are paired, image by image: those of one class whose intersection over union (IoU) is
at least 0.5, the largest first. A box without a partner is lost, or new. Annotated objects that one of both models
finds are compared by McNemar's exact test (1947), the maps of paired boxes as those of classes are
(:mod:`otx_xai.audit.drift`). Nothing here is checked by changing pixels: that maps have moved is a suspicion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from otx_xai.audit.box_errors import FOUND, BoxCase, BoxErrors
from otx_xai.audit.drift import beyond_noise, pair_distances, paired_difference
from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, said
from otx_xai.audit.statistics import mean_effect, share
from otx_xai.audit.wording import examples, falling
from otx_xai.counting import are, counted
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class BoxDrift:
    """Two detectors on the same images.

    Args:
        before: row of the box before, of each pair, ``int64`` ``(P,)``.
        after: row of the box after.
        distance: 1 - Pearson of their maps, ``float32`` ``(P,)`` in [0, 2]; NaN where one is missing or flat.
        right: whether both find an object, ``(P,)``; false without annotations.
        lost: rows of the boxes before that have no partner, ``int64``.
        new: rows of the boxes after that have none, ``int64``.
        objects_lost: rows of annotated objects that were found before and are not after, ``int64``.
        objects_won: the other way round.
        objects: number of annotated objects in images that both have.
        floor: of the distance, in [0, 2].
        why_no_maps: why no maps could be compared, in words; empty where they could.
    """

    before: IntArray
    after: IntArray
    distance: FloatArray
    right: BoolArray
    lost: IntArray
    new: IntArray
    objects_lost: IntArray
    objects_won: IntArray
    objects: int
    floor: float
    why_no_maps: str = ""

    @property
    def compared(self) -> BoolArray:
        """Pairs whose maps were compared, ``(P,)``."""
        return np.isfinite(self.distance)

    @property
    def moved(self) -> BoolArray:
        """Pairs whose map is another one, ``(P,)``."""
        return self.compared & (np.nan_to_num(self.distance) > self.floor)

    @property
    def agreement(self) -> Effect:
        """Part of the boxes of either model that the other one has as well: twice the pairs over all boxes (Dice)."""
        pairs = len(self.before)
        return share(2 * pairs, 2 * pairs + len(self.lost) + len(self.new))


def box_drift(
    before: Evidence,
    after: Evidence,
    errors: tuple[BoxErrors, BoxErrors],
    *,
    threshold: float,
    floor: float,
    why_no_maps: str = "",
) -> BoxDrift:
    """Lay two detectors side by side.

    Args:
        before: evidence of the baseline.
        after: evidence of the detector that is audited, of the same annotations.
        errors: of both, see :func:`~otx_xai.audit.box_errors.box_errors`.
        threshold: score from which a box counts.
        floor: of the distance of maps, in [0, 2]: what noise alone makes.
        why_no_maps: why their maps are not comparable; empty where they are.
    """
    pairs: list[tuple[int, int]] = []
    lost: list[int] = []
    new: list[int] = []
    common = _common(before, after)
    assert before.found is not None
    assert after.found is not None
    for earlier, later in common:
        rows = _sure(before.found, earlier, threshold), _sure(after.found, later, threshold)
        matched = _matched(before.found, after.found, *rows)
        pairs += matched
        lost += sorted(set(rows[0].tolist()) - {one for one, _ in matched})
        new += sorted(set(rows[1].tolist()) - {one for _, one in matched})
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    gone, won, count = _objects(before, after, errors, common)
    why = why_no_maps or ("" if len(before.maps) and len(after.maps) else "one of the models has no maps")
    maps = _map_rows(before)[first], _map_rows(after)[second]
    fine = str(BoxCase.RIGHT)
    known = len(errors[0].of_found) and len(errors[1].of_found)
    return BoxDrift(
        first,
        second,
        np.full(len(first), np.nan, np.float32)
        if why
        else pair_distances(before, after, *maps, after.found.image[second]),
        (errors[0].of_found[first] == fine) & (errors[1].of_found[second] == fine)
        if known
        else np.zeros(len(first), np.bool_),
        np.array(lost, np.int64),
        np.array(new, np.int64),
        gone,
        won,
        count,
        floor,
        why,
    )


def box_drift_findings(before: Evidence, after: Evidence, compared: BoxDrift) -> list[Finding]:
    """Tell what changed between two detectors.

    Args:
        before: evidence of the baseline.
        after: evidence of the detector that is audited, which names the images.
        compared: both, side by side.

    Returns:
        ``drift`` of the objects (McNemar) and of the boxes, measured; ``drift`` of the maps and ``silent_drift``, of
        boxes that find an object before and after, suspected, where more maps than the hundredth that noise alone makes
        lie above the floor (binomial test). None of a detector and itself.
    """
    every = np.ones(len(compared.before), np.bool_)
    some = [
        _found_objects(after, compared),
        _boxes(before, after, compared),
        _moved(after, compared, FindingKind.DRIFT, every),
        _moved(after, compared, FindingKind.SILENT_DRIFT, compared.right),
    ]
    return [one for one in some if one is not None]


def _common(before: Evidence, after: Evidence) -> list[tuple[int, int]]:
    """Return the rows of the images that both have."""
    rows = {name: row for row, name in enumerate(before.names)}
    return [(rows[name], row) for row, name in enumerate(after.names) if name in rows]


def _sure(found: BoxTable, image: int, threshold: float) -> IntArray:
    rows = np.arange(found.of(image).start, found.of(image).stop)
    return rows[found.score[rows] >= threshold]


def _matched(before: BoxTable, after: BoxTable, first: IntArray, second: IntArray) -> list[tuple[int, int]]:
    """Return pairs of rows, the largest overlap first; each box has one partner at most."""
    same = before.target[first, None] == after.target[second]
    iou = np.where(same, overlaps(before.xyxy[first], after.xyxy[second]), 0)
    found = []
    for place in np.argsort(-iou, axis=None, kind="stable").tolist():
        row, column = divmod(place, max(1, len(second)))
        if iou[row, column] < FOUND:
            break
        found.append((int(first[row]), int(second[column])))
        iou[row], iou[:, column] = 0, 0
    return found


def _objects(
    before: Evidence, after: Evidence, errors: tuple[BoxErrors, BoxErrors], common: list[tuple[int, int]]
) -> tuple[IntArray, IntArray, int]:
    """Return which objects were lost and won, rows of ``after``, and how many there are."""
    none = np.zeros(0, np.int64)
    if before.objects is None or after.objects is None:
        return none, none, 0
    fine = str(BoxCase.RIGHT)
    own, other = errors[1].of_object == fine, np.zeros(len(after.objects), np.bool_)
    both = np.zeros(len(after.objects), np.bool_)
    for earlier, later in common:
        then, now = before.objects.of(earlier), after.objects.of(later)
        if then.stop - then.start == now.stop - now.start:
            other[now], both[now] = errors[0].of_object[then] == fine, True
    return np.flatnonzero(both & other & ~own), np.flatnonzero(both & own & ~other), int(both.sum())


def _map_rows(evidence: Evidence) -> IntArray:
    """Return the row of the map of each box that was found; -1 where it has none."""
    assert evidence.found is not None
    rows = np.full(len(evidence.found), -1, np.int64)
    boxed = np.flatnonzero(evidence.maps.box >= 0)
    rows[evidence.maps.box[boxed]] = boxed
    return rows


def _found_objects(after: Evidence, compared: BoxDrift) -> Finding | None:
    losses, gains = len(compared.objects_lost), len(compared.objects_won)
    if not losses + gains:
        return None
    assert after.objects is not None
    effect = paired_difference(losses, gains, compared.objects)
    return Finding(
        FindingKind.DRIFT,
        "objects",
        f"Of {counted(compared.objects, 'object')} that both are shown the model has lost {losses} and won {gains} "
        f"(change of recall {said(effect)}).",
        effect,
        FindingState.MEASURED,
        (losses + gains) / compared.objects,
        examples(after, after.objects.image[np.concatenate([compared.objects_lost, compared.objects_won])]),
        "Look at the objects that were lost: if they share a class or a size, calibrate with images that show such."
        if losses > gains
        else "Nothing to do: as many objects were won as were lost, or more.",
        {"lost": losses, "won": gains},
        float(stats.binomtest(losses, losses + gains).pvalue),
    )


def _boxes(before: Evidence, after: Evidence, compared: BoxDrift) -> Finding | None:
    if not len(compared.lost) + len(compared.new):
        return None
    assert before.found is not None
    assert after.found is not None
    agreement, place = compared.agreement, {name: row for row, name in enumerate(after.names)}
    gone = compared.lost[np.argsort(-before.found.score[compared.lost], kind="stable")]
    new = compared.new[np.argsort(-after.found.score[compared.new], kind="stable")]
    images = [place[before.names[row]] for row in before.found.image[gone].tolist()]
    images += after.found.image[new].tolist()
    total = len(compared.before) + len(gone)
    return Finding(
        FindingKind.DRIFT,
        "boxes",
        f"Of {counted(total, 'box', 'boxes')} before, {len(gone)} {are(len(gone))} gone, and {len(new)} "
        f"{are(len(new))} new (in common: {said(agreement)}).",
        Effect(1 - agreement.value, 1 - agreement.high, 1 - agreement.low, agreement.n),
        FindingState.MEASURED,
        len(set(images)) / len(after),
        examples(after, np.array(images, np.int64)),
        "Look at those that one model is sure of: the others were close calls.",
        {"lost": len(gone), "new": len(new), "paired": len(compared.before)},
    )


def _moved(after: Evidence, compared: BoxDrift, kind: FindingKind, those: BoolArray) -> Finding | None:
    among = compared.compared & those
    moved = compared.moved & those
    number, total = int(moved.sum()), int(among.sum())
    p_value = beyond_noise(number, total)
    if p_value is None:
        return None
    assert after.found is not None
    distance, effect = mean_effect(compared.distance[moved], Unit.DISTANCE), share(number, total)
    which = "that find an object before and after" if kind is FindingKind.SILENT_DRIFT else "that both models find"
    images = after.found.image[compared.after]
    return Finding(
        kind,
        "maps",
        f"The maps of {number} of {counted(total, 'box', 'boxes')} {which} are others than before ({said(effect)}; "
        f"mean distance {distance.value:.2g}, noise floor {compared.floor:.2g}).",
        effect,
        FindingState.SUSPECTED,
        len(set(images[moved].tolist())) / len(after),
        examples(after, images[falling(compared.distance, moved)]),
        "Look at the maps of both models side by side, with a judge of their faithfulness (otx judge).",
        {"distance": distance.value, "floor": compared.floor},
        p_value,
    )
