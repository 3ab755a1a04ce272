"""What torchvision's weights want, against its own transforms of an image."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image
from torchvision.models import get_model_weights

from otx_xai.neighbours import assumed_hints
from otx_xai.postprocess import fit
from otx_xai.records import InputGeometry


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "vit_b_16", "efficientnet_b1", "swin_t"])
def test_classifiers_are_fed_as_torchvision_does(name, caplog):
    with caplog.at_level(logging.INFO):
        hints = assumed_hints(name)
    assert f"assumed to be prepared as for the weights of torchvision's {name}" in caplog.text
    y, x = np.mgrid[:300, :400] / 100
    image = np.uint8(128 + 100 * np.stack([np.sin(y + x), np.cos(x - y), np.sin(2 * y)], -1))
    expected = get_model_weights(name).DEFAULT.transforms()(Image.fromarray(image)).numpy().transpose(1, 2, 0)
    fitted = fit(image, InputGeometry(hints.size, hints.resize_type, crop=hints.crop)).astype(np.float64)
    found = (fitted - np.array(hints.mean)) / np.array(hints.scale)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.1
    assert {"mean", "scale", "resize_type"} <= set(hints.assumed)


def test_detectors_normalise_by_themselves():
    hints = assumed_hints("fasterrcnn_resnet50_fpn")
    assert (hints.mean, hints.scale, hints.resize_type) == ((0.0,), (255.0,), None)


@pytest.mark.parametrize("name", ["my_net", "timm/resnet50", "r3d_18", "fcn_resnet50", "raft_small"])
def test_others_are_not_guessed(name):
    assert assumed_hints(name) is None
