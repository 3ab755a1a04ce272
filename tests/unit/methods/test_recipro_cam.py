"""Which heads auto mode leaves to other methods because they would run too often."""

from __future__ import annotations

import branches
import numpy as np
import openvino as ov
import pytest
from doors import find_logits
from openvino import opset13 as ops

from otx_xai.methods import recipro_cam
from otx_xai.methods.table import candidates, find_method
from otx_xai.model.opened import Model
from otx_xai.records import ExplainMode


def classifier(side: int, *, pooled: bool = False) -> Model:
    """A cheap convolution, and a head that holds nearly all the cost: on all places at once, or on pooled ones."""
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, 2 * side, 2 * side], np.float32)
    maps = ops.convolution(image, rng.normal(size=(4, 3, 2, 2)).astype(np.float32), [2, 2], [0, 0], [0, 0], [1, 1])
    maps.set_friendly_name("maps")
    head = ops.reduce_mean(maps, np.array([2, 3])) if pooled else ops.reshape(maps, np.array([1, -1]), False)
    width = 4 if pooled else 4 * side * side
    hidden = ops.relu(ops.matmul(head, ops.constant(rng.normal(size=(width, 200)).astype(np.float32)), False, False))
    scores = ops.matmul(hidden, ops.constant(rng.normal(size=(200, 5)).astype(np.float32)), False, False)
    scores.output(0).set_names({"logits"})
    model = ov.Model([scores], [image], "classifier")
    return branches.classifier(model, find_logits(model))


def names(model: Model, layers: tuple[str, ...] = ()) -> list[str]:
    found = candidates(model, method=None, mode=ExplainMode.AUTO, target_layers=layers, refusals=[])
    return [next(found).spec.name]


def test_a_head_that_costs_more_than_masks_of_the_image_is_left_to_them() -> None:
    model = classifier(20)
    chosen = next(candidates(model, method=None, mode=ExplainMode.AUTO, refusals=[]))
    assert chosen.spec.name == "rise"
    reason = next(reason for reason in chosen.refusals if reason.startswith("reciprocam: "))
    assert "once for each of its 20 x 20 places" in reason
    assert "Name reciprocam as explain_method" in reason


@pytest.mark.parametrize(("side", "pooled"), [(4, False), (20, True)])
def test_few_places_and_pooled_ones_are_cheap(side: int, pooled: bool) -> None:
    assert names(classifier(side, pooled=pooled)) == ["reciprocam"]


def test_whoever_names_the_method_or_a_layer_gets_it() -> None:
    model = classifier(20)
    named = next(candidates(model, method=find_method("reciprocam"), mode=ExplainMode.AUTO, refusals=[]))
    assert named.spec.name == "reciprocam"
    assert names(model, ("maps",)) == ["reciprocam"]


def test_the_limit_counts_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is all but the whole network: 400 places cost nearly as much as 400 passes."""
    anatomy = classifier(20).structure.anatomy
    monkeypatch.setattr(recipro_cam, "MOST_PASSES", 400)
    assert recipro_cam.too_dear(anatomy) is None
    monkeypatch.setattr(recipro_cam, "MOST_PASSES", 300)
    assert recipro_cam.too_dear(anatomy) is not None
