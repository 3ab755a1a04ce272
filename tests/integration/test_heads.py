"""The fast heads against the literal definition in torch, for every family of networks."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import reference
import torch
from branches import insert_branch
from doors import find_logits

from otx_xai.openvino_core import core

TOLERANCE = 1e-4 * 255


@pytest.fixture(params=networks.NETWORKS, scope="module")
def case(request: pytest.FixtureRequest) -> networks.Case:
    return networks.case(request.param)


@pytest.fixture(scope="module")
def everything(case: networks.Case) -> dict[str, np.ndarray]:
    """Maps and scores of all classes."""
    return networks.infer(insert_branch(case.dynamic, find_logits(case.dynamic), scores="softmax"), case.images)


@pytest.mark.parametrize("batch", [-1, 1, 4])
def test_maps_equal_the_literal_definition(case: networks.Case, batch: int):
    model = networks.reshaped(case.dynamic, (batch, 3, *case.network.size))
    count = abs(batch) if batch == 1 else 4
    maps = networks.infer(insert_branch(model, find_logits(model)), case.images[:count])["saliency_map"]
    expected = reference.scaled(case.literal[:count])
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, atol=TOLERANCE, rtol=0)


def test_best_classes_are_those_of_all_classes(case: networks.Case, everything: dict[str, np.ndarray]):
    best = networks.infer(insert_branch(case.dynamic, find_logits(case.dynamic), classes=3), case.images)
    order = np.argsort(-everything["saliency_scores"], axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(best["saliency_targets"], order)
    expected = np.take_along_axis(everything["saliency_map"], order[:, :, None, None], axis=1)
    np.testing.assert_allclose(best["saliency_map"], expected, atol=TOLERANCE, rtol=0)


def test_given_classes_come_in_the_given_order(case: networks.Case, everything: dict[str, np.ndarray]):
    branch = insert_branch(case.dynamic, find_logits(case.dynamic), classes=(5, 0, 2))
    some = networks.infer(branch, case.images)["saliency_map"]
    np.testing.assert_allclose(some, everything["saliency_map"][:, [5, 0, 2]], atol=TOLERANCE, rtol=0)


def test_outputs_stay_what_they_were(case: networks.Case):
    model = case.dynamic.clone()
    model.set_rt_info("a b", ["model_info", "labels"])
    explained = insert_branch(model, find_logits(model), feature_vector=True)
    assert explained.get_rt_info(["model_info", "labels"]).value == "a b"
    assert [output.get_any_name() for output in explained.outputs[1:]] == ["saliency_map", "feature_vector"]
    compiled = core().compile_model(explained, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = case.model(case.images).numpy()
    results = compiled(case.images.numpy())
    np.testing.assert_allclose(results[0], expected, atol=1e-4, rtol=1e-4)
    assert results["feature_vector"].ndim == 2
