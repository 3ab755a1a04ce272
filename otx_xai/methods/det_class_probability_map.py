"""DetClassProbabilityMap: where a one-stage detector sees which class, read off its class heads.

As OTX defines it: for each level the maximum of the class scores over anchors, resized to the middle level
(bilinear), the mean over levels, soft-max over classes. Class scores are taken before sigmoid or soft-max; only where
objectness multiplies them are they probabilities, since the soft-max would cancel what is added to the logits of all
classes alike. The background takes part in the soft-max and gets no map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ClassHead, ClassHeads, Objectness
from otx_xai.graph.surgery import (
    Twin,
    add_outputs,
    as_type,
    cut,
    forbid_dynamic_quantisation,
    reshape,
    size_of,
    transpose,
)
from otx_xai.graph.view import dimensions
from otx_xai.methods.scaling import scale_maps
from otx_xai.methods.spec import BOX_FINDERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.records import SALIENCY_MAP, Method

PREFIX = f"xai/{Method.DETCLASSPROBABILITYMAP.value}"


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    """Fit one-stage detectors: their class scores belong to places of the image."""
    if model.structure.pooled_features and not target_layers:
        return Fit(
            False,
            "it is a two-stage detector, whose class scores belong to regions and not to places; use activationmap",
        )
    try:
        heads = model.structure.class_heads(len(model.facts.labels), target_layers)
    except GraphError as error:
        return Fit(False, f"{error} Or use explain_method activationmap, which needs no class scores.")
    layers = ", ".join(repr(level.output.get_node().get_friendly_name()) for level in heads.levels)
    return Fit(True, f"its class heads are {layers}")


def _insert(model: Model, order: Order) -> Branch:
    """Put a map for each wanted class into a copy of a one-stage detector, in the resolution of the middle level."""
    view = model.structure.view
    heads = model.structure.class_heads(len(model.facts.labels), order.target_layers)
    main = Twin(view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    maps = det_class_probability_map(main, heads)
    if isinstance(order.classes, tuple):
        maps = ops.gather(maps, ops.constant(np.array(order.classes, np.int32)), ops.constant(1)).output(0)
    if order.embed_scaling:
        maps = scale_maps(maps, (-2, -1))
    forbid_dynamic_quantisation(main)
    return Branch(add_outputs(model.graph, main.model, {SALIENCY_MAP: maps}, known, PREFIX))


def det_class_probability_map(main: Twin, heads: ClassHeads) -> ov.Output:
    """Return maps ``(N, K, h, w)``, unscaled, of all classes but the background.

    Args:
        main: the clone that becomes the result.
        heads: of the model that was cloned.
    """
    levels = [_best_anchor(_level_scores(main, head, heads)) for head in heads.levels]
    middle = levels[len(levels) // 2]
    maps = [level if level is middle else _resized(level, middle) for level in levels]
    total = maps[0]
    for level in maps[1:]:
        total = ops.add(total, level).output(0)
    if len(maps) > 1:
        total = ops.divide(total, ops.constant(np.float32(len(maps)))).output(0)
    count = heads.levels[0].channels.shape[1]
    if count > 1:  # the soft-max of a single class would be 1 everywhere
        total = ops.softmax(total, 1).output(0)
    if heads.background is None:
        return total
    kept = np.delete(np.arange(count, dtype=np.int32), heads.background)
    if heads.background == 0:
        return cut(total, 1, 1, None)
    return ops.gather(total, ops.constant(kept), ops.constant(1)).output(0)


def _level_scores(main: Twin, head: ClassHead, heads: ClassHeads) -> ov.Output:
    """Return the class scores of one level, ``(N, A, L, h, w)``."""
    scores = _by_anchor(main, head.output, head.order, head.channels)
    if head.objectness is None:
        return scores
    scores = (ops.sigmoid(scores) if heads.activation == "sigmoid" else ops.softmax(scores, 2)).output(0)
    objectness: Objectness = head.objectness
    channels = np.array(objectness.channels, np.int64)[:, None]
    factor = ops.sigmoid(_by_anchor(main, objectness.output, objectness.order, channels))
    return ops.multiply(scores, factor).output(0)


def _by_anchor(
    main: Twin,
    output: ov.Output,
    order: tuple[int, int, int, int],
    channels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> ov.Output:
    """Return the channels of a head arranged by anchor and class, ``float32`` ``(N, A, L, h, w)``."""
    value = as_type(transpose(main.output(output), order), ov.Type.f32)
    anchors, count = channels.shape
    dims = dimensions(value) or [None] * 4
    flat = channels.reshape(-1)
    rest = [size_of(value, axis) if dims[axis] is None else dims[axis] or 1 for axis in (2, 3)]
    batch = dims[0] if dims[0] is not None else size_of(value, 0)
    if not np.array_equal(flat, np.arange(dims[1] or -1)):
        value = ops.gather(value, ops.constant(flat.astype(np.int32)), ops.constant(1)).output(0)
    return reshape(value, (batch, anchors, count, *rest))


def _best_anchor(scores: ov.Output) -> ov.Output:
    """Return the maximum over anchors, ``(N, L, h, w)``."""
    axis = ops.constant(np.array([1], np.int64))
    if (dimensions(scores) or [None, None])[1] == 1:
        return ops.squeeze(scores, axis).output(0)
    return ops.reduce_max(scores, axis, keep_dims=False).output(0)


def _resized(level: ov.Output, middle: ov.Output) -> ov.Output:
    """Resize a map to the size of another, as torch's bilinear ``interpolate`` without ``align_corners``."""
    if (dimensions(level) or [None])[2:] == (dimensions(middle) or [0])[2:] and None not in (dimensions(level) or [])[
        2:
    ]:
        return level
    size = ops.concat([size_of(middle, 2), size_of(middle, 3)], axis=0)
    axes = ops.constant(np.array([2, 3], np.int64))
    return ops.interpolate(level, size, "linear_onnx", "sizes", axes=axes).output(0)


SPEC = MethodSpec(
    "detclassprobabilitymap",
    "class probability map: where a one-stage detector sees which class",
    BOX_FINDERS,
    _fits,
    insert=_insert,
)
