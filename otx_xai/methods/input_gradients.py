"""Gradients of class scores with respect to the image, summed over many versions of it, one at a time in a loop.

A ``TensorIterator`` holds a second copy of the network, from the pixels to the class scores and back. So memory does
not grow with the number of versions, and the branch runs wherever the model does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, Features, as_features, prefix_picks
from otx_xai.graph.input_layout import image_input
from otx_xai.graph.surgery import Twin, graft
from otx_xai.graph.view import constant_ints, kind, port_of
from otx_xai.methods.class_branch import Drawn, finish_branch, only_layer
from otx_xai.methods.class_gradients import Slope, class_gradients, class_seeds, gradient_obstacle
from otx_xai.methods.gradient_branch import broken_with
from otx_xai.methods.heads import Site
from otx_xai.methods.spec import Branch, Fit, Order
from otx_xai.model.opened import Model
from otx_xai.records import FloatArray

Change = Callable[[ov.Output, ov.Output, Sequence[ov.Output]], tuple[ov.Output, ov.Output]]
"""Makes a version of an image, given the image, a row of the table ``(1, w)`` and what else the loop is given; returns
it with the weight of its gradient, ``(1,)``."""


@dataclass(frozen=True)
class Versions:
    """Versions of an image whose gradients are summed up.

    Args:
        table: one row a version, ``float32`` ``(n, w)``.
        change: makes a version of a row.
        given: tensors of the main graph that it needs beside.
    """

    table: FloatArray
    change: Change
    given: Sequence[ov.Output] = ()


def pixels_of(anatomy: Anatomy) -> Features:
    """Return the image as the network's first real numbers.

    Raises:
        GraphError: it is not known which axes are height and width, or the input is no real number and read by several.
    """
    output = image_input(anatomy.view.model).output(0)
    while not output.get_element_type().is_real():
        readers = [node for node, _ in anatomy.view.consumers.get(port_of(output), ()) if kind(node) != "ShapeOf"]
        if len(readers) != 1 or kind(readers[0]) not in ("Convert", "Transpose"):
            raise GraphError("The input of the model is made real numbers in several places; expected one Convert.")
        output = readers[0].output(0)
    found = as_features(anatomy.labels, output)
    if found is None:
        raise GraphError(f"The axes of the input {output.get_partial_shape()} are not known; pass --input.layout.")
    return found


def fit_of_pixels(model: Model, names: Sequence[str], method: str) -> Fit:
    """Tell whether gradients reach the pixels."""
    try:
        anatomy = model.structure.anatomy
        pixels = pixels_of(anatomy)
        reason = gradient_obstacle(anatomy, [pixels])
    except GraphError as error:
        reason = str(error)
    if only_layer(names) is not None:
        reason = f"{method} explains pixels, and no layer; leave --target_layer out"
    if reason is not None:
        return Fit(False, f"{method} does not fit: {reason}", automatic=False)
    return Fit(True, "gradients reach the pixels", automatic=False)


def summed_gradient(site: Site, pixels: Features, versions: Versions) -> Slope:
    """Write the weighted sum of the gradients of all versions into the graph.

    Quantisers of activations are left out of the copy of the network, as gradients pass them straight in any case.

    Raises:
        GraphError: gradients cannot pass an operation, or too many classes are wanted at once.
    """
    body: list[tuple[ov.op.Parameter, ov.Output]] = []

    def inside(value: ov.Output) -> ov.Output:
        if kind(value.get_node()) == "Constant":
            return value
        known = constant_ints(value) if value.get_element_type().is_integral() else None
        if known is not None:  # axes that ONNX computes from a rank: rules want to read them
            return ops.constant(np.reshape(known, value.get_shape()), value.get_element_type()).output(0)
        parameter = ops.parameter(value.get_partial_shape(), value.get_element_type())
        body.append((parameter, value))
        return parameter.output(0)

    image = site.main.output(pixels.output)
    scores = site.anatomy.logits.port
    seeds = class_seeds(site, site.main.output(scores))
    row = ops.parameter([1, versions.table.shape[1]], np.float32)
    version, weight = versions.change(inside(image), row.output(0), [inside(value) for value in versions.given])
    starts = {port_of(pixels.output): version}
    prefix = f"{site.prefix}/step"
    (logits,) = graft(
        site.view, starts, [scores], outside=lambda output: inside(site.main.output(output)), prefix=prefix,
        free_batch=False,
    )  # fmt: skip
    (gradient,) = class_gradients(logits, inside(seeds), [version])
    total = ops.parameter(gradient.get_partial_shape(), gradient.get_element_type())
    result = ops.result(ops.add(total, ops.multiply(gradient, weight)))
    loop = ops.tensor_iterator()
    loop.set_function(ov.Model([result], [row, total, *(parameter for parameter, _ in body)], "step"))
    loop.set_sliced_input(row, ops.constant(versions.table).output(0), 0, 1, 1, -1, 0)
    loop.set_merged_input(total, _zeros(seeds, image), result.output(0))
    for parameter, value in body:
        loop.set_invariant_input(parameter, value)
    return Slope(pixels, image, loop.get_iter_value(result.output(0), -1))


def _zeros(seeds: ov.Output, image: ov.Output) -> ov.Output:
    """Return zeros of the shape of the gradients, ``(K, *shape)`` of the image."""
    count = seeds.get_partial_shape()[0].get_length()
    shape = ops.concat([ops.constant(np.array([count])), ops.shape_of(image, output_type="i64")], axis=0)
    zero = ops.convert(ops.constant(np.float32(0)), image.get_element_type())
    return ops.broadcast(zero, shape).output(0)


def insert_pixel_branch(
    model: Model,
    order: Order,
    method: str,
    versions: Callable[[ov.Output, Features], Versions],
    read: Callable[[Slope], ov.Output],
) -> Branch:
    """Return a copy of a classifier with maps of its pixels; see ``insert_class_branch`` for its outputs.

    Args:
        model: the classifier.
        order: what the branch is to give.
        method: its name.
        versions: says which versions of an image count, given the image in the main graph, and its axes.
        read: makes maps ``(N, K, M)`` of the summed gradient.

    Raises:
        GraphError: gradients cannot pass an operation, or too many classes are wanted at once.
    """
    anatomy = model.structure.anatomy
    pixels = pixels_of(anatomy)
    site = Site(anatomy, Twin(anatomy.view), order.classes, f"xai/{method}")
    known = {node.get_name() for node in site.main.model.get_ordered_ops()}
    slope = summed_gradient(site, pixels, versions(site.main.output(pixels.output), pixels))
    drawn = Drawn(pixels, broken_with(read(slope), [slope]), known)
    return finish_branch(model, site, order, drawn, prefix_picks(anatomy))
