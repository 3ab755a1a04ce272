"""The fast heads against the literal definition in torch, for every family of networks."""

from __future__ import annotations

import dataclasses

import networks
import numpy as np
import openvino as ov
import pytest
import reference
import torch

from otx_xai.graph.insert import insert_branch
from otx_xai.ir.logits import find_logits

TOLERANCE = 1e-4 * 255


def run(model: ov.Model, images: torch.Tensor) -> dict[str, np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(images.numpy())
    return {name: np.array(results[output]) for output in compiled.outputs for name in output.get_names()}


def fixed_batch(model: ov.Model, batch: int) -> ov.Model:
    model = model.clone()
    shape = model.inputs[0].get_partial_shape()
    shape[0] = batch
    model.reshape(shape)
    return model


@dataclasses.dataclass
class Case:
    network: networks.Network
    model: torch.nn.Module
    images: torch.Tensor
    literal: np.ndarray
    dynamic: ov.Model


@pytest.fixture(scope="module", params=networks.NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    network, model = networks.NETWORKS[request.param], networks.build(request.param)
    images = networks.contrasting_images(network.size)
    dynamic = networks.convert(model, (-1, 3, *network.size), exported=network.exported)
    return Case(network, model, images, network.literal(model, images), dynamic)


@pytest.mark.parametrize("batch", [-1, 1, 4])
def test_maps_equal_the_literal_definition(case: Case, batch: int):
    model = case.dynamic if batch == -1 else fixed_batch(case.dynamic, batch)
    count = abs(batch) if batch == 1 else 4
    maps = run(insert_branch(model, find_logits(model)), case.images[:count])["saliency_map"]
    expected = reference.scaled(case.literal[:count])
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, atol=TOLERANCE, rtol=0)


def test_best_classes_are_those_of_all_classes(case: Case):
    logits = find_logits(case.dynamic)
    everything = run(insert_branch(case.dynamic, logits, scores="softmax"), case.images)
    best = run(insert_branch(case.dynamic, logits, classes=3), case.images)
    order = np.argsort(-everything["saliency_scores"], axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(best["saliency_targets"], order)
    expected = np.take_along_axis(everything["saliency_map"], order[:, :, None, None], axis=1)
    np.testing.assert_allclose(best["saliency_map"], expected, atol=TOLERANCE, rtol=0)


def test_given_classes_come_in_the_given_order(case: Case):
    logits = find_logits(case.dynamic)
    everything = run(insert_branch(case.dynamic, logits), case.images)["saliency_map"]
    some = run(insert_branch(case.dynamic, logits, classes=(5, 0, 2)), case.images)["saliency_map"]
    np.testing.assert_allclose(some, everything[:, [5, 0, 2]], atol=TOLERANCE, rtol=0)


def test_outputs_stay_what_they_were(case: Case):
    case.dynamic.set_rt_info("a b", ["model_info", "labels"])
    explained = insert_branch(case.dynamic, find_logits(case.dynamic), feature_vector=True)
    assert explained.get_rt_info(["model_info", "labels"]).value == "a b"
    assert [output.get_any_name() for output in explained.outputs[1:]] == ["saliency_map", "feature_vector"]
    compiled = ov.Core().compile_model(explained, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = case.model(case.images).numpy()
    results = compiled(case.images.numpy())
    np.testing.assert_allclose(results[0], expected, atol=1e-4, rtol=1e-4)
    assert results["feature_vector"].ndim == 2
