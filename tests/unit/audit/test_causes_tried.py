"""Places that maps name are covered: do errors, and the difference of two models, depend on them?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otx_xai.audit.drift import drift, drift_findings
from otx_xai.audit.drift_check import check_drift, differing_cells
from otx_xai.audit.error_causes import cause_findings, error_causes
from otx_xai.audit.error_check import check_causes, check_errors
from otx_xai.audit.evidence_table import Evidence, MapTable, no_maps
from otx_xai.audit.findings import Finding, FindingKind, FindingState
from otx_xai.metrics import Forward
from otx_xai.metrics.stream import function_scores
from otx_xai.records import InputGeometry, Task

COUNT, SIDE, CELLS = 24, 40, 10
LEFT, RIGHT = (slice(12, 28), slice(0, 12)), (slice(12, 28), slice(28, 40))


def pictures() -> np.ndarray:
    """Grey noise with a red mark at the left and a blue one at the right."""
    images = np.random.default_rng(0).integers(90, 110, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    images[(slice(None), *LEFT)] = (220, 60, 60)
    images[(slice(None), *RIGHT)] = (60, 60, 200)
    return images


IMAGES = pictures()


def excess(images: np.ndarray, colour: int, rows: slice, columns: slice) -> np.ndarray:
    """How much of a colour there is in a rectangle, in [0, about 1]."""
    part = images[:, rows, columns].astype(np.float32)
    return np.maximum(part[..., colour] - part[..., 1], 0).mean(axis=(1, 2)) / 150


def model(left: float, right: float) -> Forward:
    """Class 0 lives on the red mark, class 1 on the blue one, class 2 on nothing."""

    def scores(images: np.ndarray) -> np.ndarray:
        red, blue = excess(images, 0, *LEFT), excess(images, 2, *RIGHT)
        logits = np.stack([left * red, right * blue, np.zeros(len(images))], axis=1)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return function_scores(scores)


def grid(place: tuple[slice, slice]) -> np.ndarray:
    found = np.zeros((CELLS, CELLS), np.uint8)
    rows, columns = (slice(axis.start // 4, axis.stop // 4) for axis in place)
    found[rows, columns] = 200
    return found


def evidence(given: int, predicted: int, maps: dict[int, tuple[slice, slice]]) -> Evidence:
    every = np.arange(COUNT)
    targets = sorted(maps)
    table = MapTable(
        np.repeat(every, len(maps)),
        np.tile(targets, COUNT),
        np.full(COUNT * len(maps), -1),
        np.tile(np.stack([grid(maps[target]) for target in targets]), (COUNT, 1, 1)),
        np.zeros((COUNT * len(maps), 2), np.float32),
    )
    best = np.array([predicted, *(k for k in range(3) if k != predicted)])
    return Evidence(
        Task.CLASSIFICATION,
        ("red", "blue", "none"),
        False,
        InputGeometry((SIDE, SIDE)),
        None,
        [f"{i}.png" for i in every],
        np.full((COUNT, 2), SIDE),
        np.tile(best, (COUNT, 1)),
        np.tile(np.array([0.7, 0.2, 0.1], np.float32), (COUNT, 1)),
        np.full((COUNT, 1), given),
        np.full((COUNT, 1), 0.2, np.float32),
        np.zeros((COUNT, 0), np.float16),
        maps=table,
    )


def fetch(image: int) -> np.ndarray:
    return IMAGES[image]


def tried(wrong: Evidence, forward: Forward) -> dict[str, Finding]:
    causes = error_causes(wrong)
    found = cause_findings(wrong, causes)
    assert {one.state for one in found} == {FindingState.SUSPECTED}
    return {one.key: one for one in check_causes(wrong, causes, found, fetch, forward)}


def test_another_object_is_verified_where_covering_it_turns_the_image_right() -> None:
    wrong = evidence(given=0, predicted=1, maps={0: LEFT, 1: RIGHT})
    found = tried(wrong, model(3, 5))
    assert sorted(found) == ["other_object:all errors", "other_object:red as blue"]
    one = found["other_object:red as blue"]
    assert one.state is FindingState.VERIFIED
    assert one.check["righted"]["value"] == 1
    assert one.check["fall"]["value"] > one.check["control"]["value"] + 1
    assert "the wrong class falls in log-odds by" in one.statement
    assert "100% turn right" in one.statement


def test_a_cause_is_refuted_where_the_map_shows_the_wrong_place() -> None:
    found = tried(evidence(given=0, predicted=1, maps={0: RIGHT, 1: LEFT}), model(0, 5))
    one = found["other_object:all errors"]
    assert one.state is FindingState.REFUTED
    assert one.severity == 0
    assert "Do not trust these maps" in one.suggestion


def test_a_look_alike_is_verified_where_the_other_class_gains_nothing() -> None:
    def both(images: np.ndarray) -> np.ndarray:
        red = excess(images, 0, *LEFT)
        logits = np.stack([4 * red, 5 * red, np.zeros(len(images))], axis=1)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    wrong = evidence(given=0, predicted=1, maps={0: LEFT, 1: LEFT})
    found = tried(wrong, function_scores(both))["look_alike:all errors"]
    assert found.state is FindingState.VERIFIED
    assert found.check["rise"]["interval"][1] < 0.5
    # What gains where it is covered was no look-alike
    assert tried(wrong, model(0, 5))["look_alike:all errors"].state is not FindingState.VERIFIED


def test_models_that_look_elsewhere_drift() -> None:
    old = evidence(given=0, predicted=0, maps={0: LEFT})
    new = evidence(given=0, predicted=0, maps={0: RIGHT})
    compared = drift(old, new, floor=0.1)
    found = drift_findings(new, compared)
    assert [one.key for one in found] == ["drift:maps", "silent_drift:maps"]

    def at_right(images: np.ndarray) -> np.ndarray:
        logit = 4 * excess(images, 2, *RIGHT)
        return np.stack([1 / (1 + np.exp(-logit)), *(0.5 / (1 + np.exp(logit)),) * 2], axis=1)

    checked = check_drift(old, new, compared, found, fetch, model(5, 0), function_scores(at_right))
    assert [one.state for one in checked] == [FindingState.VERIFIED] * 2
    assert checked[0].check["apart"]["value"] > 1
    assert checked[0].check["floor"] == pytest.approx(0.1)
    assert "falls in log-odds by" in checked[0].statement
    same = check_drift(old, new, compared, found, fetch, model(5, 0), model(5, 0))
    assert [one.state for one in same] == [FindingState.REFUTED] * 2
    # A baseline whose maps are twice as fine is laid over the model's, and says the same
    fine = replace(old, maps=replace(old.maps, grids=old.maps.grids.repeat(2, axis=1).repeat(2, axis=2)))
    other = drift(fine, new, floor=0.1)
    again = check_drift(fine, new, other, drift_findings(new, other), fetch, model(5, 0), function_scores(at_right))
    assert [one.state for one in again] == [FindingState.VERIFIED] * 2
    assert not np.isfinite(drift(fine, new, 0.1, "methods differ").distance).any()


def test_differing_cells_are_the_hotter_ones() -> None:
    first, second = grid(LEFT), grid(RIGHT)
    everywhere = np.ones((CELLS, CELLS), np.bool_)
    cells = differing_cells(first, second, everywhere)
    assert (cells == (grid(LEFT) >= 200)).all()
    assert not differing_cells(first, first, everywhere).any()


def test_nothing_to_try() -> None:
    wrong = evidence(given=0, predicted=1, maps={0: LEFT, 1: RIGHT})
    rows = np.arange(COUNT)
    no_scores = function_scores(lambda images: np.full((len(images), 3), np.nan, np.float32))
    bare = replace(wrong, maps=no_maps((CELLS, CELLS)))
    unlabelled = replace(wrong, given=np.full((COUNT, 1), -1))
    assert check_errors(wrong, rows, fetch, no_scores) is None
    assert check_errors(bare, rows, fetch, model(3, 5)) is None
    assert check_errors(unlabelled, rows, fetch, model(3, 5)) is None
    assert check_errors(wrong, rows[:2], fetch, model(3, 5)) is None
    assert check_causes(wrong, error_causes(wrong), [], fetch, model(3, 5)) == []
    old, new = (evidence(given=0, predicted=0, maps={0: place}) for place in (LEFT, RIGHT))
    compared = drift(old, new, floor=0.1)
    assert check_drift(old, new, compared, drift_findings(new, compared), fetch, no_scores, no_scores) == []
    assert FindingKind.DRIFT in {one.kind for one in drift_findings(new, compared)}
