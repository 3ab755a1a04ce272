"""What OpenVINO's compiler gets wrong, written so that it gets it right."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.cuts import cut_of
from otx_xai.graph.view import kind


def split_before_gathers(model: ov.Model) -> None:
    """Replace slices in front of GatherElements by splits, in place.

    Args:
        model: as it was read.
    """
    for node in model.get_ordered_ops():
        if kind(node) == "GatherElements":
            axis = int(node.get_attributes()["axis"])
            node.input(0).replace_source_output(split_instead(node.input_value(0), axis))


def split_instead(gathered: ov.Output, axis: int) -> ov.Output:
    """Return what GatherElements is to take its elements from, so that a slice in front of it is not lost.

    Up to version 2026.4 a slice that begins at 0 is dropped there, since indices reach no further; along another axis
    than that of the indices, as in YOLO26 with key points or turned boxes, the model then cannot be compiled at all,
    and one of torch not even converted.

    Args:
        gathered: what it takes its elements from.
        axis: of the indices.

    Returns:
        The first part of a split where ``gathered`` is such a slice; else ``gathered`` itself.
    """
    sliced = gathered.get_node()
    cut = cut_of(sliced) if kind(sliced) in ("Slice", "StridedSlice") else None
    if cut is None or cut.drops or cut.begin or not cut.end or cut.axis == axis:
        return gathered
    lengths = ops.constant(np.array([cut.end, -1], np.int64))
    split = ops.variadic_split(sliced.input_value(0), ops.constant(np.int64(cut.axis)), lengths)
    split.set_friendly_name(f"{sliced.get_friendly_name()}/split")
    return split.output(0)
