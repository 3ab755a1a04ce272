"""A network that is fed pixels of 0 to 255 against its training is told by its first layer."""

from __future__ import annotations

import logging

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.view import View
from otx_xai.model import ModelOptions, open_model
from otx_xai.model.first_layer import spread_of_first_layer, warning_of_first_layer
from otx_xai.records import InputOptions


def network(weight: float, *, inside: float = 1, bias: float = 0, behind: float = 1, layout: str = "NCHW") -> ov.Model:
    """Return a classifier whose first layer is trained on images that are ``inside`` times pixels."""
    shape = {"N": 1, "C": 3, "H": 24, "W": 32}
    image = ops.parameter([shape[axis] for axis in layout], np.float32)
    first = image if layout == "NCHW" else ops.transpose(image, ops.constant(np.array([0, 3, 1, 2])))
    scaled = ops.multiply(first, ops.constant(np.float32(inside)))
    kernel = weight * np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype(np.float32)
    features = ops.convolution(scaled, ops.constant(kernel), [2, 2], [1, 1], [1, 1], [1, 1])
    shifted = ops.add(ops.multiply(features, ops.constant(np.float32(behind))), ops.constant(np.float32(bias)))
    pooled = ops.reduce_mean(ops.relu(shifted), ops.constant(np.array([2, 3])))
    head = ops.constant(np.ones((8, 4), np.float32))
    return ov.Model([ops.matmul(pooled, head, False, False)], [image])


def spread(model: ov.Model, layout: str = "NCHW") -> float:
    found = spread_of_first_layer(View(model), layout)
    assert found is not None
    return found


def test_the_spread_is_of_the_layer_with_all_that_only_scales_it():
    one = spread(network(0.2))
    assert spread(network(0.4)) == pytest.approx(2 * one, rel=1e-5)
    assert spread(network(0.2, bias=40)) == pytest.approx(one, rel=1e-4)
    assert spread(network(0.2, behind=0.5)) == pytest.approx(one / 2, rel=1e-5)
    assert spread(network(0.2, inside=1 / 255)) == pytest.approx(one / 255, rel=1e-4)
    assert spread(network(0.2, layout="NHWC"), "NHWC") == pytest.approx(one, rel=1e-5)


def test_an_identity_spreads_as_photographs_do():
    image = ops.parameter([1, 3, 64, 64], np.float32)
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    layer = ops.convolution(image, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([ops.reduce_mean(layer, ops.constant(np.array([2, 3])))], [image])
    assert 50 < spread(model) < 65


def test_an_input_of_gigabytes_is_not_looked_at():
    image = ops.parameter([1, 3, 2**31, 1], np.float32)
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    layer = ops.convolution(image, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([ops.reduce_mean(layer, ops.constant(np.array([2, 3])))], [image])
    assert spread_of_first_layer(View(model), "NCHW") is None


def test_a_network_that_does_not_begin_with_a_layer_is_not_judged():
    image = ops.parameter([1, 3, 8, 8], np.float32)
    model = ov.Model([ops.reduce_mean(image, ops.constant(np.array([2, 3])))], [image])
    assert spread_of_first_layer(View(model), "NCHW") is None
    assert warning_of_first_layer(View(model), "NCHW") is None


@pytest.mark.parametrize(
    ("model", "options", "is_warned"),
    [
        (network(0.3), InputOptions(), True),
        (network(0.3), InputOptions(scale=255), False),
        (network(0.3), InputOptions(scale=1), False),
        (network(0.3, inside=1 / 255), InputOptions(), False),
        (network(0.3 / 255), InputOptions(), False),
        (network(0.3, layout="NHWC"), InputOptions(), True),
    ],
)
def test_who_is_fed_pixels_that_it_was_not_trained_on_is_warned(model, options, is_warned, caplog):
    with caplog.at_level(logging.WARNING):
        open_model(model, ModelOptions(input=options))
    assert ("its first layer answers them with values that spread by" in caplog.text) is is_warned
    assert caplog.text.count("--input.scale 1 says so") == is_warned
