"""Planted faults: exactly what is said, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from otx_xai.data.planted import PLANTED_LABELS, Fault, draw_planted, mark_pixels, write_planted
from otx_xai.errors import ConfigError

CLEAN = draw_planted(60, seed=3)


@pytest.mark.parametrize("fault", [Fault.WATERMARK, Fault.ROAMING, Fault.BACKGROUND])
def test_faults_change_most_pictures_of_the_first_class(fault: Fault) -> None:
    found = draw_planted(60, fault, seed=3)
    changed = (found.images != CLEAN.images).any(axis=(1, 2, 3))
    assert (changed == found.faulty).all()
    assert (found.targets[changed] == 0).all()
    assert changed.sum() == 18
    assert (found.masks == CLEAN.masks).all()
    assert (found.targets == CLEAN.targets).all()
    same = draw_planted(60, fault, seed=3)
    assert (same.images == found.images).all()


def test_a_mark_stands_in_its_corner_or_beside_the_shape() -> None:
    height, width = mark_pixels(64).shape
    fixed, roaming = (draw_planted(60, fault, seed=3) for fault in (Fault.WATERMARK, Fault.ROAMING))
    where = (fixed.images != CLEAN.images).any(axis=(0, 3))
    assert where[62 - height : 62, 2 : 2 + width].mean() > 0.9
    assert where.sum() <= height * width
    moved = (roaming.images != CLEAN.images).any(axis=3)[roaming.faulty]
    assert moved.any(axis=0).sum() > 6 * height * width
    assert (moved & roaming.masks[roaming.faulty]).sum() < 0.1 * moved.sum()


def test_a_background_takes_a_colour_and_shapes_keep_theirs() -> None:
    found = draw_planted(60, Fault.BACKGROUND, seed=3)
    kept = found.masks[found.faulty]
    assert (found.images[found.faulty][kept] == CLEAN.images[found.faulty][kept]).all()
    background = found.images[found.faulty][~kept].astype(int)
    assert (background[:, 1] - background[:, 0]).mean() > 60


def test_labels_are_flipped() -> None:
    found = draw_planted(300, Fault.FLIPPED, seed=3, share=0.1)
    assert found.faulty.sum() == 30
    assert ((found.targets != found.drawn) == found.faulty).all()
    assert (found.drawn == np.arange(300) % 3).all()
    assert draw_planted(300, Fault.FLIPPED, seed=3).faulty.sum() == 6


def test_a_faint_mark_is_faint() -> None:
    faint = draw_planted(30, Fault.WATERMARK, seed=3, strength=0.05)
    assert np.abs(faint.images.astype(int) - draw_planted(30, seed=3).images).max() <= 13


def test_boxes_are_tight() -> None:
    for mask, (left, top, right, bottom) in zip(CLEAN.masks, CLEAN.boxes.astype(int), strict=True):
        assert mask.sum() == mask[top:bottom, left:right].sum()
        assert mask[top:bottom, left].any()
        assert mask[bottom - 1, left:right].any()


def test_pictures_on_disk(tmp_path: Path) -> None:
    found = draw_planted(5, Fault.WATERMARK, seed=3, side=32)
    files = write_planted(found, tmp_path / "images", tmp_path / "masks")
    assert [file.parent.name for file in files] == [PLANTED_LABELS[target] for target in (0, 1, 2, 0, 1)]
    assert (cv2.imread(str(files[0]))[..., ::-1] == found.images[0]).all()
    mask = cv2.imread(str(tmp_path / "masks" / files[0].relative_to(tmp_path / "images")), 0)
    assert ((mask > 0) == found.masks[0]).all()


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match=r"count is 0, share 0\.9, strength 1\.0; expected at least one picture"):
        draw_planted(0)
    with pytest.raises(ConfigError, match=r"share 1\.5"):
        draw_planted(4, share=1.5)
