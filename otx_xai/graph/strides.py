"""The stages of a network: which of its layers have which stride."""

from __future__ import annotations

from collections.abc import Iterator

from otx_xai.graph.features import Anatomy, Features
from otx_xai.graph.view import View, kind, port_of

_FINER = 1.5
"""How many times smaller the stride of an earlier stage is, at least; those between belong to the later one."""


def stages(anatomy: Anatomy) -> Iterator[Features]:
    """Yield a layer of each stage in front of the features of a classifier, the coarser ones first.

    A stage is all layers of one stride that every path to the class scores runs through. Its layer is the last one
    where a shortcut joins, the stream that its blocks add to; where none joins, the last one.
    """
    view, features, grids = anatomy.view, anatomy.features, anatomy.grids
    if port_of(features.output) not in grids:
        return
    stride = min(grids[port_of(features.output)].step)
    stage: list[Features] = []
    for layer in anatomy.layers:
        grid = grids.get(port_of(layer.output))
        if grid is None:
            continue
        if max(grid.step) * _FINER < stride:
            if stage:
                yield _chosen(view, stage)
            stage, stride = [layer], min(grid.step)
        elif stage:
            stage.append(layer)
    if stage:
        yield _chosen(view, stage)


def _chosen(view: View, stage: list[Features]) -> Features:
    joined = (layer for layer in stage if _joins(view, layer))
    return next(joined, stage[0])


def _joins(view: View, layer: Features) -> bool:
    node = layer.output.get_node()
    return kind(node) == "Add" and len(view.data_inputs(node)) == 2
