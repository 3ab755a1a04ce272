"""The regression of scores on masks with a prior that says where a map is strong, of few masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from otx_xai.perturb.basis import Basis, boxes
from otx_xai.perturb.estimates import RATIOS, Estimate, relative_error
from otx_xai.records import Doubles, FloatArray, Size


class GuidedRegression:
    """What each place adds to the score, by regression, where something else has said which places may matter.

    As in :class:`~otx_xai.perturb.estimates.Regression`, the square root of the score of a mask is modelled as
    ``constant + mean(mask · map) + noise`` with a Gaussian process as the map, and length and noise have the largest
    marginal likelihood. Here the process has the covariance ``s(p) s(q) exp(-|p - q|² / 2l²)``: the prior ``s`` is the
    standard deviation of what a place may add. It is solved by masks rather than by cosines, as each target has a prior
    of its own; time grows with the cube of their number.

    Args:
        size: ``(height, width)`` of the masks.
        priors: ``float32`` ``(T, h, w)``, positive, over the whole of the masks; maps have this resolution.
        lengths: over which a map may vary, as parts of the shorter side; at least one.
    """

    def __init__(self, size: Size, priors: FloatArray, lengths: Sequence[float]) -> None:
        self._priors = priors.astype(np.float64)
        self._shape = (priors.shape[1], priors.shape[2])
        self._basis = boxes(size, self._shape)
        sides = size[0] / min(size), size[1] / min(size)
        self._kernels = [
            tuple(_kernel(number, side, length) for number, side in zip(self._shape, sides, strict=True))
            for length in lengths
        ]
        self._masks: list[Doubles] = []
        self._roots: list[Doubles] = []

    @property
    def basis(self) -> Basis:
        """Averages over the places of the map."""
        return self._basis

    def add(self, projected: Doubles, scores: Doubles) -> None:
        """Take a block of masks in."""
        self._masks.append(projected)
        self._roots.append(np.sign(scores) * np.sqrt(np.abs(scores)))

    def estimate(self) -> Estimate:
        """Return the maps of what was taken in so far."""
        targets = len(self._priors)
        maps, variance = np.zeros((targets, *self._shape)), np.full(targets, np.inf)
        if sum(map(len, self._masks)) >= 2:
            masks, roots = np.concatenate(self._masks), np.concatenate(self._roots)
            masks = (masks - masks.mean(axis=0)) / math.prod(self._shape)
            for i, prior in enumerate(self._priors):
                spread = roots[:, i] - roots[:, i].mean()
                if (spread**2).sum() > 1e-12 * (roots[:, i] ** 2).sum():
                    fits = (_fit(masks, spread, prior, *kernel) for kernel in self._kernels)
                    _, maps[i], variance[i] = min(fits, key=lambda fit: fit[0])
        return Estimate(maps.astype(np.float32), relative_error(np.sqrt(variance), maps))


def _kernel(number: int, side: float, length: float) -> Doubles:
    """Return the covariance along one axis, ``(number, number)``."""
    places = np.arange(number) * (side / number)
    return np.exp(-(((places[:, None] - places) / length) ** 2) / 2)


def _fit(
    masks: Doubles, roots: Doubles, prior: Doubles, rows: Doubles, columns: Doubles
) -> tuple[float, Doubles, float]:
    """Fit one target with one length.

    Returns:
        Minus twice the logarithm of the marginal likelihood, up to a constant; the map ``(h, w)``; and the mean over it
        of its variance.
    """
    count = len(roots)
    reached = rows @ (masks * prior) @ columns * prior  # of each mask, its covariance with each place
    gram = reached.reshape(count, -1) @ masks.reshape(count, -1).T
    scale = max(float(np.trace(gram)) / count, np.finfo(float).tiny)
    eigenvalues, vectors = np.linalg.eigh((gram + gram.T) / (2 * scale))
    damped = np.clip(eigenvalues, 0, None) + RATIOS[:, None]
    loads = vectors.T @ roots
    expected = np.clip((loads**2 / damped).sum(axis=1) / count, np.finfo(float).tiny, None)
    surprise = count * np.log(expected) + np.log(damped).sum(axis=1)
    best = int(surprise.argmin())
    turned = vectors.T @ reached.reshape(count, -1) / scale
    values = (loads / damped[best]) @ turned
    variance = expected[best] * ((prior**2).mean() / scale - ((turned**2).mean(axis=1) / damped[best]).sum())
    return float(surprise[best]), values.reshape(prior.shape), max(float(variance), 0.0)
