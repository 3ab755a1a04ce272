from __future__ import annotations

import pytest
import torch
import torchvision

from otx_xai.errors import ConfigError
from otx_xai.models.architectures import architectures, build_network, input_defaults, load_matching
from otx_xai.records import Task

CLASSIFIERS = (
    ("alexnet", 96),
    ("convnext_tiny", 64),
    ("densenet121", 64),
    ("efficientnet_b0", 64),
    ("googlenet", 64),
    ("inception_v3", 96),
    ("maxvit_t", 224),
    ("mnasnet0_5", 64),
    ("mobilenet_v3_small", 64),
    ("regnet_y_400mf", 64),
    ("resnet18", 64),
    ("shufflenet_v2_x0_5", 64),
    ("squeezenet1_1", 64),
    ("swin_t", 64),
    ("vit_b_16", 64),
    ("timm/vit_tiny_patch16_224", 64),
    ("timm/resnet10t", 64),
)


def test_names() -> None:
    names = architectures(Task.CLASSIFICATION)
    assert len(names) >= 80
    assert {"mobilenet_v2", "vit_b_16", "swin_t"} <= set(names)
    assert "fcos_resnet18" in architectures(Task.DETECTION)
    assert "maskrcnn_resnet50_fpn_v2" in architectures(Task.INSTANCE_SEGMENTATION)
    assert "maskrcnn_resnet18" not in architectures(Task.DETECTION)


@pytest.mark.parametrize(("architecture", "side"), CLASSIFIERS)
def test_every_family_of_classifiers_takes_the_size_and_the_classes(architecture: str, side: int) -> None:
    network = build_network(Task.MULTI_CLASS_CLS, architecture, num_classes=5, size=(side, side)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 5)


def test_training_gives_plain_logits_everywhere() -> None:
    """Googlenet and Inception return more than logits in training, unless they are told not to."""
    network = build_network(Task.MULTI_CLASS_CLS, "googlenet", num_classes=3, size=(64, 64)).train()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("architecture", ["mobilenet_v2", "inception_v3", "efficientnet_b4", "vit_h_14"])
def test_input_size_is_that_of_the_published_weights(architecture: str) -> None:
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    side = weights.transforms().crop_size[0]
    assert input_defaults(Task.MULTI_CLASS_CLS, architecture).size == (side, side)


def test_input_of_timm_is_that_of_its_weights() -> None:
    defaults = input_defaults(Task.MULTI_CLASS_CLS, "timm/vit_tiny_patch16_224")
    assert defaults.size == (224, 224)
    assert defaults.mean == defaults.scale == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    ("task", "architecture", "says"),
    [
        (Task.MULTI_CLASS_CLS, "mobilnet_v2", "'mobilnet_v2' is no architecture.*Did you mean mobilenet_v2"),
        (Task.MULTI_CLASS_CLS, "timm/vit_tiny_patch16_242", "has no architecture.*timm/vit_tiny_patch16_224"),
        (Task.MULTI_CLASS_CLS, "fcos_resnet18", "is no architecture for multi_class_cls"),
        (Task.DETECTION, "maskrcnn_resnet18", "no architecture for detection.*expected|Expected one of"),
        (Task.DETECTION, "qqq", "No known name is similar"),
        (Task.DETECTION, "timm/resnet10t", "no architecture for detection"),
    ],
)
def test_unknown_names_are_refused(task: Task, architecture: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_network(task, architecture, num_classes=2, size=(64, 64))
    with pytest.raises(ConfigError, match=says):
        input_defaults(task, architecture)


def test_timm_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otx_xai.models.architectures.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install timm"):
        input_defaults(Task.MULTI_CLASS_CLS, "timm/resnet10t")


def test_options_reach_the_builder() -> None:
    network = build_network(
        Task.MULTI_CLASS_CLS, "mobilenet_v2", num_classes=2, size=(64, 64), options={"width_mult": 0.25}
    )
    plain = torchvision.models.mobilenet_v2(num_classes=2, width_mult=0.25)
    assert {name: weight.shape for name, weight in network.state_dict().items()} == {
        name: weight.shape for name, weight in plain.state_dict().items()
    }


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"network_options .*'wings': 2.* do not fit mobilenet_v2"):
        build_network(Task.MULTI_CLASS_CLS, "mobilenet_v2", num_classes=2, size=(64, 64), options={"wings": 2})


def test_sizes_that_an_architecture_cannot_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="squares only"):
        build_network(Task.MULTI_CLASS_CLS, "vit_b_16", num_classes=2, size=(64, 96))
    with pytest.raises(ConfigError, match="at least 300 pixels"):
        build_network(Task.DETECTION, "ssd300_vgg16", num_classes=2, size=(160, 160))


def test_weights_are_loaded_where_they_fit() -> None:
    theirs = torchvision.models.resnet18(num_classes=10)
    own = torchvision.models.resnet18(num_classes=3)
    first = own.fc.weight.clone()
    assert load_matching(own, theirs.state_dict()) == ("fc.weight", "fc.bias")
    torch.testing.assert_close(own.conv1.weight, theirs.conv1.weight)
    torch.testing.assert_close(own.fc.weight, first)


@pytest.mark.parametrize("architecture", ["fcos_resnet18", "ssdlite_slim", "fasterrcnn_resnet18", "retinanet_resnet18"])
def test_backbones_of_slim_detectors_take_the_weights_of_a_classifier(architecture: str) -> None:
    network = build_network(Task.DETECTION, architecture, num_classes=2, size=(160, 160))
    theirs = torchvision.models.resnet18()
    assert load_matching(network.backbone.body, theirs.state_dict()) == ()
    torch.testing.assert_close(network.backbone.body.layer3[1].conv2.weight, theirs.layer3[1].conv2.weight)
