"""From the scores of masked images to maps: the mean of the masks as published, and a regression that needs far fewer.

Both take blocks of masks and keep sums only, so that memory does not grow with the number of masks; both are sums in
``float64`` in the order of the masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from otx_xai.perturb.basis import Basis, boxes, cosines, waves
from otx_xai.records import Doubles, FloatArray, Size

RATIOS = np.geomspace(1e-4, 1e2, 25)
"""Noise over signal: the evidence decides between them."""
_LEAST_POWER = 1e-3
"""Cosines whose power in the prior is below this part of that of the constant are left out."""
_LEAST_BLOCKS = 4
"""Blocks from which their scatter tells an error."""


@dataclass(frozen=True)
class Estimate:
    """Maps and how sure they are.

    Args:
        maps: ``float32`` ``(T, h, w)``, unscaled.
        standard_error: ``float32`` ``(T,)``: root mean square over the map of its standard error, as a part of the
            map's range; infinite where it is not known yet, or where the map is constant.
    """

    maps: FloatArray
    standard_error: FloatArray


class Estimator(Protocol):
    """Sums over masks that give maps at any time."""

    @property
    def basis(self) -> Basis:
        """What it wants to know of each mask."""

    def add(self, projected: Doubles, scores: Doubles) -> None:
        """Take a block of masks in: their projections ``(B, y, x)`` on the basis, and scores ``(B, T)``."""

    def estimate(self) -> Estimate:
        """Return the maps of what was taken in so far."""


class Mean:
    """RISE as published (arXiv 1806.07421, equation 6): the mean of the masks, weighted by scores, over ``prob``.

    Maps have four values a cell along each axis. The standard error comes from the scatter of the blocks.
    """

    def __init__(self, size: Size, cells: Size, prob: float, targets: int) -> None:
        self._shape = min(size[0], 4 * cells[0]), min(size[1], 4 * cells[1])
        self._prob = prob
        self._blocks: list[int] = []
        self._sum = np.zeros((targets, *self._shape))
        self._squares = np.zeros(targets)
        self._block = np.empty((targets, self._shape[0] * self._shape[1]))
        self._basis = boxes(size, self._shape)

    @property
    def basis(self) -> Basis:
        """Averages over the places of the map."""
        return self._basis

    def add(self, projected: Doubles, scores: Doubles) -> None:
        """Take a block of masks in."""
        masks = projected.reshape(len(scores), -1)
        # in place: maps of a thousand classes are large, and new memory costs more than sums
        self._sum += np.matmul(scores.T, masks, out=self._block).reshape(self._sum.shape)
        # the mean square of the block's maps, out of the products of its masks: without a look at any map
        self._squares += ((masks @ masks.T @ scores) * scores).sum(axis=0) / masks.shape[1] / len(scores)
        self._blocks.append(len(scores))

    def estimate(self) -> Estimate:
        """Return the maps of what was taken in so far."""
        count, blocks = sum(self._blocks), len(self._blocks)
        maps = self._sum / max(count, 1)
        error = np.full(len(maps), np.inf)
        if blocks >= _LEAST_BLOCKS:
            variance = np.clip(self._squares / count - (maps**2).mean(axis=(1, 2)), 0, None)
            error = np.sqrt(variance / (blocks - 1))
        return Estimate((maps / self._prob).astype(np.float32), relative_error(error, maps))


class Regression:
    """What each place adds to the score, by regression of scores on masks, with a prior that maps are smooth.

    The square root of the score of a mask is modelled as ``constant + mean(mask · map) + noise``, the map as a Gaussian
    process with a squared exponential covariance (a Bayesian ridge regression on its cosines, Rasmussen and Williams
    2006, chapter 2).
    How strong the noise is, and of several lengths the best one, is chosen for every target by the marginal likelihood.
    Against the mean of the masks this takes away the noise that comes from the other places of a mask, by far the most
    of it. The root makes the noise of probabilities alike from 0 to 1. The standard error is that of the posterior.

    Args:
        size: ``(height, width)`` of the masks.
        targets: number of targets.
        lengths: over which a map may vary, as parts of the shorter side; at least one.
    """

    def __init__(self, size: Size, targets: int, lengths: Sequence[float]) -> None:
        self._lengths = tuple(lengths)
        self._sides = size[0] / min(size), size[1] / min(size)
        reach = math.sqrt(-2 * math.log(_LEAST_POWER)) / math.pi / min(lengths)
        self._modes = tuple(
            min(length, 1 + math.floor(reach * side)) for length, side in zip(size, self._sides, strict=True)
        )
        self._shape = tuple(min(length, 2 * number) for length, number in zip(size, self._modes, strict=True))
        self._basis = cosines(size, (self._modes[0], self._modes[1]))
        number = self._modes[0] * self._modes[1]
        self._count = 0
        self._x, self._y = np.zeros(number), np.zeros(targets)
        self._xx, self._xy, self._yy = np.zeros((number, number)), np.zeros((number, targets)), np.zeros(targets)

    @property
    def basis(self) -> Basis:
        """Cosines."""
        return self._basis

    def add(self, projected: Doubles, scores: Doubles) -> None:
        """Take a block of masks in."""
        x = projected.reshape(len(scores), -1)
        scores = np.sign(scores) * np.sqrt(np.abs(scores))
        self._count += len(scores)
        self._x += x.sum(axis=0)
        self._y += scores.sum(axis=0)
        self._xx += x.T @ x
        self._xy += x.T @ scores
        self._yy += (scores**2).sum(axis=0)

    def estimate(self) -> Estimate:
        """Return the maps of what was taken in so far."""
        count, targets = self._count, len(self._y)
        coefficients, variance = np.zeros((len(self._x), targets)), np.full(targets, np.inf)
        if count < 2:
            return self._maps(coefficients, variance)
        xx = self._xx - np.outer(self._x, self._x) / count
        xy = self._xy - np.outer(self._x, self._y) / count
        yy = self._yy - self._y**2 / count
        varies = yy > 1e-12 * self._yy
        best = np.full(targets, np.inf)
        for length in self._lengths:
            power = self._power(length)
            used = power > _LEAST_POWER
            fit = _fit(xx[np.ix_(used, used)], xy[used][:, varies], yy[varies], count, np.sqrt(power[used]))
            better = np.flatnonzero(varies)[fit.surprise < best[varies]]
            chosen = fit.surprise < best[varies]
            best[better] = fit.surprise[chosen]
            coefficients[:, better] = 0
            coefficients[np.ix_(used, better)] = fit.coefficients[:, chosen]
            variance[better] = fit.variance[chosen]
        return self._maps(coefficients, variance)

    def _power(self, length: float) -> Doubles:
        """Return the power of every cosine in the prior: the spectrum of a squared exponential covariance."""
        y, x = (np.arange(number) / side for number, side in zip(self._modes, self._sides, strict=True))
        return np.exp(-((y[:, None] ** 2 + x**2) * (math.pi * length) ** 2) / 2).reshape(-1)

    def _maps(self, coefficients: Doubles, variance: Doubles) -> Estimate:
        waves_y, waves_x = (waves(length, number) for length, number in zip(self._shape, self._modes, strict=True))
        maps = waves_y.T @ coefficients.T.reshape(-1, *self._modes) @ waves_x
        return Estimate(maps.astype(np.float32), relative_error(np.sqrt(variance), maps))


@dataclass(frozen=True)
class _Fit:
    """A regression with one length of the prior, for each target with the noise that explains it best.

    Args:
        coefficients: of the cosines, ``(D, T)``.
        variance: mean over the map of its variance, ``(T,)``, without that of the constant.
        surprise: minus twice the logarithm of the marginal likelihood, ``(T,)``, up to a constant.
    """

    coefficients: Doubles
    variance: Doubles
    surprise: Doubles


def _fit(xx: Doubles, xy: Doubles, yy: Doubles, count: int, weights: Doubles) -> _Fit:
    """Fit ``y = x · (weights · θ) + noise`` with independent normal ``θ`` of unknown variance."""
    gram = xx * np.outer(weights, weights)
    scale = max(np.trace(gram) / count, np.finfo(float).tiny)
    eigenvalues, vectors = np.linalg.eigh(gram / scale)
    eigenvalues = np.clip(eigenvalues, 0, None)
    loads = vectors.T @ (weights[:, None] * xy) / math.sqrt(scale)
    # (R, T): the mean square that the prior expects of θ, and with it the surprise, for every ratio
    damped = 1 / (eigenvalues + RATIOS[:, None])
    expected = np.clip(yy - damped @ loads**2, 1e-12 * yy, None) / RATIOS[:, None] / count
    volume = np.log1p(eigenvalues / RATIOS[:, None]).sum(axis=1) + count * np.log(RATIOS)
    surprise = count * np.log(expected) + volume[:, None]
    best = surprise.argmin(axis=0)
    columns = np.arange(len(yy))
    coefficients = weights[:, None] * (vectors @ (loads * damped[best].T)) / math.sqrt(scale)
    spread = (vectors**2 * weights[:, None] ** 2)[1:].sum(axis=0)  # the first cosine is constant
    variance = expected[best, columns] * RATIOS[best] * (damped[best] @ spread) / scale
    return _Fit(coefficients, variance, surprise[best, columns])


def relative_error(error: Doubles, maps: Doubles) -> FloatArray:
    """Return errors as parts of the ranges of their maps, infinite where a map is constant."""
    ranges = maps.max(axis=(1, 2)) - maps.min(axis=(1, 2))
    result: FloatArray = np.divide(error, ranges, out=np.full(len(maps), np.inf), where=ranges > 0).astype(np.float32)
    return result
