"""Class scores of perturbed features: which classes, which last linear layer, all masks at once or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, Features
from otx_xai.graph.surgery import Twin, batch_obstacle, graft, reshape, size_of, transpose
from otx_xai.graph.traits import COPIES, RESHAPES
from otx_xai.graph.view import Port, View, dimensions, kind, port_of
from otx_xai.methods.places import every_place, grid_sizes, place_masks
from otx_xai.methods.spec import Classes

MEMORY_LIMIT = 384 * 2**20
"""Bytes of features that the head may hold at a time for one image; with what OpenVINO adds, 512 MiB in all."""


@dataclass(frozen=True)
class Linear:
    """The last linear layer.

    Args:
        features: its input, in the viewed model.
        weight: its weight, in the viewed model.
        bias: what is added to its output, one value a class.
        rows_are_classes: whether the weight is ``(K, C)`` rather than ``(C, K)``.
    """

    features: ov.Output
    weight: ov.Output
    bias: ov.Output | None
    rows_are_classes: bool


@dataclass(frozen=True)
class Site:
    """A model under surgery.

    Args:
        anatomy: the model as it was.
        main: the clone that becomes the result.
        classes: which classes to explain.
        prefix: how new nodes are named.
    """

    anatomy: Anatomy
    main: Twin
    classes: Classes
    prefix: str

    @property
    def view(self) -> View:
        """The model as it was."""
        return self.anatomy.view

    def linear(self, starts: Sequence[ov.Output]) -> Linear | None:
        """Return the last linear layer where only some classes are wanted and it lies behind ``starts``."""
        if self.classes is None:
            return None
        linear = last_linear(self.view, self.anatomy.logits.port)
        if linear is None:
            return None
        behind = self.view.descendants(starts)
        ports = {port_of(start) for start in starts}
        name = linear.features.get_node().get_name()
        return linear if name in behind or port_of(linear.features) in ports else None

    def best(self) -> ov.Output | None:
        """Return the indices of the best classes of each image, ``i32`` ``(N, k)``, when these are wanted."""
        if not isinstance(self.classes, int):
            return None
        count = self.anatomy.logits.num_classes
        scores = reshape(self.main.output(self.anatomy.logits.port), (-1, count))
        k = ops.constant(min(self.classes, count), dtype=np.int64)
        return ops.topk(scores, k, axis=1, mode="max", sort="value", index_element_type="i32").output(1)


def last_linear(view: View, logits: ov.Output) -> Linear | None:
    """Return the linear layer that gives the class scores, with nothing but a bias behind it."""
    output, bias = logits, None
    while True:
        node = output.get_node()
        operation = kind(node)
        if operation in RESHAPES | COPIES | {"Transpose"} and view.is_data(node.input_value(0)):
            before, after = dimensions(node.input_value(0)), dimensions(output)
            if before is None or after is None or not _only_units_move(before, after):
                return None
            output = node.input_value(0)
        elif operation == "Add" and bias is None and len(view.data_inputs(node)) == 1:
            output = view.data_inputs(node)[0]
            bias = next(value for value in node.input_values() if not view.is_data(value))
        else:
            break
    if operation not in ("MatMul", "Convolution") or len(view.data_inputs(node)) != 1:
        return None
    features, weight = node.input_value(0), node.input_value(1)
    if not view.is_data(features) or weight.get_node().get_name() not in view.constant:
        return None
    if operation == "Convolution":
        shapes = (dimensions(weight), dimensions(features))
        units = all(dims is not None and dims[2:] == [1, 1] for dims in shapes)
        return Linear(features, weight, bias, rows_are_classes=True) if units else None
    attributes = node.get_attributes()
    if attributes["transpose_a"] or len(dimensions(weight) or ()) != 2:
        return None
    return Linear(features, weight, bias, rows_are_classes=attributes["transpose_b"])


def _only_units_move(before: list[int | None], after: list[int | None]) -> bool:
    return [size for size in before[1:] if size != 1] == [size for size in after[1:] if size != 1]


def class_scores(site: Site, linear: Linear | None, rows: ov.Output, images: ov.Output, places: ov.Output) -> ov.Output:
    """Arrange the scores of perturbed features by class.

    Args:
        site: the model under surgery.
        linear: the last linear layer, when ``rows`` are its inputs; ``None`` when they are class scores.
        rows: ``(N * M, …)``, image-major.
        images: ``N`` as ``i64`` ``(1,)``.
        places: ``M`` as ``i64`` ``(1,)``.

    Returns:
        Scores ``(N, K, M)`` of the wanted classes.
    """
    count = site.anatomy.logits.num_classes
    if linear is not None:
        return _gathered_scores(site, linear, rows, images, places)
    scores = transpose(reshape(rows, (images, places, count)), (0, 2, 1))
    best = site.best()
    if best is not None:
        return ops.gather(scores, best, ops.constant(1), batch_dims=1).output(0)
    if site.classes is not None:
        return ops.gather(scores, ops.constant(np.array(site.classes, np.int32)), ops.constant(1)).output(0)
    return scores


def _gathered_scores(site: Site, linear: Linear, rows: ov.Output, images: ov.Output, places: ov.Output) -> ov.Output:
    """Evaluate only the wanted rows of the last linear layer."""
    weight = site.main.output(linear.weight)
    dims = [size or 1 for size in dimensions(weight) or ()]
    if not linear.rows_are_classes:
        weight = transpose(weight, (1, 0))
        dims = dims[::-1]
    count, channels = dims[0], prod(dims[1:])
    weight = reshape(weight, (count, channels))
    features = reshape(rows, (images, places, channels))
    best = site.best()
    wanted = best if best is not None else ops.constant(np.array(site.classes, np.int32)).output(0)
    picked = ops.gather(weight, wanted, ops.constant(0))  # (N, k, C) or (k, C)
    scores = ops.matmul(picked, features, transpose_a=False, transpose_b=True).output(0)
    if linear.bias is not None:
        bias = site.main.output(linear.bias)
        if prod(size or 1 for size in dimensions(bias) or ()) == count:
            bias = ops.gather(reshape(bias, (count,)), wanted, ops.constant(0)).output(0)
            bias = ops.unsqueeze(bias, ops.constant(-1)).output(0)
        else:
            bias = reshape(bias, (1,))
        scores = ops.add(scores, bias).output(0)
    return scores


def masked_scores(site: Site, masked: Sequence[Features], weights: tuple[float, ...]) -> ov.Output:
    """Run the head on masked features, one mask a place: the general form, exact for every head.

    All masks are evaluated at once where memory allows; else a ``TensorIterator`` goes through chunks of them. Where
    the head does not let the batch grow, it goes through them one by one.

    Args:
        site: the model under surgery.
        masked: the tensors that each mask multiplies; they share one grid of places.
        weights: of the places at distance 0, 1, … from the mask's own; see ``places.place_masks``.

    Returns:
        Scores ``(N, K, M)`` of the wanted classes.
    """
    starts = [features.output for features in masked]
    linear = site.linear(starts)
    end = linear.features if linear is not None else site.anatomy.logits.port
    places = every_place(site.main, masked[0])
    count = (dimensions(places) or [None])[0]
    leads = all(features.batch_axis == 0 for features in masked)
    free = leads and batch_obstacle(site.view, starts, [end]) is None
    chunk = _chunk(site, starts, end, count) if free else 1
    if chunk == count:
        sizes = grid_sizes(site.main, masked[0])
        perturbed = {
            port_of(features.output): _perturb(
                site.main.output(features.output), place_masks(places, sizes, features, weights)
            )
            for features in masked
        }
        (rows,) = graft(site.view, perturbed, [end], outside=site.main.output, prefix=site.prefix, free_batch=True)
    else:
        rows = _iterate(site, masked, weights, end, places, chunk)
    images = size_of(site.main.output(starts[0]), masked[0].batch_axis)
    return class_scores(site, linear, rows, images, size_of(places, 0))


def _iterate(
    site: Site, masked: Sequence[Features], weights: tuple[float, ...], end: ov.Output, places: ov.Output, chunk: int
) -> ov.Output:
    """Evaluate the head in a loop over chunks of places; return ``(N * M, …)``, image-major."""
    body_inputs: list[tuple[ov.op.Parameter, ov.Output]] = []

    def invariant(value: ov.Output) -> ov.Output:
        if kind(value.get_node()) == "Constant":
            return value
        parameter = ops.parameter(value.get_partial_shape(), value.get_element_type())
        body_inputs.append((parameter, value))
        return parameter.output(0)

    def outside(output: ov.Output) -> ov.Output:
        return invariant(site.main.output(output))

    numbers = ops.parameter(ov.PartialShape([chunk]), ov.Type.i64)
    height, width = (invariant(size) for size in grid_sizes(site.main, masked[0]))
    starts: dict[Port, ov.Output] = {}
    for features in masked:
        masks = place_masks(numbers.output(0), (height, width), features, weights)
        value = outside(features.output)
        starts[port_of(features.output)] = _perturb(value, masks) if chunk > 1 else _perturb_one(features, value, masks)
    (rows,) = graft(site.view, starts, [end], outside=outside, prefix=site.prefix, free_batch=chunk > 1)
    dims = dimensions(rows)
    if dims is None or None in dims[1:]:
        raise GraphError(f"The head's output {rows.get_partial_shape()} has dynamic axes beside the batch.")
    rest = [size or 1 for size in dims[1:]]
    # (N * c, …) -> (N, c, …), so that the slices of all iterations join along the second axis
    result = ops.result(reshape(rows, (-1, chunk, *rest)))
    loop = ops.tensor_iterator()
    loop.set_function(ov.Model([result], [numbers, *(parameter for parameter, _ in body_inputs)], "head"))
    loop.set_sliced_input(numbers, _pad(places, chunk), 0, chunk, chunk, -1, 0)
    for parameter, value in body_inputs:
        loop.set_invariant_input(parameter, value)
    joined = loop.get_concatenated_slices(result.output(0), 0, chunk, chunk, -1, 1)
    zero, one = (ops.constant(np.array([number], np.int64)) for number in (0, 1))
    joined = ops.slice(joined, zero, size_of(places, 0), one, one).output(0)
    return reshape(joined, (-1, *rest))


def _perturb(features: ov.Output, masks: ov.Output) -> ov.Output:
    """Return ``(N * c, …)``: every image times every mask, image-major."""
    wide = ops.multiply(ops.unsqueeze(features, ops.constant(1)), ops.unsqueeze(masks, ops.constant(0)))
    dims = dimensions(features) or []
    sizes = [size_of(features, axis) if dims[axis] is None else dims[axis] or 1 for axis in range(1, len(dims))]
    return reshape(wide.output(0), (-1, *sizes))


def _perturb_one(features: Features, value: ov.Output, mask: ov.Output) -> ov.Output:
    """Return every image times the one mask of a chunk of one; the batch axis may be anywhere."""
    order = list(range(1, len(features.dims)))
    order.insert(features.batch_axis, 0)
    return ops.multiply(value, transpose(mask, order)).output(0)


def _pad(places: ov.Output, chunk: int) -> ov.Output:
    """Append place 0 until the number of places is a multiple of ``chunk``."""
    step = ops.constant(np.array([chunk], np.int64))
    missing = ops.mod(ops.subtract(step, ops.mod(size_of(places, 0), step)), step)
    none = ops.constant(np.array([0], np.int64))
    return ops.pad(places, none, missing, "constant", ops.constant(np.int64(0))).output(0)


def _chunk(site: Site, starts: Sequence[ov.Output], end: ov.Output, count: int | None) -> int:
    """Return how many masks fit into memory at a time: one where a size is dynamic, which may be any."""
    nodes = site.view.ordered(site.view.between(starts, [end]))
    sizes = {port_of(output): _size(output) for node in nodes for output in node.outputs()}
    sizes |= {port_of(output): _size(output) for output in starts}
    if count is None or None in sizes.values():
        return 1
    images = (dimensions(starts[0]) or [None])[0] or 1
    elements = _peak(nodes, {port: size or 0 for port, size in sizes.items()})
    return ceil(count / ceil(count / fitting(ceil(elements / images))))


def fitting(elements: int) -> int:
    """Return how many pieces of so many ``float32`` values fit into memory at a time: at least one."""
    return max(1, MEMORY_LIMIT // (4 * elements))


def _size(output: ov.Output) -> int | None:
    """Return the number of elements of one batch; ``None`` where it is dynamic."""
    dims = dimensions(output)
    if dims is None or None in dims[1:]:
        return None
    return prod(size or 1 for size in dims)


def _peak(nodes: Sequence[ov.Node], sizes: dict[Port, int]) -> int:
    """Return the largest number of elements held at a time when ``nodes`` run in order.

    Held is what was computed and is still to be read; while an operation runs, also its outputs, and a second copy of
    its inputs in the blocked layout that convolutions read.
    """
    inputs = [{port_of(value) for value in node.input_values()} & sizes.keys() for node in nodes]
    last_read = {port: i for i, ports in enumerate(inputs) for port in ports}
    held = {port for port in sizes if port not in {port_of(output) for node in nodes for output in node.outputs()}}
    peak = 1
    for i, node in enumerate(nodes):
        held |= {port_of(output) for output in node.outputs()}
        peak = max(peak, sum(sizes[port] for port in held) + sum(sizes[port] for port in inputs[i]))
        held = {port for port in held if last_read.get(port, -1) > i}
    return peak
