import numpy as np
import pytest

from otx_xai.postprocess import min_max, to_uint8


def test_min_max_is_per_map():
    maps = np.random.default_rng(0).normal(3, 10, (2, 3, 4, 5)).astype(np.float32)
    scaled = min_max(maps)
    assert scaled.dtype == np.float32
    for index in np.ndindex(2, 3):
        single = maps[index].astype(float)
        np.testing.assert_allclose(scaled[index], (single - single.min()) / (single.max() - single.min()), atol=1e-6)
        assert scaled[index].min() == 0
        assert scaled[index].max() == 1


def test_min_max_leaves_its_argument_alone():
    maps = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    min_max(maps)
    np.testing.assert_array_equal(maps, np.arange(6).reshape(1, 2, 3))


@pytest.mark.parametrize("value", [0, 1, -7.5, 1e-30, 1e30])
def test_constant_map_becomes_zeros(value):
    noisy = np.full((1, 4, 4), value, np.float32)
    noisy[0, 0, 0] *= 1 + 5e-7
    np.testing.assert_array_equal(min_max(noisy), 0)


def test_a_small_range_is_no_constant():
    maps = np.array([[[1.0, 1.00001]], [[0, 1e-20]]], np.float32)
    np.testing.assert_array_equal(min_max(maps), [[[0, 1]], [[0, 1]]])


def test_the_largest_range_does_not_overflow():
    limit = np.finfo(np.float32).max
    np.testing.assert_array_equal(min_max(np.array([[-limit, 0, limit]], np.float32)), [[0, 0.5, 1]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_min_max_refuses_what_is_not_finite(value):
    maps = np.zeros((3, 2, 2), np.float32)
    maps[1, 0, 1] = value
    with pytest.raises(ValueError, match="1 of 3 maps"):
        min_max(maps)


def test_min_max_of_no_maps():
    assert min_max(np.zeros((0, 7, 7), np.float32)).shape == (0, 7, 7)


def test_to_uint8_rounds_and_clips():
    values = np.array([0, 1, -0.5, 1.5, 0.5, 0.51 / 255, 0.49 / 255, 100.6 / 255, 1 + 1e-7], np.float32)
    rounded = to_uint8(values)
    assert rounded.dtype == np.uint8
    np.testing.assert_array_equal(rounded, [0, 255, 0, 255, 128, 1, 0, 101, 255])


def test_to_uint8_returns_every_grey_level():
    np.testing.assert_array_equal(to_uint8(np.arange(256, dtype=np.float32) / 255), np.arange(256))


@pytest.mark.parametrize("scale", [1e-39, 1e-44])
def test_denormal_maps_become_zeros(scale: float):
    """As in the graph, where processors take them for zeros."""
    maps = (scale * np.random.default_rng(0).normal(size=(2, 5, 6))).astype(np.float32)
    assert maps.any()
    assert not min_max(maps).any()
