"""InstSegExplainAlgo: where an instance segmenter sees which class, read off its masks.

As OTX defines it: the map of a class is the mean of its instances' masks over the whole input, each times its score.
Masks are never held in full size. One that fills its box is laid over the input by two small matrices, ``rows · mask ·
columns``, which interpolate it bilinearly at pixel centres, 0 outside, as mmdetection pastes masks; averaging the
*matrices* over the pixels of a map's cell gives exactly the average of the pasted mask. So maps of any size are those
of full size, averaged over cells as torch's ``adaptive_avg_pool2d`` does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.surgery import Twin, add_outputs, cut, reshape, size_of
from otx_xai.graph.view import View, dimensions
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
MEMORY_LIMIT = 10 * 2**20
"""Bytes of pasted masks that are held at a time. Of 100 instances at 800 × 1333 the branch needs 30 MiB for maps of
default size; for maps of full size 45 MiB, and three times the bytes of its result ``(1, K, 800, 1333)``."""

_ASSUMED_INSTANCES = 100

Length: TypeAlias = "int | ov.Output"
"""A number of pixels or cells: known, or an ``i64`` tensor of shape (1,)."""


@dataclass(frozen=True)
class _Canvas:
    """What masks are laid over: ``size``, rows and columns of the network's input, and ``cells``, those of a map."""

    size: tuple[Length, Length]
    cells: tuple[Length, Length]


@dataclass(frozen=True)
class _Instances:
    """Of one image: ``boxes`` ``(N, 4)``, ``labels`` ``i64`` ``(N,)``, ``scores`` ``(N,)``, ``masks`` ``(…, a, b)``.

    Masks are what the model gives, with its axes and type: where they are large, the CPU plugin would copy them to
    reshape them, since they are an output as well.
    """

    boxes: ov.Output
    labels: ov.Output
    scores: ov.Output
    masks: ov.Output


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
    weights = _weights(instances, [target + first_label for target in targets], threshold)
    maps = _average(instances, weights, canvas)
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


def _canvas(model: ov.Model, input_size: Size | None, map_size: Size | None) -> _Canvas:
    size = _input_size(model, input_size)
    if map_size is not None:
        limits = [length if isinstance(length, int) else cells for length, cells in zip(size, map_size, strict=True)]
        if not all(0 < cells <= limit for cells, limit in zip(map_size, limits, strict=True)):
            raise ConfigError(
                f"map_size is {map_size}; expected height and width from 1 to those of the input, {tuple(limits)}."
            )
        return _Canvas(size, map_size)
    height, width = size
    if isinstance(height, int) and isinstance(width, int):
        return _Canvas(size, default_map_size((height, width)))
    one, lengths = _integers(1), [_tensor(length) for length in size]
    longest = ops.add(ops.maximum(*lengths), _integers(LONGEST_SIDE // 2))
    step = ops.maximum(ops.divide(longest, _integers(LONGEST_SIDE)), one)
    rows, columns = (ops.divide(ops.add(length, ops.subtract(step, one)), step).output(0) for length in lengths)
    return _Canvas(size, (rows, columns))


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


def _read(main: Twin, found: Labelled, masks: OutputPort) -> _Instances:
    """Take the batch off the clone's outputs, and the score off its boxes."""

    def single(port: OutputPort) -> ov.Output:
        return _squeezed(_source(main, port), 0) if found.has_batch else _source(main, port)

    boxes = single(found.boxes)
    scores = single(found.scores) if found.scores is not None else _squeezed(cut(boxes, 1, 4, 5), 1)
    return _Instances(
        boxes=_as(cut(boxes, 1, 0, 4), ov.Type.f32),
        labels=_as(single(found.labels), ov.Type.i64),
        scores=_as(scores, ov.Type.f32),
        masks=_source(main, masks),
    )


def _source(main: Twin, port: OutputPort) -> ov.Output:
    """Return the clone's tensor in front of an output of the model."""
    return main.model.get_results()[port.index].input_value(0)


# --------------------------------------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------------------------------------


def _weights(instances: _Instances, labels: Sequence[int], threshold: float) -> ov.Output:
    """Return what each instance adds to each class, ``(K, N)``: its score by the number of that class's instances."""
    wanted = ops.constant(np.array(labels, np.int64)[:, None])
    counts = ops.equal(ops.unsqueeze(instances.labels, _integers(0)), wanted)
    if threshold > 0:
        enough = ops.greater_equal(instances.scores, ops.constant(np.float32(threshold)))
        counts = ops.logical_and(counts, ops.unsqueeze(enough, _integers(0)))
    members = ops.convert(counts, "f32")
    number = ops.maximum(ops.reduce_sum(members, _integers(1), keep_dims=True), _number(1))
    return ops.divide(ops.multiply(members, ops.unsqueeze(instances.scores, _integers(0))), number).output(0)


def _average(instances: _Instances, weights: ov.Output, canvas: _Canvas) -> ov.Output:
    """Return the maps of all wanted classes, ``(K, h, w)``, unscaled."""
    mask_size = [_length(instances.masks, axis) for axis in (-2, -1)]
    if all(map(_equal, mask_size, canvas.size)):
        return _average_of_whole(instances, weights, canvas)
    frames = _frames(instances, mask_size, canvas)
    down, along = (
        _interpolation(frames, side, mask_size[1 - side], canvas.size[1 - side], canvas.cells[1 - side])
        for side in (1, 0)
    )
    masks = _as(reshape(instances.masks, (-1, *mask_size)), ov.Type.f32)
    chunk = _chunk(instances, canvas.cells)

    def maps(down: ov.Output, masks: ov.Output, along: ov.Output, weights: ov.Output) -> ov.Output:
        tall = ops.matmul(down, masks, transpose_a=False, transpose_b=False)
        pasted = ops.matmul(tall, along, transpose_a=False, transpose_b=True).output(0)
        return _weighted(weights, pasted, (chunk, canvas.cells[1]))

    return _by_rows(maps, down, (masks, along, weights), chunk)


def _average_of_whole(instances: _Instances, weights: ov.Output, canvas: _Canvas) -> ov.Output:
    """Do so for masks that the model itself has laid over the input: weigh first, then average over cells."""
    (height, width), (rows, columns) = canvas.size, canvas.cells
    chunk = _chunk(instances, canvas.size)

    def maps(masks: ov.Output, weights: ov.Output) -> ov.Output:
        wide = _weighted(weights, _as(masks, ov.Type.f32), (chunk, width))
        return wide if _equal(columns, width) else _pooled(wide, (chunk, columns))

    tall = _by_rows(maps, instances.masks, (weights,), chunk)
    return tall if _equal(rows, height) else _pooled(tall, (rows, columns))


def _frames(instances: _Instances, mask_size: Sequence[Length], canvas: _Canvas) -> ov.Output:
    """Return what masks fill, xyxy: their boxes ``(N, 4)``; or the whole input ``(1, 4)``.

    Where sizes are known, masks are inside of boxes. Else the graph looks whether their size is that of the input.
    """
    if all(isinstance(length, int) for length in (*mask_size, *canvas.size)):
        return instances.boxes
    pairs = zip(mask_size, canvas.size, strict=True)
    is_whole = ops.logical_and(*(ops.equal(_tensor(found), _tensor(wanted)) for found, wanted in pairs))
    nothing, edges = _number(0), [ops.convert(_tensor(length), "f32") for length in canvas.size[::-1]]
    whole = ops.unsqueeze(ops.concat([nothing, nothing, *edges], axis=0), _integers(0))
    begin = ops.select(is_whole, _integers(0), _integers(1))
    end = ops.select(is_whole, _integers(1), _integers(2**62))
    rows = ops.concat([whole, instances.boxes], axis=0)
    return ops.slice(rows, begin, end, _integers(1), _integers(0)).output(0)


def _interpolation(frames: ov.Output, side: int, mask_size: Length, size: Length, cells: Length) -> ov.Output:
    """Return the matrices that lay the rows (``side`` 1) or columns (0) of masks over those of a map, ``(N, h, a)``.

    Pixel centres lie half a pixel inside. Between two places of the mask weights fall linearly; outside it is 0.
    """
    low, high = (ops.unsqueeze(cut(frames, 1, edge, edge + 1), _integers(1)) for edge in (side, side + 2))
    ratio = ops.divide(_as(_tensor(mask_size), ov.Type.f32), ops.maximum(ops.subtract(high, low), _number(1e-6)))
    pixels = reshape(_count(size), (1, -1, 1))
    places = ops.subtract(ops.multiply(ops.subtract(ops.add(pixels, _number(0.5)), low), ratio), _number(0.5))
    distance = ops.abs(ops.subtract(places, reshape(_count(mask_size), (1, 1, -1))))
    weights = ops.relu(ops.subtract(_number(1), distance)).output(0)
    return weights if _equal(cells, size) else _pooled(weights, (cells, mask_size))


def _pooled(values: ov.Output, sizes: tuple[Length, Length]) -> ov.Output:
    """Average ``(N, H, W)`` over cells, as torch's ``adaptive_avg_pool2d`` does it; return ``(N, h, w)``."""
    target = ops.concat([_tensor(size) for size in sizes], axis=0)
    return _squeezed(ops.adaptive_avg_pool(ops.unsqueeze(values, _integers(0)), target).output(0), 0)


def _weighted(weights: ov.Output, masks: ov.Output, size: tuple[Length, Length]) -> ov.Output:
    """Return the product of weights ``(K, N)`` and ``N`` masks of a size, ``(K, h, w)``; zeros where ``N`` is 0."""
    area = ops.multiply(*(_tensor(length) for length in size)).output(0)
    maps = ops.matmul(weights, reshape(masks, (-1, area)), transpose_a=False, transpose_b=False)
    # What a product over an empty axis holds is no plugin's promise
    found = ops.greater(size_of(weights, 1), _integers(0))
    return reshape(ops.select(found, maps, _number(0)).output(0), (-1, *size))


def _chunk(instances: _Instances, size: tuple[Length, Length]) -> Length:
    """Return how many rows of all masks of a size fit into the limit of memory: a divisor of all rows.

    All of them where the size is not known: maps of default size are small.
    """
    rows, columns = size
    if not isinstance(rows, int) or not isinstance(columns, int):
        return rows
    outputs = (instances.boxes, instances.labels, instances.scores)
    known = [output.get_partial_shape()[0].get_max_length() for output in outputs]
    count = max(1, min((most for most in known if most >= 0), default=_ASSUMED_INSTANCES))
    fitting = max(1, MEMORY_LIMIT // (4 * columns * count))
    return max(chunk for chunk in range(1, min(rows, fitting) + 1) if rows % chunk == 0)


def _by_rows(maps: Callable[..., ov.Output], rows: ov.Output, others: Sequence[ov.Output], chunk: Length) -> ov.Output:
    """Return ``maps(rows, *others)``, ``(K, h, w)``, in a loop over chunks of the last but one axis of ``rows``."""
    axis = len(dimensions(rows) or ()) - 2
    if not isinstance(chunk, int) or _equal(chunk, _length(rows, axis)):
        return maps(rows, *others)
    shape = rows.get_partial_shape()
    shape[axis] = chunk
    part = ops.parameter(shape, rows.get_element_type())
    rest = [ops.parameter(value.get_partial_shape(), value.get_element_type()) for value in others]
    result = ops.result(maps(part.output(0), *(parameter.output(0) for parameter in rest)))
    loop = ops.tensor_iterator()
    loop.set_function(ov.Model([result], [part, *rest], "rows"))
    loop.set_sliced_input(part, rows, 0, chunk, chunk, -1, axis)
    for parameter, value in zip(rest, others, strict=True):
        loop.set_invariant_input(parameter, value)
    return loop.get_concatenated_slices(result.output(0), 0, chunk, chunk, -1, 1)


# --------------------------------------------------------------------------------------------------------------------
# Small tensors
# --------------------------------------------------------------------------------------------------------------------


def _length(output: ov.Output, axis: int) -> Length:
    size = (dimensions(output) or [])[axis]
    return size if size is not None else size_of(output, axis)


def _equal(first: Length, second: Length) -> bool:
    """Whether both are known, and the same."""
    return isinstance(first, int) and isinstance(second, int) and first == second


def _tensor(length: Length) -> ov.Output:
    return _integers(length) if isinstance(length, int) else length


def _count(length: Length) -> ov.Output:
    """Return 0, 1, … below a length, ``float32``."""
    if isinstance(length, int):
        # integers, since models are saved in half precision, which does not hold 2049
        return ops.convert(ops.constant(np.arange(length, dtype=np.int32)), "f32").output(0)
    stop = _squeezed(length, 0)
    zero, one = (ops.constant(np.int64(number)) for number in (0, 1))
    return ops.range(zero, stop, one, "f32").output(0)


def _integers(*values: int) -> ov.Output:
    return ops.constant(np.array(values, np.int64)).output(0)


def _number(value: float) -> ov.Output:
    return ops.constant(np.array([value], np.float32)).output(0)


def _squeezed(output: ov.Output, axis: int) -> ov.Output:
    return ops.squeeze(output, _integers(axis)).output(0)


def _as(output: ov.Output, element_type: ov.Type) -> ov.Output:
    return output if output.get_element_type() == element_type else ops.convert(output, element_type).output(0)


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
