"""Inputs beside the image: those whose value is known become constants, and boxes are those of a model without them."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.errors import ModelError
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opening import open_model
from otx_xai.records import InputOptions


def model_of(names, shape=(1, 3, 32, 64), axes=(1, 2), kind=np.int64):
    """Scores of four classes, and the sum of all elements of each other input."""
    image = ops.parameter(list(shape), np.float32, name="images")
    image.output(0).get_tensor().set_names({"images"})
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    pooled = ops.reduce_mean(ops.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1]), np.array([2, 3]), False)
    pooled.output(0).get_tensor().set_names({"logits"})
    results, parameters = [ops.result(pooled)], [image]
    for name in names:
        other = ops.parameter(list(axes), kind, name=name)
        other.output(0).get_tensor().set_names({name})
        given = ops.convert(other, "f32")
        given.output(0).get_tensor().set_names({f"given_{name}"})
        results.append(ops.result(given))
        parameters.append(other)
    return ov.Model(results, parameters, "two inputs")


def given(model, name, **options):
    opened = open_model(model, ModelOptions(**options))
    compiled = ov.compile_model(opened.graph, "CPU")
    return compiled(np.zeros([1, 3, 32, 64], np.float32))[f"given_{name}"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("orig_target_sizes", [64, 32]), ("im_shape", [32, 64]), ("image_shape", [32, 64]), ("scale_factor", [1, 1])],
)
@pytest.mark.parametrize("batch", [1, -1])
def test_sizes(name, expected, batch, caplog):
    caplog.set_level("INFO")
    model = model_of([name], axes=(batch, 2), kind=np.float32 if name != "orig_target_sizes" else np.int64)
    np.testing.assert_array_equal(given(model, name, output="logits"), [expected])
    assert len(model.inputs) == 2  # the caller's own stays
    assert any(message.startswith(f"The input {name} is fixed to ") for message in caplog.messages)


@pytest.mark.parametrize(("axes", "shape"), [((1, 8, 8), (8, 8)), ((-1, -1, -1), (32, 64))])
def test_masks_of_padding(axes, shape):
    found = given(model_of(["pixel_mask"], axes=axes), "pixel_mask")
    np.testing.assert_array_equal(found, np.ones((1, *shape)))


def test_a_size_that_the_user_gives():
    model = model_of(["im_shape"], shape=(1, 3, -1, -1), kind=np.float32)
    found = given(model, "im_shape", output="logits", input=InputOptions(size="32,64"))
    np.testing.assert_array_equal(found, [[32, 64]])
    with pytest.raises(ModelError, match=r"has 2 inputs .*frozen as constants"):
        open_model(model, ModelOptions(output="logits"))


@pytest.mark.parametrize("names", [["prompt"], ["im_shape", "prompt"]])
def test_others_are_refused(names):
    with pytest.raises(ModelError, match=rf"has {len(names) + 1} inputs .*prompt.*frozen as constants"):
        open_model(model_of(names), ModelOptions(output="logits"))
