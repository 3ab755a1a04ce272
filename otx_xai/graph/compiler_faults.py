"""What OpenVINO's compiler gets wrong, written so that it gets it right."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.cuts import cut_of
from otx_xai.graph.view import kind


def split_before_gathers(model: ov.Model) -> None:
    """Replace slices in front of GatherElements by splits, in place.

    Up to version 2026.4 a slice that begins at 0 is dropped there, since indices reach no further; along another axis
    than that of the indices, as in YOLO26 with key points or turned boxes, the model then cannot be compiled at all.

    Args:
        model: as it was read.
    """
    for node in model.get_ordered_ops():
        if kind(node) != "GatherElements":
            continue
        sliced = node.input_value(0).get_node()
        cut = cut_of(sliced) if kind(sliced) in ("Slice", "StridedSlice") else None
        if cut is None or cut.drops or cut.begin or not cut.end or cut.axis == int(node.get_attributes()["axis"]):
            continue
        lengths = ops.constant(np.array([cut.end, -1], np.int64))
        split = ops.variadic_split(sliced.input_value(0), ops.constant(np.int64(cut.axis)), lengths)
        split.set_friendly_name(f"{sliced.get_friendly_name()}/split")
        node.input(0).replace_source_output(split.output(0))
