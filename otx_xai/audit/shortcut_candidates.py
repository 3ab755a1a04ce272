"""What many images of a class share off the object: a place that is hot, or the same pixels under the peak.

A shortcut (Geirhos et al., *Shortcut Learning in Deep Neural Networks*, 2020; Lapuschkin et al., *Unmasking Clever
Hans Predictors*, 2019) shows in the maps of many images. But so does the object: it is hot as well, and lies about the
middle. What counts is a place that is *fixed while the object moves*: hot in many images of one class, and in few of
the others; or content that repeats itself off the annotated object. Both are suspicions; :mod:`otx_xai.audit.shortcuts`
tries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from otx_xai.audit.cells import inside, seen, seen_each
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect
from otx_xai.audit.hot_places import Cell, hot_cells, hottest_window, window_region
from otx_xai.audit.interventions import Fetch
from otx_xai.audit.statistics import share
from otx_xai.records import BoolArray, FloatArray, IntArray, Size, UInt8Array

EXCESS = 0.15
"""By how much a place or a content must be more frequent in a class than in the others, doubt included."""
LEAST = 12
"""Images of a class, and of others, that are needed at least."""

_ON_OBJECT = 0.5
_WINDOW = 0.22
_NOTABLE = 0.4
_MOST = 1500
_SUBSAMPLES = 5
_STABLE = 0.6
_DENSER = 0.6
_CHUNK = 4096


@dataclass(frozen=True)
class Candidate:
    """Something that many images of a class share off the object.

    Args:
        target: the class.
        is_place: it is a place that is the same in all images; else it is content, wherever it is.
        size: rows and columns of cells that it takes.
        images: rows of images, those that show it best first.
        windows: its upper left cell in each of them.
        frequency: part of the images of the class that have it.
        elsewhere: part of the images of other classes that have it.
        stability: of content: part of it that is found again in random halves of the images, in [0, 1]; 1 of others.
        is_copy: it is content of which every pixel is the same in all images.
    """

    target: int
    is_place: bool
    size: Size
    images: tuple[int, ...]
    windows: tuple[Cell, ...]
    frequency: Effect
    elsewhere: Effect
    stability: float = 1.0
    is_copy: bool = False


def explained_images(evidence: Evidence) -> tuple[IntArray, IntArray]:
    """Return the images of a classifier whose best class has a map: their rows, and the rows of their maps."""
    if not evidence.task.is_classification or not len(evidence):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = evidence.maps.rows(evidence.predicted)
    images = np.flatnonzero(rows >= 0)
    return images, rows[images]


def fixed_places(evidence: Evidence) -> list[Candidate]:
    """Find places that are hot in many images of one predicted class, and in few of the others.

    Returns:
        One a class at most: the rectangle of cells around the place that stands out most.
    """
    images, rows = explained_images(evidence)
    hot = _hot_off_objects(evidence, images, rows)
    predicted, counts, found = evidence.predicted[images], hot.sum(axis=0), []
    for target in np.unique(predicted).tolist():
        mine = np.flatnonzero(predicted == target)
        if min(len(mine), len(images) - len(mine)) < LEAST:
            continue
        of_mine = hot[mine].sum(axis=0)
        place = _standing_out(of_mine, len(mine), counts - of_mine, len(images) - len(mine))
        if place is not None:
            found.append(_placed(target, images, evidence.maps.grids[rows[mine]], hot, mine, place))
    return found


def _hot_off_objects(evidence: Evidence, images: IntArray, rows: IntArray) -> BoolArray:
    """Return which cells over the image and off the annotated objects are the hottest there, ``(M, h, w)``."""
    hot = np.zeros((len(images), *map_cells(evidence)), np.bool_)
    for first in range(0, len(images), _CHUNK):
        part = slice(first, first + _CHUNK)
        open_to = seen_each(evidence.sizes[images[part]], evidence.geometry, evidence.grid, map_cells(evidence)) > 0
        if evidence.objects is not None:
            open_to &= np.stack([objects_in(evidence, image) < _ON_OBJECT for image in images[part].tolist()])
        hot[part] = hot_cells(evidence.maps.grids[rows[part]] * open_to) & open_to
    return hot


def objects_in(evidence: Evidence, image: int) -> FloatArray:
    """Return which part of each cell lies on an annotated object, ``float32`` ``(h, w)``; 0 without annotations."""
    cells = map_cells(evidence)
    if evidence.objects is None:
        return np.zeros(cells, np.float32)
    boxes = evidence.objects.xyxy[evidence.objects.of(image)]
    return inside(boxes, _size(evidence, image), evidence.geometry, evidence.grid, cells)


def _standing_out(mine: IntArray, number: int, others: IntArray, others_number: int) -> BoolArray | None:
    """Return the connected cells that are hot more often than in other classes, around the one that is most so.

    Args:
        mine: in how many images of the class each cell is hot, ``(h, w)``.
        number: of these images.
        others: in how many images of other classes.
        others_number: of those images.
    """
    excess = mine / number - others / others_number
    best = np.unravel_index(int(excess.argmax()), excess.shape)
    if not stands_out(share(int(mine[best]), number), share(int(others[best]), others_number)):
        return None
    _, parts = cv2.connectedComponents((excess >= excess[best] / 2).astype(np.uint8), connectivity=4)
    connected: BoolArray = parts == parts[best]
    return connected


def stands_out(first: Effect, second: Effect) -> bool:
    """Whether the lower end of the interval of a difference of shares is large (Newcombe 1998, method 10)."""
    difference = first.value - second.value
    return bool(difference - np.hypot(first.value - first.low, second.high - second.value) >= EXCESS)


def _placed(
    target: int, images: IntArray, grids: UInt8Array, hot: BoolArray, mine: IntArray, place: BoolArray
) -> Candidate:
    """Return the candidate of a place, by the maps of the class's images, and what is hot in all images."""
    excess = np.where(place, hot[mine].mean(axis=0), 0)
    spans = [np.flatnonzero(place.any(axis=axis)) for axis in (1, 0)]
    size = tuple(
        max(int(np.ptp(span)) + 1, least) for span, least in zip(spans, least_window(place.shape), strict=True)
    )
    window = hottest_window(excess, (int(spans[0][0]), int(spans[1][0])), (size[0], size[1]))
    every = hot[:, place].sum(axis=1) > 0
    has = every[mine]
    heat = grids[has][:, place].mean(axis=1)
    order = images[mine][has][np.argsort(-heat, kind="stable")]
    return Candidate(
        target,
        True,
        (size[0], size[1]),
        tuple(order.tolist()),
        (window,) * len(order),
        share(has),
        share(int(every.sum() - has.sum()), len(images) - len(mine)),
    )


def shared_contents(evidence: Evidence, fetch: Fetch, *, seed: int = 0) -> list[Candidate]:
    """Find content that repeats itself under the peaks of the maps of one class, off the annotated objects.

    The pixels under the hottest place off the objects are described by their colours and directions, whatever their
    place, and grouped by HDBSCAN (Campello et al. 2013).

    Args:
        evidence: of a classifier.
        fetch: gives the images.
        seed: of the images that are drawn where there are many, and of the halves that tell how stable a group is.

    Returns:
        The groups that one class has more often than the others, and that are found again in random halves.
    """
    images, rows = explained_images(evidence)
    rng = np.random.default_rng(seed)
    if len(images) > _MOST:
        chosen = np.sort(rng.permutation(len(images))[:_MOST])
        images, rows = images[chosen], rows[chosen]
    cells = map_cells(evidence)
    size = least_window(cells)
    peaks = [_peak(evidence, image, row, size) for image, row in zip(images.tolist(), rows.tolist(), strict=True)]
    has = np.array([peak is not None for peak in peaks], np.bool_)
    windows = [peak for peak in peaks if peak is not None]
    if len(windows) < LEAST:
        return []
    described = np.stack(
        [
            describe(fetch(image)[window_region(evidence, window, size).slices])
            for image, window in zip(images[has].tolist(), windows, strict=True)
        ]
    )
    return _groups(evidence, images, has, windows, size, described, rng)


def _peak(evidence: Evidence, image: int, row: int, size: Size) -> Cell | None:
    """Return the hottest window off the objects; ``None`` where nothing there is notable."""
    grid = evidence.maps.grids[row].astype(np.float32)
    off = objects_in(evidence, image) < _ON_OBJECT
    off &= seen(_size(evidence, image), evidence.geometry, evidence.grid, map_cells(evidence)) > _ON_OBJECT
    if not off.any() or grid[off].max() < _NOTABLE * 255:
        return None
    heat = np.where(off, grid, 0)
    row_of, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return hottest_window(heat, (int(row_of), int(column)), size)


def describe(patch: UInt8Array) -> FloatArray:
    """Describe a patch by its colours and the directions of its edges, wherever in it they are.

    Args:
        patch: ``uint8`` ``(h, w, C)``.

    Returns:
        ``float32`` ``(D,)``: square roots of the parts, so that distances are those of Hellinger.
    """
    levels = np.minimum(patch.reshape(-1, patch.shape[2])[:, :3] // 64, 3).astype(np.int64)
    codes = levels @ (4 ** np.arange(levels.shape[1]))
    colours = np.bincount(codes, minlength=4 ** levels.shape[1]) / max(1, len(codes))
    grey = patch.astype(np.float32).mean(axis=2)
    down, right = cv2.Sobel(grey, cv2.CV_32F, 0, 1), cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    strength, direction = np.hypot(down, right), np.arctan2(down, right) % np.pi
    bins = np.minimum((direction / np.pi * 8).astype(np.int64), 7)
    edges = np.bincount(bins.ravel(), strength.ravel(), minlength=8) / max(float(strength.sum()), 1e-6)
    described: FloatArray = np.sqrt(np.concatenate([colours, edges])).astype(np.float32)
    return described


def _groups(
    evidence: Evidence,
    images: IntArray,
    has: BoolArray,
    windows: Sequence[Cell],
    size: Size,
    described: FloatArray,
    rng: np.random.Generator,
) -> list[Candidate]:
    classes, rows, best = evidence.predicted[images], images[has], dict[int, Candidate]()
    for members in _clustered(described):
        own = classes[has][members]
        target = int(np.bincount(own).argmax())
        all_of, mine = classes == target, int((own == target).sum())
        frequency, elsewhere = share(mine, int(all_of.sum())), share(len(own) - mine, int((~all_of).sum()))
        if min(frequency.n, elsewhere.n) < LEAST or not stands_out(frequency, elsewhere):
            continue
        stability = _stability(described, members, rng)
        if stability < _STABLE or (target in best and best[target].frequency.value >= frequency.value):
            continue
        shown = np.flatnonzero(members & (classes[has] == target))
        typical = described[shown] @ described[shown].mean(axis=0)
        shown = shown[np.argsort(-typical, kind="stable")]
        picked = tuple(windows[number] for number in shown.tolist())
        best[target] = Candidate(
            target, False, size, tuple(rows[shown].tolist()), picked, frequency, elsewhere, stability
        )
    return list(best.values())


def _clustered(described: FloatArray) -> list[BoolArray]:
    """Return groups of descriptions, the members of each.

    Where nothing but one group repeats itself, there is no second one for HDBSCAN to split it from, and it is what is
    closer than three fifths of the distance that two descriptions have.
    """
    from sklearn.cluster import HDBSCAN

    if len(described) < LEAST:
        return []
    points = described.astype(np.float64)
    usual = float(np.median(np.linalg.norm(points - points[np.random.default_rng(0).permutation(len(points))], axis=1)))
    groups = []
    for single in (False, True):
        made = HDBSCAN(
            min_cluster_size=max(6, len(points) // 20),
            min_samples=3,
            allow_single_cluster=single,
            cluster_selection_epsilon=_DENSER * usual if single else 0.0,
            copy=True,
        ).fit(points)
        groups += [made.labels_ == group for group in range(int(made.labels_.max(initial=-1)) + 1)]
    return groups


def _stability(described: FloatArray, members: BoolArray, rng: np.random.Generator) -> float:
    """Return how much of a group random halves find again: the mean of the best Jaccard index (Hennig 2007)."""
    found = []
    for _ in range(_SUBSAMPLES):
        half = rng.permutation(len(described))[: max(LEAST, len(described) // 2)]
        kept = members[half]
        groups = _clustered(described[half])
        found.append(max(((group & kept).sum() / (group | kept).sum() for group in groups), default=0.0))
    return float(np.mean(found))


def least_window(cells: tuple[int, ...]) -> Size:
    """Return the rows and columns of cells that a place takes at least: about a fifth of each side of a map."""
    return max(1, round(_WINDOW * cells[0])), max(1, round(_WINDOW * cells[1]))


def map_cells(evidence: Evidence) -> Size:
    """Return the rows and columns of the maps."""
    return evidence.maps.grids.shape[1], evidence.maps.grids.shape[2]


def _size(evidence: Evidence, image: int) -> Size:
    height, width = evidence.sizes[image].tolist()
    return height, width
