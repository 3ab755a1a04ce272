from __future__ import annotations

import numpy as np
import pytest
import reference

from otx_xai.metrics import auc, blurred, rank_pixels, zero_colour
from otx_xai.metrics.perturbation import step_counts, step_image


def test_rank_follows_the_map_down():
    saliency_map = np.random.default_rng(0).random((12, 17), np.float32)
    ranks = rank_pixels(saliency_map, (12, 17))
    assert ranks.dtype == np.int32
    np.testing.assert_array_equal(np.sort(ranks, axis=None), np.arange(12 * 17))
    assert (np.diff(saliency_map.reshape(-1)[np.argsort(ranks, axis=None)]) <= 0).all()


def test_equal_pixels_stay_together_and_follow_a_smooth_field():
    saliency_map = np.zeros((40, 60), np.float32)
    saliency_map[:20] = 1
    ranks = rank_pixels(saliency_map, (40, 60), seed=3)
    assert ranks[:20].max() < ranks[20:].min()
    for half in (ranks[:20], ranks[20:]):
        assert half[:, :-1].tolist() != np.sort(half, axis=1)[:, :-1].tolist()  # not from left to right
        # neighbours rank alike: independent noise would give a third of the range
        assert np.abs(np.diff(half, axis=1)).mean() < 0.1 * half.size
    np.testing.assert_array_equal(ranks, rank_pixels(saliency_map, (40, 60), seed=3))
    assert (ranks != rank_pixels(saliency_map, (40, 60), seed=4)).mean() > 0.5


def test_step_image_has_so_many_pixels_of_the_one_and_the_rest_of_the_other():
    rng = np.random.default_rng(1)
    top, rest = rng.integers(0, 256, (2, 9, 14, 3), np.uint8)
    ranks = rng.permutation(9 * 14).reshape(9, 14).astype(np.int32)
    before = top.copy(), rest.copy()
    for count in (0, 1, 50, 9 * 14):
        np.testing.assert_array_equal(
            step_image(top, rest, ranks, count), np.where((ranks < count)[..., None], top, rest)
        )
    np.testing.assert_array_equal((top, rest), before)


@pytest.mark.parametrize(("pixels", "steps"), [(100, 7), (3, 10), (50176, 224)])
def test_steps_begin_with_nothing_and_end_with_all(pixels, steps):
    counts = step_counts(pixels, steps)
    assert (counts[0], counts[-1], len(counts)) == (0, pixels, steps + 1)
    assert np.ptp(np.diff(counts)) <= 1


def test_auc_is_the_area_under_each_curve():
    curves = np.random.default_rng(2).random((3, 2, 11))
    expected = [[sum((c[i] + c[i + 1]) / 2 * 0.1 for i in range(10)) for c in pair] for pair in curves]
    np.testing.assert_allclose(auc(curves), expected, rtol=1e-6)
    assert auc(np.array([0.0, 1.0])) == 0.5


def test_blur_is_that_of_the_authors_and_grows_with_the_input():
    image = np.random.default_rng(3).integers(0, 256, (224, 230, 3), np.uint8)
    kernel = reference.folded_gaussian()
    expected = image.astype(float)
    for axis in (0, 1):
        expected = np.apply_along_axis(np.convolve, axis, expected, kernel, "same")
    inner = (slice(6, -6), slice(6, -6))
    assert np.abs(blurred(image)[inner] - expected[inner]).max() < 1
    small = np.zeros((48, 48, 3), np.uint8)
    small[24, 24] = 255
    assert np.count_nonzero(blurred(small)[..., 0]) == 9
    np.testing.assert_array_equal(blurred(np.full((5, 4, 3), 77, np.uint8)), 77)


def test_zero_colour_is_what_the_network_subtracts():
    np.testing.assert_array_equal(zero_colour(), [0, 0, 0])
    np.testing.assert_array_equal(zero_colour([127.4]), [127, 127, 127])
    np.testing.assert_array_equal(zero_colour([123.7, 116.3, 103.5]), [124, 116, 104])
    np.testing.assert_array_equal(zero_colour([103.5, 116.3, 123.7], reverse=True), [124, 116, 104])
    assert zero_colour([300.0]).tolist() == [255] * 3
