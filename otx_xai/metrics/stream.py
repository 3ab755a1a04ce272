"""All perturbed images of many cases through one stream, drawn on the fly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError
from otx_xai.metrics.adcc import mask_image
from otx_xai.metrics.methods import Case
from otx_xai.metrics.perturbation import blurred, image_seed, rank_pixels, step_counts, step_image
from otx_xai.postprocess import to_image
from otx_xai.records import SCORES, FloatArray, InputGeometry, UInt8Array
from otx_xai.runtime import Arrays, Session

BLUR, ZERO = 0, 1
INSERTION, DELETION = 0, 1

Draw = Callable[[], UInt8Array]
"""Draws one image ``uint8`` ``(H, W, 3)``, when and where it is needed."""

Forward = Callable[[Iterable[Draw]], Generator[Any, None, None]]
"""Runs images through a model: yields scores ``float32`` ``(K,)`` in [0, 1], or whatever a :data:`Score` reads, in the
order of the images, and asks for no more images ahead than it needs."""

Score = Callable[[Case, Any], float]
"""Reads the score of what a case is about, in [0, 1], off what a :data:`Forward` yields."""


class Stopped(Exception):
    """Somebody has set the event that ends a stream before its last image."""


def class_score(case: Case, scores: FloatArray) -> float:
    """Return the score of a case's class, of scores ``(K,)``."""
    return float(scores[case.target])


@dataclass(frozen=True, eq=False)
class Curves:
    """What a class, or a box, scores while its image is perturbed by ``M`` maps.

    Args:
        score: in the whole image, in [0, 1].
        masked: in the image multiplied with each map, ``float32`` ``(M,)``.
        steps: while pixels change, ``float32`` ``(M, 2, 2, steps + 1)``: of each map with baseline ``BLUR``, ``ZERO``
            the curves of ``INSERTION``, ``DELETION``, from no changed pixel to all of them.
    """

    score: float
    masked: FloatArray
    steps: FloatArray


def session_scores(session: Session, output: str = SCORES, stop: Event | None = None) -> Forward:
    """Run images through a session; they are drawn in its threads.

    Args:
        session: of a model that takes ``uint8`` ``(N, H, W, 3)``.
        output: name of its scores ``(N, K)``.
        stop: see :func:`session_values`.
    """
    return session_values(session, lambda outputs: outputs[output], outputs=(output,), stop=stop)


def session_values(
    session: Session,
    read: Callable[[Arrays], Any],
    *,
    outputs: Sequence[str] = (),
    whole: bool = False,
    stop: Event | None = None,
) -> Forward:
    """Run images through a session, and read something off the outputs of each.

    Args:
        session: of a model that takes ``uint8`` ``(N, H, W, C)``.
        read: what to yield of the outputs of one image, by name; it runs in a thread.
        outputs: names of those that it needs; all by default.
        whole: give it outputs with their batch axis, as those of detectors need.
        stop: once set, the stream ends with :class:`Stopped`.
    """

    def draw_one(draw: Draw) -> tuple[UInt8Array, None]:
        return draw(), None

    def finish(_: None, found: Arrays) -> Any:
        return read(found)

    def forward(draws: Iterable[Draw]) -> Generator[Any, None, None]:
        stream = session.stream(draws, draw_one, finish, outputs=outputs, whole=whole, stop=stop)
        with closing(stream) as results:
            for _, result in results:
                if isinstance(result, ImageError):
                    raise result
                yield result
        if stop is not None and stop.is_set():
            raise Stopped

    return forward


def function_scores(function: Callable[[UInt8Array], NDArray[Any]], batch: int = 16) -> Forward:
    """Run images through any function.

    Args:
        function: of images ``uint8`` ``(N, H, W, 3)``; gives scores ``(N, K)``.
        batch: number of images of a call at most.
    """

    def forward(draws: Iterable[Draw]) -> Generator[FloatArray, None, None]:
        remaining = iter(draws)
        while images := [draw() for draw in islice(remaining, batch)]:
            yield from np.asarray(function(np.stack(images)), np.float32)

    return forward


def trace(
    cases: Iterable[tuple[Case, Sequence[FloatArray]]],
    forward: Forward,
    *,
    steps: int,
    zero: UInt8Array,
    score: Score = class_score,
) -> Iterator[Curves]:
    """Follow the score of each case's class while its image is perturbed by its maps.

    A case takes ``3 + M * (4 * steps - 3)`` forward passes: the image and the two baselines, which all curves share,
    the masked images, and the steps in between. All of them go through one stream, and no more of them are in memory
    than it holds at once.

    Args:
        cases: each with its maps, one or more, ``float32`` ``(h, w)`` in [0, 1], of any resolution.
        forward: runs images through the model.
        steps: number of equal steps in which an image changes; the paper changes as many pixels a step as the input
            is wide, 224 steps.
        zero: ``uint8`` ``(3,)``: pixel of the zero baseline.
        score: what is followed; the score of the case's class by default.

    Yields:
        The curves of each case, in order.

    Raises:
        ValueError: ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1.")
    begun: deque[tuple[Case, int]] = deque()

    def draws() -> Iterator[Draw]:
        for case, maps in cases:
            begun.append((case, len(maps)))
            yield from _draws(case, maps, steps, zero)

    with closing(forward(draws())) as scores:
        for first in scores:
            case, count = begun.popleft()
            passes = 2 + count * (4 * steps - 3)
            rest = [score(case, values) for values in islice(scores, passes)]
            yield _curves(score(case, first), np.array(rest, np.float32), count, steps)


def _draws(case: Case, maps: Sequence[FloatArray], steps: int, zero: UInt8Array) -> Iterator[Draw]:
    """Yield the image, both baselines, and for each map the masked image and the steps, in the order of `_curves`."""
    image = case.image
    size = (image.shape[0], image.shape[1])
    baselines = (blurred(image), np.broadcast_to(zero, image.shape).copy())
    seed = image_seed(image, 0)
    between = step_counts(size[0] * size[1], steps)[1:-1].tolist()
    for whole in (image, *baselines):
        yield partial(np.asarray, whole)
    for saliency_map in maps:
        enlarged = to_image(saliency_map[None], size, InputGeometry(size))[0]
        yield partial(mask_image, image, enlarged, zero)
        ranks = rank_pixels(enlarged, size, seed)
        for baseline in baselines:
            for top, rest in ((image, baseline), (baseline, image)):
                for count in between:
                    yield partial(step_image, top, rest, ranks, count)


def _curves(score: float, rest: FloatArray, count: int, steps: int) -> Curves:
    baselines, rest = rest[:2], rest[2:].reshape(count, 4 * steps - 3)
    curves = np.empty((count, 2, 2, steps + 1), np.float32)
    curves[..., 1:-1] = rest[:, 1:].reshape(count, 2, 2, steps - 1)
    curves[:, :, INSERTION, 0] = curves[:, :, DELETION, -1] = baselines
    curves[:, :, INSERTION, -1] = curves[:, :, DELETION, 0] = score
    return Curves(score, rest[:, 0], curves)
