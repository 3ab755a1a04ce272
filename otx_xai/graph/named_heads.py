"""The class heads that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import openvino as ov

from otx_xai.graph.class_heads import ClassHead, ClassHeads
from otx_xai.graph.elements import order_of, shape_of
from otx_xai.graph.head_search import HeadSearch, unreadable, with_bias
from otx_xai.graph.labels import is_map
from otx_xai.graph.traits import CONVOLUTIONS
from otx_xai.graph.view import kind, port_of


def named_heads(
    search: HeadSearch, heads: ClassHeads | None, target_layers: Sequence[str], num_classes: int | None
) -> ClassHeads:
    """Return the heads that the user names.

    Args:
        search: the model.
        heads: those that its graph tells of.
        target_layers: their names, one a level.
        num_classes: number of classes, where it is known.

    Raises:
        GraphError: a named layer is no head.
    """
    outputs = [_named_output(search, name) for name in target_layers]
    known = {} if heads is None else {port_of(level.output): level for level in heads.levels}
    if heads is not None and all(port_of(output) in known for output in outputs):
        return replace(heads, levels=_finest_first([known[port_of(output)] for output in outputs]))
    levels = []
    for name, output in zip(target_layers, outputs, strict=True):
        order, shape = order_of(search.labels[port_of(output)]), shape_of(output)
        channels = shape[order[1]]
        count = channels if num_classes is None else num_classes
        if channels % count:
            raise unreadable(
                search, f"--target_layer {name!r} has {channels} channels, which are no multiple of {count} classes"
            )
        table = np.arange(channels, dtype=np.int64).reshape(-1, count)
        levels.append(ClassHead(output, order, table, (shape[order[2]], shape[order[3]])))
    if len({level.channels.shape[1] for level in levels}) > 1:
        raise unreadable(search, "the named layers have different numbers of channels; tell the classes by --labels")
    return ClassHeads(_finest_first(levels), "sigmoid")


def _finest_first(levels: Sequence[ClassHead]) -> tuple[ClassHead, ...]:
    return tuple(sorted(levels, key=lambda level: -level.size[0] * level.size[1]))


def _named_output(search: HeadSearch, name: str) -> ov.Output:
    output = search.view.by_layer_name.get(name)
    if output is None:
        raise unreadable(search, f"--target_layer {name!r} is no layer or tensor of it")
    if kind(output.get_node()) in CONVOLUTIONS:
        output = with_bias(search.view, output.get_node())
    own = search.labels.get(port_of(output), ())
    if not is_map(own):
        raise unreadable(search, f"--target_layer {name!r} of shape {output.get_partial_shape()} is no map of places")
    return output
