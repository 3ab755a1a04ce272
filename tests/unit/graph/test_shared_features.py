"""What the activation map of a detector averages, and how many classes a two-stage detector has."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from branches import insert_activation_map
from doors import read_box_classes
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.graph.shared_features import pooled_features
from otx_xai.graph.view import View
from otx_xai.openvino_core import core


def two_stage(*, background: str = "first") -> ov.Model:
    """Two levels, regions pooled from both, a soft-max over three classes and "nothing", selected boxes."""
    random = np.random.default_rng(0)

    def convolve(value: ov.Node, channels: tuple[int, int], stride: int) -> ov.Node:
        weights = random.standard_normal((*channels, 3, 3)).astype(np.float32)
        return ops.relu(ops.convolution(value, weights, [stride] * 2, [1, 1], [1, 1], [1, 1]))

    image = ops.parameter([1, 3, 32, 48], np.float32, name="image")
    fine = convolve(image, (4, 3), 4)
    fine.set_friendly_name("fine")
    coarse = convolve(fine, (4, 4), 2)
    coarse.set_friendly_name("coarse")
    regions = ops.constant(np.array([[0, 0, 8, 8], [8, 8, 40, 30]], np.float32))
    numbers = ops.constant(np.zeros(2, np.int32))
    pooled = [
        ops.roi_align(level, regions, numbers, 2, 2, 2, scale, "avg")
        for level, scale in ((coarse, 0.125), (fine, 0.25))
    ]
    flat = ops.reshape(ops.add(*pooled), ops.constant([2, 16]), False)
    weights = ops.constant(random.standard_normal((16, 4)).astype(np.float32))
    scores = ops.softmax(ops.matmul(flat, weights, False, False), 1)
    first, last = (1, 4) if background == "first" else (0, 3)
    kept = ops.slice(scores, *(ops.constant([number]) for number in (first, last, 1, 1)))
    best = ops.topk(kept, ops.constant(1), 1, "max", "value")
    outputs = {"boxes": regions, "labels": best.output(1), "scores": ops.squeeze(best.output(0), ops.constant([1]))}
    results = []
    for name, value in outputs.items():
        result = ops.result(value)
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    return ov.Model(results, [image], "two_stage")


def infer(model: ov.Model, name: str) -> np.ndarray:
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 48)).astype(np.float32)
    return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[name]


def features(model: ov.Model, name: str) -> np.ndarray:
    clone = model.clone()
    node = next(node for node in clone.get_ops() if node.get_friendly_name() == name)
    clone.add_outputs([node.output(0)])
    clone.outputs[-1].get_tensor().set_names({"features"})
    return infer(clone, "features")


@pytest.mark.parametrize(("target_layer", "layer"), [(None, "fine"), ("coarse", "coarse")])
def test_the_finest_pooled_features_are_averaged(target_layer: str | None, layer: str) -> None:
    model = two_stage()
    assert len(pooled_features(View(model))) == 2
    explained = insert_activation_map(model, target_layer=target_layer, embed_scaling=False)
    np.testing.assert_allclose(infer(explained, "saliency_map"), features(model, layer).mean(axis=1), atol=1e-5)
    assert [output.get_any_name() for output in explained.outputs] == ["boxes", "labels", "scores", "saliency_map"]


def test_maps_are_scaled() -> None:
    maps = infer(insert_activation_map(two_stage()), "saliency_map")
    assert (maps.min(), maps.max()) == (0, pytest.approx(255))


def test_layers_without_places_are_refused_with_candidates() -> None:
    with pytest.raises(
        GraphError, match=r"--target_layer 'none' is no layer.*'fine' \[1,4,8,12\], 'coarse' \[1,4,4,6\]"
    ):
        insert_activation_map(two_stage(), target_layer="none")


@pytest.mark.parametrize("background", ["first", "last"])
def test_classes_of_a_two_stage_detector(background: str) -> None:
    expected = BoxClasses(3, background_first=background == "first")
    assert read_box_classes(two_stage(background=background)) == expected
