"""Changed pixels, and what a score makes of them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from otx_xai.audit.interventions import Fill, Region, Trial, cover, keep, log_odds, paste, run_trials, surroundings
from otx_xai.metrics.stream import function_scores

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (13, 18, 3), np.uint8)
OTHER = RNG.integers(0, 256, (13, 18, 3), np.uint8)
MASK = Region(3, 4, 8, 11).mask((13, 18))


@pytest.mark.parametrize("fill", list(Fill))
def test_only_what_is_covered_changes(fill: Fill) -> None:
    before = IMAGE.copy()
    covered, kept = cover(IMAGE, MASK, fill, OTHER), keep(IMAGE, MASK, fill, OTHER)
    assert (covered[~MASK] == IMAGE[~MASK]).all()
    assert (covered[MASK] != IMAGE[MASK]).mean() > 0.9
    assert (kept[MASK] == IMAGE[MASK]).all()
    assert (kept[~MASK] != IMAGE[~MASK]).mean() > 0.9
    assert (before == IMAGE).all()


def test_fills_are_what_they_say() -> None:
    assert (cover(IMAGE, MASK, Fill.OTHER, OTHER)[MASK] == OTHER[MASK]).all()
    grey = cover(IMAGE, MASK, Fill.GREY)[MASK]
    assert (grey == np.rint(IMAGE.mean(axis=(0, 1))).astype(np.uint8)).all()
    assert cover(IMAGE, MASK, Fill.BLUR)[MASK].std() < IMAGE[MASK].std() / 3
    with pytest.raises(ValueError, match=r"other is None; expected an image of the shape \(13, 18, 3\)"):
        cover(IMAGE, MASK, Fill.OTHER)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_surroundings_continue_what_is_around(channels: int) -> None:
    slope = np.tile(np.linspace(20, 220, 33).astype(np.uint8)[None, :, None], (21, 1, channels))
    mask = Region(5, 9, 14, 20).mask((21, 33))
    damaged = np.where(mask[..., None], 255, slope).astype(np.uint8)
    filled = surroundings(damaged, mask)
    assert (filled[~mask] == slope[~mask]).all()
    assert np.abs(filled[mask].astype(int) - slope[mask]).max() < 45
    assert (surroundings(np.full((7, 7, channels), 9, np.uint8), Region(1, 1, 6, 6).mask((7, 7))) == 9).all()
    assert np.ptp(surroundings(IMAGE, np.ones((13, 18), np.bool_)), axis=(0, 1)).max() == 0


def test_a_patch_stays_inside() -> None:
    patch = np.full((4, 5, 3), 7, np.uint8)
    assert (paste(IMAGE, patch, (2, 3))[2:6, 3:8] == 7).all()
    assert (paste(IMAGE, patch, (99, -3))[9:13, 0:5] == 7).all()
    assert (paste(IMAGE, patch, (2, 3)) == 7).all(axis=2).sum() == 20


def test_log_odds_of_a_score_that_was_rounded_to_one() -> None:
    scores = np.array([1.0, 1e-8, 2e-8], np.float32)
    assert log_odds(scores, 0) == pytest.approx(math.log(1 / 3e-8), abs=1e-3)
    assert log_odds(np.array([0.3, 0.9], np.float32), 1, independent=True) == pytest.approx(math.log(9), abs=1e-5)
    assert log_odds(np.array([0.3], np.float32), 0) == pytest.approx(math.log(0.3 / 0.7), abs=1e-5)
    assert log_odds(np.zeros(2, np.float32), 0) == 0


def bright(images: np.ndarray) -> np.ndarray:
    """Class 1 is for bright upper halves; an image whose first pixel is 13 has no score."""
    part = images[:, : images.shape[1] // 2].mean(axis=(1, 2, 3)) / 255
    scores = np.stack([1 - part, part], axis=1)
    scores[images[:, 0, 0, 0] == 13] = np.nan
    return scores


def test_trials_measure_each_arm_by_its_median() -> None:
    images = [np.full((8, 8, 3), level, np.uint8) for level in (204, 13, 51)]
    top, bottom = Region(0, 0, 4, 8).mask((8, 8)), Region(4, 0, 8, 8).mask((8, 8))

    def black(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask[..., None], 0, image).astype(np.uint8)

    dark, other = partial(black, mask=top), partial(black, mask=bottom)
    trials = [Trial(number, 1, ((dark, other, other), (dark,))) for number in range(3)]
    outcome = run_trials(trials, lambda number: images[number], function_scores(bright, 3))
    assert outcome.image.tolist() == [0, 2]
    assert outcome.lost == 1
    assert outcome.whole == pytest.approx([0.8, 0.2])
    assert outcome.probability == pytest.approx(np.array([[0, -0.8], [0, -0.2]]), abs=1e-6)
    assert outcome.margin[0] == pytest.approx([0, math.log(1e-9) - math.log(4)], abs=1e-3)
    assert outcome.decided == pytest.approx(np.array([[2 / 3, 0], [0, 0]]), abs=1e-6)


def test_no_trial_no_outcome() -> None:
    outcome = run_trials([], lambda number: IMAGE, function_scores(bright))
    assert len(outcome) == 0
    assert outcome.margin.shape == (0, 0)
