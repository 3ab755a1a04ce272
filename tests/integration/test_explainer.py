"""From torch networks to explanations: what a user of :class:`Explainer` and :func:`insert_xai` gets of each family."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import openvino as ov
import pytest
import reference

import otx_xai as xai
from otx_xai.openvino_core import core
from otx_xai.records import InputOptions, Method

FAMILIES = ["two_pools", "timm_vit_fused"]  # small ones: test_heads.py goes through all
DEFAULTS = {"timm_vit_fused": Method.VITRECIPROCAM}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(family: str):
    return networks.build(family)


@pytest.fixture(scope="module")
def images(family: str):
    return networks.contrasting_images(networks.NETWORKS[family].size, 3)


@pytest.fixture(scope="module")
def model(family: str, network) -> ov.Model:
    return networks.convert(network, (-1, 3, *networks.NETWORKS[family].size))


@pytest.fixture(scope="module")
def literal(family: str, network, images) -> np.ndarray:
    """The published definition, in torch, scaled to 0-255."""
    return reference.scaled(networks.NETWORKS[family].literal(network, images))


def test_a_batch_of_model_inputs(model: ov.Model, images, literal: np.ndarray):
    explanations = xai.Explainer(model, xai.Task.CLASSIFICATION)(
        images.numpy(), targets=[5, 0], resize=False, colormap=False
    )
    assert [explanation.targets for explanation in explanations] == [[5, 0]] * 3
    for explanation, expected in zip(explanations, literal, strict=True):
        for target, saliency_map in explanation.saliency_map.items():
            assert np.abs(saliency_map - expected[target]).max() <= 0.6  # half a grey level, and float noise


def test_a_raw_image_is_normalised_and_resized(family: str, model: ov.Model):
    size = networks.NETWORKS[family].size
    mean, scale = np.array([123.7, 116.3, 103.5], np.float32), np.array([58.4, 57.1, 57.4], np.float32)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    options = InputOptions(mean=mean.tolist(), scale=scale.tolist())
    raw = xai.Explainer(model, input_options=options)(image, targets="predicted", colormap=False)
    ready = xai.Explainer(model)(((image - mean) / scale)[None], targets="predicted", colormap=False)
    assert raw.targets == ready.targets
    for target, saliency_map in raw.saliency_map.items():
        assert np.abs(saliency_map.astype(int) - ready.saliency_map[target]).max() <= 1


def test_preprocess_fn_and_overlay(family: str, model: ov.Model, images):
    original = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    explainer = xai.Explainer(model, preprocess_fn=lambda _: images[:1].numpy(), postprocess_fn=lambda x: x[0])
    explanation = explainer(original, targets="predicted", overlay=True)
    assert explanation.shape == (50, 70, 3)
    assert explanation.targets == [prediction.target for prediction in explanation.predictions]


def test_the_default_method(family: str, model: ov.Model, images, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", "otx_xai"):
        xai.Explainer(model)(images[:1].numpy(), targets="predicted")
    assert f"Explaining with {DEFAULTS.get(family, Method.RECIPROCAM)}" in caplog.text


def test_inserted_saved_read_and_explained_again(model: ov.Model, images, literal: np.ndarray, tmp_path: Path):
    model = model.clone()
    model.set_rt_info("a b c d e f g", ["model_info", "labels"])
    ov.save_model(xai.insert_xai(model), tmp_path / "explained.xml", compress_to_fp16=False)
    read = core().read_model(tmp_path / "explained.xml")
    compiled = core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(images.numpy())["saliency_map"], literal, atol=0.03)

    explanation = xai.Explainer(tmp_path / "explained.xml")(
        images[:1].numpy(), targets="c", resize=False, colormap=False
    )
    assert explanation.targets == [2]
    assert np.abs(explanation.saliency_map[2] - literal[0, 2]).max() <= 0.6
