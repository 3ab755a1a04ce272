"""Groups of images: planted weaknesses, chance, and scipy on the same tables."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected
from scipy import stats

from otx_xai.audit.box_errors import box_errors, right_images
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.audit.slices import slice_findings, slices
from otx_xai.audit.statistics import corrected


def _evidence(right: np.ndarray, given: np.ndarray | None = None, **more: object):
    count = len(right)
    given = np.arange(count) % 2 if given is None else given
    scores = np.where(np.eye(2)[np.where(right, given, 1 - given)] > 0, 0.9, 0.1)
    return classified(scores, given, **more)


@pytest.mark.parametrize("kind", ["number", "text", "look", "size"])
def test_a_planted_weakness_is_named(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1000)
    dark = values < np.quantile(values, 0.2)
    right = rng.random(1000) < np.where(dark, 0.6, 0.95)
    more = {
        "number": {"metadata": {"lux": [f"{value:.6f}" for value in values]}},
        "text": {"metadata": {"camera": np.where(dark, "old", "new").tolist()}},
        "look": {"looks": {"brightness": values.astype(np.float32)}},
        "size": {"sizes": np.stack([(values * 1000).astype(int) + 100] * 2, axis=1)},
    }[kind]
    evidence = _evidence(right, **more)
    found = corrected(slice_findings(evidence, slices(evidence)))
    name = {
        "number": "lux: lowest fifth",
        "text": "camera: old",
        "look": "brightness: lowest fifth",
        "size": "size: lowest fifth",
    }
    assert [one.subject for one in found] == [name[kind]]
    (one,) = found
    assert (one.kind, one.state) == (FindingKind.SLICE, FindingState.MEASURED)
    assert one.effect.value == pytest.approx(right[dark].mean() - right[~dark].mean(), abs=0.03)
    assert one.effect.high < 0
    wrong = {f"{row}.png" for row in np.flatnonzero(~right)}
    assert set(one.images) <= wrong
    assert one.statement.startswith("Of ")


def test_each_group_is_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(1)
    right, given = rng.random(400) < 0.8, rng.integers(0, 2, 400)
    groups = rng.choice(["x", "y", ""], 400)
    evidence = _evidence(right, given, metadata={"group": groups.tolist()})
    compared = {one.name: one for one in slices(evidence)}
    assert set(compared) == {"class: a", "class: b", "group: x", "group: y"} or len(compared) == 3  # b is the rest of a
    for name, members in (("class: a", given == 0), ("group: x", groups == "x"), ("group: y", groups == "y")):
        one = compared[name]
        table = [
            [(right & members).sum(), (~right & members).sum()],
            [(right & ~members).sum(), (~right & ~members).sum()],
        ]
        assert one.p_value == pytest.approx(stats.fisher_exact(table).pvalue)
        assert one.images.tolist() == np.flatnonzero(members).tolist()
        assert one.accuracy.value == pytest.approx(right[members].mean())
        assert one.rest.value == pytest.approx(right[~members].mean())


def test_chance_makes_no_findings() -> None:
    alarms = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        looks = {name: rng.random(300).astype(np.float32) for name in ("brightness", "contrast", "sharpness")}
        metadata = {f"column {number}": rng.choice(list("abcd"), 300).tolist() for number in range(5)}
        evidence = _evidence(rng.random(300) < 0.85, looks=looks, metadata=metadata)
        compared = slices(evidence)
        assert len(compared) > 30
        alarms += bool(corrected(slice_findings(evidence, compared)))
    assert alarms <= 4


def test_folders_that_are_classes_are_compared_once() -> None:
    given = np.arange(100) // 50
    evidence = _evidence(np.ones(100, np.bool_), given, metadata={"folder": np.array(["a", "b"])[given].tolist()})
    assert {one.column for one in slices(evidence)} == {"class"}


def test_few_different_numbers_are_groups_of_their_own_and_odd_cells_are_left_out() -> None:
    years = ["2020", "2021", "", "nan"] * 50
    evidence = _evidence(
        np.ones(200, np.bool_), np.zeros(200, int), metadata={"year": years, "id": list(map(str, range(200)))}
    )
    names = {one.name for one in slices(evidence)}
    assert {"year: 2020", "year: 2021", "id: lowest fifth"} <= names
    assert not any("nan" in name for name in names)
    unique = _evidence(np.ones(200, np.bool_), np.zeros(200, int), metadata={"id": [f"n{row}" for row in range(200)]})
    assert slices(unique) == []


def test_fifths_of_tied_numbers_are_disjoint_and_complete() -> None:
    values = np.concatenate([np.zeros(150), np.arange(100)]).astype(np.float32)
    evidence = _evidence(np.ones(250, np.bool_), np.zeros(250, int), looks={"contrast": values})
    compared = [one for one in slices(evidence) if one.column == "contrast"]
    rows = np.concatenate([one.images for one in compared])
    assert sorted(rows.tolist()) == list(range(250))
    assert compared[0].range is not None


def test_detectors_are_compared_by_their_images() -> None:
    objects = boxes([(image, 0, (10, 10, 50, 50), 1) for image in range(60)])
    found = boxes([(image, 0, (10, 10, 50, 50), 0.9) for image in range(0, 60, 2)] + [(1, 1, (10, 10, 50, 50), 0.9)])
    evidence = detected(found, objects, 60, metadata={"day": ["even", "odd"] * 30})
    right = right_images(evidence, box_errors(evidence))
    assert right.tolist() == [True, False] * 30
    everything = np.ones(60, np.bool_)
    (worst, *_) = slice_findings(evidence, slices(evidence, right, everything), right)
    assert worst.subject == "day: odd"
    assert slices(evidence) == []
    assert not right_images(detected(found, None, 60), box_errors(detected(found, None, 60))).any()


@pytest.mark.parametrize(
    ("scores", "given"),
    [
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.eye(2)[np.arange(100) % 2], None),
        (np.ones((100, 1)), np.zeros(100, int)),
        (np.full((100, 2), np.nan), np.arange(100) % 2),
        (np.eye(2)[np.arange(100) % 2], (np.arange(100) + 1) % 2),
    ],
)
def test_nothing_is_said_of_nothing(scores: np.ndarray, given: np.ndarray | None) -> None:
    looks = {"brightness": np.full(len(scores), np.nan, np.float32), "contrast": np.ones(len(scores), np.float32)}
    evidence = classified(scores, given, looks=looks)
    assert corrected(slice_findings(evidence, slices(evidence))) == []
