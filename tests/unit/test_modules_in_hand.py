"""Anybody's module → OpenVINO: what it gives, what it says of its input, and that it is as it was afterwards."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning
import numpy as np
import openvino as ov
import pytest
import timm
import torch
import torchvision
from torch import nn

from otx_xai.checkpoints import TorchOptions, open_torch
from otx_xai.checkpoints.module_hints import module_input
from otx_xai.conversion import module_to_openvino
from otx_xai.errors import ConfigError, ModelError
from otx_xai.models import MulticlassClassifier
from otx_xai.openvino_core import core
from otx_xai.records import InputOptions, ResizeType, Task

SIZE = (24, 32)
IMAGES = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(channels, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> Any:
        return self.head(self.features(images).mean((2, 3)))


class Pair(NamedTuple):
    scores: torch.Tensor
    features: torch.Tensor


class ModelOutput(OrderedDict):  # as transformers' own: a mapping, with attributes
    pass


class Gives(nn.Module):
    """Gives its scores in another form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.net, self.form = Net(), form

    def forward(self, images: torch.Tensor) -> Any:
        features = self.net.features(images)
        scores = self.net.head(features.mean((2, 3)))
        forms = {
            "tuple": lambda: (scores, features),
            "dict": lambda: {"scores": scores, "features": features},
            "named tuple": lambda: Pair(scores, features),
            "transformers": lambda: ModelOutput(loss=None, logits=scores, hidden_states=(features,)),
            "logits": lambda: {"logits": scores, "last_hidden_state": features},
            "feature maps": lambda: features,
            "number": scores.mean,
            "nothing": lambda: {"hidden_states": (features,)},
        }
        return forms[self.form]()


class Transformer(nn.Module):
    """Wants its images by name, as transformers do behind other inputs."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.net = Net()
        self.config = SimpleNamespace(model_type="vit", to_dict=dict, **config)

    def forward(self, input_ids: Any = None, pixel_values: Any = None) -> Any:
        assert input_ids is None
        return ModelOutput(logits=self.net(pixel_values))


class TransformerForImageClassification(Transformer):
    pass


class Decides(Net):
    """Does what ``torch.export`` cannot follow: it looks at values."""

    def forward(self, images: torch.Tensor) -> Any:
        scores = super().forward(images)
        return scores if float(scores.sum()) < 1e6 else scores * 2


class Fixed(Net):
    """Fixes its batch where only values tell."""

    def forward(self, images: torch.Tensor) -> Any:
        if float(images.sum()) > 1e9:
            raise ValueError
        return super().forward(images).reshape(int(images.shape[0]), 4)


def outputs(model: ov.Model, images: torch.Tensor = IMAGES) -> dict[str, np.ndarray]:
    found = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images.numpy())
    return {min(output.get_names()): found[number] for number, output in enumerate(model.outputs)}


def wanted(module: nn.Module, images: torch.Tensor = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(images).numpy()


def test_scores_are_those_of_torch_for_any_batch() -> None:
    net = Net()
    converted = module_to_openvino(net, SIZE)
    assert converted.way == "torch.export"
    assert [min(port.get_names()) for port in converted.graph.inputs] == ["image"]
    assert str(converted.graph.inputs[0].get_partial_shape()) == "[?,3,24,32]"
    for images in (IMAGES, IMAGES[:1]):
        np.testing.assert_allclose(outputs(converted.graph, images)["logits"], wanted(net, images), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("tuple", ["output_0", "output_1"]),
        ("dict", ["scores", "features"]),
        ("named tuple", ["scores", "features"]),
        ("transformers", ["logits"]),
        ("logits", ["logits"]),
        ("feature maps", ["output"]),
    ],
)
def test_outputs_of_every_form(form: str, names: list[str]) -> None:
    found = outputs(module_to_openvino(Gives(form), SIZE).graph)
    assert list(found) == names
    if form != "feature maps":
        np.testing.assert_allclose(found[names[0]], wanted(Net()), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "words"), [("number", r"gives a number, \(\)"), ("nothing", "gives a dict of tuple for images")]
)
def test_what_gives_no_tensors(form: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        module_to_openvino(Gives(form), SIZE)


def test_a_module_that_fails_is_told_with_its_parts() -> None:
    with pytest.raises(ModelError, match=r"Net fails for images \(2, 5, 24, 32\).*it has features, head"):
        module_to_openvino(Net(), SIZE, channels=5)
    with pytest.raises(ModelError, match=r"Sequential fails for images.*it has 0, 1"):
        module_to_openvino(nn.Sequential(nn.Flatten(), nn.Linear(7, 3)), SIZE)


def test_a_module_without_forward() -> None:
    class Bare(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Net()

    with pytest.raises(
        ModelError, match=r"Bare fails for images.*pass the part of it that is the network; it has back"
    ):
        module_to_openvino(Bare(), SIZE)


def test_a_module_that_only_a_trace_can_follow(capfd: pytest.CaptureFixture[str]) -> None:
    net = Decides()
    converted = module_to_openvino(net, SIZE)
    assert converted.way.startswith("trace, since torch.export fails: ")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_allclose(outputs(converted.graph)["logits"], wanted(net), atol=1e-5)


def test_what_openvino_cannot_convert_of_an_export_is_traced() -> None:
    """This transformer resamples its position embedding with an operation that OpenVINO lacks."""
    network = timm.create_model("test_vit", num_classes=4)
    converted = module_to_openvino(network, (160, 160))
    assert "No conversion rule found for operations: aten._upsample_bicubic2d_aa" in converted.way
    images = torch.rand(2, 3, 160, 160)
    np.testing.assert_allclose(outputs(converted.graph, images)["logits"], wanted(network, images), atol=1e-4)


class Chooses(nn.Module):
    """Takes four of seven columns of its two best rows: OpenVINO loses the four by itself, and then fails."""

    def __init__(self, *, decides: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decides = decides
        self.features = nn.Sequential(nn.Conv2d(3, 7, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 5)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.features(images).flatten(2).transpose(1, 2)
        if self.decides and float(rows.sum()) > 1e9:
            raise ValueError
        best = rows.mean(2).topk(2, 1).indices
        return torch.gather(rows[..., :4], 1, best[..., None].expand(-1, -1, 4)).sum(1)


@pytest.mark.parametrize("decides", [False, True])
def test_what_the_converter_gets_wrong_is_written_anew(decides: bool) -> None:
    net = Chooses(decides=decides)
    converted = module_to_openvino(net, SIZE)
    assert converted.way.startswith("trace") == decides
    np.testing.assert_allclose(outputs(converted.graph)["logits"], wanted(net), atol=1e-5)


def test_a_trace_that_fixes_the_batch_takes_one_image() -> None:
    net = Fixed()
    graph = module_to_openvino(net, SIZE).graph
    assert str(graph.inputs[0].get_partial_shape()) == "[1,3,24,32]"
    np.testing.assert_allclose(outputs(graph, IMAGES[:1])["logits"], wanted(net, IMAGES[:1]), atol=1e-5)


def test_neither_way_is_told_with_both_reasons() -> None:
    class Impossible(Net):
        def forward(self, images: torch.Tensor) -> Any:
            if torch.compiler.is_compiling() or torch.jit.is_tracing():
                raise ValueError("not to be followed")
            return super().forward(images)

    with pytest.raises(ModelError, match=r"Impossible cannot be converted.*torch\.export: .*torch\.jit\.trace: not to"):
        module_to_openvino(Impossible(), SIZE)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_wrappers_are_taken_off(wrap: Any) -> None:
    net = Net()
    found = outputs(module_to_openvino(wrap(net), SIZE).graph)
    np.testing.assert_allclose(found["logits"], wanted(net), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_module_is_as_it_was(dtype: torch.dtype) -> None:
    net = Net().to(dtype).train()
    net.features[1].eval()  # a part that is frozen
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = {name: part.training for name, part in net.named_modules()}
    with torch.enable_grad():
        found = outputs(module_to_openvino(net, SIZE).graph)
        assert torch.is_grad_enabled()
    assert {name: part.training for name, part in net.named_modules()} == modes
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype
        for name, value in net.state_dict().items()
    )
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    np.testing.assert_allclose(found["logits"], wanted(net.float()), atol=1e-5)


def test_mode_is_given_back_after_a_fault() -> None:
    net = Net().train()
    with pytest.raises(ModelError):
        module_to_openvino(net, SIZE, channels=1)
    assert net.training


# --------------------------------------------------------------------------------------------------------------------
# What a module says of its input
# --------------------------------------------------------------------------------------------------------------------


def test_timm_says_all_of_its_input() -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    hints = module_input(network).hints
    config = network.pretrained_cfg
    assert hints.size == config["input_size"][1:]
    np.testing.assert_allclose(hints.mean, np.multiply(config["mean"], 255), rtol=1e-6)
    np.testing.assert_allclose(hints.scale, np.multiply(config["std"], 255), rtol=1e-6)
    assert hints.resize_type is ResizeType.CROP
    assert (hints.assumed, hints.files) == ((), ())
    assert hints.source == "timm's pretrained_cfg of test_resnet"


def test_timm_that_is_built_for_another_size_or_other_channels() -> None:
    assert module_input(timm.create_model("test_vit", img_size=96)).hints.size == (96, 96)
    assert module_input(timm.create_model("test_resnet", in_chans=1)).channels == 1


def test_torchvision_is_assumed_to_be_fed_as_its_own_weights() -> None:
    hints = module_input(torchvision.models.squeezenet1_1(num_classes=5)).hints
    transforms = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    np.testing.assert_allclose(hints.mean, np.multiply(transforms.mean, 255), rtol=1e-6)
    assert hints.size == (224, 224)
    assert {"mean", "scale", "size"} <= set(hints.assumed)


def test_transformers_say_size_classes_and_channels() -> None:
    network = TransformerForImageClassification(image_size=48, num_channels=3, id2label={1: "dog", 0: "cat"})
    hints = module_input(network).hints
    assert (hints.size, hints.labels, hints.task) == ((48, 48), ("cat", "dog"), Task.CLASSIFICATION)
    several = TransformerForImageClassification(problem_type="multi_label_classification", num_channels=3)
    assert module_input(several).hints.task is Task.MULTI_LABEL_CLS
    unnamed = TransformerForImageClassification(id2label={0: "LABEL_0", 1: "LABEL_1"}, num_channels=3)
    assert module_input(unnamed).hints.labels is None


def test_images_are_given_to_transformers_by_name() -> None:
    opened = open_torch(Transformer(image_size=SIZE, num_channels=3))
    np.testing.assert_allclose(outputs(opened.model)["logits"], wanted(Net()), atol=1e-5)


class Lit(lightning.LightningModule):
    def __init__(self, network: nn.Module, example: Any = None) -> None:
        super().__init__()
        self.network = network
        self.example_input_array = example

    def forward(self, images: torch.Tensor) -> Any:
        return self.network(images)


@pytest.mark.parametrize(
    "example", [torch.zeros(1, 1, 20, 28), (torch.zeros(2, 1, 20, 28),), {"x": torch.zeros(1, 20, 28)}]
)
def test_the_example_of_a_lightning_module(example: Any) -> None:
    known = module_input(Lit(Net(1), example))
    assert (known.hints.size, known.channels) == ((20, 28), 1)


def test_a_part_of_a_lightning_module_is_an_assumption() -> None:
    hints = module_input(Lit(timm.create_model("test_resnet"))).hints
    assert "the part 'network' of Lit" in hints.source
    assert {"mean", "scale", "size", "crop"} <= set(hints.assumed)


def test_nothing_is_guessed() -> None:
    hints = module_input(Net()).hints
    assert (hints.size, hints.mean, hints.scale) == (None, None, None)
    with pytest.raises(ConfigError, match=r"what size of images Net takes.*--input\.size"):
        open_torch(Net())


# --------------------------------------------------------------------------------------------------------------------
# Detectors of torchvision
# --------------------------------------------------------------------------------------------------------------------


def mask_rcnn() -> nn.Module:
    """Give a small Mask R-CNN that resizes and normalises by itself, and finds something."""
    torch.manual_seed(0)
    layers = torchvision.models.resnet18(norm_layer=torchvision.ops.misc.FrozenBatchNorm2d)
    backbone = torchvision.models.detection.backbone_utils._resnet_fpn_extractor(layers, 3)
    options = {"min_size": 64, "max_size": 96, "box_score_thresh": 0.0, "box_detections_per_img": 6}
    network = torchvision.models.detection.MaskRCNN(backbone, 4, **options)
    nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=0.5)
    return network


def test_a_detector_of_torchvision_gives_boxes_in_pixels_and_masks_in_boxes() -> None:
    network = mask_rcnn().eval()
    opened = open_torch(network, TorchOptions(size=(48, 64)))
    image = torch.rand(1, 3, 48, 64)
    found = outputs(opened.model, image)
    with torch.no_grad():
        (expected,) = network([image[0]])
    assert found["boxes"].shape == (1, len(expected["boxes"]), 5)
    np.testing.assert_allclose(np.sort(found["boxes"][0, :, 4]), np.sort(expected["scores"]), atol=1e-4)
    for box, label in zip(expected["boxes"].numpy(), expected["labels"].numpy(), strict=True):
        same = found["boxes"][0, found["labels"][0] == label, :4]
        assert np.abs(same - box).max(axis=1).min() < 0.01
    assert found["masks"].shape == (1, len(expected["boxes"]), 28, 28)
    assert (opened.hints.task, opened.hints.scale) == (Task.INSTANCE_SEGMENTATION, (255.0,))
    assert (opened.hints.resize_type, opened.hints.size) == (ResizeType.FIT_TO_WINDOW, (48, 64))


# --------------------------------------------------------------------------------------------------------------------
# Opening
# --------------------------------------------------------------------------------------------------------------------


def test_the_user_outranks_the_data_and_the_data_the_module() -> None:
    lit = Lit(Net(), torch.zeros(1, 3, 40, 40))
    for options, size in (
        (TorchOptions(), (40, 40)),
        (TorchOptions(size=(20, 28)), (20, 28)),
        (TorchOptions(size=(20, 28), input=InputOptions(size="24,32", mean=3)), (24, 32)),
    ):
        opened = open_torch(lit, options)
        assert opened.hints.size == size
        assert tuple(opened.model.inputs[0].get_partial_shape()[2:].to_shape()) == size
    assert (opened.options.size, opened.options.mean) == (None, 3)
    with pytest.raises(ConfigError, match=r"--input\.size is 'x'"):
        open_torch(lit, TorchOptions(input=InputOptions(size="x")))


def test_a_lightning_module_that_trains_keeps_its_trainer() -> None:
    found: list[ov.Model] = []

    class Trained(Lit):
        def training_step(self, batch: Any, index: int) -> Any:
            trainer = self.trainer
            found.append(open_torch(self.to(torch.float64)).model)
            assert self.trainer is trainer
            assert self.training
            return self.to(torch.float32).network(batch).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    module = Trained(Net(), IMAGES)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, torch.utils.data.DataLoader(IMAGES, batch_size=3))
    np.testing.assert_allclose(outputs(found[0])["logits"], wanted(Net()), atol=1e-5)


@pytest.mark.parametrize("from_file", [False, True])
def test_models_of_ours_say_all_of_themselves(from_file: bool, tmp_path: Path) -> None:
    model = MulticlassClassifier("squeezenet1_1", ["a", "b"], input_size=32, mean=[1, 2, 3], scale=4)
    model.network = Net()
    model.network.head = nn.Linear(8, 2)
    model.eval()
    if from_file:
        model = MulticlassClassifier("squeezenet1_1", ["a", "b"], input_size=32, mean=[1, 2, 3], scale=4).eval()
    source = model.save_weights(tmp_path / "a.pth") if from_file else model
    images = torch.rand(2, 3, 32, 32) * 255
    opened = open_torch(source)
    np.testing.assert_allclose(outputs(opened.model, images)["logits"], wanted(model, images), atol=1e-4)
    if not from_file:
        return
    plain = open_torch(source, TorchOptions(normalised=True))
    normalised = (images - torch.tensor([1.0, 2, 3]).reshape(3, 1, 1)) / 4
    np.testing.assert_allclose(outputs(plain.model, normalised)["logits"], wanted(model, images), atol=1e-4)
    said = {key: plain.model.get_rt_info(["model_info", key]).astype(str) for key in ("mean_values", "scale_values")}
    assert said == {"mean_values": "1.0 2.0 3.0", "scale_values": "4.0 4.0 4.0"}
    given = open_torch(source, TorchOptions(input=InputOptions(mean=5, pad_value=7)))
    assert (given.options.mean, given.options.pad_value, given.files) == (None, 7, (source,))
