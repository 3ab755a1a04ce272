"""The branch of a classifier that is made of gradients: what all methods that read the gradients of layers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.features import Anatomy, Features, prefix_picks
from otx_xai.graph.surgery import Twin
from otx_xai.methods.attention import attention_block
from otx_xai.methods.class_branch import Drawn, finish_branch, only_layer, title
from otx_xai.methods.class_gradients import Slope, class_slopes, gradient_obstacle, layer_of_name
from otx_xai.methods.heads import Site
from otx_xai.methods.spec import CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model
from otx_xai.records import Preset

Layers = Callable[[Anatomy, Sequence[str]], Sequence[Features]]


def last_layer(anatomy: Anatomy, names: Sequence[str]) -> Sequence[Features]:
    """Return the layer that the user names; by default the last one whose places reach the class scores.

    Behind the last attention of a transformer with a class token no place reaches it any more: there it is the tokens
    that this attention reads, behind their norm.

    Raises:
        ConfigError: several are named.
        GraphError: the name is none of a layer that can be explained, or no attention reads the tokens.
    """
    name = only_layer(names)
    if name is not None:
        return [layer_of_name(anatomy, name)]
    return [anatomy.features if prefix_picks(anatomy) is None else attention_block(anatomy).normed]


@dataclass(frozen=True)
class LayerMaps:
    """What is a method's own in a branch of gradients.

    Args:
        name: of the method.
        draw: makes maps ``(N, K, M)`` of the gradients of the layers, in a site; unscaled.
        layers: chooses the layers, given those that the user names; maps have the places of the first.
        anatomy: what is known of a model.
    """

    name: str
    draw: Callable[[Site, Sequence[Slope]], ov.Output]
    layers: Layers = last_layer
    anatomy: Callable[[Model], Anatomy] = lambda model: model.structure.anatomy


def fit_of_gradients(model: Model, names: Sequence[str], maps: LayerMaps) -> Fit:
    """Tell whether gradients reach the layers of a method."""
    try:
        anatomy = maps.anatomy(model)
        layers = maps.layers(anatomy, names)
    except GraphError as error:
        return Fit(False, str(error), automatic=False)
    obstacle = gradient_obstacle(anatomy, layers)
    if obstacle is not None:
        return Fit(False, f"{maps.name} does not fit: {obstacle}", automatic=False)
    return Fit(True, f"gradients reach {', '.join(map(title, layers))}", automatic=False)


def insert_gradient_branch(model: Model, order: Order, maps: LayerMaps) -> Branch:
    """Return a copy of a classifier with maps made of gradients; see ``insert_class_branch`` for its outputs.

    Raises:
        GraphError: gradients cannot pass an operation, or too many classes are wanted at once.
    """
    anatomy = maps.anatomy(model)
    layers = maps.layers(anatomy, order.target_layers)
    site = Site(anatomy, Twin(anatomy.view), order.classes, f"xai/{maps.name}")
    known = {node.get_name() for node in site.main.model.get_ordered_ops()}
    slopes = class_slopes(site, layers)
    drawn = Drawn(layers[0], broken_with(maps.draw(site, slopes), slopes), known)
    return finish_branch(model, site, order, drawn, prefix_picks(anatomy))


def broken_with(maps: ov.Output, slopes: Sequence[Slope]) -> ov.Output:
    """Make maps NaN whose gradients are not finite, which taking positive parts would hide: then it is told."""
    for slope in slopes:
        total = ops.reduce_sum(slope.over_channels(slope.gradient), ops.constant(np.array([-1])), keep_dims=True)
        maps = ops.add(maps, ops.multiply(total, ops.constant(np.float32(0)))).output(0)
    return maps


def spec_of(maps: LayerMaps, meaning: str, *, presets: frozenset[Preset] = frozenset()) -> MethodSpec:
    """Return the row of a method of classifiers that is a branch of gradients.

    Args:
        maps: what is its own.
        meaning: one line for people.
        presets: efforts of which auto mode asks for it first.
    """

    def fits(model: Model, target_layers: Sequence[str]) -> Fit:
        return fit_of_gradients(model, target_layers, maps)

    def insert(model: Model, order: Order) -> Branch:
        return insert_gradient_branch(model, order, maps)

    return MethodSpec(maps.name, meaning, CLASSIFIERS, fits, insert=insert, each_class_costs=True, presets=presets)
