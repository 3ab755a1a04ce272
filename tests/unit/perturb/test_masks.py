"""Masks: each from its number alone, and their projections without them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference
from numpy.typing import DTypeLike

from otx_xai.errors import ConfigError
from otx_xai.perturb.basis import boxes, cosines
from otx_xai.perturb.masks import CellMasks, OrthogonalMasks
from otx_xai.perturb.subject import Subject, masking

SIZE = (24, 40)


@pytest.mark.parametrize("kind", [CellMasks, OrthogonalMasks])
def test_a_mask_depends_on_seed_and_number_only(kind: type[CellMasks | OrthogonalMasks]) -> None:
    masks, again, other = (kind(SIZE, (4, 6), seed=seed) for seed in (3, 3, 4))
    numbers = (0, 1, 33, 70)
    first = {i: masks.mask(i) for i in numbers}
    for i in reversed(numbers):
        np.testing.assert_array_equal(again.mask(i), first[i])
        assert not np.array_equal(first[i], other.mask(i))
    assert len({mask.tobytes() for mask in first.values()}) == len(numbers)


def test_a_mask_is_its_grid_enlarged_and_shifted() -> None:
    masks = CellMasks(SIZE, (4, 6))
    grid, (y, x) = masks.grid(7)
    enlarged = cv2.resize(grid, (7 * 7, 5 * 6), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(masks.mask(7), enlarged[y : y + 24, x : x + 40], atol=1e-6)


def test_masks_show_as_much_as_they_should_everywhere() -> None:
    masks = CellMasks(SIZE, (4, 6), prob=0.3)
    mean = np.mean([masks.mask(i) for i in range(2000)], axis=0)
    assert mean.shape == SIZE
    np.testing.assert_allclose(mean, 0.3, atol=0.05)
    assert all(masks.mask(i).min() >= 0 and masks.mask(i).max() <= 1 for i in range(20))


def test_orthogonal_masks_are_bilinear_in_their_grids() -> None:
    masks = OrthogonalMasks(SIZE, (4, 5))
    assert masks.block == 62
    for index, later in ((5, False), (62 + 5, True)):
        grid = np.tile(masks.grids([index])[0], (3, 3))
        repeated = cv2.resize(grid, (3 * 40, 3 * 24), interpolation=cv2.INTER_LINEAR)
        windows = np.lib.stride_tricks.sliding_window_view(repeated, SIZE)[24:36, 40:56]
        distance = np.abs(windows - masks.mask(index)).max(axis=(2, 3))
        # whole pixels only: a shift may lie half a pixel beside the nearest of these windows
        assert distance.min() < (0.09 if later else 1e-5)
        assert (distance[0, 0] == distance.min()) != later


@pytest.mark.parametrize("cells", [(1, 1), (4, 6), (5, 7)])
def test_a_block_is_an_orthogonal_array_folded_over(cells: tuple[int, int]) -> None:
    masks = OrthogonalMasks(SIZE, cells, seed=2)
    count = cells[0] * cells[1]
    for block in (0, 3):
        grids = masks.grids(range(block * masks.block, (block + 1) * masks.block)).reshape(masks.block, count)
        np.testing.assert_array_equal(grids[0::2] + grids[1::2], 1)
        signs = 2 * grids - 1
        # the row that shows all cells, or none, is left out: it is the same for each two cells
        off_diagonal = (signs.T @ signs)[~np.eye(count, dtype=bool)]
        assert (np.abs(off_diagonal) == 2).all()
        np.testing.assert_array_equal(signs.sum(axis=0), 0)
        assert len(np.unique(grids, axis=0)) == masks.block
    assert 2 * (count + 1) - 2 <= masks.block < 4 * (count + 1) - 2
    np.testing.assert_allclose(masks.mask(6) + masks.mask(7), 1, atol=1e-6)


@pytest.mark.parametrize("masks", [CellMasks(SIZE, (3, 5)), OrthogonalMasks(SIZE, (3, 5))])
def test_projections_are_those_of_the_masks(masks: CellMasks | OrthogonalMasks) -> None:
    for basis in (cosines(SIZE, (4, 5)), boxes(SIZE, (5, 7))):
        literal = np.stack([basis.y @ masks.mask(i) @ basis.x.T for i in range(27, 33)])
        np.testing.assert_allclose(masks.project(range(27, 33), basis), literal, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": (0, 4)}, "num_cells"),
        ({"cells": (4, 41)}, "num_cells"),
        ({"prob": 1.0}, "prob"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CellMasks(**({"size": SIZE, "cells": (4, 4)} | options))


@pytest.mark.parametrize(
    ("kind", "shape", "layout"), [(np.uint8, (24, 40, 3), "HWC"), (np.float32, (3, 24, 40), "CHW")]
)
def test_hidden_pixels_become_the_fill(kind: DTypeLike, shape: tuple[int, ...], layout: str) -> None:
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(kind)
    mask = CellMasks(SIZE, (4, 6)).mask(0)
    hidden = masking(Subject(image, layout, (127.5,)))(mask)
    assert (hidden.dtype, hidden.shape, hidden.flags.c_contiguous) == (image.dtype, shape, True)
    # halves may round either way in the last bit of float32
    np.testing.assert_allclose(hidden.astype(float), reference.masked(image, mask, 127.5), atol=1e-4, rtol=0)


def test_each_channel_has_its_own_fill_in_any_layout() -> None:
    image = np.random.default_rng(0).normal(0, 1, (40, 3, 24)).astype(np.float32)
    subject = Subject(image, "WCH", (1, 2, 3))
    assert subject.size == SIZE
    np.testing.assert_allclose(masking(subject)(np.ones(SIZE, np.float32)), image, atol=1e-6)
    hidden = masking(subject)(np.zeros(SIZE, np.float32))
    np.testing.assert_allclose(hidden, np.broadcast_to(np.array([1, 2, 3])[:, None], image.shape))


def test_a_subject_that_is_no_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="one image of three axes"):
        Subject(np.zeros((1, 3, 8, 8)), "NCHW")
    with pytest.raises(ConfigError, match="fill has 2"):
        Subject(np.zeros((8, 8, 3)), "HWC", (0, 0))
