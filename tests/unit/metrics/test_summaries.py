from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from otx_xai.metrics import Scores, adcc, differences, estimates, table


@pytest.fixture
def scores() -> Scores:
    rng = np.random.default_rng(0)
    own = Scores(**{field.name: rng.uniform(0.1, 0.9, 6).astype(np.float32) for field in fields(Scores)})
    own.average_drop[2] = np.nan
    own.energy_in_box[:] = np.nan
    own.pointing_game[1:] = np.nan
    return own


def test_estimates_are_means_and_standard_errors_over_the_images_that_have_a_score(scores):
    found = estimates(scores)
    drops = np.delete(scores.average_drop, 2)
    assert found["average_drop"].count == 5
    assert found["average_drop"].mean == pytest.approx(drops.mean())
    assert found["average_drop"].error == pytest.approx(drops.std(ddof=1) / np.sqrt(5), rel=1e-5)
    assert (found["energy_in_box"].count, str(found["energy_in_box"])) == (0, "-")
    assert (found["pointing_game"].count, str(found["pointing_game"])) == (1, f"{scores.pointing_game[0]:.3f}")


def test_adcc_is_that_of_the_averages_with_the_error_of_the_jackknife(scores):
    rows = np.stack([scores.coherency, scores.complexity, scores.average_drop], axis=1).astype(float)
    rows = np.delete(rows, 2, axis=0)
    left_out = [adcc(*np.delete(rows, i, axis=0).mean(axis=0)) for i in range(5)]
    error = np.sqrt(4 / 5 * sum((value - np.mean(left_out)) ** 2 for value in left_out))
    found = estimates(scores)["adcc"]
    assert (found.mean, found.error, found.count) == (pytest.approx(adcc(*rows.mean(axis=0))), pytest.approx(error), 5)


def test_differences_are_taken_image_by_image(scores):
    shifted = replace(scores, complexity=scores.complexity + np.float32(0.1))
    found = differences(shifted, scores)
    assert found["complexity"].mean == pytest.approx(0.1, rel=1e-5)
    assert found["complexity"].error < 1e-6
    assert found["insertion_blur"].mean == 0
    assert "adcc" not in found


def test_table_has_a_row_a_method_and_the_columns_that_are_known(scores):
    header, row = table({"a method": scores}).splitlines()
    assert "insertion blur ↑" in header
    assert "deletion zero ↓" in header
    assert "pointing game" in header
    assert "energy" not in header
    found = estimates(scores)
    assert row.startswith("a method")
    assert f"{found['deletion_zero'].mean:.3f} ±{found['deletion_zero'].error:.3f}" in row
    assert f"{found['average_drop']} (5)" in row  # of 6 images
    lines = table({"a": scores, "b": scores}, markdown=True).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
