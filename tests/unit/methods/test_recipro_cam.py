"""Which heads auto mode leaves to other methods because they would run too often."""

from __future__ import annotations

import branches
import numpy as np
import openvino as ov
import pytest
from doors import find_logits
from openvino import opset13 as ops

from otx_xai.graph.cost import cost
from otx_xai.methods import recipro_cam
from otx_xai.methods.spec import Order
from otx_xai.methods.table import candidates, find_method
from otx_xai.model.opened import Model
from otx_xai.openvino_core import core
from otx_xai.records import ExplainMode


def classifier(side: int, *, pooled: bool = False, linear: bool = False, told: bool = False) -> Model:
    """A cheap convolution, and a head that holds nearly all the cost: on all places at once, or on pooled ones.

    Args:
        side: places along one side.
        pooled: the head begins with a pooling.
        linear: it begins with a linear layer of flattened places; else with a hyperbolic tangent of them.
        told: what the first linear layer gives is an output of its own.
    """
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, 2 * side, 2 * side], np.float32)
    maps = ops.convolution(image, rng.normal(size=(4, 3, 2, 2)).astype(np.float32), [2, 2], [0, 0], [0, 0], [1, 1])
    maps.set_friendly_name("maps")
    head = ops.reduce_mean(maps, np.array([2, 3])) if pooled else ops.reshape(maps, np.array([1, -1]), False)
    head = head if pooled or linear else ops.tanh(head)
    width = 4 if pooled else 4 * side * side
    first = ops.matmul(head, ops.constant(rng.normal(size=(width, 200)).astype(np.float32)), False, False)
    first.output(0).set_names({"first"})
    hidden = ops.relu(first)
    scores = ops.matmul(hidden, ops.constant(rng.normal(size=(200, 5)).astype(np.float32)), False, False)
    scores.output(0).set_names({"logits"})
    model = ov.Model([scores, first] if told else [scores], [image], "classifier")
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


def branched(model: Model) -> ov.Model:
    insert = recipro_cam.SPEC.insert
    assert insert is not None
    return insert(model, Order()).model


def infer(model: ov.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    results = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
    return {name: np.array(values) for output, values in results.items() for name in output.get_names()}


def test_a_linear_layer_of_flattened_places_runs_once_for_all_of_them() -> None:
    model = classifier(20, linear=True)
    assert names(model) == ["reciprocam"]
    explained = branched(model)
    before, after = (cost(one.get_ordered_ops()) for one in (model.graph, explained))
    assert before is not None
    assert after is not None
    assert after < 10 * before  # by itself the layer takes 400 times its 320 000 products


def test_the_sum_over_places_is_what_the_layer_gave() -> None:
    model = classifier(4, linear=True, told=True)
    explained = branched(model)
    image = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    before, after = infer(model.graph, image), infer(explained, image)
    for name in ("logits", "first"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-3)
