"""RISE: which parts of an image raise the scores of its classes, or of any other targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from otx_xai.errors import ConfigError
from otx_xai.perturb.engine import PerturbationMaps, Scorer, Watch, estimate_maps
from otx_xai.perturb.estimates import Estimator, Mean, Regression
from otx_xai.perturb.masks import CellMasks
from otx_xai.perturb.subject import Subject
from otx_xai.records import Preset, Size

Sampling = Literal["paired", "independent"]
Estimation = Literal["regression", "mean"]

_NUM_MASKS = {Preset.SPEED: 60, Preset.BALANCE: 250, Preset.QUALITY: 500}
_PUBLISHED_NUM_MASKS = {Preset.SPEED: 1000, Preset.BALANCE: 5000, Preset.QUALITY: 10000}


_LENGTHS = (0.18,)
"""Parts of the shorter side over which maps of classes vary."""


@dataclass(frozen=True)
class RiseOptions:
    """Options of RISE and D-RISE.

    The defaults give better maps from 500 masks than the published algorithm from 5000. That one is
    ``RiseOptions(num_masks=5000, sampling="independent", estimator="mean")``.

    Args:
        preset: decides ``num_masks`` where that is ``None``: 60, 250 or 500; with ``estimator="mean"`` 1000, 5000 or
            10000.
        num_masks: forward passes at most.
        num_cells: cells along the shorter side of the input, those along the longer one are as large; or rows and
            columns. By default 5 for classes and 10 for boxes; with ``estimator="mean"`` 8
            and 16 as published.
        prob: probability of a cell to be seen, in (0, 1). Paired masks have ``prob`` and ``1 - prob`` by turns.
        seed: of the masks; the same seed gives the same maps, whatever the batch and the number of streams.
        sampling: ``paired`` masks, each followed by its complement, or ``independent`` ones as published.
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
    sampling: Sampling = "paired"
    estimator: Estimation = "regression"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", Preset(self.preset))
        if self.num_masks is not None and not (isinstance(self.num_masks, int | np.integer) and self.num_masks >= 2):
            raise ConfigError(f"num_masks is {self.num_masks!r}; expected a whole number from 2 on.")
        if self.sampling not in ("paired", "independent"):
            raise ConfigError(f"sampling is {self.sampling!r}; expected 'paired' or 'independent'.")
        if self.estimator not in ("regression", "mean"):
            raise ConfigError(f"estimator is {self.estimator!r}; expected 'regression' or 'mean'.")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ConfigError(f"tolerance is {self.tolerance}; expected a part of the map's range, such as 0.05.")

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
    options = options or RiseOptions()
    num_cells = 8 if options.estimator == "mean" else 5
    return explain(scorer, subject, targets, options, num_cells=num_cells, lengths=_LENGTHS, watch=watch)


def explain(
    scorer: Scorer,
    subject: Subject,
    targets: Sequence[int] | None,
    options: RiseOptions,
    *,
    num_cells: int,
    lengths: Sequence[float],
    watch: Watch | None,
) -> PerturbationMaps:
    """Run RISE with any scores; ``num_cells`` where the options leave it open."""
    cells = _cells(subject.size, num_cells if options.num_cells is None else options.num_cells)
    masks = CellMasks(subject.size, cells, options.prob, options.seed, paired=options.sampling == "paired")

    def sums(count: int) -> Estimator:
        if options.estimator == "mean":
            return Mean(subject.size, cells, _seen(options), count)
        return Regression(subject.size, count, lengths)

    return estimate_maps(
        scorer, subject, masks, options.passes, sums, targets=targets, tolerance=options.tolerance, watch=watch
    )


def _seen(options: RiseOptions) -> float:
    """Return the mean probability of a cell to be seen."""
    return 0.5 if options.sampling == "paired" else options.prob


def _cells(size: Size, num_cells: int | Size) -> Size:
    """Return rows and columns of nearly square cells."""
    if not isinstance(num_cells, int):
        return num_cells
    short = min(size)
    return (
        max(num_cells, round(num_cells * size[0] / short)),
        max(num_cells, round(num_cells * size[1] / short)),
    )
