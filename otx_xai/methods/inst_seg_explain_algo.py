"""InstSegExplainAlgo: where an instance segmenter sees which class, read off its masks.

As OTX defines it: the map of a class is the mean of its instances' masks over the whole input, each times its score.
How masks are laid over the input without being held in full size tells ``mask_maps``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import ceil

import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.surgery import Twin, add_outputs, as_type, cut, reshape, size_of
from otx_xai.graph.view import View, dimensions
from otx_xai.methods.mask_maps import (
    Canvas,
    Instances,
    Length,
    as_tensor,
    class_weights,
    integers,
    mean_masks,
    squeezed,
)
from otx_xai.methods.scaling import scale_maps
from otx_xai.methods.spec import Branch, Fit, MethodSpec, Order
from otx_xai.model.formats.box_format import OutputPort
from otx_xai.model.formats.choice import describe_ports
from otx_xai.model.formats.labelled import FORMAT, Labelled, find_labelled
from otx_xai.model.image_layout import input_layout
from otx_xai.model.opened import Model
from otx_xai.records import SALIENCY_MAP, Method, Size, Task

logger = logging.getLogger("otx_xai")

PREFIX = f"xai/{Method.INSTSEGEXPLAINALGO.value}"
LONGEST_SIDE = 200
"""Cells on the longer side of a map, about; see :func:`default_map_size`."""


def insert_instance_maps(
    model: ov.Model,
    *,
    num_classes: int,
    first_label: int = 0,
    input_size: Size | None = None,
    classes: Sequence[int] | None = None,
    map_size: Size | None = None,
    threshold: float = 0.0,
    embed_scaling: bool = True,
) -> ov.Model:
    """Return a copy of an instance segmenter with a map for each class.

    Args:
        model: the instance segmenter, for one image; it is not changed.
        num_classes: number of classes, without one that stands for nothing.
        first_label: what the model calls class 0: 1 where its labels start with one for nothing.
        input_size: ``(H, W)`` of the network's input, where its shape or layout does not tell. Where neither does, the
            graph measures its input.
        classes: which classes, in this order; all by default.
        map_size: ``(h, w)`` of the maps, up to the size of the input; by default :func:`default_map_size`.
        threshold: score in [0, 1] from which an instance counts; by default all that the model returns do.
        embed_scaling: scale each map to [0, 255] in the graph; else maps hold scores in [0, 1].

    Returns:
        A model with the same inputs, outputs, names, shapes and ``rt_info``, and behind them the output
        ``saliency_map``, ``float32`` ``(1, K, h, w)``. The map of a class without instances is all zeros.

    Raises:
        ConfigError: ``map_size`` is empty or exceeds the input, ``input_size`` contradicts the graph, or a threshold is
            no score.
        TargetError: one of ``classes`` is none.
        GraphError: the outputs are not those of an instance segmenter, the model has a ``saliency_map``, or where
            height and width lie in its input is not known.
        ModelError: the model has more inputs than the image.
    """
    view = View(model)
    found = find_labelled(describe_ports(model, view, size=None, num_names=None).ports)
    if found is None or found.masks is None:
        raise GraphError(
            f"{Method.INSTSEGEXPLAINALGO} needs the masks of an instance segmenter, [1,N,h,w] beside boxes and labels; "
            f"the outputs of the model are {describe_outputs(model.outputs, with_types=True)}. Expected "
            f"{FORMAT.meaning}."
        )
    if any(SALIENCY_MAP in output.get_names() for output in model.outputs):
        raise GraphError(f"The model already has an output {SALIENCY_MAP}. Use it, or export the model without it.")
    targets = _checked_classes(classes, num_classes)
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold}; expected a score from 0 to 1.")
    main = Twin(view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    canvas = _canvas(main.model, input_size, map_size)
    instances = _read(main, found, found.masks)
    weights = class_weights(instances, [target + first_label for target in targets], threshold)
    maps = mean_masks(instances, weights, canvas)
    maps = reshape(maps, (1, len(targets), *canvas.cells))
    if embed_scaling:
        maps = scale_maps(maps, (-2, -1))
    return add_outputs(model, main.model, {SALIENCY_MAP: maps}, known, PREFIX)


def default_map_size(size: Size) -> Size:
    """Return the size of maps for an input: cells of whole pixels, about :data:`LONGEST_SIDE` on the longer side.

    Resized to 800 × 1333, such maps differ from those of full size by 0.1 to 0.3 % of the range on average. Averages
    over cells keep instances smaller than a cell, which sampling at cell centres could miss.
    """
    step = max(1, (max(size) + LONGEST_SIDE // 2) // LONGEST_SIDE)
    return ceil(size[0] / step), ceil(size[1] / step)


# --------------------------------------------------------------------------------------------------------------------
# What the model has: sizes, instances
# --------------------------------------------------------------------------------------------------------------------


def _checked_classes(classes: Sequence[int] | None, num_classes: int) -> list[int]:
    targets = list(range(num_classes)) if classes is None else [int(target) for target in classes]
    wrong = [target for target in targets if not 0 <= target < num_classes]
    if wrong or not targets:
        raise TargetError(
            f"Classes {wrong or targets} are none of the model's; expected some from 0 to {num_classes - 1}."
        )
    return targets


def _canvas(model: ov.Model, input_size: Size | None, map_size: Size | None) -> Canvas:
    size = _input_size(model, input_size)
    if map_size is not None:
        limits = [length if isinstance(length, int) else cells for length, cells in zip(size, map_size, strict=True)]
        if not all(0 < cells <= limit for cells, limit in zip(map_size, limits, strict=True)):
            raise ConfigError(
                f"map_size is {map_size}; expected height and width from 1 to those of the input, {tuple(limits)}."
            )
        return Canvas(size, map_size)
    height, width = size
    if isinstance(height, int) and isinstance(width, int):
        return Canvas(size, default_map_size((height, width)))
    one, lengths = integers(1), [as_tensor(length) for length in size]
    longest = ops.add(ops.maximum(*lengths), integers(LONGEST_SIDE // 2))
    step = ops.maximum(ops.divide(longest, integers(LONGEST_SIDE)), one)
    rows, columns = (ops.divide(ops.add(length, ops.subtract(step, one)), step).output(0) for length in lengths)
    return Canvas(size, (rows, columns))


def _input_size(model: ov.Model, given: Size | None) -> tuple[Length, Length]:
    """Return height and width of the network's input: as the graph fixes them, as given, else measured."""
    layout, image = input_layout(model), image_input(model).output(0)
    if layout is None:
        if given is None:
            raise GraphError(
                f"Which axes of the input {image.get_partial_shape()} are height and width is not known; pass "
                "input_size, height and width of the network's input."
            )
        return given
    dims = dimensions(image) or [None] * len(layout)
    axes = [layout.index(letter) for letter in "HW"]
    fixed = [dims[axis] for axis in axes]
    if given is not None and any(size not in (None, wanted) for size, wanted in zip(fixed, given, strict=True)):
        raise ConfigError(f"input_size is {given}, but the input of the model is {image.get_partial_shape()}.")
    known = fixed if given is None else given
    height, width = (size if size is not None else size_of(image, axis) for size, axis in zip(known, axes, strict=True))
    return height, width


def _read(main: Twin, found: Labelled, masks: OutputPort) -> Instances:
    """Take the batch off the clone's outputs, and the score off its boxes."""

    def single(port: OutputPort) -> ov.Output:
        return squeezed(_source(main, port), 0) if found.has_batch else _source(main, port)

    boxes = single(found.boxes)
    scores = single(found.scores) if found.scores is not None else squeezed(cut(boxes, 1, 4, 5), 1)
    return Instances(
        boxes=as_type(cut(boxes, 1, 0, 4), ov.Type.f32),
        labels=as_type(single(found.labels), ov.Type.i64),
        scores=as_type(scores, ov.Type.f32),
        masks=_source(main, masks),
    )


def _source(main: Twin, port: OutputPort) -> ov.Output:
    """Return the clone's tensor in front of an output of the model."""
    return main.model.get_results()[port.index].input_value(0)


# --------------------------------------------------------------------------------------------------------------------
# The row of the table
# --------------------------------------------------------------------------------------------------------------------


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    boxes = model.structure.boxes
    if boxes is None or not {"boxes", "labels", "masks"} <= boxes.match.roles.keys():
        return Fit(
            False,
            f"{Method.INSTSEGEXPLAINALGO} needs masks [1,N,h,w] beside boxes and labels in the outputs of the model, "
            f"which are {describe_outputs(model.graph.outputs, with_types=True)}.",
        )
    return Fit(True, f"the output {boxes.match.roles['masks']!r} holds masks")


def _insert(model: Model, order: Order) -> Branch:
    if order.target_layers:
        logger.warning("target_layer has no effect with %s.", Method.INSTSEGEXPLAINALGO)
    facts = model.facts
    explained = insert_instance_maps(
        model.graph,
        num_classes=len(facts.labels),
        first_label=facts.first_label,
        classes=order.classes if isinstance(order.classes, tuple) else None,
        threshold=facts.confidence_threshold,
        embed_scaling=order.embed_scaling,
    )
    return Branch(explained)


SPEC = MethodSpec(
    "instsegexplainalgo",
    "InstSegExplainAlgo: the mean of a class's masks, each times its score; instance segmentation",
    frozenset({Task.INSTANCE_SEGMENTATION}),
    _fits,
    insert=_insert,
)
