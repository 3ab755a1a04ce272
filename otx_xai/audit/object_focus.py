"""Whether a model looks at the object: how much of a map lies on annotated boxes, against the map being anywhere.

The energy of a map inside the boxes of its class (energy-based pointing game, Wang et al., arXiv 1910.01279) says
little alone: on a box that fills the image it is high for any map. So each map is moved cyclically over all places of
the grid that lie over the image. These shifts keep the map's form and the boxes, and forget where the one lies on the
other: an exact permutation null for one image. Over many images the sum of the energies is compared with the sums of
the means and variances of their nulls.

Both maps and objects like the middle of an image, so maps of a model that looks at the middle whatever it shows lie
above this null too. That a class lies above it is therefore no proof; that a class does not is what is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from otx_xai.audit.cells import inside, seen_each
from otx_xai.audit.evidence_table import BoxTable, Evidence, MapTable
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.audit.statistics import mean_effect
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.records import BoolArray, Doubles, FloatArray, IntArray

LEAST = 10
"""Maps of a class from which it is judged."""
CHANCE = 0.05
"""Probability of the null from which a class does not lie above it."""

_CHUNK = 4096
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class ObjectFocus:
    """How maps lie on the boxes of their class, a row a map of an image where boxes of its class are annotated.

    Args:
        row: of the map in :attr:`Evidence.maps`, ``int64`` ``(F,)``, rising.
        image: ``int64`` ``(F,)``.
        target: ``int64`` ``(F,)``.
        inside: part of the map's energy that lies in the boxes, in [0, 1].
        chance: mean of that over all shifts: the part of the image's cells that the boxes fill.
        spread: standard deviation over all shifts; 0 where no shift matters (a box that fills the image, a flat map).
        p_value: part of the shifts, the map's own place among them, that have at least as much inside.
    """

    row: IntArray
    image: IntArray
    target: IntArray
    inside: FloatArray
    chance: FloatArray
    spread: FloatArray
    p_value: FloatArray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def z(self) -> FloatArray:
        """How many standard deviations above chance, ``(F,)``; 0 where no shift matters."""
        spread = np.where(self.spread > 0, self.spread, 1)
        return np.where(self.spread > 0, (self.inside - self.chance) / spread, 0).astype(np.float32)

    @property
    def tells(self) -> BoolArray:
        """Where shifts matter, ``(F,)``."""
        return self.spread > 0


@dataclass(frozen=True)
class ClassFocus:
    """How the maps of one class lie on its objects.

    Args:
        target: the class.
        excess: mean energy inside boxes above chance, in [-1, 1], over the maps for which shifts matter.
        p_value: probability of as much energy inside if maps lay anywhere; 1 without a map.
    """

    target: int
    excess: Effect
    p_value: float


def object_focus(evidence: Evidence) -> ObjectFocus:
    """Measure how each map lies on the annotated boxes of its class.

    Args:
        evidence: with annotated boxes. Without them, or without maps of annotated classes, the table is empty.

    Returns:
        A row a map. Maps are read some thousand at a time.
    """
    if evidence.objects is None:
        return ObjectFocus(*np.zeros((3, 0), np.int64), *np.zeros((4, 0), np.float32))
    maps, (order, first, end) = evidence.maps, _boxes_of_maps(evidence.objects, evidence.maps)
    rows = np.flatnonzero(end > first)
    measured = [np.zeros((4, 0))]
    for at in range(0, len(rows), _CHUNK):
        some = rows[at : at + _CHUNK]
        boxes = [evidence.objects.xyxy[order[first[row] : end[row]]] for row in some.tolist()]
        measured.append(_measured(evidence, some, boxes))
    columns = np.concatenate(measured, axis=1).astype(np.float32)
    return ObjectFocus(rows, maps.image[rows], maps.target[rows], *columns)


def class_focus(focus: ObjectFocus, count: int) -> list[ClassFocus]:
    """Sum up how the maps of each class lie on its objects.

    Args:
        focus: of the maps.
        count: of classes.

    Returns:
        One a class, in their order. ``excess`` is NaN where a class has no map that tells anything.
    """
    tells, excess = focus.tells, (focus.inside - focus.chance).astype(np.float64)
    found = []
    for target in range(count):
        ours = tells & (focus.target == target)
        variance = float(np.square(focus.spread[ours], dtype=np.float64).sum())
        p_value = float(stats.norm.sf(excess[ours].sum() / np.sqrt(variance))) if variance else 1.0
        found.append(ClassFocus(target, mean_effect(excess[ours]), p_value))
    return found


def focus_findings(evidence: Evidence, focus: ObjectFocus) -> list[Finding]:
    """Name the classes whose maps lie on their objects no more than chance would have it.

    Returns:
        Findings ``background_focus``, suspected, a class each: with at least ten maps for which shifts matter, and
        their energy not above its null (p > 0.05, one-sided). They have no p-value to correct, since what speaks for
        them is that a test did not find anything.
    """
    found = []
    for one in class_focus(focus, len(evidence.labels)):
        if one.excess.n >= LEAST and one.p_value > CHANCE:
            found.append(_finding(evidence, focus, one))
    return found


def _finding(evidence: Evidence, focus: ObjectFocus, one: ClassFocus) -> Finding:
    ours = np.flatnonzero(focus.tells & (focus.target == one.target))
    label = evidence.labels[one.target]
    away = mean_effect(1 - focus.inside[ours])
    return Finding(
        FindingKind.BACKGROUND_FOCUS,
        label,
        f"The maps of {label!r} lie on its objects no more than maps that lie anywhere would: "
        f"{said(away)} of the energy of {counted(away.n, 'map')} is off the boxes, and by chance "
        f"{100 * (1 - focus.chance[ours].mean()):.1f} % would be.",
        away,
        FindingState.SUSPECTED,
        len(np.unique(focus.image[ours])) / len(evidence),
        examples(evidence, focus.image[ours[np.argsort(focus.z[ours], kind="stable")]]),
        "Cover the background of these images and see whether the score falls more than when the object is covered.",
        {"excess": one.excess.value, "p_above": one.p_value},
    )


def _boxes_of_maps(objects: BoxTable, maps: MapTable) -> tuple[IntArray, IntArray, IntArray]:
    """Return an order of boxes, and for each map the first place in it and the one after the last of its own boxes."""
    classes = 1 + max(objects.target.max(initial=0), maps.target.max(initial=0))
    keys = objects.image * classes + objects.target
    order = np.argsort(keys, kind="stable")
    wanted = maps.image * classes + maps.target
    first, end = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
    return order, first, end


def _measured(evidence: Evidence, rows: IntArray, boxes: list[FloatArray]) -> Doubles:
    """Return energy inside, its mean and deviation over all shifts, and the p-value of some maps, ``(4, n)``."""
    grids = np.asarray(evidence.maps.grids[rows])
    sizes = evidence.sizes[evidence.maps.image[rows]]
    cells = (grids.shape[1], grids.shape[2])
    on_boxes = np.stack(
        [
            inside(some, (height, width), evidence.geometry, evidence.grid, cells)
            for some, (height, width) in zip(boxes, sizes.tolist(), strict=True)
        ]
    )
    found = np.zeros((4, len(rows)))
    frames, which = np.unique(
        _frames(seen_each(sizes, evidence.geometry, evidence.grid, cells)), axis=0, return_inverse=True
    )
    for number, (top, bottom, left, right) in enumerate(frames.tolist()):
        ours = np.flatnonzero(which.ravel() == number)
        part = np.s_[ours, top:bottom, left:right]
        found[:, ours] = against_shifts(grids[part], on_boxes[part])
    return found


def _frames(seen: FloatArray) -> IntArray:
    """Return the rectangles of cells that lie over the image by half or more, ``(n, 4)``: top, bottom, left, right."""
    over = seen >= np.minimum(0.5, seen.max(axis=(1, 2), keepdims=True))
    frames = []
    for axis in (2, 1):
        line = over.any(axis=axis)
        frames += [line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)]
    return np.stack(frames, axis=1).astype(np.int64)


def against_shifts(maps: NDArray[Any], on_boxes: FloatArray) -> Doubles:
    """Compare the energy of maps inside boxes with that of all cyclic shifts of the maps.

    Args:
        maps: ``(n, h, w)``, at least 0.
        on_boxes: part of each cell that lies in boxes, ``(n, h, w)`` in [0, 1].

    Returns:
        ``float64`` ``(4, n)``: part of the energy inside; its mean and its standard deviation over the shifts; part of
        the shifts that have at least as much inside. A flat map has the mean inside, no deviation, and 1.
    """
    size = maps.shape[1:]
    energy = maps.astype(np.float64)
    total = energy.sum(axis=(1, 2), keepdims=True)
    energy = np.where(total > 0, energy, 1) / np.where(total > 0, total, energy[0].size if len(energy) else 1)
    spectrum = np.fft.rfft2(on_boxes.astype(np.float64)) * np.conj(np.fft.rfft2(energy))
    shifts = np.fft.irfft2(spectrum, s=size, axes=(1, 2)).reshape(len(maps), -1)
    own = (energy * on_boxes).sum(axis=(1, 2))
    spread = shifts.std(axis=1)
    spread[spread < _ROUNDING] = 0
    reached = (shifts >= own[:, None] - _ROUNDING).mean(axis=1)
    return np.stack([own, shifts.mean(axis=1), spread, reached])
