"""RISE: which parts of an image raise the scores of its classes, or of any other targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from otx_xai.errors import ConfigError
from otx_xai.methods.spec import CLASSIFIERS, ClassJob, MethodSpec, any_model
from otx_xai.perturb.estimates import Estimator, Mean, Regression
from otx_xai.perturb.guided_regression import GuidedRegression
from otx_xai.perturb.masks import CellMasks, Masks, OrthogonalMasks, hadamard_order
from otx_xai.perturb.passes import PerturbationMaps, Scorer, Watch, estimate_maps
from otx_xai.perturb.subject import Subject
from otx_xai.records import FloatArray, Preset, Size

Sampling = Literal["orthogonal", "independent"]
Estimation = Literal["regression", "mean"]

_NUM_MASKS = {Preset.SPEED: 60, Preset.BALANCE: 250, Preset.QUALITY: 500}
_PUBLISHED_NUM_MASKS = {Preset.SPEED: 1000, Preset.BALANCE: 5000, Preset.QUALITY: 10000}


@dataclass(frozen=True)
class Defaults:
    """What is good for a kind of targets.

    Args:
        most: cells of orthogonal masks at most, one less than a power of two.
        published: cells of independent masks along the shorter side.
        lengths: parts of the shorter side over which maps vary; the scores choose between several.
    """

    most: int
    published: int
    lengths: tuple[float, ...]


_CLASSES = Defaults(most=31, published=8, lengths=(0.18,))


@dataclass(frozen=True)
class RiseOptions:
    """Options of RISE and D-RISE.

    The defaults give as good maps of classes from 250 masks as the published algorithm from 5000. That one is
    ``RiseOptions(num_masks=5000, sampling="independent", estimator="mean")``.

    Args:
        preset: decides ``num_masks`` where that is ``None``: 60, 250 or 500; with ``estimator="mean"`` 1000, 5000 or
            10000.
        num_masks: forward passes at most.
        num_cells: cells along the shorter side of the input, those along the longer one are as large; or rows and
            columns. By default as many as a whole block of orthogonal masks tells apart: 31 in all for classes and 127
            for boxes, fewer with few masks; of independent ones 8 and 16 along the shorter side, as published.
        prob: probability of a cell to be seen, in (0, 1).
        seed: of the masks; the same seed gives the same maps, whatever the batch and the number of streams.
        sampling: ``orthogonal`` masks, see :class:`~otx_xai.perturb.masks.OrthogonalMasks`, whose ``prob`` is 0.5, or
            ``independent`` ones as published; by default the former where ``prob`` allows it.
        estimator: ``regression`` of the scores on the masks, or the ``mean`` of the masks as published; see
            :mod:`otx_xai.perturb.estimates`.
        tolerance: end as soon as the standard error of every map is at most this part of its range; ``None``: never.

    Raises:
        ConfigError: a value is out of range.
    """

    preset: Preset = Preset.BALANCE
    num_masks: int | None = None
    num_cells: int | Size | None = None
    prob: float = 0.5
    seed: int = 0
    sampling: Sampling | None = None
    estimator: Estimation = "regression"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", Preset(self.preset))
        if self.num_masks is not None and not (isinstance(self.num_masks, int | np.integer) and self.num_masks >= 2):
            raise ConfigError(f"num_masks is {self.num_masks!r}; expected a whole number from 2 on.")
        if self.num_cells is not None and not isinstance(self.num_cells, int):
            object.__setattr__(self, "num_cells", _rows_and_columns(self.num_cells))
        if self.sampling not in (None, "orthogonal", "independent"):
            raise ConfigError(f"sampling is {self.sampling!r}; expected 'orthogonal' or 'independent'.")
        if self.sampling == "orthogonal" and self.prob != 0.5:
            raise ConfigError(
                f"prob is {self.prob}; orthogonal masks have 0.5. Pass sampling='independent' with another."
            )
        if self.estimator not in ("regression", "mean"):
            raise ConfigError(f"estimator is {self.estimator!r}; expected 'regression' or 'mean'.")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ConfigError(f"tolerance is {self.tolerance}; expected a part of the map's range, such as 0.05.")

    @property
    def is_orthogonal(self) -> bool:
        """Whether masks are orthogonal."""
        return self.prob == 0.5 if self.sampling is None else self.sampling == "orthogonal"

    @property
    def passes(self) -> int:
        """Number of masks at most."""
        default = _PUBLISHED_NUM_MASKS if self.estimator == "mean" else _NUM_MASKS
        return default[self.preset] if self.num_masks is None else self.num_masks


def rise(
    scorer: Scorer,
    subject: Subject,
    targets: Sequence[int] | None = None,
    options: RiseOptions | None = None,
    watch: Watch | None = None,
) -> PerturbationMaps:
    """Explain the class scores of one image, all from the same forward passes.

    Args:
        scorer: how the network scores an image: class scores ``(K,)``, probabilities.
        subject: the image.
        targets: class indices; all classes when ``None``.
        options: see :class:`RiseOptions`.
        watch: reports of progress, interruption.

    Returns:
        Maps of the targets, in their order. With the regression, the mean of a map over what is seen adds up to the
        square root of the score, but for a constant; with the mean, a value is the expected score where this place is
        seen.

    Raises:
        ConfigError: an option is out of range, or a target is no class.
        ModelError: an inference failed.

    References:
        RISE: https://arxiv.org/abs/1806.07421.
    """
    return explain(scorer, subject, targets, options or RiseOptions(), _CLASSES, watch)


def explain(
    scorer: Scorer,
    subject: Subject,
    targets: Sequence[int] | None,
    options: RiseOptions,
    defaults: Defaults,
    watch: Watch | None,
    priors: FloatArray | None = None,
) -> PerturbationMaps:
    """Run RISE with any scores, guided where there are priors, one a target: ``(T, h, w)``, positive."""
    masks, cells = _masks(subject.size, options, defaults)

    def sums(count: int) -> Estimator:
        if priors is not None:
            return GuidedRegression(subject.size, priors, defaults.lengths)
        if options.estimator == "mean":
            return Mean(subject.size, cells, options.prob, count)
        return Regression(subject.size, count, defaults.lengths)

    return estimate_maps(
        scorer, subject, masks, options.passes, sums, targets=targets, tolerance=options.tolerance, watch=watch
    )


def _rows_and_columns(num_cells: Any) -> Size:
    cells = tuple(num_cells) if isinstance(num_cells, Sequence) else ()
    if len(cells) != 2 or not all(isinstance(count, int) for count in cells):
        raise ConfigError(f"num_cells is {num_cells!r}; expected a whole number, or rows and columns.")
    return cells[0], cells[1]


def _masks(size: Size, options: RiseOptions, defaults: Defaults) -> tuple[Masks, Size]:
    """Return the masks, and rows and columns of their grids."""
    wanted = options.num_cells
    if wanted is None and options.is_orthogonal:
        cells = _fitting(size, options.passes, defaults.most)
    elif wanted is None or isinstance(wanted, int):
        cells = _nearly_square(size, defaults.published if wanted is None else wanted)
    else:
        cells = wanted
    if options.is_orthogonal:
        return OrthogonalMasks(size, cells, options.seed), cells
    return CellMasks(size, cells, options.prob, options.seed), cells


def _fitting(size: Size, passes: int, most: int) -> Size:
    """Return rows and columns of as many nearly square cells as a block of about ``passes`` masks tells apart."""
    while most > 1 and 2 * (hadamard_order(most) - 1) > passes + 4:
        most //= 2
    rows, columns = (math.floor(math.sqrt(most * side / other)) for side, other in (size, size[::-1]))
    return min(max(rows, 1), most, size[0]), min(max(columns, 1), most, size[1])


def _nearly_square(size: Size, num_cells: int) -> Size:
    """Return rows and columns of nearly square cells, ``num_cells`` along the shorter side."""
    short = min(size)
    return max(num_cells, round(num_cells * size[0] / short)), max(num_cells, round(num_cells * size[1] / short))


def _explain_classes(job: ClassJob, options: RiseOptions, watch: Watch | None) -> PerturbationMaps:
    return rise(job.scorer, job.subject, job.targets, options, watch)


SPEC = MethodSpec(
    "rise",
    "RISE: class scores of masked images; any classifier",
    CLASSIFIERS,
    any_model,
    options=RiseOptions,
    explain_classes=_explain_classes,
)
