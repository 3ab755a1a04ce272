"""The activation map of detectors: the mean over channels of the features that they read their boxes from."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.graph.axes import label_axes
from otx_xai.graph.shared_features import averaged_features
from otx_xai.graph.surgery import Twin, add_outputs, forbid_dynamic_quantisation
from otx_xai.graph.view import View, port_of
from otx_xai.methods.scaling import scale_maps
from otx_xai.records import SALIENCY_MAP, Method

PREFIX = f"xai/{Method.ACTIVATIONMAP.value}"


def insert_activation_map(model: ov.Model, *, target_layer: str | None = None, embed_scaling: bool = True) -> ov.Model:
    """Return a copy of a detector or instance segmentation model with one map an image.

    Args:
        model: it is not changed.
        target_layer: layer that is averaged, by friendly name or tensor name; by default the finest features that
            regions are pooled from, or the last activation that all levels of a one-stage detector depend on.
        embed_scaling: scale each map to [0, 255] in the graph.

    Returns:
        A model with the same inputs, outputs, names, shapes and ``rt_info``, and behind them the output
        ``saliency_map``, ``float32`` ``(N, h, w)``: the mean over channels.

    Raises:
        GraphError: the features cannot be found; the message lists layers for ``target_layer``.
    """
    view = View(model)
    labels = label_axes(view)
    features = averaged_features(view, labels, target_layer)
    main = Twin(view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    value = main.output(features)
    if value.get_element_type() != ov.Type.f32:
        value = ops.convert(value, "f32").output(0)
    own = labels[port_of(features)]
    order = [own.index(axis) for axis in "NHWC"]
    if order != [0, 1, 2, 3]:
        value = ops.transpose(value, ops.constant(np.array(order, np.int64))).output(0)
    maps = ops.reduce_mean(value, ops.constant(np.array([3], np.int64)), keep_dims=False).output(0)
    if embed_scaling:
        maps = scale_maps(maps, (-2, -1))
    forbid_dynamic_quantisation(main)
    return add_outputs(model, main.model, {SALIENCY_MAP: maps}, known, PREFIX)
