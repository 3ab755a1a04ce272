from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import warnings
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import openvino as ov
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from otx_xai.checkpoints import load_checkpoint, read_checkpoint, recognise
from otx_xai.errors import CheckpointError, ConfigError, LabelError, ModelError, TaskError
from otx_xai.model import open_model
from otx_xai.models import Detector, MulticlassClassifier, MultilabelClassifier
from otx_xai.records import InputGeometry, InputOptions, Interpolation, ResizeType, Task


def small_network(classes: int = 5, name: str = "squeezenet1_1") -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=classes).eval()


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return small_network()


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def same_weights(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


class Hostile:
    """Runs a command when a pickle of it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch '{self.proof}'",)


# --------------------------------------------------------------------------------------------------------------------
# Files that are refused
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_does_nothing_and_is_refused(tmp_path, zipped):
    proof = tmp_path / "proof"
    path = tmp_path / "model.pth"
    torch.save({"state_dict": Hostile(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"wants to run posix\.system.*refused.*Expected a state dict.*torch\.save"
    ):
        load_checkpoint(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # it would have
    assert proof.exists()


def test_a_pickled_network_is_refused_with_its_class(tmp_path, network):
    path = save(tmp_path / "model.pt", network)
    with pytest.raises(CheckpointError, match=r"wants to run torchvision\.models\.squeezenet\.SqueezeNet") as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)  # torch's own advice is to switch the protection off
    assert isinstance(caught.value, ModelError)


def test_a_pickle_of_ultralytics_is_refused_with_its_export(tmp_path, monkeypatch):
    tasks = ModuleType("ultralytics.nn.tasks")
    tasks.DetectionModel = type("DetectionModel", (torch.nn.Module,), {"__module__": tasks.__name__})
    for name in ("ultralytics", "ultralytics.nn", tasks.__name__):
        monkeypatch.setitem(sys.modules, name, tasks)
    path = save(tmp_path / "best.pt", {"model": tasks.DetectionModel()})
    with pytest.raises(CheckpointError, match=r"refused.*yolo export model=.*best\.pt format=openvino"):
        load_checkpoint(path)


def test_weights_of_transformers_are_refused_with_their_export(tmp_path):
    path = save(tmp_path / "model.pth", {"vit.embeddings.cls_token": torch.zeros(1, 1, 8)})
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": {"0": "a"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"ViTForImageClassification of transformers: optimum-cli export openvino"
    ):
        load_checkpoint(path)


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"a": Hostile(tmp_path / "proof")}, protocol=2))
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(path)
    assert not (tmp_path / "proof").exists()


def test_values_that_are_no_tensors_of_torch_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"wants to run numpy\._?core\.multiarray\.scalar"):
        load_checkpoint(save(tmp_path / "model.ckpt", {"epoch": np.float64(3)}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; expected a state dict"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>not found</html>", r"no torch checkpoint: it begins with b'<!DOCTYPE"),
        (b"\x80\x02garbage" + b"\xff" * 40, "pickle that holds more than tensors.*or it is broken"),
        (b"PK\x03\x04" + b"\0" * 60, "cannot be read.*broken or incomplete"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, words):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pth does not exist"):
        load_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_file(tmp_path, network, zipped, share):
    path = tmp_path / "model.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cannot be read.*broken or incomplete"):
        load_checkpoint(path)


def test_every_beginning_of_an_old_file_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2, 1, 3, 3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in range(2, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"broken|wants to run"):
            read_checkpoint(path)


def test_a_length_that_fits_no_memory_is_refused(tmp_path, network, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    torch.save(network.state_dict(), tmp_path / "model.pth")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=r"cannot be read: MemoryError\. The file is broken"):
        read_checkpoint(tmp_path / "model.pth")


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "other.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*state_dict.*convert_model"):
        load_checkpoint(tmp_path / "script.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list; expected a state dict"),
        ({"epoch": 3, "lr": 0.1}, r"holds no tensors; its keys are 'epoch', 'lr'"),
        ({"otx_xai": 3}, "no description and state_dict"),
    ],
)
def test_contents_that_are_no_state_dict(tmp_path, content, words):
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(save(tmp_path / "model.pth", content))


def test_a_dict_that_contains_itself(tmp_path):
    content: dict[str, object] = {}
    content["model"] = content
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_checkpoint(save(tmp_path / "model.pth", content))


# --------------------------------------------------------------------------------------------------------------------
# Plain state dicts
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict", "ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model._orig_mod.", "_orig_mod.module.network."])
def test_wrappers_and_prefixes(tmp_path, network, wrapper, prefix):
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    content = state if wrapper is None else {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}}
    contents = read_checkpoint(save(tmp_path / "model.pth", content))
    assert contents.description is None
    assert same_weights(network, contents.state)


def test_a_lightning_checkpoint_of_others(tmp_path, network, caplog):
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    content = {"pytorch-lightning_version": "2.1.0", "state_dict": state | {"criterion.weight": torch.ones(5)}}
    with caplog.at_level(logging.INFO, "otx_xai"):
        model = load_checkpoint(save(tmp_path / "last.ckpt", content))
    assert model.architecture == "squeezenet1_1"
    assert same_weights(model.network, network.state_dict())
    assert "not under model.: 'criterion.weight'" in caplog.text


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v3_small", "mnasnet0_5"])
def test_recognises_torchvision(tmp_path, name):
    network = small_network(7, name)
    model = load_checkpoint(save(tmp_path / "weights.pth", network.state_dict()))
    assert isinstance(model, MulticlassClassifier)
    assert (model.architecture, model.labels) == (name, tuple("0123456"))
    assert model.geometry.size == (224, 224)
    # as torchvision evaluates it: the shorter side to 256 or 232, the middle cut out
    resized = torchvision.models.get_model_weights(name).DEFAULT.transforms().resize_size[0]
    assert model.geometry == InputGeometry((224, 224), ResizeType.CROP, 0, 224 / resized, Interpolation.BILINEAR)
    assert model.mean == (123.675, 116.28, 103.53)
    assert not model.training
    images = torch.rand(1, 3, 224, 224) * 255
    normalised = (images - torch.tensor(model.mean).reshape(3, 1, 1)) / torch.tensor(model.scale).reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(images), network(normalised))


@pytest.mark.parametrize(
    "name",
    ["vgg11_bn", "regnet_x_400mf", "swin_v2_t", "googlenet", "wide_resnet50_2"],
)
def test_recognises_shapes_alone(name):
    with torch.device("cpu" if name.startswith("regnet") else "meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torchvision.models.get_model(name, weights=None, num_classes=1001).state_dict()
    fit = recognise({key: tuple(tensor.shape) for key, tensor in state.items()})
    assert (fit.architecture, fit.num_classes, fit.task) == (name, 1001, Task.CLASSIFICATION)


def test_a_vision_transformer_of_another_size():
    with torch.device("meta"):
        state = torchvision.models.vit_b_16(image_size=96, num_classes=3).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    fit = recognise(shapes)
    assert (fit.architecture, fit.num_classes, fit.size) == ("vit_b_16", 3, 96)


def test_names_of_older_torchvision(tmp_path):
    network = small_network(4, "densenet121")
    state = network.state_dict()
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv1.", ".conv.1.").replace(".norm2.", ".norm.2."): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    model = load_checkpoint(save(tmp_path / "old.pth", old))
    assert model.architecture == "densenet121"
    assert torch.equal(
        model.network.state_dict()["features.denseblock1.denselayer1.norm1.weight"], old["features.norm0.weight"]
    )


def test_recognises_timm_by_the_name_of_the_file(tmp_path):
    network = timm.create_model("test_resnet", num_classes=6)
    model = load_checkpoint(save(tmp_path / "test_resnet_best.pth", network.state_dict()))
    assert (model.architecture, len(model.labels)) == ("timm/test_resnet", 6)
    assert same_weights(model.network, network.state_dict())


def test_a_configuration_of_timm_beside_the_weights(tmp_path, caplog):
    network = timm.create_model("resnet10t", num_classes=3).eval()
    path = save(tmp_path / "model.pth", network.state_dict())
    config = {
        "input_size": [3, 176, 176],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "crop_pct": 0.88,
        "crop_mode": "center",
    }
    said = {"architecture": "resnet10t", "pretrained_cfg": config, "label_names": ["cat", "dog", "hen"]}
    (tmp_path / "config.json").write_text(json.dumps(said))
    model = load_checkpoint(path)
    assert (model.architecture, model.labels) == ("timm/resnet10t", ("cat", "dog", "hen"))
    assert (model.mean, model.scale) == ((127.5,) * 3, (63.75,) * 3)
    assert model.geometry == InputGeometry((176, 176), ResizeType.CROP, 0, 176 / 200)
    # the user outranks it
    options = InputOptions(resize_type=ResizeType.STANDARD, scale=255)
    model = load_checkpoint(path, labels="a,b,c", options=options)
    assert (model.labels, model.scale, model.geometry.crop) == (("a", "b", "c"), (255.0,) * 3, 1.0)
    # it counts in the fingerprint of a run
    assert set(open_model(path).files) == {path, tmp_path / "config.json"}
    # names that are not one a class are told, and do not count
    (tmp_path / "config.json").write_text(json.dumps(said | {"label_names": ["cat", "dog"]}))
    assert load_checkpoint(path).labels == ("0", "1", "2")
    assert "config.json names 2 classes, and the checkpoint has 3: no name counts" in caplog.text
    # nor does one of another model
    (tmp_path / "config.json").write_text(json.dumps(said | {"architecture": "resnet18"}))
    caplog.clear()
    model = load_checkpoint(save(tmp_path / "resnet10t.pth", network.state_dict()))
    assert "config.json beside" in caplog.text
    assert "is of another model: it names timm/resnet18" in caplog.text
    assert (model.architecture, model.labels) == ("timm/resnet10t", ("0", "1", "2"))


def test_the_crop_of_a_checkpoint_reaches_its_export(tmp_path):
    network = small_network(3, "squeezenet1_0")
    path = save(tmp_path / "weights.pth", network.state_dict())
    found = open_model(path)
    assert found.facts.geometry == InputGeometry((224, 224), ResizeType.CROP, 0, 0.875, Interpolation.BILINEAR)
    ov.save_model(found.graph, tmp_path / "model.xml")
    assert open_model(tmp_path / "model.xml").facts.geometry == found.facts.geometry
    found.graph.set_rt_info("0", ["model_info", "crop"])
    with pytest.raises(ModelError, match=r"model_info/crop of the model is '0'; expected a share of the sides"):
        open_model(found.graph)


def test_an_unknown_state_dict_is_compared_with_the_closest(tmp_path, network):
    state = network.state_dict()
    state["features.0.weight"] = torch.zeros(60, 3, 3, 3)
    state["extra.weight"] = state.pop("features.0.bias")
    words = (
        r"fits no architecture.*squeezenet1_1: 1 missing \(features\.0\.bias\), 1 unexpected \(extra\.weight\), "
        r"1 of another shape \(features\.0\.weight 60×3×3×3 for 64×3×3×3\).*--model"
    )
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(save(tmp_path / "model.pth", state))


def test_a_given_architecture(tmp_path, network):
    path = save(tmp_path / "model.pth", network.state_dict())
    assert len(load_checkpoint(path, model="squeezenet1_1").labels) == 5
    with pytest.raises(CheckpointError, match=r"is no squeezenet1_0.*of another shape"):
        load_checkpoint(path, model="squeezenet1_0")
    with pytest.raises(ConfigError, match="squeezenet1_1"):
        load_checkpoint(path, model="squeezenet11")


def test_detectors(tmp_path):
    detector = Detector("ssdlite_slim", ["a", "b"])
    path = save(tmp_path / "detector.pth", detector.network.state_dict())
    for arguments in ({}, {"model": "ssdlite_slim"}, {"task": "detection"}):
        model = load_checkpoint(path, **arguments)
        assert isinstance(model, Detector)
        assert (model.architecture, len(model.labels)) == ("ssdlite_slim", 2)
        assert same_weights(model.network, detector.network.state_dict())


def test_labels_task_and_input(tmp_path, network):
    path = save(tmp_path / "model.pth", network.state_dict())
    options = InputOptions(mean="127.5", scale=[1, 2, 3], resize_type="crop", pad_value=114, size="96,128")
    model = load_checkpoint(path, task="multi_label_cls", labels="a,b,c,d,e", options=options)
    assert isinstance(model, MultilabelClassifier)
    assert model.labels == ("a", "b", "c", "d", "e")
    assert (model.mean, model.scale) == ((127.5, 127.5, 127.5), (1.0, 2.0, 3.0))
    assert model.geometry.size == (96, 128)
    assert (model.geometry.resize_type, model.geometry.pad_value) == (ResizeType.CROP, 114)
    with pytest.raises(LabelError, match=r"has 2 names.*5 classes"):
        load_checkpoint(path, labels="a,b")
    with pytest.raises(ConfigError, match=r"--input\.scale is '0'"):
        load_checkpoint(path, options=InputOptions(scale="0"))
    with pytest.raises(ConfigError, match=r"--input\.size is '0,4'"):
        load_checkpoint(path, options=InputOptions(size="0,4"))


def test_safetensors(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    assert load_checkpoint(tmp_path / "model.safetensors").architecture == "squeezenet1_1"
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "broken.safetensors")


# --------------------------------------------------------------------------------------------------------------------
# Our own
# --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> MultilabelClassifier:
    torch.manual_seed(1)
    return MultilabelClassifier("squeezenet1_1", ["cat", "big dog"], input_size=(64, 96), mean=1, resize_type="crop")


def test_our_own_checkpoint_needs_nothing_more(tmp_path, own):
    model = load_checkpoint(own.save_weights(tmp_path / "model.pth"))
    assert isinstance(model, MultilabelClassifier)
    assert model.description() == own.description()
    assert same_weights(model, own.state_dict())
    other = load_checkpoint(tmp_path / "model.pth", labels="x,y", options=InputOptions(mean=3), task="classification")
    assert (other.labels, other.mean) == (("x", "y"), (3.0, 3.0, 3.0))


def test_our_own_checkpoint_asks_no_neighbour(tmp_path, own):
    path = own.save_weights(tmp_path / "own.pth")
    (tmp_path / "config.json").write_text("{")
    assert open_model(path).files == (path,)


def test_our_own_checkpoint_contradicted(tmp_path, own):
    path = own.save_weights(tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=r"--model is resnet18, but .* squeezenet1_1"):
        load_checkpoint(path, model="resnet18")
    with pytest.raises(TaskError, match=r"--task is detection, but .* multi_label_cls"):
        load_checkpoint(path, task="detection")
    with pytest.raises(TaskError, match="h_label_cls has no torch models"):
        load_checkpoint(path, task="h_label_cls")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "description of format 2"),
        ({"class": "Evil"}, "cannot be used.*Evil"),
        ({"init": {"architecture": "squeezenet1_1"}}, "no list of labels"),
        ({"init": {"labels": ["a", "b"]}}, "names no architecture"),
        ({"init": {"architecture": "squeezenet1_1", "labels": ["a", "b"], "nonsense": 1}}, "cannot be used.*nonsense"),
        ({"init": {"architecture": "alexnet", "labels": ["a", "b"]}}, "do not fit.*unexpected"),
        (
            {"init": {"architecture": "x", "labels": ["a"], "network_options": {"checkpoint_path": "y"}}},
            "'checkpoint_path', which reads files",
        ),
    ],
)
def test_a_description_that_cannot_be_trusted(tmp_path, own, change, words):
    content = {"state_dict": own.state_dict(), "otx_xai": own.description() | change}
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(save(tmp_path / "model.pth", content))


def test_a_description_does_not_download(tmp_path, own):
    description = own.description()
    description["init"]["pretrained"] = True
    content = {"state_dict": own.state_dict(), "otx_xai": description}
    assert load_checkpoint(save(tmp_path / "model.pth", content)).labels == ("cat", "big dog")
