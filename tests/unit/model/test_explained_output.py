"""A model of two heads with the map of one of them."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

import otx_xai
from otx_xai.errors import ConfigError, ModelError
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opening import open_model


def two_heads():
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, 16, 16], np.float32, name="image")
    features = ops.relu(
        ops.convolution(image, rng.normal(size=(8, 3, 3, 3)).astype(np.float32), [2, 2], [1, 1], [1, 1], [1, 1])
    )
    pooled = ops.reduce_mean(features, np.array([2, 3]), False)
    results = []
    for name in ("age", "colour"):
        head = ops.matmul(pooled, rng.normal(size=(8, 3)).astype(np.float32), False, False)
        head.output(0).get_tensor().set_names({name})
        results.append(ops.result(head))
    return ov.Model(results, [image], "heads")


def test_the_head_that_is_explained_is_remembered(tmp_path):
    with pytest.raises(ModelError, match=r"in Python output='NAME'"):
        otx_xai.insert_xai(two_heads())
    path = tmp_path / "colour.xml"
    ov.save_model(otx_xai.insert_xai(two_heads(), output="colour"), path)
    for output in (None, "colour", "1"):
        assert open_model(path, ModelOptions(output=output)).structure.class_scores.result_index == 1
    with pytest.raises(ConfigError, match=r"--output is age, and the saliency_map in the model explains colour"):
        open_model(path, ModelOptions(output="age"))
    with pytest.raises(ConfigError, match=r"--output is none, and"):
        otx_xai.Explainer(path, output="none")


def test_one_head_needs_no_note():
    model = two_heads()
    model.remove_result(model.get_results()[1])
    assert not otx_xai.insert_xai(model).has_rt_info(["otx_xai"])
