"""Whether fewer bits show in the maps of a model, and save time: what ``--precision auto`` decides by.

Images are explained both ways. Fewer bits are taken where every map is the same but for rounding, the best class (or
box) of every image is the same one, and the device is faster with them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError
from otx_xai.explain.plan import Plan
from otx_xai.explain.run_sources import ReadImage, Sources, image_errors, subject_of
from otx_xai.explain.targets import Choice
from otx_xai.openvino_core import precisions
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import FloatArray, Precision, Prediction
from otx_xai.runtime import Arrays, Session

ResultT = TypeVar("ResultT")

logger = logging.getLogger("otx_xai")

TRIED = 16
"""Images that are explained both ways."""

_TRIED_BY_PASSES = 4
"""Likewise, where each takes dozens to thousands of forward passes."""

_SAME_MAP = 0.99
"""Pearson's correlation from which two maps are the same but for rounding."""

_SAME_BOX = 0.5
"""Overlap from which two boxes of a class are the same one."""

_FASTER = 1.05
"""Speed-up from which fewer bits are worth it; what is below may be chance."""

_ROUNDS = 3
"""How often each precision takes its turn to be timed."""

_Read = tuple[NDArray[Any], ReadImage]


@dataclass(frozen=True)
class Measured:
    """What was measured of a model in fewer bits, against float32.

    Args:
        precision: the one that is taken.
        tried: the one in fewer bits; ``None`` where the device knows none.
        images: number of images that were explained both ways.
        maps: number of pairs of maps.
        least_correlation: Pearson's, of the pair of maps that differs most, in [-1, 1]; NaN without a map.
        same_best: number of images whose best class, or box, is the same.
        speed_up: how many times as fast fewer bits are; NaN where nothing was timed.
    """

    precision: Precision
    tried: Precision | None = None
    images: int = 0
    maps: int = 0
    least_correlation: float = float("nan")
    same_best: int = 0
    speed_up: float = float("nan")

    def entry(self) -> dict[str, Any]:
        """Return it in the terms of JSON, as ``run.json`` holds it."""
        if self.tried is None:
            return {"taken": str(self.precision), "why": self.sentence()}
        return {
            "taken": str(self.precision),
            "tried": str(self.tried),
            "images": self.images,
            "maps": self.maps,
            "least_correlation": round(self.least_correlation, 5) if self.maps else None,
            "same_best": self.same_best,
            "speed_up": round(self.speed_up, 3) if self.images else None,
            "why": self.sentence(),
        }

    def sentence(self) -> str:
        """Say what is taken, and why."""
        if self.tried is None:
            return f"{self.precision}: the device computes with nothing else."
        if not self.maps:
            return f"{self.precision}: the images that were tried have no map that could be compared with {self.tried}."
        return (
            f"{self.precision}. With {self.tried}, {self.maps} maps of {self.images} images correlate with those of "
            f"{Precision.F32} to {self.least_correlation:.4f} or more, {self.same_best} of {self.images} best classes "
            f"are the same, and it is {self.speed_up:.2f} times as fast."
        )


class PrecisionComparison:
    """Gathers what a model explains in two precisions, image by image.

    Args:
        fast: the one in fewer bits.
    """

    def __init__(self, fast: Precision) -> None:
        self._fast = fast
        self._correlations: list[float] = []
        self._images = self._same = 0
        self._speed_ups: list[float] = []

    @property
    def images(self) -> int:
        """Number of images so far."""
        return self._images

    def add(self, exact: Choice, fast: Choice | None) -> None:
        """Add one image: what is explained of it in float32, and in fewer bits, ``None`` where that fails."""
        self._images += 1
        if fast is None:
            return
        self._same += _same_best(exact.predictions, fast.predictions)
        self._correlations += [correlation(exact.maps[i], fast.maps[j]) for i, j in _pairs(exact.targets, fast.targets)]

    def took(self, exact: float, fast: float) -> None:
        """Add the seconds that the same work took."""
        self._speed_ups.append(exact / fast)

    def concluded(self) -> Measured:
        """Return what is taken by what came so far."""
        least = min(self._correlations, default=float("nan"))
        speed_up = median(self._speed_ups) if self._speed_ups else float("nan")
        same = bool(self._correlations) and least >= _SAME_MAP and self._same == self._images
        taken = self._fast if same and speed_up >= _FASTER else Precision.F32
        return Measured(taken, self._fast, self._images, len(self._correlations), least, self._same, speed_up)


def tried_images(plan: Plan) -> int:
    """Return how many images are explained both ways."""
    return TRIED if plan.black_box is None else _TRIED_BY_PASSES


def measure(
    plan: Plan, exact: Session, fast: Session, fewer: Precision, images: Sequence[Any], loader: Any = None
) -> Measured:
    """Explain the first images of a run both ways, in turns.

    Args:
        plan: what explains.
        exact: it, compiled in float32.
        fast: it, compiled in fewer bits.
        fewer: these.
        images: of the run.
        loader: gives their pixels, as of :class:`~otx_xai.explain.run.Run`.

    Returns:
        What is taken. Images that fail in float32 count for nothing: the run tells of them.
    """
    comparison = PrecisionComparison(fewer)
    views = _Views(plan, images[: tried_images(plan)], loader)
    for number in range(_ROUNDS if plan.black_box is None else 1):
        began = time.perf_counter()
        slowly = views.explained(exact)
        between = time.perf_counter()
        quickly = views.explained(fast)
        comparison.took(between - began, time.perf_counter() - between)
        for name, exact_choice in slowly.items() if number == 0 else ():
            comparison.add(exact_choice, quickly.get(name))
    return comparison.concluded()


class PrecisionTrial:
    """Explains in the precision that is told, or finds it out while the first images are explained one by one.

    Args:
        told: what the user says.
        device: OpenVINO device.
    """

    def __init__(self, told: Precision, device: str) -> None:
        self._told, self._device = told, device
        self._lock = Lock()
        self._comparisons: dict[Hashable, PrecisionComparison] = {}
        self._taken: dict[Hashable, Precision] = {}

    def explained(
        self,
        key: Hashable,
        plan: Plan,
        by: Callable[[Precision], Iterable[ResultT]],
        choice: Callable[[ResultT], Choice],
        *,
        compiled: Callable[[Precision], object],
    ) -> Iterable[ResultT]:
        """Explain some images: in float32 and in fewer bits as well, as long as nothing is decided.

        Args:
            key: tells what is decided by itself: another method of the same model.
            plan: what explains.
            by: explains the images in a precision.
            choice: what is explained, in a result of ``by``.
            compiled: makes ready for ``by``, so that it can be timed.

        Returns:
            The results, in float32 until fewer bits are taken.
        """
        taken = self._taken.get(key) if self._told is Precision.AUTO else self._told
        fewer = None if taken is not None else fewer_bits(self._device)
        if fewer is None:
            return by(taken or Precision.F32)
        for precision in (Precision.F32, fewer):
            compiled(precision)
        began = time.perf_counter()
        exact = list(by(Precision.F32))
        between = time.perf_counter()
        try:
            fast = [choice(one) for one in by(fewer)]
        except ImageError:
            fast = []
        seconds = between - began, time.perf_counter() - between
        with self._lock:
            comparison = self._comparisons.setdefault(key, PrecisionComparison(fewer))
            comparison.took(*seconds)
            for number, one in enumerate(exact):
                comparison.add(choice(one), fast[number] if fast else None)
            if comparison.images >= tried_images(plan) and key not in self._taken:
                measured = comparison.concluded()
                self._taken[key] = measured.precision
                logger.info("Precision: %s", measured.sentence())
        return exact


def fewer_bits(device: str) -> Precision | None:
    """Return the precision in fewer bits that a device is tried with; ``None`` where it computes with none."""
    return next(iter(precisions(device)[1:]), None)


class _Views:
    """The images that are explained both ways; those that are not tiled are read once, so that only the rest counts."""

    def __init__(self, plan: Plan, images: Sequence[Any], loader: Any) -> None:
        self._plan, self._images = plan, images
        self._sources = Sources(plan, loader, lambda _: False)
        self._kept = None if plan.facts.tiling is not None else list(self._opened())

    def _opened(self) -> Iterable[_Read]:
        with closing(self._sources.of(self._images)) as sources:
            for source in sources:
                try:
                    yield self._sources.read(source)
                except ImageError:
                    continue

    def explained(self, session: Session) -> dict[str, Choice]:
        """Explain the images, and return what came of each by its name; those that fail are left out."""
        if self._kept is not None and self._plan.black_box is not None:
            return _found((read.info.name, self._perturbed(session, tensor, read)) for tensor, read in self._kept)
        if self._kept is not None:
            return self._streamed(session, self._kept, lambda one: one)
        with closing(self._sources.of(self._images)) as sources:
            return self._streamed(session, sources, self._sources.read)

    def _streamed(self, session: Session, sources: Iterable[Any], read: Callable[[Any], _Read]) -> dict[str, Choice]:
        plan = self._plan

        def finish(read: ReadImage, outputs: Arrays) -> tuple[str, Choice | None]:
            height, width = read.image_size
            with image_errors(read.info):
                if read.tiled is None:
                    return read.info.name, plan.choose(outputs, (height, width), session)
                return read.info.name, read.tiled.choose() if read.tiled.add(read.number, outputs) else None

        whole = not plan.facts.task.is_classification
        with closing(session.stream(sources, read, finish, outputs=plan.outputs, whole=whole)) as results:
            return _found(result for _, result in results if not isinstance(result, ImageError))

    def _perturbed(self, session: Session, tensor: NDArray[Any], read: ReadImage) -> Choice | None:
        height, width = read.image_size
        try:
            return self._plan.perturb(session, subject_of(tensor, self._plan.facts), (height, width))
        except ImageError:
            return None


def _found(results: Iterable[tuple[str, Choice | None]]) -> dict[str, Choice]:
    return {name: choice for name, choice in results if choice is not None}


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Return Pearson's correlation of two maps of one shape, in [-1, 1]; 1 of two constant ones, 0 where one is."""
    one, other = (map.astype(np.float64).reshape(-1) for map in (first, second))
    one, other = one - one.mean(), other - other.mean()
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if not all(lengths):
        return float(not any(lengths))
    return float(np.clip(one @ other / (lengths[0] * lengths[1]), -1, 1))


def _same_best(exact: Sequence[Prediction], fast: Sequence[Prediction]) -> bool:
    if not exact or not fast:
        return not exact and not fast
    return bool(_pairs(exact[:1], fast[:1]))


def _pairs(exact: Sequence[Prediction], fast: Sequence[Prediction]) -> list[tuple[int, int]]:
    """Return which targets are the same; a class whose score stands at the threshold may be among one of them only."""
    pairs, free = [], set(range(len(fast)))
    for i, one in enumerate(exact):
        same = [j for j in sorted(free) if fast[j].target == one.target]
        shared = [_overlap(one, fast[j]) for j in same]
        if same and max(shared) >= _SAME_BOX:
            pairs.append((i, same[int(np.argmax(shared))]))
            free.discard(pairs[-1][1])
    return pairs


def _overlap(one: Prediction, other: Prediction) -> float:
    if one.box is None or other.box is None:
        return 1.0
    return float(overlaps(np.array([one.box], np.float32), np.array([other.box], np.float32))[0, 0])
