"""Where the backbone of a detector ends at each resolution: the tensors whose gradients tell where a box was seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import openvino as ov

from otx_xai.graph.features import Features, as_features
from otx_xai.graph.labels import Labels
from otx_xai.graph.traits import LAYERS
from otx_xai.graph.view import Port, View, kind, port_of

_FINEST, _COARSEST = 3, 48
"""Pixels from one place to the next that a stage has: stages of strides 4, 8, 16 and 32, and of windows of 14."""

_SAME = 1.01
"""How far the distances of places of one stage may differ, by rounding."""

_FINER = 2.5
"""How much finer than the finest level of a detector a stage may be: by one stage, that is by 2, and rounding."""

_COARSER = 1.5
"""How many times the distance of places grows at least from one stage to the next."""


@dataclass(frozen=True)
class _Stage:
    """A tensor with places.

    Args:
        features: the tensor.
        step: pixels of the input from one of its places to the next.
        is_first_time: it has never been enlarged: it lies in the backbone, or hangs on it sideways.
    """

    features: Features
    step: float
    is_first_time: bool


def stage_ends(
    view: View, labels: Mapping[Port, Labels], size: tuple[int, int], ends: Sequence[ov.Output]
) -> list[Features]:
    """Return, from the finest on, the last tensor of each stage of the backbone of a detector.

    A stage is what has one resolution. Its end is the last tensor that has never been enlarged and that a coarser stage
    is computed from, if possible by every path; of the coarsest stage the last one that is enlarged later on, or that
    all that is made of it depends on. Stages count from one finer than the finest level that the detector scores, up to
    steps of 48 pixels; or the coarsest without any of these.

    Args:
        view: the detector, static.
        labels: meaning of its axes.
        size: height and width of its input.
        ends: the outputs that hold its scores.
    """
    stages = list(_stages(view, labels, size, ends))
    backbone = [stage for stage in stages if stage.is_first_time]
    found: dict[int, Features] = {}
    for step in sorted({stage.step for stage in backbone}):
        own = [stage.features for stage in backbone if stage.step == step]
        coarser = [stage.features.output for stage in backbone if stage.step >= _COARSER * step]
        enlarged = [stage.features.output for stage in stages if not stage.is_first_time]
        last = _last_cut(view, own, coarser[-1:]) or _last(view, own, coarser) or _last(view, own, enlarged)
        last = last or _last_cut(view, own, ends, start=own[0].output)
        if last is not None:
            found[round(step)] = last
    finest = max(_FINEST, _finest_level(view, stages, ends) / _FINER)
    usual = [features for step, features in found.items() if finest <= step <= _COARSEST]
    return usual or list(found.values())[-1:]


def _finest_level(view: View, stages: Sequence[_Stage], ends: Sequence[ov.Output]) -> float:
    """Return the smallest step of tensors that no other tensor with places is computed from."""
    placed = {stage.features.output.get_node().get_name() for stage in stages}
    goes_on: set[str] = set()
    for node in reversed(view.ordered(view.ancestors(ends))):
        if node.get_name() in placed | goes_on:
            goes_on.update(value.get_node().get_name() for value in view.data_inputs(node))
    last = [stage.step for stage in stages if stage.features.output.get_node().get_name() not in goes_on]
    return min(last, default=0.0)


def _stages(
    view: View, labels: Mapping[Port, Labels], size: tuple[int, int], ends: Sequence[ov.Output]
) -> Iterator[_Stage]:
    """Yield the tensors with places behind the first layer that outputs depend on, in topological order."""
    coarsest: dict[str, float] = {}
    learned: set[str] = set()
    enlarged: set[str] = set()
    for node in view.ordered(view.ancestors(ends)):
        name, sources = node.get_name(), [value.get_node().get_name() for value in view.data_inputs(node)]
        before = max((coarsest.get(source, 0.0) for source in sources), default=0.0)
        if kind(node) in LAYERS or learned.intersection(sources):
            learned.add(name)
        if enlarged.intersection(sources):
            enlarged.add(name)
        coarsest[name] = before
        for output in node.outputs():
            features = as_features(dict(labels), output)
            if features is None or name not in learned or features.dims[features.batch_axis] != 1:
                continue  # of one image, only what is cut out of it comes by the dozen
            places = features.grid
            if None in places:
                continue
            step = (prod(size) / prod(side or 1 for side in places)) ** 0.5
            coarsest[name] = max(before, step)
            if step * _SAME < before:
                enlarged.add(name)
            yield _Stage(features, step, name not in enlarged)


def _last(view: View, features: Sequence[Features], later: Iterable[ov.Output]) -> Features | None:
    """Return the last of some tensors that any of others is computed from."""
    above = view.ancestors(value for output in later for value in output.get_node().input_values())
    return next((one for one in reversed(features) if one.output.get_node().get_name() in above), None)


def _last_cut(
    view: View, features: Sequence[Features], ends: Sequence[ov.Output], *, start: ov.Output | None = None
) -> Features | None:
    """Return the last of some tensors, with a layer behind, that all paths to the outputs run through.

    Paths begin at the image, or at ``start``.
    """
    cuts = [{port_of(cut) for cut in view.cuts(end, start=start)} for end in ends]
    through = set.intersection(*cuts) if cuts else set()
    kept = (one for one in reversed(features) if port_of(one.output) in through)
    return next((one for one in kept if _has_layer_behind(view, one.output, ends)), None)


def _has_layer_behind(view: View, output: ov.Output, ends: Sequence[ov.Output]) -> bool:
    return any(kind(node) in LAYERS for node in view.ordered(view.between([output], ends)))
