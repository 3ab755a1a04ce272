"""AISE: parts of an image of several sizes, looked for where they matter most."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.methods.drise import ReadProposals, box_scorer
from otx_xai.methods.spec import BOX_FINDERS, CLASSIFIERS, BoxJob, ClassJob, Fit, MethodSpec
from otx_xai.model.opened import Model
from otx_xai.perturb.direct import DirectSearch
from otx_xai.perturb.passes import PerturbationMaps, Progress, Scorer, Watch, chosen_targets, examined, scores_of
from otx_xai.perturb.subject import Subject, masking
from otx_xai.process import one_thread_each
from otx_xai.records import Doubles, FloatArray, IntArray, Preset, Size
from otx_xai.runtime import Session

_CLASSES = {
    Preset.SPEED: (25, np.linspace(0.1, 0.25, 3)),
    Preset.BALANCE: (50, np.linspace(0.1, 0.25, 3)),
    Preset.QUALITY: (85, np.linspace(0.075, 0.25, 4)),
}
"""Iterations and kernel widths of the presets."""
_BOXES = {
    Preset.SPEED: (20, np.linspace(7, 1, 3)),
    Preset.BALANCE: (50, np.linspace(7, 1, 3)),
    Preset.QUALITY: (50, np.linspace(8, 1, 5)),
}
"""Iterations and divisors."""
_AROUND = 0.5
"""How far around a box kernels are tried, in sides of the box."""
_LEAST_CELLS = 32


@dataclass(frozen=True)
class AiseOptions:
    """Options of AISE; names, presets and their values are those of openvino_xai.

    Args:
        preset: decides what is ``None``.
        num_iterations_per_kernel: places tried with each kernel. Each takes two forward passes for a class, one for a
            box.
        kernel_widths: of classes: standard deviations of the kernels, as parts of the shorter side of the input.
        divisors: of boxes: by which the shorter side of the box is divided to give the standard deviations.
        solver_epsilon: of the search, see :class:`~otx_xai.perturb.direct.DirectSearch`; when ``None`` 0.1 for classes,
            0.05 for boxes.
        locally_biased: likewise.

    Raises:
        ConfigError: a value is out of range.
    """

    preset: Preset = Preset.BALANCE
    num_iterations_per_kernel: int | None = None
    kernel_widths: Sequence[float] | None = None
    divisors: Sequence[float] | None = None
    solver_epsilon: float | None = None
    locally_biased: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", Preset(self.preset))
        if self.num_iterations_per_kernel is not None and self.num_iterations_per_kernel < 1:
            raise ConfigError(f"num_iterations_per_kernel is {self.num_iterations_per_kernel}; expected 1 or more.")
        for name in ("kernel_widths", "divisors"):
            values = getattr(self, name)
            if values is not None and (not len(values) or min(values) <= 0):
                raise ConfigError(f"{name} is {list(values)}; expected at least one number, all above 0.")


@dataclass(frozen=True)
class _Kernel:
    """A search for one target with one width.

    Args:
        target: number of the target.
        width: standard deviation in pixels.
        search: over the centre ``(y, x)``, as parts of the input, 0 its first and 1 its last pixel.
    """

    target: int
    width: float
    search: DirectSearch


_Place = tuple[float, float, float, bool]
"""A masked image: centre and width of the kernel, and whether it is deleted rather than kept."""


def aise(
    scorer: Scorer,
    subject: Subject,
    targets: Sequence[int] | None = None,
    options: AiseOptions | None = None,
    watch: Watch | None = None,
) -> PerturbationMaps:
    """Explain class scores of one image by adaptive input sampling.

    A Gaussian window is moved over the image by a search for the place where the score is high if only the window
    is kept, and low if it is deleted. What deletion tells is how much the score drops; the score that is left, which
    openvino_xai subtracts, makes the weights of nearly all windows negative where the class is sure, and maps of noise.
    Places that several targets try are run once.

    Args:
        scorer: how the network scores an image: class scores ``(K,)``, probabilities.
        subject: the image.
        targets: class indices; all classes when ``None``.
        options: see :class:`AiseOptions`.
        watch: reports of progress, interruption.

    Returns:
        Maps of the targets, in their order. The standard error is not known.

    Raises:
        ConfigError: an option is out of range.
        ModelError: an inference failed.

    References:
        AISE, adaptive input sampling for explanation of black-box models: the method of openvino_xai; DIRECT:
        Jones, Perttunen and Stuckman 1993.
    """
    options = options or AiseOptions()
    iterations, widths = _CLASSES[options.preset]
    if options.kernel_widths is not None:
        widths = np.asarray(options.kernel_widths, float)

    def kernels(target: int) -> list[_Kernel]:
        bounds = np.array([[0.0, 0.0], [1.0, 1.0]])
        return [_kernel(target, width * min(subject.size), bounds, iterations, options, 0.1) for width in widths]

    return _explain(scorer, subject, targets, kernels, deletion=True, watch=watch)


def aise_boxes(
    session: Session,
    read: ReadProposals,
    subject: Subject,
    boxes: FloatArray,
    labels: IntArray,
    options: AiseOptions | None = None,
    watch: Watch | None = None,
) -> PerturbationMaps:
    """Explain boxes of one image by adaptive input sampling, each around itself; what is kept decides alone.

    Arguments and returns are those of :func:`~otx_xai.methods.drise.drise`, scores too; ``options`` those of
    :func:`aise`.
    """
    options = options or AiseOptions()
    if not len(boxes):
        raise ConfigError("There is no box to explain; expected at least one. Lower the confidence threshold.")
    iterations, divisors = _BOXES[options.preset]
    if options.divisors is not None:
        divisors = np.asarray(options.divisors, float)
    scorer = box_scorer(session, read, boxes, labels, subject)
    last = np.array([subject.size[1], subject.size[0]] * 2) - 1.0

    def kernels(target: int) -> list[_Kernel]:
        left, top, right, bottom = (float(side) for side in boxes[target])
        height, width = max(bottom - top, 1.0), max(right - left, 1.0)
        around = np.array(
            [left - _AROUND * width, top - _AROUND * height, right + _AROUND * width, bottom + _AROUND * height]
        )
        around = np.clip(around / last, 0, 1)
        bounds = np.array([around[1::-1], around[:1:-1]])
        return [
            _kernel(target, min(height, width) / divisor, bounds, iterations, options, 0.05) for divisor in divisors
        ]

    return _explain(scorer, subject, range(len(boxes)), kernels, deletion=False, watch=watch)


def _kernel(
    target: int, width: float, bounds: Doubles, iterations: int, options: AiseOptions, epsilon: float
) -> _Kernel:
    budget = options.num_iterations_per_kernel or iterations
    epsilon = epsilon if options.solver_epsilon is None else options.solver_epsilon
    search = DirectSearch(bounds[0], bounds[1], budget, epsilon, locally_biased=options.locally_biased)
    return _Kernel(target, float(width), search)


@one_thread_each()
def _explain(
    scorer: Scorer,
    subject: Subject,
    targets: Sequence[int] | None,
    kernels: Callable[[int], list[_Kernel]],
    *,
    deletion: bool,
    watch: Watch | None,
) -> PerturbationMaps:
    watch, start = watch or Watch(), time.monotonic()
    (plain,) = scores_of(scorer, [None], lambda _: subject.image)
    targets = chosen_targets(targets, len(plain))
    base = [_finite(score) for score in plain[list(targets)]]
    known: dict[_Place, Doubles] = {}
    running = [kernel for i in range(len(targets)) for kernel in kernels(i)]
    done: list[_Kernel] = []
    make = _masker(subject)
    signs = (False, True) if deletion else (False,)
    while running and not (watch.stop and watch.stop.is_set()):
        asked = [(kernel, kernel.search.ask()) for kernel in running]
        places = dict.fromkeys(
            (float(y), float(x), kernel.width, sign) for kernel, points in asked for y, x in points for sign in signs
        )
        new = [place for place in places if place not in known]
        results = list(scores_of(scorer, new, make, watch.stop))
        if len(results) < len(new):
            break
        known.update(zip(new, (scores[list(targets)] for scores in results), strict=True))
        running = []
        for kernel, points in asked:
            if not len(points):
                done.append(kernel)
                continue
            running.append(kernel)
            values = [
                sum(
                    base[kernel.target] - score if sign else score
                    for sign in signs
                    for score in [_finite(known[(float(y), float(x), kernel.width, sign)][kernel.target])]
                )
                for y, x in points
            ]
            kernel.search.tell(-np.array(values))
        if watch.report and running:
            watch.report(Progress(len(known), _total(running, known, signs), time.monotonic() - start))
    return _result(targets, plain[list(targets)], done + running, known, subject.size, interrupted=bool(running))


def _total(running: list[_Kernel], known: dict[_Place, Doubles], signs: tuple[bool, ...]) -> int:
    """Return the number of passes at most: what other targets have tried before comes free."""
    return len(known) + len(signs) * sum(kernel.search.left for kernel in running)


def _finite(score: float) -> float:
    return float(score) if math.isfinite(score) else 0.0


def _masker(subject: Subject) -> Callable[[_Place], NDArray[Any]]:
    masked = masking(subject)

    def make(place: _Place) -> NDArray[Any]:
        y, x, width, deleted = place
        rows, columns = (
            _window(np.arange(length), centre * (length - 1), width)
            for centre, length in zip((y, x), subject.size, strict=True)
        )
        # the pixel next to the centre is seen in full
        kept = np.outer(rows / rows.max(), columns / columns.max()).astype(np.float32)
        return masked(1 - kept if deleted else kept)

    return make


def _window(pixels: NDArray[Any], centre: float, width: float) -> Doubles:
    """Return a Gaussian along one axis; at its centre it is 1."""
    values: Doubles = np.exp(-((pixels - centre) ** 2) / (2 * width**2))
    return values


def _result(
    targets: tuple[int, ...],
    plain: Doubles,
    kernels: list[_Kernel],
    known: dict[_Place, Doubles],
    size: Size,
    *,
    interrupted: bool,
) -> PerturbationMaps:
    finest = min((kernel.width for kernel in kernels), default=1.0)
    shape = tuple(min(side, max(_LEAST_CELLS, math.ceil(2 * side / finest))) for side in size)
    maps = np.zeros((len(targets), *shape))
    for kernel in kernels:
        density = _density(kernel, size, (shape[0], shape[1]))
        peak = density.max()
        maps[kernel.target] += density / peak if peak > 0 else density
    scores = np.stack(list(known.values())) if known else np.zeros((0, len(targets)))
    broken = (~np.isfinite(scores)).sum(axis=0) + ~np.isfinite(plain)
    high = np.nan_to_num(scores, posinf=0, neginf=0).max(axis=0, initial=0)
    examined_maps, warnings = examined(maps.astype(np.float32), plain, high, broken, len(known))
    return PerturbationMaps(
        maps=examined_maps,
        targets=targets,
        scores=plain.astype(np.float32),
        passes=len(known),
        standard_error=np.full(len(targets), np.inf, np.float32),
        converged=not interrupted,
        warnings=warnings,
    )


def _density(kernel: _Kernel, size: Size, shape: Size) -> Doubles:
    """Sum the windows that were tried, weighted by what they scored, at the centres of the cells of a map."""
    rows, columns = (
        np.stack(
            [
                _window((np.arange(cells) + 0.5) * (length / cells) - 0.5, centre * (length - 1), kernel.width)
                for centre in centres
            ]
        )
        for centres, length, cells in zip(kernel.search.points.T, size, shape, strict=True)
    )
    weighted: Doubles = (rows * -kernel.search.values[:, None]).T @ columns
    return weighted


def _fits(_model: Model, _layers: Sequence[str]) -> Fit:
    return Fit(True, "it needs a model that can be run, and no place in its graph", automatic=False)


def _explain_classes(job: ClassJob, options: AiseOptions, watch: Watch | None) -> PerturbationMaps:
    return aise(job.scorer, job.subject, job.targets, options, watch)


def _explain_boxes(job: BoxJob, options: AiseOptions, watch: Watch | None) -> PerturbationMaps:
    return aise_boxes(job.session, job.read, job.subject, job.boxes, job.labels, options, watch)


SPEC = MethodSpec(
    "aise",
    "AISE: a few Gaussians, placed where they keep the score; any classifier or detector",
    CLASSIFIERS | BOX_FINDERS,
    _fits,
    options=AiseOptions,
    explain_classes=_explain_classes,
    explain_boxes=_explain_boxes,
)
