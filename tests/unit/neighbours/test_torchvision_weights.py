"""What torchvision's weights want, against its own transforms of an image."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torchvision.models import get_model_weights

from otx_xai.neighbours import assumed_hints
from otx_xai.postprocess import fit
from otx_xai.records import InputGeometry, Interpolation


def striped(size):
    """A picture with detail, which tells filters apart: waves of seven and fewer pixels, and specks."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = np.stack([np.sin(0.9 * y + x), np.cos(1.2 * x - y), np.sin(1.5 * y)], -1)
    specks = np.random.default_rng(0).integers(-60, 60, (*size, 3))
    return np.uint8(np.clip(128 + 60 * waves + specks, 0, 255))


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "vit_b_16", "efficientnet_b1", "swin_t"])
def test_classifiers_are_fed_as_torchvision_does(name, caplog):
    with caplog.at_level(logging.INFO):
        hints = assumed_hints(name)
    assert f"assumed to be prepared as for the weights of torchvision's {name}" in caplog.text
    image = striped((300, 400))
    expected = get_model_weights(name).DEFAULT.transforms()(Image.fromarray(image)).numpy().transpose(1, 2, 0)
    geometry = InputGeometry(hints.size, hints.resize_type, crop=hints.crop, interpolation=hints.interpolation)
    expected = expected * hints.scale + hints.mean
    found = fit(image, geometry).astype(np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.5
    assert np.abs(fit(image, replace(geometry, interpolation=Interpolation.LINEAR)) - expected).mean() > 3
    assert {"mean", "scale", "resize_type"} <= set(hints.assumed)


def test_detectors_normalise_by_themselves():
    hints = assumed_hints("fasterrcnn_resnet50_fpn")
    assert (hints.mean, hints.scale, hints.resize_type) == ((0.0,), (255.0,), None)


@pytest.mark.parametrize("name", ["my_net", "timm/resnet50", "r3d_18", "fcn_resnet50", "raft_small"])
def test_others_are_not_guessed(name):
    assert assumed_hints(name) is None
