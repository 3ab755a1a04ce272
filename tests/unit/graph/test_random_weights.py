"""Layers from the output backwards, and weights in a random order that keep their values and types."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.random_weights import shuffle_weights, weight_layers
from otx_xai.graph.surgery import Twin
from otx_xai.graph.view import View
from otx_xai.openvino_core import core

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(1, 3, 12, 12)).astype(np.float32)


def network() -> ov.Model:
    """Three layers: weights as they are, in half precision, and of 8 bit with a scale; and a product of two images."""
    image = ops.parameter([1, 3, 12, 12], np.float32, name="image")
    first = ops.constant(RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), name="first")
    x = ops.relu(ops.convolution(image, first, [1, 1], [1, 1], [1, 1], [1, 1]))
    half = ops.convert(ops.constant(RNG.normal(size=(5, 4, 1, 1)).astype(np.float16), name="second"), "f32")
    x = ops.relu(ops.convolution(x, half, [1, 1], [0, 0], [0, 0], [1, 1]))
    x = ops.reduce_mean(x, np.array([2, 3]), keep_dims=False)
    x = ops.add(x, np.full((1, 5), 0.5, np.float32))
    x = ops.add(x, ops.reshape(ops.matmul(x, ops.reshape(x, np.array([5, 1]), False), False, False), [1, 1], False))
    bytes_of = ops.constant(RNG.integers(-127, 128, (5, 6)).astype(np.int8), name="third")
    weights = ops.multiply(ops.convert(bytes_of, "f32"), np.float32(0.01))
    return ov.Model([ops.result(ops.matmul(x, weights, False, False))], [image], "three_layers")


def values(model: ov.Model) -> dict[str, np.ndarray]:
    named = {node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"}
    return {name: np.array(named[name].data) for name in ("first", "second", "third")}


def scores(model: ov.Model) -> np.ndarray:
    return np.array(core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(IMAGE)[0])


@pytest.fixture(scope="module")
def view() -> View:
    return View(network())


def drawn(view: View, count: int, seed: int = 0) -> ov.Model:
    twin = Twin(view)
    shuffle_weights(twin, weight_layers(view)[:count], seed)
    return twin.model


def test_layers_come_from_the_output_backwards_and_have_weights(view):
    kinds = [node.get_type_name() for node in weight_layers(view)]
    assert kinds == ["MatMul", "Convolution", "Convolution"]
    shapes = [list(node.get_output_shape(0)) for node in weight_layers(view)]
    assert shapes == [[1, 6], [1, 5, 12, 12], [1, 4, 12, 12]]


@pytest.mark.parametrize(("count", "changed"), [(0, ""), (1, "third"), (2, "third second"), (3, "third second first")])
def test_the_last_layers_get_their_own_values_in_another_order(view, count, changed):
    before, after = values(view.model), values(drawn(view, count))
    for name, own in after.items():
        assert own.dtype == before[name].dtype
        np.testing.assert_array_equal(np.sort(own, axis=None), np.sort(before[name], axis=None))
        assert np.array_equal(own, before[name]) is (name not in changed.split())


def test_more_layers_change_the_same_ones_in_the_same_way(view):
    np.testing.assert_array_equal(values(drawn(view, 1))["third"], values(drawn(view, 3))["third"])
    assert not np.array_equal(values(drawn(view, 1))["third"], values(drawn(view, 1, seed=1))["third"])


def test_the_model_itself_stays_what_it_is_and_the_copy_computes_something_else(view):
    plain = scores(view.model)
    changed = scores(drawn(view, 3))
    np.testing.assert_array_equal(scores(view.model), plain)
    assert np.isfinite(changed).all()
    assert np.abs(changed - plain).max() > 0.1 * np.ptp(plain)
