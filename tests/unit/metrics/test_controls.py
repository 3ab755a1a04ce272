from __future__ import annotations

import numpy as np

from otx_xai.metrics import Case, centre_control, centre_maps, random_control, random_maps


def test_random_maps_fill_the_range_and_follow_the_seed():
    maps = random_maps((4, 6, 9), seed=1)
    assert (maps.shape, maps.dtype) == ((4, 6, 9), np.float32)
    assert (maps.min(axis=(1, 2)) == 0).all()
    assert (maps.max(axis=(1, 2)) == 1).all()
    np.testing.assert_array_equal(maps, random_maps((4, 6, 9), seed=1))
    assert not np.isclose(maps, random_maps((4, 6, 9), seed=2)).all(axis=(1, 2)).any()


def test_centre_maps_peak_in_the_middle_and_are_symmetric():
    maps = centre_maps((2, 5, 9))
    assert maps.dtype == np.float32
    assert np.unravel_index(maps[1].argmax(), (5, 9)) == (2, 4)
    np.testing.assert_allclose(maps, maps[:, ::-1, ::-1], atol=1e-6)
    one = centre_maps((1, 401, 401), spread=0.25)[0]
    rows, columns = np.mgrid[:401, :401] / 401 - 200 / 401
    gaussian = np.exp(-(rows**2 + columns**2) / (2 * 0.25**2))
    np.testing.assert_allclose(one, (gaussian - gaussian.min()) / np.ptp(gaussian), atol=1e-5)


def test_a_random_control_depends_on_image_and_class_not_on_its_turn():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    cases = [Case(image, 0) for image in images]
    control = random_control((3, 4))
    maps = control(cases)
    assert maps.shape == (3, 3, 4)
    np.testing.assert_array_equal(control(cases[::-1]), maps[::-1])
    assert (control([Case(images[0], 1)]) != maps[0]).any()
    assert (maps[0] != maps[1]).any()
    assert centre_control((3, 4))(cases).shape == (3, 3, 4)
