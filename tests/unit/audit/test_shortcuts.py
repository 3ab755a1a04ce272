"""Shortcuts: those that were planted are verified, and nothing else; what the model ignores is refuted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planted_audit import CELLS, SIDE, Audited, explained, planted_audit, without_boxes

import otx_xai as xai
from otx_xai.audit.evidence_table import Evidence, no_maps
from otx_xai.audit.findings import Finding, FindingState, Unit
from otx_xai.audit.hot_places import hot_cells
from otx_xai.audit.shortcut_candidates import Candidate, fixed_places, shared_contents
from otx_xai.audit.shortcuts import check_candidate, shared_by_classes, shortcuts
from otx_xai.audit.statistics import share
from otx_xai.data.planted import Fault
from otx_xai.metrics.stream import function_scores
from otx_xai.records import Task


def named(evidence: Evidence, window: tuple[int, int] = (11, 0)) -> Candidate:
    """The lower left corner of all images of the first class: what somebody suspects without having looked at maps."""
    images = tuple(np.flatnonzero(evidence.predicted == 0).tolist())
    return Candidate(0, True, (4, 4), images, (window,) * len(images), share(1, 1), share(0, 1))


def _found(evidence: Evidence, fetch: Any, forward: Any, **more: int) -> list[Finding]:
    return shortcuts(evidence, shared_by_classes(evidence, fetch), fetch, forward, **more)


def verified(audit: Audited, evidence: Evidence) -> list[str]:
    findings = _found(evidence, audit.fetch, audit.forward, images=15)
    return [finding.subject for finding in findings if finding.state is FindingState.VERIFIED]


@pytest.mark.parametrize("boxes", [True, False])
def test_a_fixed_mark_is_verified(boxes: bool) -> None:
    audit = planted_audit(Fault.WATERMARK)
    evidence = audit.evidence if boxes else without_boxes(audit.evidence)
    finding = _found(evidence, audit.fetch, audit.forward, images=20)[0]
    assert finding.state is FindingState.VERIFIED
    assert finding.subject == "circle: lower left"
    assert finding.effect.unit is Unit.LOG_ODDS
    assert finding.effect.low > 1
    assert finding.p_value is not None
    assert finding.p_value < 1e-3
    assert 0.25 < finding.share < 0.34
    assert "The model decides for 'circle' by the same place (lower left), in" in finding.statement
    assert finding.check["covered"]["value"] > finding.check["covered_controls"]["value"] + 1
    assert ("in other classes)" in finding.statement) is not boxes
    told = {name: finding.check[name] for name in ("covered_probability", "pasted_probability", "won")}
    assert {name: effect["unit"] for name, effect in told.items()} == {
        "covered_probability": "probability", "pasted_probability": "probability", "won": "share"
    }  # fmt: skip
    assert 0 < told["covered_probability"]["value"] < 1
    assert f"and wins {told['won']['value']:.0%} of them." in finding.statement
    assert ("No objects are annotated" in finding.suggestion) is not boxes
    marked = {audit.evidence.names[row] for row in np.flatnonzero(audit.data.faulty)}
    assert set(finding.images) <= marked


def test_a_mark_anywhere_is_verified() -> None:
    audit = planted_audit(Fault.ROAMING)
    (candidate,) = [one for one in shared_contents(audit.evidence, audit.fetch) if one.target == 0]
    assert audit.data.faulty[list(candidate.images)].all()
    assert len(candidate.images) > 0.8 * audit.data.faulty.sum()
    assert candidate.stability > 0.8
    assert len(set(candidate.windows)) > 10
    assert verified(audit, audit.evidence) == ["circle: the same pixels"]


def test_without_boxes_content_may_be_the_object_unless_it_is_the_same_to_the_pixel() -> None:
    audit = planted_audit(Fault.ROAMING)
    evidence = without_boxes(audit.evidence)
    assert verified(audit, evidence) == ["circle: the same pixels"]
    alike = [replace(one, is_copy=False) for one in shared_by_classes(evidence, audit.fetch) if one.is_copy]
    found = shortcuts(evidence, alike, audit.fetch, audit.forward, images=15)
    assert [one.state for one in found] == [FindingState.SUSPECTED]


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("fault", [Fault.CLEAN, Fault.WATERMARK, Fault.ROAMING])
def test_nothing_is_verified_of_a_model_that_has_learned_no_mark(fault: Fault, boxes: bool) -> None:
    audit = planted_audit(fault, Fault.CLEAN)
    assert verified(audit, audit.evidence if boxes else without_boxes(audit.evidence)) == []


def test_a_mark_that_is_ignored_is_refuted() -> None:
    harmless, learned = planted_audit(Fault.WATERMARK, Fault.CLEAN), planted_audit(Fault.WATERMARK)
    check = check_candidate(harmless.evidence, named(harmless.evidence), harmless.fetch, harmless.forward)
    assert check is not None
    assert check.state is FindingState.REFUTED
    assert check.paste.high < 0.5
    found = [one for one in _found(harmless.evidence, harmless.fetch, harmless.forward) if "left" in one.subject]
    assert [one.state for one in found] == [FindingState.REFUTED]
    assert found[0].p_value is None
    assert found[0].severity == 0
    check = check_candidate(learned.evidence, named(learned.evidence), learned.fetch, learned.forward)
    assert check is not None
    assert check.state is FindingState.VERIFIED


def test_the_object_would_pass_every_check_and_is_no_candidate() -> None:
    """The trap: covering and pasting the object matter, so only what is fixed, or off the object, may be tried."""
    audit = planted_audit(Fault.CLEAN)
    evidence = audit.evidence
    images = np.flatnonzero(evidence.predicted == 0)
    centres = (audit.data.boxes[images].reshape(-1, 2, 2).mean(axis=1) / (SIDE / CELLS)).astype(int) - 2
    windows = tuple((min(max(row, 0), 12), min(max(column, 0), 12)) for column, row in centres.tolist())
    candidate = Candidate(0, False, (4, 4), tuple(images.tolist()), windows, share(1, 1), share(0, 1))
    check = check_candidate(evidence, candidate, audit.fetch, audit.forward)
    assert check is not None
    assert check.state is FindingState.VERIFIED
    assert fixed_places(evidence) == fixed_places(without_boxes(evidence)) == []


def test_maps_of_these_tests_show_what_those_of_the_product_show() -> None:
    audit = planted_audit(Fault.WATERMARK)
    explainer = xai.Explainer(
        audit.network,
        Task.CLASSIFICATION,
        labels=["circle", "cross", "star"],
        input=xai.InputOptions(size=(SIDE, SIDE), mean=127.5, scale=64),
        preset="speed",
    )
    for image in audit.data.images[:3]:
        maps = explained(audit.network, image[None])[0]
        assert np.corrcoef(explainer(image, -1).maps.ravel(), maps.ravel())[0, 1] > 0.97


def test_what_all_classes_look_at_is_no_place_of_one() -> None:
    """Objects in the middle of all images, as photographers put them, and in a corner of one class only."""
    evidence = without_boxes(planted_audit(Fault.CLEAN).evidence)
    grids = np.random.default_rng(0).integers(0, 50, evidence.maps.grids.shape).astype(np.uint8)
    grids[:, 6:9, 6:10] = 200
    centred = replace(evidence, maps=replace(evidence.maps, grids=grids))
    assert fixed_places(centred) == []
    cornered = grids.copy()
    cornered[evidence.maps.target == 1, 0:3, 12:16] = 250
    (place,) = fixed_places(replace(evidence, maps=replace(evidence.maps, grids=cornered)))
    assert place.target == 1
    assert place.frequency.value == 1
    assert place.elsewhere.value < 0.4
    row, column = place.windows[0]
    assert row == 0
    assert 11 <= column <= 12


def test_same_seed_same_findings() -> None:
    audit = planted_audit(Fault.ROAMING)
    first, second = (_found(audit.evidence, audit.fetch, audit.forward, images=5) for _ in range(2))
    assert [one.content() for one in first] == [one.content() for one in second]


def test_hot_cells_of_flat_maps() -> None:
    grids = np.zeros((3, 10, 10), np.uint8)
    grids[1].ravel()[:7] = np.arange(1, 8)
    grids[2, 3] = 255
    hot = hot_cells(grids)
    assert hot.sum(axis=(1, 2)).tolist() == [0, 5, 10]
    assert hot[1].ravel()[2:7].all()
    assert hot_cells(grids[:0]).shape == (0, 10, 10)


def test_nothing_to_say() -> None:
    audit = planted_audit(Fault.WATERMARK)
    evidence = audit.evidence
    nothing = replace(evidence, maps=no_maps((CELLS, CELLS)))
    one = replace(evidence, best=np.zeros_like(evidence.best[:, :1]))
    flat = replace(evidence, maps=replace(evidence.maps, grids=np.zeros_like(evidence.maps.grids)))
    for strange in (nothing, one, flat):
        assert _found(strange, audit.fetch, audit.forward) == []
    no_scores = function_scores(lambda images: np.full((len(images), 3), np.nan, np.float32))
    assert _found(evidence, audit.fetch, no_scores) == []
