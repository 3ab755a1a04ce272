"""Who told the facts of a model that was converted from torch: never ``model_info``, which the conversion wrote."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from torch import nn

from otx_xai.checkpoints.load import load_with_files
from otx_xai.engine.explaining import named_as_data
from otx_xai.model import open_model
from otx_xai.model.model_options import ModelOptions
from otx_xai.models import MulticlassClassifier
from otx_xai.records import InputOptions, Task

USUAL = "assumption: torchvision's squeezenet1_1"
PUBLISHED = "assumption: the published weights of squeezenet1_1"
SAID = InputOptions(mean=120, size=64, resize_type="standard")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    model = MulticlassClassifier("squeezenet1_1", ["x", "y", "z"], input_size=48, mean=[1, 2, 3], scale=4, crop=0.9)
    return model.save_weights(tmp_path_factory.mktemp("own") / "own.pth")


def test_the_architecture_of_a_plain_state_dict_tells_what_nobody_else_does(plain):
    facts = open_model(plain).facts
    assert facts.sources == {
        "task": "architecture squeezenet1_1, classes taken as exclusive",
        "labels": "none given: classes are called by their index",
        "input": f"size: {PUBLISHED}; layout: graph; resize: {USUAL}; "
        f"middle 0.875 of the sides: {USUAL}; bilinear: {USUAL}",
        "normalisation": f"mean 123.675,116.28,103.53 ({PUBLISHED}), scale 58.395,57.12,57.375 ({PUBLISHED}), "
        "in the graph",
    }


def test_what_the_user_says_is_told_by_the_user(plain):
    facts = open_model(plain, ModelOptions(task=Task.MULTI_LABEL_CLS, labels="a,b,c", input=SAID)).facts
    assert facts.sources["labels"] == "--labels"
    assert facts.sources["input"].startswith("size: --input.size; layout: graph; resize: --input.resize_type")
    assert facts.sources["normalisation"].startswith("mean 120 (--input.mean), scale 58.395,57.12,57.375 (assumption")
    assert facts.sources["task"] == "--task multi_label_cls"


def test_what_a_configuration_beside_the_weights_says_is_told_by_it(plain, tmp_path):
    copy = tmp_path / "weights.pth"
    copy.write_bytes(plain.read_bytes())
    processor = {
        "size": 50,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
        "rescale_factor": 1 / 255,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    told = load_with_files(copy).told_by
    assert {told[key] for key in ("size", "resize_type", "mean_values", "scale_values")} == {"preprocessor_config.json"}
    assert told["normalisation"] == (
        "mean 127.5 (preprocessor_config.json), scale 63.75 (preprocessor_config.json), in the graph"
    )
    over = load_with_files(copy, options=SAID).told_by
    assert (over["mean_values"], over["scale_values"]) == ("--input.mean", "preprocessor_config.json")


def test_a_checkpoint_that_describes_itself_is_the_source(own):
    sources = open_model(own).facts.sources
    assert (sources["task"], sources["labels"]) == ("the checkpoint", "the checkpoint")
    assert sources["input"] == (
        "size: the checkpoint; layout: graph; resize: the checkpoint; middle 0.9 of the sides: the checkpoint"
    )
    assert sources["normalisation"] == "mean 1,2,3 (the checkpoint), scale 4 (the checkpoint), in the graph"
    over = load_with_files(own, labels=["a", "b", "c"], options=SAID).told_by
    assert (over["label_info"], over["size"], over["crop"]) == ("--labels", "--input.size", "the checkpoint")
    assert over["normalisation"] == "mean 120 (--input.mean), scale 4 (the checkpoint), in the graph"


def test_a_module_in_hand_tells_of_itself_and_data_of_their_names():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    model = open_model(net, ModelOptions(input=InputOptions(size=32)))
    assert model.facts.sources["input"].startswith("size: --input.size; layout: graph")
    named = named_as_data(model, ["cat", "dog"])
    assert (named.facts.labels, named.facts.sources["labels"]) == (("cat", "dog"), "the data")
    of_data = open_model(net, ModelOptions(tensor_size=(32, 32))).facts.sources["input"]
    assert of_data.startswith("size: the images that are given; layout: graph")
