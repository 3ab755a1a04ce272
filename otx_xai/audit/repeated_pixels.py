"""The same pixels in many images of a class, wherever they are: a mark, where nobody says where the objects are.

Objects of a class differ: in size, in pose, in light. What was put onto images by a program (a logo, a stamp, a
ruler) is the same to a few grey levels each time. So without annotations, of all that repeats itself under the peaks of
the maps, only what repeats itself *exactly*, and is more intricate than a plain shape, is told from the object. Small
patches around the strongest corners under a peak (Shi and Tomasi, *Good Features to Track*, CVPR 1994) are looked for
around the peaks of other images, and what is the same around them must have several corners, for the corner of a box
of one colour repeats itself, too. Marks that shine through, turn, or change their size are not found so; and of things
that a program has drawn, all alike, nobody can tell by pixels whether they are the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect
from otx_xai.audit.hot_places import Cell, hottest_window, other_windows, window_region
from otx_xai.audit.interventions import Fetch
from otx_xai.audit.shortcut_candidates import LEAST, Candidate, explained_images, least_window, map_cells, stands_out
from otx_xai.audit.statistics import share
from otx_xai.records import IntArray, Size, UInt8Array

_LOOKED = 40  # images of a class, and of others
_ALL = 2000  # images of all classes
_FIRST = 14  # images in which patches are counted
_DONORS = 8  # of these, images that patches are taken from
_PATCHES = 2  # around a peak
_HOTTEST = 2  # peaks of a map
_SIDE = 8  # pixels of a patch, at least
_OFTEN = 0.3  # part of the first images that have a patch
_ALIKE = 0.25  # difference of the same pixels, as a part of their standard deviation
_CONTRAST = 20.0  # standard deviation of a patch, in grey levels
_STABLE = 20  # grey levels by which pixels around it differ among images
_AREAS = 8  # images whose surroundings are compared
_INTRICATE = 8  # corners that stay


@dataclass(frozen=True, eq=False)
class _Around:
    """The surroundings of a peak: pixels ``(h, w, C)``, and where their upper left corner is in the input."""

    window: Cell
    pixels: UInt8Array
    corner: Cell


@dataclass(frozen=True, eq=False)
class _Looked:
    """An image, and the surroundings of its peaks, the hottest first."""

    image: int
    row: int
    peaks: tuple[_Around, ...]


def repeated_pixels(evidence: Evidence, fetch: Fetch, *, seed: int = 0) -> list[Candidate]:
    """Find pixels under the peaks of the maps of one class that are the same in many of its images, and in few others.

    Args:
        evidence: of a classifier, with maps; neither labels nor annotations are needed.
        fetch: gives the images.
        seed: of the images that are drawn: up to 40 a class, and as many of other classes.

    Returns:
        One a class at most: what most of its images have.
    """
    images, rows = explained_images(evidence)
    classes, rng = evidence.predicted[images], np.random.default_rng(seed)
    targets, found = np.unique(classes).tolist(), []
    most = min(_LOOKED, max(LEAST, _ALL // max(1, len(targets))))
    for target in targets:
        mine, others = (rng.permutation(np.flatnonzero(part)) for part in (classes == target, classes != target))
        if min(len(mine), len(others)) < LEAST:
            continue
        looked = _looked(evidence, fetch, images, rows, mine[:most])
        patch = _most_repeated(looked)
        if patch is None:
            continue
        shown = [(one, place) for one in looked if (place := _place_of(patch, one)) is not None]
        if not _is_intricate([(fetch(one.image), place) for one, place in shown], patch.shape[0]):
            continue
        unlike = _looked(evidence, fetch, images, rows, others[:most])
        candidate = _candidate(evidence, target, patch, shown, share(len(shown), len(looked)), unlike)
        if candidate is not None:
            found.append(candidate)
    return found


def _looked(evidence: Evidence, fetch: Fetch, images: IntArray, rows: IntArray, chosen: IntArray) -> list[_Looked]:
    found = []
    for image, row in zip(images[chosen].tolist(), rows[chosen].tolist(), strict=True):
        peaks = tuple(_peaks(evidence, fetch(image), row))
        found.append(_Looked(image, row, peaks))
    return found


def _peaks(evidence: Evidence, pixels: UInt8Array, row: int) -> Iterator[_Around]:
    """Yield what lies around the hottest places of a map: a window, and half of one on each side."""
    grid, size = evidence.maps.grids[row], least_window(map_cells(evidence))
    if not grid.any():
        return
    hottest = np.unravel_index(int(grid.argmax()), grid.shape)
    first = hottest_window(grid, (int(hottest[0]), int(hottest[1])), size)
    for window in (first, *other_windows(grid, first, size, _HOTTEST - 1)):
        region = window_region(evidence, window, size)
        height, width = region.size
        top, left = max(0, region.top - height // 2), max(0, region.left - width // 2)
        yield _Around(window, pixels[top : region.bottom + height // 2, left : region.right + width // 2], (top, left))


def _most_repeated(looked: list[_Looked]) -> UInt8Array | None:
    """Return the patch that most of the first images have, of the corners of some; ``None`` where few have any."""
    best, most = None, _OFTEN * (min(_FIRST, len(looked)) - 1)
    for number, donor in enumerate(looked[:_DONORS]):
        for patch in (patch for around in donor.peaks for patch in _corners(around.pixels)):
            others = (one for place, one in enumerate(looked[:_FIRST]) if place != number)
            times = sum(_place_of(patch, one) is not None for one in others)
            if times > most:
                best, most = patch, times
    return best


def _corners(pixels: UInt8Array) -> Iterator[UInt8Array]:
    """Yield the patches with the strongest corners, that do not overlap; none without contrast."""
    side = _side(pixels)
    if min(pixels.shape[:2]) < side:
        return
    strength = cv2.cornerMinEigenVal(pixels.astype(np.float32).mean(axis=2), 3)
    total = cv2.boxFilter(strength, -1, (side, side), anchor=(0, 0), normalize=False)
    total = total[: pixels.shape[0] - side + 1, : pixels.shape[1] - side + 1].copy()
    for _ in range(_PATCHES):
        row, column = (int(place) for place in np.unravel_index(int(total.argmax()), total.shape))
        patch = pixels[row : row + side, column : column + side]
        if total[row, column] <= 0 or patch.std() < _CONTRAST:
            return
        yield patch
        total[max(0, row - side + 1) : row + side, max(0, column - side + 1) : column + side] = 0


def _side(pixels: UInt8Array) -> int:
    """Return the side of a patch: an eighth of the surroundings, a quarter of a window, and 8 pixels at least."""
    height, width = pixels.shape[:2]
    return int(max(_SIDE, min(height, width) // 8))


def _place_of(patch: UInt8Array, looked: _Looked) -> tuple[int, int] | None:
    """Return where the middle of the same pixels is in the input; ``None`` where they are not around the peaks."""
    limit = (_ALIKE * float(patch.std())) ** 2 * patch.size
    for around in looked.peaks:
        if any(whole < part for whole, part in zip(around.pixels.shape, patch.shape, strict=True)):
            continue
        difference = cv2.matchTemplate(around.pixels, patch, cv2.TM_SQDIFF)
        row, column = (int(place) for place in np.unravel_index(int(difference.argmin()), difference.shape))
        if difference[row, column] <= limit:
            return around.corner[0] + row + patch.shape[0] // 2, around.corner[1] + column + patch.shape[1] // 2
    return None


def _is_intricate(shown: list[tuple[UInt8Array, tuple[int, int]]], reach: int) -> bool:
    """Whether what is the same around a place in several images has as many corners as marks have.

    Args:
        shown: images, and the middle of the patch in each.
        reach: rows and columns on each side that are looked at, where they lie in the image.
    """
    areas = [
        image[row - reach : row + reach, column - reach : column + reach].mean(axis=2)
        for image, (row, column) in shown
        if min(row, column, image.shape[0] - row, image.shape[1] - column) >= reach
    ]
    if len(areas) < _AREAS:
        return False
    usual = np.median(areas, axis=0)
    same = np.median(np.abs(np.stack(areas) - usual), axis=0) <= _STABLE
    corners = cv2.goodFeaturesToTrack(
        usual.astype(np.uint8), 4 * _INTRICATE, 0.2, 2, mask=same.astype(np.uint8), blockSize=3
    )
    return corners is not None and len(corners) >= _INTRICATE


def _candidate(
    evidence: Evidence,
    target: int,
    patch: UInt8Array,
    shown: list[tuple[_Looked, tuple[int, int]]],
    frequency: Effect,
    others: list[_Looked],
) -> Candidate | None:
    size = least_window(map_cells(evidence))
    elsewhere = share(sum(_place_of(patch, one) is not None for one in others), len(others))
    if not stands_out(frequency, elsewhere):
        return None
    images = tuple(one.image for one, _ in shown)
    windows = tuple(_window(evidence, one, place, size) for one, place in shown)
    return Candidate(target, False, size, images, windows, frequency, elsewhere, is_copy=True)


def _window(evidence: Evidence, looked: _Looked, place: tuple[int, int], size: Size) -> Cell:
    """Return the hottest window of an image that holds a place."""
    rows, columns = map_cells(evidence)
    whole = window_region(evidence, (0, 0), (rows, columns))
    row, column = (
        min(count - 1, max(0, (at - first) * count // max(1, length)))
        for at, first, length, count in zip(place, (whole.top, whole.left), whole.size, (rows, columns), strict=True)
    )
    return hottest_window(evidence.maps.grids[looked.row], (row, column), size)
