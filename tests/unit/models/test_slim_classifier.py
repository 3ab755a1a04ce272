from __future__ import annotations

from pathlib import Path

import pytest
import torch

from otx_xai.engine.training import take_over
from otx_xai.errors import ConfigError, ModelError
from otx_xai.models import Detector, InstanceSegmenter, MulticlassClassifier
from otx_xai.models.slim_classifier import resnet_slim


def test_maps_lie_over_the_pixels_that_they_stand_for() -> None:
    """Turning the input by 180° with turned kernels turns the map, which holds only where cells lie centrally."""
    torch.manual_seed(0)
    features = resnet_slim(4)[:-3].eval()
    turned = resnet_slim(4)[:-3].eval()
    turned.load_state_dict(
        {
            name: weight.flip(2, 3) if name.endswith("weight") and weight.dim() == 4 else weight
            for name, weight in features.state_dict().items()
        }
    )
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = features(image), turned(image.flip(2, 3))
    assert expected.shape == (1, 96, 12, 8)
    assert expected.std() > 0.01
    torch.testing.assert_close(found.flip(2, 3), expected, rtol=1e-3, atol=1e-4)


def test_widths_are_options_of_the_recipe() -> None:
    model = MulticlassClassifier("resnet_slim", ["a", "b"], network_options={"widths": [8, 16]})
    assert model.geometry.size == (64, 64)
    assert model.network[:-3](torch.zeros(1, 3, 64, 64)).shape == (1, 16, 16, 16)


def test_the_slimmest_has_a_fine_map() -> None:
    model = MulticlassClassifier("conv_slim", ["a", "b"])
    assert model.network[:-3](torch.zeros(1, 3, 64, 64)).shape == (1, 48, 16, 16)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_there_are_no_published_weights() -> None:
    with pytest.raises(ModelError, match="no published weights of resnet_slim"):
        MulticlassClassifier("resnet_slim", 2, pretrained=True)
    with pytest.raises(ModelError, match="no published weights of fcos_slim"):
        Detector("fcos_slim", 2, pretrained=True)


@pytest.mark.parametrize("kind", [Detector, InstanceSegmenter])
def test_detectors_begin_with_the_body_of_a_classifier(kind: type[Detector], tmp_path: Path) -> None:
    classifier = MulticlassClassifier("resnet_slim", ["a", "b", "c"])
    path = classifier.save_weights(tmp_path / "classifier.pth")
    detector = kind("fcos_slim" if kind is Detector else "maskrcnn_slim", ["x"])
    before = {name: weight.clone() for name, weight in detector.network.state_dict().items()}
    take_over(detector, path)
    taken = 0
    for name, weight in detector.network.state_dict().items():
        own = name.removeprefix("backbone.body.")
        if own.startswith(("layer1", "layer2")):
            torch.testing.assert_close(weight, classifier.network.state_dict()[own])
            taken += 1
        else:
            torch.testing.assert_close(weight, before[name])
    assert taken > 20


def test_a_classifier_begins_with_one_of_other_classes(tmp_path: Path) -> None:
    theirs = MulticlassClassifier("resnet_slim", ["a", "b", "c"])
    own = MulticlassClassifier("resnet_slim", ["x", "y"])
    head = own.network.head.weight.clone()
    take_over(own, theirs.save_weights(tmp_path / "theirs.pth"))
    torch.testing.assert_close(own.network.mix[1].weight, theirs.network.mix[1].weight)
    torch.testing.assert_close(own.network.head.weight, head)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = MulticlassClassifier("squeezenet1_1", ["a", "b"]).save_weights(tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"No weight of .*other\.pth has the name and shape of one of resnet_slim"):
        take_over(MulticlassClassifier("resnet_slim", ["a", "b"]), path)
