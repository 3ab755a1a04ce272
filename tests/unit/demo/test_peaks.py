from __future__ import annotations

import numpy as np
import pytest

from otx_xai.demo.peaks import find_peak, mark_peak


@pytest.mark.parametrize(
    ("bright", "peak"),
    [([(2, 3)], (2, 3)), ([(1, 1), (1, 2), (1, 3)], (1, 2)), ([(0, 0), (4, 5), (4, 6), (5, 5), (5, 6)], (4, 5))],
)
def test_peak_is_the_middle_of_the_brightest_pixels(bright: list[tuple[int, int]], peak: tuple[int, int]) -> None:
    grey_map = np.zeros((6, 7), np.uint8)
    grey_map[tuple(np.transpose(bright))] = 200
    assert find_peak(grey_map) == peak


def test_the_mark_surrounds_the_peak() -> None:
    marked = mark_peak(np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool), (10, 30))
    assert marked.shape == (80, 120, 3)
    ring = np.argwhere(marked.max(axis=2) > 200)
    np.testing.assert_allclose(ring.mean(axis=0), (21, 61), atol=1)
