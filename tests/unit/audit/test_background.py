"""Reliance on the background: found where it was planted, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_audit import planted_audit, without_boxes

from otx_xai.audit.background import background_losses, reliance_findings
from otx_xai.audit.evidence_table import BoxTable
from otx_xai.audit.findings import FindingState
from otx_xai.audit.interventions import Fill, keep
from otx_xai.audit.object_places import image_mask, object_boxes, object_mask
from otx_xai.data.planted import Fault
from otx_xai.metrics.stream import function_scores
from otx_xai.records import InputGeometry, ResizeType


def test_a_background_that_goes_with_a_class_is_verified() -> None:
    audit = planted_audit(Fault.BACKGROUND, maps=False)
    losses = background_losses(audit.evidence, audit.fetch, audit.forward)
    found = {finding.subject: finding for finding in reliance_findings(audit.evidence, losses)}
    circle = found["circle"]
    assert circle.state is FindingState.VERIFIED
    assert circle.effect.low > 0.7
    assert circle.check["reliance_odds"]["interval"][0] > 4
    assert abs(circle.check["own"]["value"]) < 0.1
    assert circle.check["tests"] == 3
    assert circle.p_value is not None
    assert circle.p_value < 1e-6
    assert "On backgrounds of other classes the score of circle falls by 0.9" in circle.statement
    assert set(circle.images) <= {audit.evidence.names[i] for i in np.flatnonzero(audit.data.targets == 0)}


@pytest.mark.parametrize("fault", [Fault.CLEAN, Fault.BACKGROUND])
def test_a_model_that_ignores_the_background_is_left_in_peace(fault: Fault) -> None:
    audit = planted_audit(fault, Fault.CLEAN, maps=False)
    losses = background_losses(audit.evidence, audit.fetch, audit.forward, images=20)
    assert [loss.target for loss in losses] == [0, 1, 2]
    assert max(abs(loss.reliance.value) for loss in losses) < 0.1
    assert not any(loss.is_material for loss in losses)


def test_same_seed_same_answer() -> None:
    audit = planted_audit(Fault.CLEAN, maps=False)
    first, second = (background_losses(audit.evidence, audit.fetch, audit.forward, images=8) for _ in range(2))
    assert first == second


def test_nothing_to_say() -> None:
    audit = planted_audit(Fault.CLEAN, maps=False)
    evidence, count = audit.evidence, len(audit.evidence)
    forward = function_scores(lambda images: np.full((len(images), 3), np.nan, np.float32))
    one = replace(evidence, given=np.zeros((count, 1), np.int64), best=np.zeros((count, 1), np.int64))
    whole = np.tile(np.array([0, 0, 64, 64], np.float32), (count, 1))
    filled = BoxTable(np.arange(count), audit.data.targets, whole, np.ones(count, np.float32))
    for strange in (
        without_boxes(evidence),
        one,
        replace(evidence, given=np.full((count, 1), -1)),
        replace(evidence, objects=BoxTable.empty()),
        replace(evidence, objects=filled),
    ):
        assert background_losses(strange, audit.fetch, audit.forward) == []
    assert background_losses(evidence, audit.fetch, forward) == []


def test_boxes_lie_in_the_input_as_the_image_does() -> None:
    audit = planted_audit(Fault.CLEAN, maps=False)
    geometry = InputGeometry((40, 80), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    boxes = BoxTable(np.array([1, 1]), np.array([0, 2]), np.array([[0, 0, 32, 64], [32, 32, np.nan, 64]]), np.ones(2))
    evidence = replace(audit.evidence, geometry=geometry, objects=boxes)
    assert object_boxes(evidence, 1).tolist() == [[20, 0, 40, 40]]
    assert object_boxes(evidence, 0).shape == (0, 4)
    shown, mask = image_mask(evidence, 1), object_mask(evidence, 1)
    assert shown.sum() == 40 * 40
    assert mask.sum() == 40 * 20
    assert (mask & shown).sum() == mask.sum()
    assert object_mask(evidence, 1, 2).sum() == 0
    assert object_mask(evidence, 1, margin=2).sum() == 40 * 24
    picture = np.full((40, 80, 3), 200, np.uint8)
    assert (keep(picture, ~shown, Fill.BLUR) == 200).all()
