"""Small classifiers built from OpenVINO operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.openvino_core import core

TO_NCHW = {"NCHW": [0, 1, 2, 3], "NHWC": [0, 3, 1, 2], "CHWN": [3, 0, 1, 2], "NWHC": [0, 3, 2, 1]}

ACTIVATIONS = {
    "softmax": lambda x: ops.softmax(x, 1),
    "log_softmax": lambda x: ops.log_softmax(x, 1),
    "sigmoid": ops.sigmoid,
}


def build_classifier(
    shape: Sequence[int] = (1, 3, 8, 12),
    *,
    layout: str = "NCHW",
    classes: int = 4,
    activation: str | None = None,
    kind: type = np.float32,
    output_name: str = "logits",
    model_info: dict[str, object] | None = None,
    stem: Callable[[ov.Output], ov.Output] = lambda image: image,
) -> ov.Model:
    """Image → stem → (transpose to NCHW) → 3×3 convolution → global mean → linear layer → activation."""
    rng = np.random.default_rng(7)
    channels = max(shape[layout.index("C")], 1)
    image = ops.parameter(list(shape), kind, name="image")
    image.output(0).set_names({"image"})
    x = image if kind is np.float32 else ops.convert(image, "f32")
    x = stem(x)
    if layout != "NCHW":
        x = ops.transpose(x, np.array(TO_NCHW[layout]))
    kernel = ops.constant(rng.normal(size=(5, channels, 3, 3)).astype(np.float32))
    x = ops.relu(ops.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    x = ops.reduce_mean(x, np.array([2, 3]))
    x = ops.matmul(x, ops.constant(rng.normal(size=(5, classes)).astype(np.float32)), False, False)
    if activation:
        x = ACTIVATIONS[activation](x)
    x.output(0).set_names({output_name})
    model = ov.Model([x], [image], "classifier")
    for key, value in (model_info or {}).items():
        model.set_rt_info(value, ["model_info", key])
    return model


@pytest.fixture(name="build_classifier")
def _build_classifier() -> Callable[..., ov.Model]:
    return build_classifier


@pytest.fixture
def run() -> Callable[[ov.Model, np.ndarray], np.ndarray]:
    """Run a model on the CPU in full precision and return its first output."""

    def run_model(model: ov.Model, images: np.ndarray) -> np.ndarray:
        return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]

    return run_model
