from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import reference
from openvino import opset13 as ops

from otx_xai.methods.scaling import scale_maps
from otx_xai.openvino_core import core


def scaled(maps: np.ndarray) -> np.ndarray:
    parameter = ops.parameter(maps.shape, np.float32)
    model = ov.Model([ops.result(scale_maps(parameter.output(0)))], [parameter])
    return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(maps)[0]


def test_each_map_fills_its_range():
    maps = np.random.default_rng(0).normal(3, 20, (2, 3, 24)).astype(np.float32)
    result = scaled(maps)
    np.testing.assert_allclose(result.min(-1), 0)
    np.testing.assert_allclose(result.max(-1), 255, rtol=1e-6)
    np.testing.assert_allclose(result, reference.scaled(maps[..., None])[..., 0], atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 1e-20, 1e30])
def test_constant_map_is_all_zeros(value: float):
    assert not scaled(np.full((1, 2, 12), value, np.float32)).any()


def test_rounding_noise_on_a_constant_is_all_zeros():
    noise = np.random.default_rng(0).normal(0, 1e-7, (1, 2, 24))
    assert not scaled((37.5 * (1 + noise)).astype(np.float32)).any()


def test_one_place_is_zero():
    assert not scaled(np.full((2, 3, 1), 4.0, np.float32)).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_never_beyond_255(scale: float):
    maps = (scale * np.random.default_rng(1).normal(size=(50, 40, 30))).astype(np.float32)
    result = scaled(maps)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 255
    assert (result.max(-1) > 254.9).all()


@pytest.mark.parametrize("scale", [1e-39, 1e-40, 1e-44])
def test_denormal_maps_are_all_zeros(scale: float):
    """Random weights of deep networks give such maps; zero divided by zero would be no number."""
    maps = (scale * np.random.default_rng(1).normal(size=(2, 4, 30))).astype(np.float32)
    assert maps.any()
    np.testing.assert_array_equal(scaled(maps), 0)
