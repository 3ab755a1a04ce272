"""Checkpoints of architectures that nobody knows: the user names the class."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otx_xai.checkpoints import TorchOptions, load_checkpoint, open_torch
from otx_xai.errors import CheckpointError, ConfigError
from otx_xai.openvino_core import core
from otx_xai.records import InputOptions, Weights

CODE = """
import lightning
import torch
from torch import nn

CONSTANT = 3


class Net(nn.Module):
    def __init__(self, width=4, classes=3):
        super().__init__()
        self.features = nn.Conv2d(3, width, 3, 2)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.features(images).relu().mean((2, 3)))


class Lit(lightning.LightningModule):
    def __init__(self, width, classes=3, rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = Net(width, classes)
        self.example_input_array = torch.zeros(1, 3, 24, 32)

    def forward(self, images):
        return self.net(images)


class Late(lightning.LightningModule):
    def configure_model(self):
        self.net = Net()

    def forward(self, images):
        return self.net(images)


def make(width):
    return Net(width)


def fails():
    raise ValueError("no luck")


def nothing():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with a module of the user, as somebody who trains has."""
    (tmp_path / "my_networks.py").write_text(CODE)
    (tmp_path / "broken_networks.py").write_text("import no_such_package_at_all")
    (tmp_path / "failing_networks.py").write_text("raise ValueError('on import')")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in ("my_networks", "broken_networks", "failing_networks"):
        sys.modules.pop(name, None)


def user_module(folder: Path, name: str, **arguments: Any) -> nn.Module:
    """Make a module of the user, as the training script did; its code is not left behind imported."""
    scope: dict[str, Any] = {"__name__": "training_script"}
    exec(compile(CODE, str(folder), "exec"), scope)
    torch.manual_seed(4)
    return scope[name](**arguments)


def opened(path: Path, model: Any, **options: Any) -> np.ndarray:
    """Open a checkpoint, and return the class scores of two images."""
    options.setdefault("input", InputOptions(size=(24, 32)))
    graph = open_torch(path, TorchOptions(model=model, **options)).model
    return core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(IMAGES.numpy())[0]


IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))


def scores(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(IMAGES).numpy()


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "trainer.student."])
def test_a_class_is_filled_with_the_weights(folder: Path, prefix: str) -> None:
    net = user_module(folder, "Net")
    state = {prefix + name: value for name, value in net.state_dict().items()}
    if prefix:
        state["loss.weight"] = torch.ones(3)
    path = saved(folder / "net.pth", {"state_dict": state})
    np.testing.assert_allclose(opened(path, "my_networks:Net"), scores(net), atol=1e-5)


def test_what_lies_beside_the_module_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {f"a.b.{name}": value for name, value in user_module(folder, "Net").state_dict().items()}
    path = saved(folder / "net.pth", state | {"a.c.weight": torch.ones(3)})
    with caplog.at_level(logging.INFO, "otx_xai"):
        opened(path, "my_networks:Net")
    assert "not under a.b.: 'a.c.weight'" in caplog.text


@pytest.mark.parametrize("kept", [{"width": 6, "rate": 0.5}, {"width": 6, "classes": 3, "unknown": 1}])
def test_a_lightning_module_is_made_with_its_hyper_parameters(folder: Path, kept: dict[str, Any]) -> None:
    lit = user_module(folder, "Lit", width=6)
    path = saved(folder / "last.ckpt", {"state_dict": lit.state_dict(), "hyper_parameters": kept})
    found = opened(path, "my_networks:Lit", input=None)  # example_input_array tells the size
    np.testing.assert_allclose(found, scores(lit), atol=1e-5)


def test_arguments_of_the_user_outrank_those_of_the_checkpoint(folder: Path) -> None:
    lit = user_module(folder, "Lit", width=6)
    path = saved(folder / "last.ckpt", {"state_dict": lit.state_dict(), "hyper_parameters": {"width": 9}})
    with pytest.raises(CheckpointError, match=r"do not fit Lit: 3 of another shape \('net\.features\.weight \(6, 3"):
        opened(path, "my_networks:Lit")
    for model in ("my_networks.Lit", "my_networks:Lit"):
        found = opened(path, {"class_path": model, "init_args": {"width": 6}})
        np.testing.assert_allclose(found, scores(lit), atol=1e-5)


def test_classes_functions_and_modules_in_hand(folder: Path) -> None:
    net, other = user_module(folder, "Net"), user_module(folder, "Net", width=4)
    path = saved(folder / "net.pth", {name: value + 0.1 for name, value in net.state_dict().items()})
    before = scores(other)
    by_instance = opened(path, other)
    np.testing.assert_array_equal(scores(other), before)  # it is not changed
    net.load_state_dict(torch.load(path, weights_only=True))
    for found in (by_instance, opened(path, type(net)), opened(path, lambda: other)):
        np.testing.assert_allclose(found, scores(net), atol=1e-5)
    with_width = {"class_path": "my_networks:make", "init_args": {"width": 4}}
    np.testing.assert_allclose(opened(path, with_width), scores(net), atol=1e-5)


def test_layers_that_are_made_late(folder: Path) -> None:
    late = user_module(folder, "Late")
    late.configure_model()
    path = saved(folder / "late.ckpt", {"state_dict": late.state_dict()})
    np.testing.assert_allclose(opened(path, "my_networks:Late"), scores(late), atol=1e-5)


def test_averaged_weights_of_a_class(folder: Path) -> None:
    lit = user_module(folder, "Lit", width=4)
    average = {name: value + 1 for name, value in lit.state_dict().items()}
    content = {"state_dict": lit.state_dict(), "state_dict_ema": average, "hyper_parameters": {"width": 4}}
    path = saved(folder / "last.ckpt", content)
    np.testing.assert_allclose(opened(path, "my_networks:Lit", weights=Weights.RAW), scores(lit), atol=1e-5)
    lit.load_state_dict(average)
    np.testing.assert_allclose(opened(path, "my_networks:Lit"), scores(lit), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:Net", r"no module 'no_such_module_here': looked for in the current folder .*PYTHONPATH"),
        ("my_networks.deeper:Net", r"no module 'my_networks\.deeper'"),
        ("my_networks:Nett", r"the module 'my_networks' has no 'Nett'\. It has: 'Net', 'Lit', 'Late'"),
        ("my_networks:Net.Inner", "the class 'Net' has no 'Inner'"),
        ("my_networks:CONSTANT", "which is a int; expected a class"),
        ("my_networks:", "expected package.module:Class, such as"),
        ("../my_networks:Net", "expected package.module:Class"),
        ("broken_networks:Net", "importing its module fails: ModuleNotFoundError: No module named 'no_such_package"),
        ("failing_networks:Net", "importing its module fails: ValueError: on import"),
        ("my_networks:Lit", r"Lit cannot be made: missing a required argument: 'width'; the checkpoint keeps no arg"),
        ("my_networks:fails", r"fails\(\) fails: ValueError: no luck"),
        ("my_networks:nothing", r"nothing makes a int; expected a torch\.nn\.Module"),
    ],
)
def test_names_that_are_no_class(folder: Path, name: str, words: str) -> None:
    path = saved(folder / "net.pth", user_module(folder, "Net").state_dict())
    with pytest.raises(ConfigError, match=words):
        opened(path, name)


def test_weights_that_do_not_fit(folder: Path) -> None:
    state = user_module(folder, "Net").state_dict()
    state["extra"] = state.pop("head.bias")
    with pytest.raises(CheckpointError, match=r"do not fit Net: 1 missing \('head\.bias'\); 1 unexpected \('extra'\)"):
        opened(saved(folder / "net.pth", state), "my_networks:Net")


def test_without_a_class_the_refusal_says_how_to_name_it(folder: Path) -> None:
    path = saved(folder / "net.pth", user_module(folder, "Net").state_dict())
    with pytest.raises(CheckpointError, match=r"name its class by --model package\.module:Class"):
        load_checkpoint(path)
    assert "my_networks" not in sys.modules


def test_the_pickle_of_a_module_is_refused_even_with_its_class(folder: Path) -> None:
    torch.save(nn.Linear(2, 2), folder / "net.pth")
    with pytest.raises(CheckpointError, match="is refused: a pickle can run anything"):
        opened(folder / "net.pth", "my_networks:Net")
