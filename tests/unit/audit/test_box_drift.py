"""Two detectors side by side: which boxes and objects were lost and won, and whose maps have moved."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_cases import boxes, detected, mapped
from scipy import stats

from otx_xai.audit.box_drift import BoxDrift, box_drift, box_drift_findings
from otx_xai.audit.box_errors import box_errors
from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.audit.findings import Finding, FindingState

COUNT = 60
LEFT, RIGHT = (5, 10, 45, 60), (55, 10, 95, 60)
Row = tuple[int, int, tuple[int, ...], float]


def evidence(rows: list[Row], objects: list[Row] | None, seed: int = 0, moved: int = 0) -> Evidence:
    """A detector with a map of each box; those of the first ``moved`` boxes are of other places."""
    found = boxes(rows)
    maps = np.random.default_rng(0).random((len(found), 7, 7)) ** 3
    maps[:moved] = np.random.default_rng(1).random((moved, 7, 7)) ** 3
    maps = np.clip(maps + np.random.default_rng(seed).normal(0, 0.01, maps.shape), 0, 1)
    table = mapped(list(zip(found.image.tolist(), found.target.tolist(), maps, strict=True)), range(len(found)))
    return detected(found, None if objects is None else boxes(objects), COUNT, "ab", maps=table)


def usual() -> list[Row]:
    return [(i, side, (LEFT, RIGHT)[side], 0.9 - 0.2 * side) for i in range(COUNT) for side in (0, 1)]


def drift_of(before: Evidence, after: Evidence, **more: float) -> tuple[BoxDrift, dict[tuple[str, str], Finding]]:
    both = box_errors(before), box_errors(after)
    found = box_drift(before, after, both, threshold=0.5, **{"floor": 0.05, **more})
    return found, {(str(one.kind), one.subject): one for one in box_drift_findings(before, after, found)}


def test_a_detector_and_itself() -> None:
    one, twin = evidence(usual(), usual()), evidence(usual(), usual(), seed=3)
    found, findings = drift_of(one, twin)
    assert found.before.tolist() == found.after.tolist() == list(range(2 * COUNT))
    assert found.agreement.value == 1
    assert found.right.all()
    assert 0 < found.distance.max() < 0.05
    assert not findings


def test_boxes_and_objects_that_were_lost_and_won() -> None:
    rows = usual()
    later = [(i, target, box, 0.3 if i < 6 and target else score) for i, target, box, score in rows]
    later += [(i, 0, RIGHT, 0.6) for i in range(50, 54)]  # of another class than the one that is there
    found, findings = drift_of(evidence(rows, rows), evidence(later, rows))
    assert found.lost.tolist() == [1, 3, 5, 7, 9, 11]
    assert len(found.new) == 4
    assert found.agreement.value == pytest.approx(2 * 114 / (120 + 118))
    objects = findings["drift", "objects"]
    assert objects.state is FindingState.MEASURED
    assert objects.effect.value == pytest.approx(-6 / 120)
    assert objects.p_value == stats.binomtest(6, 6).pvalue
    assert objects.statement.startswith("Of 120 objects that both are shown the model has lost 6 and won 0")
    assert objects.images == tuple(f"{i}.png" for i in range(6))
    changed = findings["drift", "boxes"]
    assert changed.statement.startswith("Of 120 boxes before, 6 are gone, and 4 are new")
    assert changed.effect.value == pytest.approx(1 - found.agreement.value)
    assert changed.effect.low <= changed.effect.value <= changed.effect.high
    assert changed.images == tuple(f"{i}.png" for i in (*range(6), *range(50, 54)))


def test_maps_that_moved() -> None:
    rows = usual()
    found, findings = drift_of(evidence(rows, rows), evidence(rows, rows, seed=3, moved=30))
    assert np.flatnonzero(found.moved).tolist() == list(range(30))
    maps, silent = findings["drift", "maps"], findings["silent_drift", "maps"]
    assert maps.state is silent.state is FindingState.SUSPECTED
    assert maps.effect.value == silent.effect.value == 0.25
    assert "The maps of 30 of 120 boxes that both models find are others than before" in maps.statement
    assert maps.share == 15 / COUNT
    hottest = int(found.after[np.argmax(found.distance)]) // 2
    assert maps.images[0] == f"{hottest}.png"
    _, few = drift_of(evidence(rows, rows), evidence(rows, rows, seed=3, moved=2))
    assert not few  # no more than noise makes


def test_without_annotations_boxes_and_maps_are_compared() -> None:
    rows = usual()
    found, findings = drift_of(evidence(rows, None), evidence(rows[2:], None, seed=3, moved=30))
    assert (found.objects, len(found.objects_lost), found.right.any()) == (0, 0, False)
    assert found.lost.tolist() == [0, 1]
    assert set(findings) == {("drift", "boxes"), ("drift", "maps")}


def test_each_box_has_one_partner_the_one_it_overlaps_most() -> None:
    near, nearer = (5, 10, 45, 64), (5, 10, 45, 61)
    before = evidence([(0, 0, LEFT, 0.9)], None)
    after = evidence([(0, 0, near, 0.9), (0, 0, nearer, 0.6), (0, 1, LEFT, 0.9)], None)
    found, _ = drift_of(before, after)
    assert (found.before.tolist(), found.after.tolist(), found.new.tolist()) == ([0], [1], [0, 2])


def test_images_that_one_of_both_lacks_do_not_count() -> None:
    rows = usual()
    before = evidence(rows, rows)
    after = detected(boxes([]), boxes(rows[:4]), 2, "ab", names=["7.png", "other.png"])
    found, findings = drift_of(before, after)
    assert (found.lost.tolist(), len(found.new), found.objects) == ([14, 15], 0, 2)
    assert found.why_no_maps == "one of the models has no maps"
    assert set(findings) == {("drift", "objects"), ("drift", "boxes")}


def test_detectors_that_find_nothing() -> None:
    empty = detected(BoxTable.empty(), None, COUNT)
    found, findings = drift_of(empty, empty)
    assert len(found.before) == len(found.lost) == len(found.new) == 0
    assert np.isnan(found.agreement.value)
    assert not findings
