"""Gradients of class scores with respect to layers, and the branch that makes maps of them.

The scores are those before soft-max: the gradient of a probability vanishes where it is nearly 1. Each wanted class is
a seed of one backward pass, and all of them share the forward pass of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.gradient import gradients, missing_rules
from otx_xai.graph.features import Anatomy, Features, as_features
from otx_xai.graph.surgery import cut, reshape, size_of, transpose
from otx_xai.graph.view import dimensions
from otx_xai.methods.heads import Site
from otx_xai.methods.spec import class_count

MOST_CLASSES = 100
"""Classes whose gradients one inference gives at most: each costs about a forward pass, and memory of its own."""


@dataclass(frozen=True)
class Slope:
    """A layer, and the gradient of each wanted class with respect to it.

    Args:
        features: the layer, in the viewed model.
        value: the layer in the main graph; tokens that are no places are left out.
        gradient: ``(K, *shape)`` of that.
    """

    features: Features
    value: ov.Output
    gradient: ov.Output

    def over_channels(self, products: ov.Output) -> ov.Output:
        """Sum up over channels: ``(K, *shape)`` to ``(N, K, M)``, places in row-major order."""
        own = self.features
        total = ops.reduce_sum(products, ops.constant(np.array([own.channel_axis + 1])), keep_dims=False).output(0)
        kept = [axis for axis in range(len(own.dims)) if axis != own.channel_axis]
        ahead = [kept.index(axis) + 1 for axis in (own.batch_axis, *own.places)]
        rows = transpose(total, (ahead[0], 0, *ahead[1:]))
        if len(own.places) == 1:
            return rows
        dims = dimensions(rows) or []
        images, classes = (size_of(rows, axis) if dims[axis] is None else dims[axis] or 1 for axis in range(2))
        return reshape(rows, (images, classes, -1))

    def mean_over_places(self) -> ov.Output:
        """Return the gradient averaged over places, each axis of these of length 1."""
        axes = ops.constant(np.array([axis + 1 for axis in self.features.places]))
        return ops.reduce_mean(self.gradient, axes, keep_dims=True).output(0)


Draw = Callable[[Sequence[Slope]], ov.Output]
"""Makes maps ``(N, K, M)`` of layers and their gradients."""


def class_slopes(site: Site, layers: Sequence[Features]) -> list[Slope]:
    """Write the gradients of the wanted classes' scores with respect to layers into the graph.

    Raises:
        GraphError: gradients cannot pass an operation between, or more classes are wanted than one inference can give.
    """
    logits = site.main.output(site.anatomy.logits.port)
    tensors = [site.main.output(layer.output) for layer in layers]
    found = class_gradients(logits, class_seeds(site, logits), tensors)
    return [_slope(*parts) for parts in zip(layers, tensors, found, strict=True)]


def class_gradients(logits: ov.Output, seeds: ov.Output, tensors: Sequence[ov.Output]) -> list[ov.Output]:
    """Write the gradients of class scores into the graph.

    Args:
        logits: the class scores.
        seeds: one a wanted class, as :func:`class_seeds` makes them.
        tensors: what they are differentiated with respect to.

    Returns:
        For each tensor ``(K, *shape)``.
    """
    if (dimensions(seeds) or [0])[0] == 1:
        seed = ops.squeeze(seeds, ops.constant(np.array([0]))).output(0)
        return [ops.unsqueeze(value, ops.constant(0)).output(0) for value in gradients([(logits, seed)], tensors)]
    stacked = gradients([(logits, seeds)], tensors, several=True)
    return [_with_image_axis(tensor, value) for tensor, value in zip(tensors, stacked, strict=True)]


def gradient_obstacle(anatomy: Anatomy, layers: Sequence[Features]) -> str | None:
    """Say which operations gradients cannot pass between layers and class scores; ``None`` where they pass all."""
    missing = missing_rules([anatomy.logits.port], [layer.output for layer in layers])
    if not missing:
        return None
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"gradients cannot pass from the class scores to the image: {'; '.join(missing[:3])}{more}"


def layer_of_name(anatomy: Anatomy, name: str) -> Features:
    """Return the features of a layer that the user names: any tensor with places that class scores depend on.

    Unlike for masks, not every path to the class scores need run through it.

    Raises:
        GraphError: there is no such layer, or it has no places, or class scores do not depend on it.
    """
    output = anatomy.view.by_layer_name.get(name)
    reason = "no layer or tensor of the model has this name"
    if output is not None:
        reason = f"the class scores do not depend on it, or its shape {output.get_partial_shape()} has no places"
        on_the_way = output.get_node().get_name() in anatomy.view.ancestors([anatomy.logits.port])
        found = as_features(anatomy.labels, output) if on_the_way else None
        if found is not None:
            return found
    last = anatomy.features.output.get_node().get_friendly_name()
    raise GraphError(
        f"--target_layer {name!r} cannot be explained: {reason}. Expected a layer with height and width, or tokens of "
        f"an image, such as {last!r}."
    )


def class_seeds(site: Site, logits: ov.Output) -> ov.Output:
    """Return a seed for each wanted class of each image, ``(K, *shape)`` of the class scores.

    Raises:
        GraphError: more classes are wanted than one inference can give.
    """
    total = site.anatomy.logits.num_classes
    count = class_count(site.classes, total)
    if count > MOST_CLASSES:
        raise GraphError(
            f"The gradients of {count} classes at once take about as many forward passes an image, and as many times "
            f"the memory; expected at most {MOST_CLASSES} classes. Name fewer --targets, or take reciprocam or "
            "vitreciprocam, which give maps of all classes in one pass."
        )
    images = size_of(reshape(logits, (-1, total)), 0)
    best = site.best()
    if best is not None:
        wanted = transpose(best, (1, 0))  # (K, N)
    else:
        chosen = range(total) if site.classes is None else site.classes
        column = ops.constant(np.array(chosen, np.int32)[:, None])
        shape = ops.concat([ops.constant(np.array([count], np.int64)), images], axis=0)
        wanted = ops.broadcast(column, shape).output(0)
    scalars = [ops.constant(np.array(value, np.float32)) for value in (1, 0)]
    if logits.get_element_type() != ov.Type.f32:
        scalars = [ops.convert_like(value, logits) for value in scalars]
    seeds = ops.one_hot(wanted, ops.constant(np.int64(total)), *scalars, -1).output(0)
    dims = dimensions(logits) or []
    return reshape(seeds, (count, *(size_of(logits, axis) if size is None else size for axis, size in enumerate(dims))))


def _with_image_axis(tensor: ov.Output, value: ov.Output) -> ov.Output:
    """Give a stacked gradient the axis of its one image back, in whose place the seeds stand."""
    if len(dimensions(value) or ()) > len(dimensions(tensor) or ()):
        return value
    return ops.unsqueeze(value, ops.constant(1)).output(0)


def _slope(features: Features, value: ov.Output, gradient: ov.Output) -> Slope:
    if not features.prefix:
        return Slope(features, value, gradient)
    axis = features.places[0]
    return Slope(features, cut(value, axis, features.prefix, None), cut(gradient, axis + 1, features.prefix, None))
