"""Edits of a clone: a copy of the head is grafted onto other inputs, and nothing of the old model changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.rt_info import keeps, write, written
from otx_xai.graph.traits import RESHAPES
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of

Source = Callable[[ov.Output], ov.Output]

_DYNAMIC_QUANTISATION = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]


class Twin:
    """A clone of a viewed model, with the way from each of the model's tensors to the clone's.

    Args:
        view: the model to clone; weights are shared, not copied.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.model = view.model.clone()
        self._nodes = list(self.model.get_ordered_ops())
        if [kind(node) for node in self._nodes] != [kind(node) for node in view.nodes]:
            raise GraphError("OpenVINO's clone of the model lists its operations in another order than the model.")

    def node(self, node: ov.Node) -> ov.Node:
        """Return the clone's counterpart of ``node``."""
        return self._nodes[self.view.position[node.get_name()]]

    def output(self, output: ov.Output) -> ov.Output:
        """Return the clone's counterpart of ``output``."""
        return self.node(output.get_node()).output(output.get_index())


def graft(
    view: View,
    starts: dict[Port, ov.Output],
    ends: Iterable[ov.Output],
    *,
    outside: Source,
    prefix: str,
    free_batch: bool,
) -> list[ov.Output]:
    """Return a copy of the part of the graph between ``starts`` and ``ends``, reading other inputs.

    Quantisers of activations are left out of the copy: they are calibrated for whole images, and would round the
    small signal of a single place away. Sizes that the part asks of its own tensors are asked of the copies. With a
    free batch, pointwise convolutions of single places become matrix products of all of them, which the CPU plugin
    computes several times as fast.

    Args:
        view: the model to copy from.
        starts: for each tensor where the part begins, what to read instead.
        ends: tensors of the viewed model to return copies of.
        outside: gives the counterpart of a tensor that the part reads from elsewhere (not through ``starts``).
        prefix: friendly names of the copies are ``<prefix>/<name>``.
        free_batch: rewrite reshapes so that the first axis can have any size; :func:`batch_obstacle` tells whether
            they can be.

    Returns:
        The copies of ``ends``, in order.
    """
    ends = list(ends)
    twin = Twin(view)
    names = _between(view, starts, ends)
    names |= _followers(view, names, starts.keys())
    read = dict(starts)

    def source(output: ov.Output) -> ov.Output:
        while True:
            if port_of(output) in read:
                return read[port_of(output)]
            node = output.get_node()
            if node.get_name() in names and kind(node) == "FakeQuantize":
                output = node.input_value(0)
            elif node.get_name() in names or node.get_name() in view.constant:
                return twin.output(output)
            else:
                return outside(output)

    for node in view.ordered(names):
        if free_batch and _is_pointwise(node):
            read[port_of(node.output(0))] = _product(*(source(value) for value in node.input_values()))
            continue
        copy = twin.node(node)
        for i, value in enumerate(node.input_values()):
            copy.input(i).replace_source_output(source(value))
        if free_batch and kind(node) in RESHAPES:
            _free_batch(node, copy)
        copy.set_friendly_name(f"{prefix}/{node.get_friendly_name()}")
        copy.validate_and_infer_types()
    return [source(end) for end in ends]


def _is_pointwise(node: ov.Node) -> bool:
    """Whether it is a convolution that sees, of each image, a single place, ``(N, C, 1, 1)``."""
    if kind(node) != "Convolution" or any(node.get_attributes()["pads_begin"] + node.get_attributes()["pads_end"]):
        return False
    images, weights = (dimensions(value) or [] for value in node.input_values())
    return None not in weights and images[1:] == [weights[1], 1, 1] and weights[2:] == [1, 1]


def _product(images: ov.Output, weights: ov.Output) -> ov.Output:
    """Return a pointwise convolution of ``(N, C, 1, 1)`` as a product of matrices."""
    outputs, inputs = (dimensions(weights) or [])[:2]
    rows, matrix = reshape(images, (-1, inputs or 1)), reshape(weights, (outputs or 1, inputs or 1))
    product = ops.matmul(rows, matrix, transpose_a=False, transpose_b=True).output(0)
    return reshape(product, (-1, outputs or 1, 1, 1))


def _between(view: View, starts: dict[Port, ov.Output], ends: list[ov.Output]) -> set[str]:
    origins = [view.nodes[view.position[name]].output(index) for name, index in starts]
    return view.between(origins, ends)


def _followers(view: View, names: set[str], starts: Iterable[Port]) -> set[str]:
    """Return the names of the nodes that carry sizes of tensors of a part (or of its starts) back into the part."""
    starts = set(starts)
    todo = [value for name in names for value in view.nodes[view.position[name]].input_values()]
    above: set[str] = set()
    while todo:
        node = todo.pop().get_node()
        name = node.get_name()
        if name not in above | view.data | view.constant:
            above.add(name)
            todo.extend(node.input_values())
    followers: set[str] = set()
    for node in view.ordered(above):
        sources = [port_of(value) for value in node.input_values()]
        if kind(node) == "ShapeOf":
            follows = sources[0] in starts or sources[0][0] in names
        else:
            follows = any(name in followers for name, _ in sources)
        if follows:
            followers.add(node.get_name())
    return followers


def batch_obstacle(view: View, starts: Iterable[ov.Output], ends: Iterable[ov.Output]) -> str | None:
    """Return what keeps a part of the graph from taking any size of the first axis, or ``None``.

    Only reshapes and concatenations are asked: every other operation that features meet in a head treats the first
    axis as a batch.
    """
    starts = list(starts)
    names = view.between(starts, ends)
    followers = _followers(view, names, [port_of(start) for start in starts])
    for node in view.ordered(names):
        reason = None
        if kind(node) in RESHAPES:
            reason = _fixes_batch(node, followers)
        elif kind(node) == "Concat":
            inside = names | followers
            sources = [(port_of(value), value.get_node().get_name()) for value in node.input_values()]
            if any(name not in inside and port not in map(port_of, starts) for port, name in sources):
                reason = "joins a tensor that does not grow with the batch"
        if reason:
            return f"{kind(node)} {node.get_friendly_name()!r} of shape {node.output(0).get_partial_shape()} {reason}"
    return None


def _fixes_batch(node: ov.Node, followers: set[str]) -> str | None:
    before, after = dimensions(node.input_value(0)), dimensions(node.output(0))
    if not before or not after:
        return "has a dynamic rank or is a scalar"
    if kind(node) != "Reshape":
        axes = constant_ints(node.input_value(1)) if len(node.inputs()) > 1 else None
        rank = max(len(before), len(after))
        return "touches the batch axis" if axes is None or 0 in [axis % rank for axis in axes] else None
    if None in before[1:] or None in after[1:]:
        follows = node.input_value(1).get_node().get_name() in followers
        return None if follows else "has dynamic axes beside the batch"
    same = prod(size or 1 for size in before[1:]) == prod(size or 1 for size in after[1:])
    return None if same else "merges the batch axis with others"


def _free_batch(node: ov.Node, copy: ov.Node) -> None:
    """Make a reshape that has no obstacle independent of the size of the first axis."""
    after = dimensions(node.output(0)) or []
    if kind(node) != "Reshape" or None in after[1:]:
        return
    pattern = ops.constant(np.array([-1, *(size or 1 for size in after[1:])], dtype=np.int64))
    copy.input(1).replace_source_output(pattern.output(0))


def size_of(output: ov.Output, axis: int) -> ov.Output:
    """Return the size of an axis as an ``i64`` tensor of shape (1,): a constant where it is static."""
    dims = dimensions(output)
    if dims is not None and dims[axis] is not None:
        return ops.constant(np.array([dims[axis]], dtype=np.int64)).output(0)
    shape = ops.shape_of(output, output_type="i64")
    return ops.gather(shape, ops.constant(np.array([axis], dtype=np.int64)), ops.constant(0)).output(0)


def as_type(output: ov.Output, element_type: ov.Type) -> ov.Output:
    """Return a tensor in a type, itself where it has that."""
    return output if output.get_element_type() == element_type else ops.convert(output, element_type).output(0)


def reshape(output: ov.Output, sizes: Iterable[int | ov.Output]) -> ov.Output:
    """Reshape to ``sizes``: integers (one may be -1) and ``i64`` tensors of shape (1,)."""
    parts = list(sizes)
    if all(isinstance(part, int) for part in parts):
        return ops.reshape(output, ops.constant(np.array(parts, dtype=np.int64)), special_zero=False).output(0)
    tensors = [ops.constant(np.array([part], dtype=np.int64)) if isinstance(part, int) else part for part in parts]
    return ops.reshape(output, ops.concat(tensors, axis=0), special_zero=False).output(0)


def transpose(output: ov.Output, order: Iterable[int]) -> ov.Output:
    """Permute the axes of ``output``; the identity adds no node."""
    axes = list(order)
    if axes == sorted(axes):
        return output
    return ops.transpose(output, ops.constant(np.array(axes, dtype=np.int64))).output(0)


def cut(output: ov.Output, axis: int, begin: int, end: int | None) -> ov.Output:
    """Return ``output[begin:end]`` along ``axis``."""
    bounds = [ops.constant(np.array([n], dtype=np.int64)) for n in (begin, 2**62 if end is None else end, 1, axis)]
    return ops.slice(output, bounds[0], bounds[1], bounds[2], bounds[3]).output(0)


def name_new_nodes(output: ov.Output, known: set[str], prefix: str) -> None:
    """Give the nodes above ``output`` that are not ``known`` (unique names) friendly names ``<prefix>/<step>``."""
    todo, number = [output.get_node()], 0
    while todo:
        node = todo.pop()
        if node.get_name() in known:
            continue
        known.add(node.get_name())
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{prefix}/{kind(node)}_{number}")
            number += 1
        todo.extend(value.get_node() for value in node.input_values())


def add_outputs(
    before: ov.Model, after: ov.Model, outputs: dict[str, ov.Output], known: set[str], prefix: str
) -> ov.Model:
    """Append outputs to an edited model, and prove that the edit changed nothing else.

    Args:
        before: the model as it was.
        after: its edited clone.
        outputs: name → tensor.
        known: unique names of the nodes that are not new.
        prefix: how new nodes are named.

    Raises:
        GraphError: an input, an output, a name, a shape or an entry of ``rt_info`` is not what it was.
    """
    for name, output in outputs.items():
        name_new_nodes(output, known, prefix)
        output.get_tensor().set_names({name})
    after.add_results([ops.result(output) for output in outputs.values()])
    after.validate_nodes_and_infer_types()
    _prove(before, after)
    return after


def _prove(before: ov.Model, after: ov.Model) -> None:
    """Check that the edit kept every input, output, name, shape and ``rt_info`` entry."""
    for side in ("inputs", "outputs"):
        old, new = getattr(before, side), getattr(after, side)
        for port, copy in zip(old, new, strict=False):
            kept = (
                port.get_names() <= copy.get_names()
                and port.get_partial_shape() == copy.get_partial_shape()
                and port.get_element_type() == copy.get_element_type()
            )
            if not kept:
                raise GraphError(f"The edit of the graph changed {port} to {copy}; this is a fault of otx_xai.")
    if not keeps(after, before):
        raise GraphError("The edit of the graph lost rt_info entries; this is a fault of otx_xai.")


def forbid_dynamic_quantisation(main: Twin, model: ov.Model | None = None) -> None:
    """Tell OpenVINO not to quantise activations by itself, unless the model already says what to do.

    The CPU plugin does so in front of linear layers whose weights are of 8 bit: for class scores that hardly matters,
    but maps are small differences of scores.

    Args:
        main: the clone.
        model: what is told so, where it is made of a part of the clone; the clone itself by default.
    """
    told = main.model if model is None else model
    is_quantised = any(kind(node) == "FakeQuantize" or _is_weight_of_few_bits(node) for node in main.view.nodes)
    if is_quantised and written(told, *_DYNAMIC_QUANTISATION) is None:
        write(told, "0", _DYNAMIC_QUANTISATION)


def _is_weight_of_few_bits(node: ov.Node) -> bool:
    return kind(node) == "Constant" and node.get_element_type() in (ov.Type.i8, ov.Type.u8, ov.Type.i4, ov.Type.u4)
