"""Change pixels, and watch the score: what a map only suggests is tried.

Everything works on images fitted into the network's input, ``uint8`` ``(H, W, C)``. A change is a function of an image;
a :class:`Trial` has several groups (*arms*) of them, the changes and their controls, for one image and one class, and
:func:`run_trials` sends those of all trials through one stream.

A score near 1 hides what happens, so effects are measured in log-odds beside probability: a mark may halve the margin
while the probability falls from 0.9999 to 0.98.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.metrics import Forward
from otx_xai.metrics.stream import Draw
from otx_xai.options import Word
from otx_xai.records import BoolArray, FloatArray, IntArray, Size, UInt8Array

Edit = Callable[[UInt8Array], UInt8Array]
"""Makes a changed copy of an image."""
Fetch = Callable[[int], UInt8Array]
"""Gives an image of the audit by its number, fitted into the network's input, ``uint8`` ``(H, W, C)``."""

_LEAST_ODDS = 1e-9


class Fill(Word):
    """What stands where something was taken away."""

    GREY = "grey"
    """The mean colour of the image."""
    BLUR = "blur"
    """The image, blurred beyond recognition."""
    SURROUNDINGS = "surroundings"
    """The colours around it, drawn inwards."""
    OTHER = "other"
    """The pixels of another image at the same place."""


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the network's input: rows ``top`` to ``bottom``, columns ``left`` to ``right``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """What picks it out of an image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def mask(self, size: Size) -> BoolArray:
        """Return an array ``(H, W)`` that is true inside."""
        mask = np.zeros(size, np.bool_)
        mask[self.slices] = True
        return mask


def cover(
    image: UInt8Array, mask: BoolArray, fill: Fill | str = Fill.GREY, other: UInt8Array | None = None
) -> UInt8Array:
    """Return an image of which a part is taken away.

    Args:
        image: ``uint8`` ``(H, W, C)``.
        mask: ``(H, W)``, true where it is covered.
        fill: what stands there instead.
        other: an image of the same shape, for ``Fill.OTHER``.

    Raises:
        ValueError: ``other`` is missing, or has another shape.
    """
    return np.where(mask[..., None], _filling(image, mask, Fill(fill), other), image)


def keep(
    image: UInt8Array, mask: BoolArray, fill: Fill | str = Fill.GREY, other: UInt8Array | None = None
) -> UInt8Array:
    """Return an image of which only a part is left; see :func:`cover`, the opposite."""
    return cover(image, ~mask, fill, other)


def paste(image: UInt8Array, patch: UInt8Array, place: tuple[int, int]) -> UInt8Array:
    """Return an image with a patch on it.

    Args:
        image: ``uint8`` ``(H, W, C)``.
        patch: ``uint8`` ``(h, w, C)``, no larger.
        place: row and column of the patch's upper left corner; it is moved inside where it would stand out.
    """
    (height, width), (rows, columns) = image.shape[:2], patch.shape[:2]
    top, left = min(max(0, place[0]), height - rows), min(max(0, place[1]), width - columns)
    result = image.copy()
    result[top : top + rows, left : left + columns] = patch
    return result


def surroundings(image: UInt8Array, mask: BoolArray) -> UInt8Array:
    """Fill a part of an image with the colours around it: push-pull (Gortler et al., The Lumigraph, SIGGRAPH 1996).

    The known pixels are averaged over larger and larger squares, until there is one everywhere; what is unknown is
    drawn from the smallest square that knows something.

    Args:
        image: ``uint8`` ``(H, W, C)``.
        mask: ``(H, W)``, true where pixels are unknown; if all are, the image's mean colour stands everywhere.

    Returns:
        ``uint8`` ``(H, W, C)``; known pixels are as they were.
    """
    if mask.all():
        return _flat(image)
    drawn = _drawn_inwards(image.astype(np.float32), (~mask).astype(np.float32)[..., None])
    return np.where(mask[..., None], np.clip(np.rint(drawn), 0, 255).astype(np.uint8), image)


def _drawn_inwards(colours: FloatArray, known: FloatArray) -> FloatArray:
    if known.min() >= 1:
        return colours
    height, width = known.shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    blocks = np.pad(np.concatenate([colours * known, known], axis=2), padding)
    blocks = blocks.reshape(blocks.shape[0] // 2, 2, blocks.shape[1] // 2, 2, -1).sum(axis=(1, 3))
    weight = blocks[..., -1:]
    coarse = _drawn_inwards(blocks[..., :-1] / np.maximum(weight, 1e-6), np.minimum(weight, 1))
    enlarged = cv2.resize(coarse, (coarse.shape[1] * 2, coarse.shape[0] * 2), interpolation=cv2.INTER_LINEAR)
    enlarged = enlarged.reshape(*enlarged.shape[:2], -1)[:height, :width]
    drawn: FloatArray = known * colours + (1 - known) * enlarged
    return drawn


def _filling(image: UInt8Array, mask: BoolArray, fill: Fill, other: UInt8Array | None) -> UInt8Array:
    match fill:
        case Fill.GREY:
            return _flat(image)
        case Fill.BLUR:
            blurred: UInt8Array = cv2.GaussianBlur(image, (0, 0), max(1.0, min(image.shape[:2]) / 8))
            return blurred.reshape(image.shape)
        case Fill.SURROUNDINGS:
            return surroundings(image, mask)
        case Fill.OTHER:
            if other is None or other.shape != image.shape:
                shape = None if other is None else other.shape
                raise ValueError(f"other is {shape}; expected an image of the shape {image.shape}.")
            return other


def _flat(image: UInt8Array) -> UInt8Array:
    mean = np.rint(image.reshape(-1, image.shape[2]).mean(axis=0)).astype(np.uint8)
    return np.broadcast_to(mean, image.shape)


def log_odds(scores: NDArray[np.float32], target: int, *, independent: bool = False) -> float:
    """Return the margin of a class, ``log p / (1 - p)``, within ±20.7.

    Args:
        scores: probabilities ``(K,)``.
        target: the class.
        independent: the scores are independent of one another; else ``1 - p`` is the sum of the others, which is exact
            where ``p`` itself has been rounded to 1.
    """
    score = float(scores[target])
    rest = 1 - score if independent or len(scores) < 2 else float(np.delete(scores, target).astype(np.float64).sum())
    return float(np.log(max(score, _LEAST_ODDS)) - np.log(max(rest, _LEAST_ODDS)))


@dataclass(frozen=True, eq=False)
class Trial:
    """Changes of one image, in groups.

    Args:
        image: its number.
        target: class whose score is watched.
        arms: groups of changes; the effect of a group is the median over its changes, so that no single way to fill
            a gap decides. All trials of a run have as many groups, and none is empty.
        read: makes scores ``(K,)`` in [0, 1] of what the model yields; of a classifier they are that.
    """

    image: int
    target: int
    arms: tuple[tuple[Edit, ...], ...]
    read: Callable[[Any], FloatArray] = np.asarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """What ``N`` trials of ``A`` groups of changes did to the scores.

    Args:
        image: number of the image of each, ``int64`` ``(N,)``.
        target: the class that was watched, ``int64`` ``(N,)``.
        whole: its score in the unchanged image, in [0, 1], ``float32`` ``(N,)``.
        margin: change of its log-odds, negative where it falls, ``float32`` ``(N, A)``.
        probability: change of its score, ``float32`` ``(N, A)``.
        decided: part of the changes of a group with which it is the best class, or reaches 0.5 where classes are
            independent, ``float32`` ``(N, A)``.
        lost: number of trials that are left out because a score was not finite.
    """

    image: IntArray
    target: IntArray
    whole: FloatArray
    margin: FloatArray
    probability: FloatArray
    decided: FloatArray
    lost: int = 0

    def __len__(self) -> int:
        return len(self.image)


def run_trials(trials: Iterable[Trial], fetch: Fetch, forward: Forward, *, independent: bool = False) -> Outcome:
    """Run the images of trials, and all their changes, through a model in one stream.

    Args:
        trials: what is changed; they may be made on the fly.
        fetch: gives their images.
        forward: runs images through the model; yields scores ``(K,)`` in [0, 1], or what the trials read.
        independent: the classes are independent of one another.

    Returns:
        What the changes did, in the order of the trials.
    """
    begun: deque[Trial] = deque()

    def draws() -> Iterator[Draw]:
        for trial in trials:
            begun.append(trial)
            image = fetch(trial.image)
            yield partial(np.asarray, image)
            for edit in (edit for arm in trial.arms for edit in arm):
                yield partial(edit, image)

    kept, found, lost = [], [], 0
    with closing(forward(draws())) as scores:
        for first in scores:
            trial = begun.popleft()
            passes = sum(map(len, trial.arms))
            values = np.stack([trial.read(one) for one in (first, *islice(scores, passes))]).astype(np.float32)
            if not np.isfinite(values).all():
                lost += 1
                continue
            kept.append(trial)
            found.append(_measured(trial, values, independent))
    return _outcome(kept, found, lost)


def _measured(trial: Trial, values: FloatArray, independent: bool) -> tuple[float, FloatArray]:
    """Return the score of the whole image, and of each arm its changes of margin and score, and who won ``(A, 3)``."""
    margins = np.array([log_odds(one, trial.target, independent=independent) for one in values])
    scores = values[:, trial.target]
    best = scores >= (0.5 if independent else values.max(axis=1))
    columns = np.stack([margins - margins[0], scores - scores[0], best], axis=1)
    ends = np.cumsum([1, *map(len, trial.arms)])
    arms = [columns[start:end] for start, end in pairwise(ends)]
    rows = [[np.median(arm[:, 0]), np.median(arm[:, 1]), arm[:, 2].mean()] for arm in arms]
    return float(scores[0]), np.array(rows, np.float32)


def _outcome(trials: Sequence[Trial], found: Sequence[tuple[float, FloatArray]], lost: int) -> Outcome:
    arms = len(trials[0].arms) if trials else 0
    table = np.array([rows for _, rows in found], np.float32).reshape(len(trials), arms, 3)
    return Outcome(
        np.array([trial.image for trial in trials], np.int64),
        np.array([trial.target for trial in trials], np.int64),
        np.array([whole for whole, _ in found], np.float32),
        table[..., 0],
        table[..., 1],
        table[..., 2],
        lost,
    )
