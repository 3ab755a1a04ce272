"""Colours of backgrounds are told without annotations, from pictures that hold no object, and from edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_audit import SIDE, planted_audit, without_boxes

from otx_xai.audit.edge_colours import edge_findings, edge_mask, edge_reliances
from otx_xai.audit.findings import FindingKind, FindingState, Unit
from otx_xai.data.planted import Fault
from otx_xai.metrics.stream import function_scores
from otx_xai.records import InputGeometry, ResizeType


def test_a_colour_that_decides_is_verified() -> None:
    audit = planted_audit(Fault.BACKGROUND)
    evidence = without_boxes(audit.evidence)
    (finding,) = edge_findings(evidence, edge_reliances(evidence, audit.fetch, audit.forward, images=15))
    assert (finding.kind, finding.subject) == (FindingKind.BACKGROUND_RELIANCE, "circle")
    assert (finding.state, finding.effect.unit, finding.effect.n) == (FindingState.VERIFIED, Unit.LOG_ODDS, 15)
    assert finding.effect.low > 2
    assert finding.p_value is not None
    assert finding.p_value < 1e-3
    assert finding.check["flat"]["interval"][0] > 5
    assert "The model decides for 'circle' by the colour around" in finding.statement
    assert "No objects are annotated" in finding.suggestion


@pytest.mark.parametrize("fault", [Fault.CLEAN, Fault.WATERMARK, Fault.BACKGROUND])
def test_a_model_that_has_learned_no_colour_does_not_rely_on_it(fault: Fault) -> None:
    audit = planted_audit(fault, Fault.CLEAN)
    evidence = without_boxes(audit.evidence)
    reliances = edge_reliances(evidence, audit.fetch, audit.forward, images=15)
    assert edge_findings(evidence, reliances) == []
    assert fault is not Fault.BACKGROUND or 0 in {one.target for one in reliances}, "it is tried, and does not follow"


def test_scores_of_a_known_network() -> None:
    """A network that reads the upper left pixel alone: sure of class 0 where it is bright, and of class 1 elsewhere."""
    audit = planted_audit(Fault.CLEAN)
    predicted = np.arange(len(audit.evidence)) % 2
    evidence = replace(without_boxes(audit.evidence), best=predicted[:, None], labels=("bright", "dark"))

    def scores(images: np.ndarray) -> np.ndarray:
        bright = np.where(images[:, 0, 0, 0] > 127, 0.99, 0.01)
        return np.stack([bright, 1 - bright], axis=1).astype(np.float32)

    def fetch(image: int) -> np.ndarray:
        return np.full((SIDE, SIDE, 3), 255 * (1 - predicted[image]), np.uint8)

    found = {one.target: one for one in edge_reliances(evidence, fetch, function_scores(scores, 8))}
    whole = 2 * np.log(99)
    for target in (0, 1):
        assert found[target].flat.value == pytest.approx(whole, rel=1e-3)
        assert found[target].edge.value == pytest.approx(whole, rel=1e-3)
        assert found[target].own.value == pytest.approx(0, abs=1e-3)
        assert found[target].flat_won.value == 1
        assert found[target].is_material


def test_edges_are_those_of_the_image_and_not_of_its_padding() -> None:
    audit = planted_audit(Fault.CLEAN)
    geometry = InputGeometry((SIDE, SIDE), ResizeType.FIT_TO_WINDOW_LETTERBOX)
    sizes = np.tile([32, 64], (len(audit.evidence), 1))
    mask = edge_mask(replace(audit.evidence, geometry=geometry, sizes=sizes), 0)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[16:48] = True
    expected[19:45, 3:61] = False
    np.testing.assert_array_equal(mask, expected)


def test_nothing_to_say() -> None:
    audit = planted_audit(Fault.BACKGROUND)
    evidence = without_boxes(audit.evidence)
    one = replace(evidence, best=np.zeros_like(evidence.best[:, :1]))
    assert edge_reliances(one, audit.fetch, audit.forward) == []
    no_scores = function_scores(lambda images: np.full((len(images), 3), np.nan, np.float32))
    assert edge_reliances(evidence, audit.fetch, no_scores) == []
