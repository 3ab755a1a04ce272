"""In which order a network takes the channels of its images."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino.preprocess import ColorFormat, PrePostProcessor

from otx_xai.explain import Explainer
from otx_xai.model.channel_order import channel_order, is_blue_first
from otx_xai.neighbours.hints import NO_HINTS
from otx_xai.records import InputOptions

BGR = (103.53, 116.28, 123.675)


@pytest.mark.parametrize("mean", [BGR, (103.939, 116.779, 123.68), (104.0, 117, 123), (0.406, 0.456, 0.485)])
def test_the_mean_of_photographs_tells_the_order(mean: tuple[float, ...]) -> None:
    assert is_blue_first(mean)
    assert not is_blue_first(mean[::-1])
    assert channel_order(mean, {}, InputOptions(), NO_HINTS).is_reversed
    assert not channel_order(mean[::-1], {}, InputOptions(), NO_HINTS).is_reversed


@pytest.mark.parametrize("mean", [(), (0.0, 0, 0), (127.5,) * 3, (103.5,), (0.5,) * 3])
def test_other_means_tell_nothing(mean: tuple[float, ...]) -> None:
    assert not is_blue_first(mean)


def test_who_says_the_order_outranks_the_mean() -> None:
    assert not channel_order(BGR, {}, InputOptions(reverse_input_channels=False), NO_HINTS).is_reversed
    told = {"reverse_input_channels": "False"}
    assert not channel_order(BGR, told, InputOptions(), NO_HINTS).is_reversed


def test_a_mean_of_the_user_with_blue_first_is_asked_about() -> None:
    none = (0.0, 0.0, 0.0)
    asked = channel_order(none, {}, InputOptions(mean="103.53,116.28,123.675"), NO_HINTS)
    assert not asked.is_reversed
    assert "pass --input.reverse_input_channels True" in asked.warning
    for answer in (True, False):
        options = InputOptions(mean="103.53,116.28,123.675", reverse_input_channels=answer)
        assert channel_order(none, {}, options, NO_HINTS).warning == ""
    assert channel_order(none, {}, InputOptions(mean="123.675,116.28,103.53"), NO_HINTS).warning == ""


def test_an_exchange_of_channels_inside_an_ir_is_done_for_rgb() -> None:
    """A network that tells red from blue, exported for images as OpenCV reads them, answers RGB images right."""
    image = ops.parameter([1, 3, 8, 8], np.float32)
    weights = np.zeros((4, 3, 1, 1), np.float32)
    weights[1, 0] = weights[2, 2] = 1
    features = ops.relu(ops.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1]))
    logits = ops.squeeze(ops.reduce_mean(features, np.array([2, 3]), keep_dims=True), np.array([2, 3]))
    steps = PrePostProcessor(ov.Model([logits], [image], "red_or_blue"))
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    steps.input().preprocess().convert_color(ColorFormat.RGB).convert_element_type(ov.Type.f32).mean([*BGR[::-1]])
    steps.input().model().set_layout(ov.Layout("NCHW"))
    model = steps.build()
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    prediction = Explainer(model)(red, targets="predicted").predictions[0]
    assert prediction.target == 1
