from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from otx_xai.data.patterns import draw_pattern
from otx_xai.data.shape_sets import write_coco, write_image_folder
from otx_xai.data.shapes import SHAPE_LABELS, draw_scene, draw_shape

SIZE = (64, 80)


def spectrum(label: str) -> np.ndarray:
    """How strong each frequency of a pattern is, which shifts do not change."""
    change = draw_pattern(np.random.default_rng(0), (60, 60), label)
    return np.abs(np.fft.rfft2(change - change.mean())).ravel()


def test_each_class_has_a_pattern_of_its_own() -> None:
    for one, other in combinations(SHAPE_LABELS, 2):
        alike = np.corrcoef(spectrum(one), spectrum(other))[0, 1]
        brighter = [draw_pattern(np.random.default_rng(0), (60, 60), label).mean() for label in (one, other)]
        assert alike < 0.9 or abs(brighter[0] - brighter[1]) > 10, (one, other)


@pytest.mark.parametrize("target", range(len(SHAPE_LABELS)))
def test_only_pixels_of_the_shape_are_patterned(target: int) -> None:
    plain, patterned = (draw_shape(np.random.default_rng(3), SIZE, target, patterned=flag) for flag in (False, True))
    np.testing.assert_array_equal(plain.mask, patterned.mask)
    change = patterned.image.astype(int) - plain.image
    assert np.abs(change[plain.mask]).mean() > 15
    # the noise that follows is another, by a few grey levels
    edge = np.zeros(SIZE, bool)
    edge[:-1] |= plain.mask[1:]
    edge[1:] |= plain.mask[:-1]
    edge[:, :-1] |= plain.mask[:, 1:]
    edge[:, 1:] |= plain.mask[:, :-1]
    assert np.abs(change[~(plain.mask | edge)]).mean() < 8


def test_scenes_and_data_sets_are_patterned(tmp_path) -> None:
    for flag in (False, True):
        first, again = (draw_scene(np.random.default_rng(1), SIZE, [0, 3], patterned=flag) for _ in range(2))
        np.testing.assert_array_equal(first.image, again.image)
    for write in (write_image_folder, write_coco):
        plain, patterned = (
            write(tmp_path / write.__name__ / str(flag), 1, size=48, patterned=flag)[0] for flag in (0, 1)
        )
        assert not np.array_equal(plain.scene.image, patterned.scene.image)
