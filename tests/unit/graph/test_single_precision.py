"""Models that compute in half and double precision, against the same model in single precision."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai import Explainer
from otx_xai.graph.single_precision import compute_in_single
from otx_xai.records import InputOptions

DTYPES = {"f16": np.float16, "f64": np.float64, "f32": np.float32}


def classifier(dtype: str, *, through_f32: bool = False) -> ov.Model:
    numbers = np.random.default_rng(0)
    constant = lambda *shape: ops.constant(numbers.normal(size=shape).astype(np.float16).astype(DTYPES[dtype]))  # noqa: E731
    image = ops.parameter([1, 3, 16, 16], DTYPES["f32" if through_f32 else dtype], name="image")
    pixels = ops.multiply(ops.convert(image, dtype) if through_f32 else image, ops.constant(DTYPES[dtype](1 / 256)))
    features = ops.relu(ops.convolution(pixels, constant(8, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]))
    pooled = ops.reduce_mean(features, np.array([2, 3]), keep_dims=False)
    scores = ops.matmul(pooled, constant(8, 4), transpose_a=False, transpose_b=False)
    scores.output(0).get_tensor().set_names({"scores"})
    result = ops.result(ops.convert(scores, "f32") if through_f32 else scores)
    return ov.Model([result], [image], "net")


@pytest.mark.parametrize(("dtype", "through_f32"), [("f16", False), ("f16", True), ("f64", False)])
@pytest.mark.parametrize("method", ["reciprocam", "gradcam", "activationmap"])
def test_maps_are_those_of_the_model_in_single_precision(dtype, through_f32, method):
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    told = {"task": "classification", "explain_method": method, "input": InputOptions(mean=0, scale=1)}
    other = classifier(dtype, through_f32=through_f32)
    found, wanted = (Explainer(model, **told)(image, targets=-1) for model in (other, classifier("f32")))
    np.testing.assert_allclose(found.maps, wanted.maps, atol=0.03)
    assert other.input(0).element_type.get_type_name() == ("f32" if through_f32 else dtype)


def test_names_and_the_type_of_the_input_stay():
    model = classifier("f16")
    assert compute_in_single(model)
    assert not compute_in_single(model)
    assert (model.input(0).element_type, model.output(0).element_type) == (ov.Type.f16, ov.Type.f32)
    assert model.output(0).names == {"scores"}


def test_weights_that_are_merely_stored_in_halves_are_left_alone():
    image = ops.parameter([1, 3, 8, 8])
    weights = ops.convert(ops.constant(np.ones((4, 3, 3, 3), np.float16)), "f32")
    model = ov.Model([ops.result(ops.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1]))], [image], "net")
    before = [node.get_name() for node in model.get_ordered_ops()]
    assert not compute_in_single(model)
    assert [node.get_name() for node in model.get_ordered_ops()] == before
