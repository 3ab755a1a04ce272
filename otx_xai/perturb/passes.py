"""The engine of all black-box methods: masked images stream through the runtime, scores come back in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError, ImageError, TargetError
from otx_xai.perturb.estimates import Estimate, Estimator
from otx_xai.perturb.masks import Masks
from otx_xai.perturb.subject import Subject, masking
from otx_xai.postprocess.maps import CONSTANT_RANGE
from otx_xai.postprocess.scores import NO_SCORE
from otx_xai.process import one_thread_each
from otx_xai.records import Doubles, FloatArray
from otx_xai.runtime import Arrays, Session

ItemT = TypeVar("ItemT")

BLOCK = 32
"""Masks that enter the sums at once: fixed, so that results do not depend on batches and streams."""
_PATIENCE = 1.25
"""The standard error is looked at again when there are so many times more masks: looking costs time as well."""


@dataclass(frozen=True)
class Scorer:
    """How a network scores an input.

    Args:
        session: the compiled network.
        score: makes scores ``(T,)`` of the outputs of one input; it runs in threads. All scores of a run have the
            same length: one a class, or one a box that is looked for.
        outputs: names of the outputs that ``score`` needs; all by default.
        whole: give ``score`` outputs with their batch axis, as those of detectors need.
    """

    session: Session
    score: Callable[[Arrays], NDArray[Any]]
    outputs: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        done: forward passes that are done.
        total: forward passes at most.
        seconds: time so far.
        standard_error: the largest of all targets, see :class:`PerturbationMaps`; ``None`` where it was not looked at.
    """

    done: int
    total: int
    seconds: float
    standard_error: float | None = None

    @property
    def seconds_left(self) -> float:
        """Time to the end at the pace so far, if nothing ends the run before."""
        return self.seconds / max(self.done, 1) * (self.total - self.done)


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class PerturbationMaps:
    """Maps of one image by a black-box method.

    Args:
        maps: ``float32`` ``(T, h, w)``, finite and not scaled, over the whole of the network's input, at a resolution
            of its own. Where a map means nothing it is 0, and a warning says why.
        targets: class indices, or numbers of boxes, one a map.
        scores: ``float32`` ``(T,)``: scores of the targets in the image as it is.
        passes: forward passes that the maps rest on.
        standard_error: ``float32`` ``(T,)``: of each map, root mean square over its places, as a part of its range;
            infinite where it is not known.
        converged: whether all standard errors are within the tolerance that was asked for; of AISE, and where none
            was asked for, whether the run was not interrupted.
        warnings: for each map what speaks against it; mostly nothing.
    """

    maps: FloatArray
    targets: tuple[int, ...]
    scores: FloatArray
    passes: int
    standard_error: FloatArray
    converged: bool
    warnings: tuple[tuple[str, ...], ...]


def scores_of(
    scorer: Scorer,
    inputs: Iterable[ItemT],
    make: Callable[[ItemT], NDArray[Any]],
    stop: Event | None = None,
) -> Generator[Doubles, None, None]:
    """Yield the scores of inputs in their order; ``make`` makes one, without batch axis, in a thread.

    Raises:
        ConfigError: scores of different inputs have different lengths.
        ModelError: an inference failed.
    """
    length: int | None = None
    stream = scorer.session.stream(
        inputs,
        lambda item: (make(item), None),
        lambda _, outputs: np.asarray(scorer.score(outputs), np.float64).reshape(-1),
        outputs=scorer.outputs,
        whole=scorer.whole,
        light=True,
        stop=stop,
    )
    try:
        for _, scores in stream:
            if isinstance(scores, ImageError):
                raise scores
            length = len(scores) if length is None else length
            if len(scores) != length:
                raise ConfigError(
                    f"The model gave {length} scores for one image, and {len(scores)} for another, masked one; "
                    f"expected the same number each time. Return class scores (1, K) from postprocess_fn."
                )
            yield scores
    finally:
        stream.close()


@dataclass(frozen=True)
class Watch:
    """What accompanies a run from outside.

    Args:
        report: is told of the progress now and then, in the thread that runs the method.
        stop: once set, the run ends early, with what it has.
    """

    report: Report | None = None
    stop: Event | None = None


@one_thread_each()
def estimate_maps(
    scorer: Scorer,
    subject: Subject,
    masks: Masks,
    number: int,
    sums: Callable[[int], Estimator],
    *,
    targets: Sequence[int] | None = None,
    tolerance: float | None = None,
    watch: Watch | None = None,
) -> PerturbationMaps:
    """Run masked images until there are enough of them.

    Args:
        scorer: how the network scores.
        subject: the image.
        masks: what hides parts of it.
        number: masks at most.
        sums: makes the estimator for a number of targets.
        targets: indices into the scores; all of them when ``None``.
        tolerance: standard error of the worst map from which the run may end; never when ``None``.
        watch: reports and interruption.
    """
    watch, start = watch or Watch(), time.monotonic()
    masked, scratch = masking(subject), threading.local()

    def make(index: int | None) -> NDArray[Any]:
        if index is None:
            return subject.image
        scratch.mask = masks.mask(index, getattr(scratch, "mask", None))
        return masked(scratch.mask)

    stream = scores_of(scorer, _indices(number, watch.stop), make)
    converged, due = False, 0.0
    try:
        plain = next(stream)
        chosen = chosen_targets(targets, len(plain))
        ledger, estimator = _Ledger(chosen, plain), sums(len(chosen))
        for done, scores in enumerate(stream, start=1):
            ledger.take(scores)
            if done % BLOCK and done != number:
                continue
            block = ledger.block()
            estimator.add(masks.project(range(done - len(block), done), estimator.basis), block)
            error = None
            if tolerance is not None and (done >= due or done == number):
                error, due = ledger.worst(estimator.estimate().standard_error), done * _PATIENCE
                converged = error <= tolerance
            if watch.report:
                watch.report(Progress(done, number, time.monotonic() - start, error))
            if converged:
                break
    finally:
        stream.close()
    complete = tolerance is None and ledger.passes == number
    return ledger.result(estimator.estimate(), converged=converged or complete)


def _indices(number: int, stop: Event | None) -> Generator[int | None, None, None]:
    """Yield ``None`` for the image as it is, which is run in any case, then the masks until the run is stopped."""
    yield None
    for index in range(number):
        if stop and stop.is_set():
            return
        yield index


def chosen_targets(targets: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return the targets, all of them when ``None``.

    Raises:
        TargetError: a target is none of ``count`` scores.
    """
    if targets is None:
        return tuple(range(count))
    wrong = [target for target in targets if not 0 <= target < count]
    if wrong:
        raise TargetError(
            f"Target {wrong[0]} is no class of the model, which gives {count} scores; expected 0 to {count - 1}."
        )
    return tuple(int(target) for target in targets)


class _Ledger:
    """Scores of the targets, block by block, and what is remarkable about them."""

    def __init__(self, targets: tuple[int, ...], scores: Doubles) -> None:
        self.targets = targets
        self._plain = scores[list(targets)]
        self._rows: list[Doubles] = []
        self._broken = (~np.isfinite(self._plain)).astype(int)
        self._low = np.full(len(targets), np.inf)
        self._high = np.full(len(targets), -np.inf)
        self.passes = 0

    def take(self, scores: Doubles) -> None:
        self._rows.append(scores[list(self.targets)])

    def block(self) -> Doubles:
        """Return the scores since the last block, ``(B, T)``, what is not finite as 0."""
        rows, self._rows = np.stack(self._rows), []
        finite = np.isfinite(rows)
        self._broken += (~finite).sum(axis=0)
        rows[~finite] = 0
        self._low, self._high = np.minimum(self._low, rows.min(axis=0)), np.maximum(self._high, rows.max(axis=0))
        self.passes += len(rows)
        return rows

    def worst(self, errors: FloatArray) -> float:
        """Return the largest error of the targets that have a map at all."""
        meaningful = self._high > self._low
        return float(errors[meaningful].max()) if meaningful.any() else 0.0

    def result(self, estimate: Estimate, *, converged: bool) -> PerturbationMaps:
        maps, warnings = examined(estimate.maps, self._plain, self._high, self._broken, self.passes)
        return PerturbationMaps(
            maps=maps,
            targets=self.targets,
            scores=self._plain.astype(np.float32),
            passes=self.passes,
            standard_error=estimate.standard_error,
            converged=converged,
            warnings=warnings,
        )


def examined(
    maps: FloatArray, plain: Doubles, high: Doubles, broken: NDArray[np.int_], passes: int
) -> tuple[FloatArray, tuple[tuple[str, ...], ...]]:
    """Say what speaks against maps.

    Args:
        maps: ``(T, h, w)``.
        plain: scores of the image as it is, ``(T,)``.
        high: largest scores of its masked versions, ``(T,)``.
        broken: numbers of passes whose score was NaN or infinite, ``(T,)``.
        passes: number of masked versions.

    Returns:
        The maps, those that mean nothing as 0, and warnings for each.
    """
    ranges = maps.max(axis=(1, 2)) - maps.min(axis=(1, 2))
    flat = ~(ranges > CONSTANT_RANGE * np.abs(maps).max(axis=(1, 2)))
    warnings = []
    for i in range(len(maps)):
        said = []
        if broken[i]:
            said.append(f"the score was NaN or infinite in {broken[i]} of {passes + 1} forward passes; taken as 0")
        if not plain[i] > NO_SCORE:
            said.append(f"the score of the target is {plain[i]:.3g} in the image: the map explains next to nothing")
        if flat[i]:
            why = "no masked image has a score" if not high[i] > NO_SCORE else "hiding parts changes nothing"
            said.append(f"the map is constant: {why}")
        warnings.append(tuple(said))
    return np.where(flat[:, None, None], np.float32(0), maps).astype(np.float32), tuple(warnings)
