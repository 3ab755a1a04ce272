from __future__ import annotations

import numpy as np
import pytest

from otx_xai.metrics import adcc, average_drop, coherency, complexity, mask_image

GREY = np.array([100, 110, 120], np.uint8)


def test_masked_image_fades_to_the_networks_zero():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    weights = np.random.default_rng(1).random((5, 7), np.float32)
    masked = mask_image(image, weights, GREY)
    expected = (image - GREY.astype(float)) * weights[..., None] + GREY
    assert masked.dtype == np.uint8
    assert np.abs(masked - expected).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(mask_image(image, np.ones((5, 7), np.float32), GREY), image)
    np.testing.assert_array_equal(
        mask_image(image, np.zeros((5, 7), np.float32), GREY), np.broadcast_to(GREY, (5, 7, 3))
    )


def test_average_drop_counts_losses_only():
    drops = average_drop(np.array([0.8, 0.5, 0.4, 0.0]), np.array([0.2, 0.9, 0.4, 0.1]))
    np.testing.assert_allclose(drops, [0.75, 0, 0, np.nan], rtol=1e-6)


def test_coherency_is_pearsons_correlation_from_0_to_1():
    first, second = np.random.default_rng(2).random((2, 6, 5, 8), np.float32)
    second += first
    expected = [(1 + np.corrcoef(a.ravel(), b.ravel())[0, 1]) / 2 for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(coherency(first, second), expected, rtol=1e-5)
    np.testing.assert_allclose(coherency(first, 3 * first + 1), 1, rtol=1e-6)
    np.testing.assert_allclose(coherency(first, -first), 0, atol=1e-6)
    np.testing.assert_array_equal(coherency(np.zeros_like(first), first), 0.5)


def test_complexity_is_the_mean_of_each_map():
    maps = np.stack([np.zeros((3, 4)), np.ones((3, 4)), np.eye(3, 4)]).astype(np.float32)
    np.testing.assert_allclose(complexity(maps), [0, 1, 0.25])


def test_adcc_is_the_harmonic_mean_of_the_three():
    assert adcc(0.9, 0.3, 0.2) == pytest.approx(3 / (1 / 0.9 + 1 / 0.7 + 1 / 0.8))
    np.testing.assert_array_equal(
        adcc(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0])), [0, 0, 0, 1]
    )
