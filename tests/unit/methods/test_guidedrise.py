"""Guided RISE is made of the maps of RISE and of gradients; ``preset`` is the knob of effort of classifiers."""

from __future__ import annotations

import networks
import numpy as np
import openvino as ov
import pytest
import torch
from doors import prepare
from openvino import opset13 as ops
from torch import nn

from otx_xai.errors import ConfigError, GraphError
from otx_xai.explain import Explainer
from otx_xai.methods.guidedrise import GuidedRiseOptions, guided
from otx_xai.methods.multistridecam import SIGMA
from otx_xai.postprocess import min_max, to_image
from otx_xai.records import ExplainMode, InputGeometry, MapGrid, Preset

SIZE = (48, 64)


class TwoStages(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x / 64 - 2)).mean((2, 3)) * 4)


@pytest.fixture(scope="module")
def model() -> ov.Model:
    return networks.convert(TwoStages().eval(), (1, 3, *SIZE))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1)


def maps_of(model: ov.Model, image: np.ndarray, method: str, **options: int) -> tuple[np.ndarray, object]:
    found = Explainer(model, explain_method=method)(image, [3, 1], **options)
    assert list(found.saliency_map) == [3, 1]
    return found.maps, found.grid


def fine_maps(model: ov.Model, image: np.ndarray) -> tuple[np.ndarray, MapGrid]:
    """LayerCAM at the finer stride, which has no negative features, smoothed as Multi-stride CAM smooths it."""
    relus = [node for node in model.get_ordered_ops() if node.get_type_name() == "Relu"]
    explainer = Explainer(model, explain_method="layercam", target_layer=relus[0].get_friendly_name())
    found = explainer(image, [3, 1])
    assert found.grid is not None
    rows, columns = (
        np.exp(-np.square(np.subtract.outer(np.arange(n), np.arange(n)) / SIGMA) / 2) for n in found.maps.shape[1:]
    )
    rows, columns = (weights / weights.sum(1, keepdims=True) for weights in (rows, columns))
    return np.float32(rows @ found.maps @ columns.T), found.grid


def test_it_is_the_mean_of_rise_and_of_gradients(model: ov.Model, image: np.ndarray) -> None:
    ours, _ = maps_of(model, image, "guidedrise", num_masks=20, seed=2)
    rise, _ = maps_of(model, image, "rise", num_masks=20, seed=2)
    gradients, grid = fine_maps(model, image)
    shape = (12, 16)
    assert ours.shape == (2, *shape)
    placed = [to_image(rise, shape, InputGeometry(SIZE)), to_image(gradients, shape, InputGeometry(SIZE), grid=grid)]
    first, second = (min_max(maps) + 0.05 for maps in placed)
    np.testing.assert_allclose(ours, min_max(np.sqrt(first * second)), atol=1e-3)


def test_nothing_is_drawn_where_masks_change_nothing() -> None:
    guides = np.random.default_rng(0).random((2, 4, 5), np.float32)
    maps = np.stack([np.zeros((4, 5), np.float32), guides[0]])
    first, second = guided(maps, guides)
    assert not first.any()
    assert np.ptp(second) > 0


@pytest.mark.parametrize(
    ("preset", "method"),
    [(None, "multistridecam"), ("speed", "reciprocam"), ("balance", "multistridecam"), ("quality", "guidedrise")],
)
def test_the_preset_chooses_among_methods(
    model: ov.Model, preset: str | None, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = prepare(model, method_options={"preset": None if preset is None else Preset(preset)}, targets="predicted")
    assert made.method == method
    assert not caplog.records or "no effect" not in caplog.text
    if method == "guidedrise":
        assert made.black_box is not None
        assert made.black_box.options == GuidedRiseOptions(num_masks=60)


def test_a_named_method_keeps_the_presets_meaning(model: ov.Model) -> None:
    made = prepare(model, method="rise", method_options={"preset": Preset.QUALITY}, targets="predicted")
    assert made.black_box is not None
    assert made.black_box.options.passes == 500


@pytest.mark.parametrize("preset", [Preset.BALANCE, Preset.QUALITY])
def test_where_gradients_cannot_pass_the_next_method_is_taken(preset: Preset) -> None:
    image = ops.parameter([1, 3, 16, 16], np.float32)
    rng = np.random.default_rng(0)
    x = image
    for channels in (3, 4):
        weights = rng.normal(size=(4, channels, 2, 2)).astype(np.float32)
        x = ops.relu(ops.convolution(x, weights, [2, 2], [0, 0], [0, 0], [1, 1]))
    odd = ops.atan(ops.reduce_mean(x, np.array([2, 3])))
    odd.set_friendly_name("angle")
    scores = ops.matmul(odd, rng.normal(size=(4, 5)).astype(np.float32), False, False)
    made = prepare(ov.Model([scores], [image], "classifier"), method_options={"preset": preset}, targets="predicted")
    assert made.method == "reciprocam"
    assert any("Atan 'angle' has no rule" in refusal for refusal in made.refusals)


def test_too_many_classes_for_gradients() -> None:
    model = networks.convert(TwoStages(101).eval(), (1, 3, *SIZE))
    made = prepare(model, method_options={"preset": Preset.BALANCE}, targets=-1)
    assert made.method == "reciprocam"
    with pytest.raises(GraphError, match="gradients of 101 classes at once"):
        prepare(model, method="guidedrise", targets=-1)


def test_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match="num_masks is 1; expected a whole number from 2 on"):
        GuidedRiseOptions(num_masks=1)


def test_an_explainer_takes_the_preset_for_all_calls_or_for_one(model: ov.Model, image: np.ndarray) -> None:
    explainer = Explainer(model, preset="balance")
    assert explainer(image, [1]).method.startswith("multistridecam (")
    assert explainer(image, [1], preset="speed").method.startswith("reciprocam (")
    assert explainer(image, [1], preset="quality").method.startswith("guidedrise (")
    assert explainer(image, [1], explain_method="activationmap").method.startswith("activationmap (")
    fine = Explainer(model, explain_method="multistridecam")(image, [3, 1])
    np.testing.assert_array_equal(explainer(image, [3, 1]).maps, fine.maps)
    with pytest.raises(ConfigError, match="is no Preset"):
        Explainer(model, preset="best")


def test_the_default_is_two_passes_as_long_as_few_classes_are_wanted(model: ov.Model, image: np.ndarray) -> None:
    wide = networks.convert(TwoStages(8).eval(), (1, 3, *SIZE))
    assert prepare(wide, targets=[0, 1, 2, 3, 4]).method == "multistridecam"
    many = prepare(wide, targets=[0, 1, 2, 3, 4, 5])
    assert many.method == "reciprocam"
    assert "multistridecam: each of 6 classes would take a backward pass; --preset balance does" in many.refusals
    assert prepare(wide, targets=-1, method_options={"preset": Preset.BALANCE}).method == "multistridecam"
    assert prepare(wide, targets=[0], mode=ExplainMode.WHITEBOX).method == "reciprocam"
    explainer = Explainer(wide)
    assert explainer(image, [2]).method.startswith("multistridecam (preset balance, the default")
    everything = explainer(image, -1)
    assert everything.method.startswith("reciprocam (")
    assert everything.targets == list(range(8))
    np.testing.assert_array_equal(
        explainer(image, [3, 2]).maps, Explainer(wide, explain_method="multistridecam")(image, [3, 2]).maps
    )
