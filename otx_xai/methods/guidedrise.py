"""Guided RISE: RISE of few masks, sharpened by gradients.

A combination of ours: the geometric mean of the map that RISE regresses from some 60 masked images and of the fine map
of Multi-stride CAM, ``√((unit(rise) + ε) · (unit(fine) + ε))``, where ``unit`` scales a map to [0, 1] and ``ε`` is
0.05. RISE knows what the score loses without a part of the image, but 60 masks tell only large parts apart; gradients
know where in such a part the features are. See ``docs/how-to/choose-a-method.md`` for what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otx_xai.graph.features import Anatomy, Features
from otx_xai.methods.gradient_branch import LayerMaps, fit_of_gradients, insert_gradient_branch
from otx_xai.methods.multistridecam import EPSILON, fine_maps, two_layers
from otx_xai.methods.rise import RiseOptions, rise
from otx_xai.methods.spec import CLASSIFIERS, Branch, ClassJob, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.perturb import PerturbationMaps, Watch
from otx_xai.postprocess import min_max, to_image
from otx_xai.records import FloatArray, InputGeometry, Preset

NUM_MASKS = 60

_CELL = 4
"""Pixels a side of one place of the maps."""


@dataclass(frozen=True)
class GuidedRiseOptions:
    """Options of guided RISE; see :class:`~otx_xai.methods.rise.RiseOptions`.

    Args:
        num_masks: forward passes at most.
        seed: of the masks.
        tolerance: end as soon as the standard error of every map of RISE is at most this part of its range.

    Raises:
        ConfigError: a value is out of range.
    """

    num_masks: int = NUM_MASKS
    seed: int = 0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        self.of_rise()

    def of_rise(self) -> RiseOptions:
        """Return the same as options of RISE."""
        return RiseOptions(num_masks=self.num_masks, seed=self.seed, tolerance=self.tolerance)


def guided(maps: FloatArray, guides: FloatArray) -> FloatArray:
    """Return the geometric mean of maps and of what guides them, ``float32`` of their shape ``(T, h, w)``.

    A map that is constant stays so: where hiding parts changes nothing, gradients explain nothing.
    """
    mean: FloatArray = np.sqrt((min_max(maps) + EPSILON) * (min_max(guides) + EPSILON)).astype(np.float32)
    flat = np.ptp(maps, axis=(1, 2)) == 0
    mean[flat] = 0
    return mean


def _explain_classes(job: ClassJob, options: GuidedRiseOptions, watch: Watch | None) -> PerturbationMaps:
    found = rise(job.scorer, job.subject, job.targets, options.of_rise(), watch)
    size = job.subject.size
    shape = max(1, size[0] // _CELL), max(1, size[1] // _CELL)
    maps = to_image(found.maps, shape, InputGeometry(size))
    warnings = [list(own) for own in found.warnings]
    for i, target in enumerate(found.targets):
        guide = job.guide.get(target)
        if guide is None:
            warnings[i].append("the graph gives no gradients of this class, so that its map is that of RISE alone")
            continue
        placed = to_image(guide[None], shape, InputGeometry(size), grid=job.grid)
        maps[i] = guided(maps[i : i + 1], placed)[0]
    return replace(found, maps=maps, warnings=tuple(map(tuple, warnings)))


def _layers(anatomy: Anatomy, _names: Sequence[str]) -> Sequence[Features]:
    return two_layers(anatomy, ())[:1]


_MAPS = LayerMaps("guidedrise", lambda site, slopes: fine_maps(site, slopes[0]), _layers)


def _fits(model: Model, _layers: Sequence[str]) -> Fit:
    return fit_of_gradients(model, (), _MAPS)


def _guide(model: Model, order: Order) -> Branch:
    return insert_gradient_branch(model, replace(order, embed_scaling=False, scores=False), _MAPS)


SPEC = MethodSpec(
    _MAPS.name,
    "guided RISE: class scores of 60 masked images, sharpened by gradients; networks of several stages",
    CLASSIFIERS,
    _fits,
    options=GuidedRiseOptions,
    explain_classes=_explain_classes,
    each_class_costs=True,
    guide=_guide,
    presets=frozenset({Preset.QUALITY}),
)
