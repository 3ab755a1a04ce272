"""Guided D-RISE: D-RISE of few masks, with the gradients of each box as its prior.

A combination of ours. D-RISE is a regression of how well a box is found again on the masks that hid parts of the image;
60 masks leave open which part it was. The map that ODAM gives of the box says where to look: ``unit(odam) + ε``, with
``unit`` scaling to [0, 1] and ``ε`` 0.05, is the standard deviation that the prior gives each place
(:mod:`otx_xai.perturb.guided_regression`). The map is the geometric mean of what is found and of ODAM's,
``√((unit(regression) + ε) · (unit(odam) + ε))``. See ``docs/how-to/choose-a-method.md`` for what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from otx_xai.errors import ConfigError
from otx_xai.methods import odam
from otx_xai.methods.drise import drise
from otx_xai.methods.guidedrise import guided
from otx_xai.methods.rise import RiseOptions
from otx_xai.methods.spec import BOX_FINDERS, BoxJob, MethodSpec
from otx_xai.perturb import PerturbationMaps, Watch
from otx_xai.postprocess import min_max, to_image
from otx_xai.records import FloatArray, InputGeometry, Preset, Size

NUM_MASKS = 60

_MOST = 1000
"""Masks at most: the prior matters less and less, and the time that it takes grows with their cube."""

_EPSILON = 0.05
_PLACES = 44
"""Places of a map along the longer side of the input."""


@dataclass(frozen=True)
class GuidedDriseOptions:
    """Options of guided D-RISE; see :class:`~otx_xai.methods.rise.RiseOptions`.

    Args:
        num_masks: forward passes at most, 2 to 1000.
        seed: of the masks.
        tolerance: end as soon as the standard error of every map is at most this part of its range.

    Raises:
        ConfigError: a value is out of range.
    """

    num_masks: int = NUM_MASKS
    seed: int = 0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.of_rise().passes > _MOST:
            raise ConfigError(
                f"num_masks is {self.num_masks}; expected at most {_MOST}. Of more masks drise needs no guide."
            )

    def of_rise(self) -> RiseOptions:
        """Return the same as options of D-RISE."""
        return RiseOptions(num_masks=self.num_masks, seed=self.seed, tolerance=self.tolerance)


def priors_of(guides: FloatArray, size: Size) -> FloatArray:
    """Return how much each place may matter, ``float32`` ``(T, h, w)`` in [0.05, 1.05].

    Args:
        guides: maps of boxes, ``float32`` ``(T, h', w')``, not negative, over the whole of the network's input.
        size: ``(height, width)`` of this input.
    """
    rows, columns = (min(side, max(1, round(_PLACES * side / max(size)))) for side in size)
    priors: FloatArray = min_max(to_image(guides, (rows, columns), InputGeometry(size))) + np.float32(_EPSILON)
    return priors


def _explain_boxes(job: BoxJob, options: GuidedDriseOptions, watch: Watch | None) -> PerturbationMaps:
    priors = None if job.guides is None else priors_of(job.guides, job.subject.size)
    parts = (job.session, job.read, job.subject, job.boxes, job.labels, options.of_rise(), watch)
    found = drise(*parts, priors=priors)
    lit = [False] * len(job.boxes) if priors is None else [bool(np.ptp(prior)) for prior in priors]
    maps, warnings = found.maps.copy(), [list(own) for own in found.warnings]
    for i, one in enumerate(lit):
        if priors is not None and one:
            maps[i] = guided(maps[i : i + 1], priors[i : i + 1])[0]
        else:
            warnings[i].append(
                "gradients say nothing of this box, so that its map is that of D-RISE alone, of few masks"
            )
    return replace(found, maps=maps, warnings=tuple(map(tuple, warnings)))


SPEC = MethodSpec(
    "guideddrise",
    "guided D-RISE: how well boxes are found again in 60 masked images, guided by ODAM; detectors that it fits",
    BOX_FINDERS,
    odam.SPEC.fits,
    options=GuidedDriseOptions,
    explain_boxes=_explain_boxes,
    guide_boxes=odam.SPEC.second_pass,
    presets=frozenset({Preset.QUALITY}),
)
