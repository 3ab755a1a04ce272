"""Which weights of a checkpoint count, for the forms in which trainers keep averaged ones."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning
import pytest
import timm.utils
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from otx_xai.checkpoints import load_checkpoint, read_checkpoint
from otx_xai.checkpoints.user_class import fill
from otx_xai.errors import CheckpointError, ConfigError
from otx_xai.models import MulticlassClassifier
from otx_xai.records import Weights

State = dict[str, torch.Tensor]


def network() -> nn.Module:
    """Give parameters, buffers, and two tensors of one shape, so that an order that is wrong shows."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))


RAW: State = network().state_dict()
EMA: State = {name: value + 1 for name, value in RAW.items()}
PARAMETERS = [name for name, _ in network().named_parameters()]
SHADOW = [EMA[name] for name in PARAMETERS]


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def steps(number: int) -> torch.Tensor:
    return torch.tensor(number)


FORMS: dict[str, Any] = {
    "student and teacher": below("student.", RAW) | below("teacher.", EMA),
    "of Lightning": {"state_dict": below("model.student.module.", RAW) | below("model.teacher.module.", EMA)},
    "by key": {"student": below("module.", RAW), "teacher": EMA, "optimizer": {"state": {}}, "epoch": 3},
    "by parts": below("student_", below("net.", RAW)) | below("teacher_", below("net.", EMA)) | {"center": steps(1)},
    "model and teacher": {"state_dict": below("model.", RAW) | below("teacher_model.", EMA)},
    "timm": {"epoch": 3, "args": Namespace(model="x", lr=0.1), "state_dict": RAW, "state_dict_ema": EMA},
    "torchvision": {"model": RAW, "model_ema": below("module.", EMA) | {"n_averaged": steps(7)}, "args": Namespace()},
    "RT-DETR": {"model": RAW, "ema": {"module": EMA, "updates": 12}, "last_epoch": 3},
    "plain": {"model": RAW, "ema": EMA},
    "ema_state_dict": {"state_dict": below("model.", RAW), "ema_state_dict": EMA},
    "ema_model": {"model_state_dict": RAW, "ema_model": below("module.", EMA)},
    "BasicSR": {"params": RAW, "params_ema": EMA},
    "net_ema": {"net": RAW, "net_ema": below("module.", EMA)},
    "beside it": {"state_dict": below("net.", RAW) | below("net_ema.", EMA)},
    "callback": {"state_dict": below("model.", RAW), "callbacks": {"EMA{}": {"ema_state_dict": below("model.", EMA)}}},
    "callback, a list": {"state_dict": RAW, "callbacks": {"EMA": {"cur_step": 4, "ema_weights": [*EMA.values()]}}},
    "torch_ema": {"model": RAW, "ema": {"decay": 0.9, "num_updates": 4, "shadow_params": SHADOW}},
    "diffusers": {"model": RAW, "ema": {"optimization_step": 4, "shadow_params": SHADOW}},
    "a part": {"state_dict": below("model.", RAW) | below("ema.module.", EMA) | {"ema.n_averaged": steps(2)}},
    "ema-pytorch": below("online_model.", RAW) | below("ema_model.", EMA) | {"initted": steps(1), "step": steps(4)},
    "without dots": below("model.", RAW) | {f"model_ema.{name.replace('.', '')}": EMA[name] for name in PARAMETERS},
    "Lightning": {
        "state_dict": below("model.", EMA),
        "current_model_state": below("model.", RAW),
        "averaging_state": {"n_averaged": steps(9)},
    },
    "MMEngine": {
        "meta": {"mmengine_version": "0.10"},
        "state_dict": EMA,
        "ema_state_dict": below("module.", RAW) | {"steps": steps(9)},
    },
}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def assert_equal(found: State, wanted: State, *, but: tuple[str, ...] = ()) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == [*but]


def test_weights_that_nothing_tells_of_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {
        "state_dict": RAW,
        "polyak": EMA,
        "optimizer": {"state": {0: EMA}},
        "head": {"0.weight": EMA["0.weight"]},
    }
    found = read_checkpoint(saved(tmp_path / "last.ckpt", content))
    assert_equal(found.state, RAW)
    assert caplog.messages == [
        f"{tmp_path / 'last.ckpt'} also holds weights of these names under 'polyak', which are not used."
    ]


@pytest.mark.parametrize("form", FORMS)
def test_averaged_weights_are_taken(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "last.ckpt", FORMS[form])
    buffers = tuple(name for name in RAW if name not in PARAMETERS)
    without_buffers = form in ("torch_ema", "diffusers", "without dots")
    with caplog.at_level(logging.INFO, "otx_xai"):
        contents = read_checkpoint(path)
    assert_equal(contents.state, EMA, but=buffers if without_buffers else ())
    assert contents.weights is Weights.EMA
    assert "those averaged over training (ema), under" in caplog.text
    assert "--weights raw takes" in caplog.text
    assert_equal(read_checkpoint(path, Weights.EMA).state, contents.state)


@pytest.mark.parametrize("form", FORMS)
def test_the_last_weights_are_taken_where_they_are_wanted(form: str, tmp_path: Path) -> None:
    contents = read_checkpoint(saved(tmp_path / "last.ckpt", FORMS[form]), Weights.RAW)
    assert_equal(contents.state, RAW)
    assert contents.weights is Weights.RAW


@pytest.mark.parametrize("form", ["a part", "ema_state_dict", "Lightning"])
def test_names_in_the_file_have_the_chosen_weights(form: str, tmp_path: Path) -> None:
    for kind, wanted in ((Weights.EMA, EMA), (Weights.RAW, RAW)):
        stored = read_checkpoint(saved(tmp_path / "last.ckpt", FORMS[form]), kind).stored
        assert_equal({n.removeprefix("model."): v for n, v in stored.items() if n.startswith("model.")}, wanted)


NOT_BEGUN = {
    "Lightning": {"state_dict": EMA, "current_model_state": RAW, "averaging_state": {"n_averaged": steps(0)}},
    "torchvision": {"model": RAW, "model_ema": below("module.", EMA) | {"n_averaged": steps(0)}},
    "torch_ema": {"model": RAW, "ema": {"num_updates": 0, "shadow_params": SHADOW}},
    "SWA": {"state_dict": RAW, "callbacks": {"SWA": {"n_averaged": 0, "average_model_state": EMA}}},
}


@pytest.mark.parametrize("form", NOT_BEGUN)
def test_an_average_of_no_step_is_none(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is what training began with."""
    path = saved(tmp_path / "last.ckpt", NOT_BEGUN[form])
    with caplog.at_level(logging.INFO, "otx_xai"):
        assert_equal(read_checkpoint(path).state, RAW)
    assert "is of no step yet, and so is left out" in caplog.text
    with pytest.raises(ConfigError, match=r"--weights is ema.*It holds: those of the last step \(raw\)"):
        read_checkpoint(path, Weights.EMA)


def test_none_of_the_wanted_kind(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"state_dict": RAW})
    with pytest.raises(ConfigError, match=r"--weights is ema.*under 'state_dict'\. Leave --weights away"):
        read_checkpoint(path, Weights.EMA)
    for content in ({"ema_state_dict": EMA}, below("module.", EMA) | {"n_averaged": steps(3)}, below("ema.", EMA)):
        path = saved(tmp_path / "b.pth", content)
        assert_equal(read_checkpoint(path).state, EMA)
        with pytest.raises(ConfigError, match=r"--weights is raw.*It holds: those averaged over training \(ema\)"):
            read_checkpoint(path, Weights.RAW)


def test_averages_of_parameters_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Many hand-written averages keep parameters only: the statistics of batch norms are those of the last step."""
    shadow = {name: EMA[name] for name in PARAMETERS}
    with caplog.at_level(logging.INFO, "otx_xai"):
        contents = read_checkpoint(saved(tmp_path / "a.pth", {"model": RAW, "ema": shadow}))
    assert_equal(contents.state, RAW | shadow)
    assert "Not averaged" not in caplog.text
    del shadow["0.weight"]
    with caplog.at_level(logging.INFO, "otx_xai"):
        read_checkpoint(saved(tmp_path / "a.pth", {"model": RAW, "ema": shadow}))
    assert "Not averaged under 'ema', taken from the last step: '0.weight'" in caplog.text


@pytest.mark.parametrize("other", [{"decay": steps(1)}, {"0.weight": torch.zeros(2)}])
def test_what_is_no_average_of_these_weights(other: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "otx_xai"):
        contents = read_checkpoint(saved(tmp_path / "a.pth", {"model": RAW, "ema": other}))
    assert_equal(contents.state, RAW)
    assert "What lies under 'ema' is no average of the weights under 'model'" in caplog.text


def test_a_layer_that_is_called_ema_is_a_layer(tmp_path: Path) -> None:
    state = below("model.", RAW) | below("model.ema.", {"gate.weight": torch.ones(3)})
    contents = read_checkpoint(saved(tmp_path / "a.pth", below("ema.", {"gate.weight": torch.ones(3)}) | state))
    assert contents.weights is Weights.RAW
    assert_equal(contents.state, RAW | {"ema.gate.weight": torch.ones(3)})


def test_averages_without_names_that_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": RAW, "ema": {"shadow_params": SHADOW[:-1]}})
    with pytest.raises(CheckpointError, match=r"'ema\.shadow_params' without names: 7 tensors.*Pass --weights raw"):
        read_checkpoint(path)
    assert_equal(read_checkpoint(path, Weights.RAW).state, RAW)


# --------------------------------------------------------------------------------------------------------------------
# What real trainers write
# --------------------------------------------------------------------------------------------------------------------


class Tiny(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.batches = [*getattr(self, "batches", []), index]
        return self.model(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.5)


def trained(folder: Path, callback: lightning.Callback, epochs: int = 2) -> tuple[Path, dict[str, Any]]:
    kept = ModelCheckpoint(
        folder, filename="kept", every_n_epochs=epochs, save_last=False, enable_version_counter=False
    )
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=epochs + 1, accelerator="cpu", callbacks=[kept, callback], default_root_dir=folder, **options
        )
        trainer.fit(Tiny(), torch.utils.data.DataLoader(torch.randn(4, 3, 3, 3), batch_size=2))
    path = folder / "kept.ckpt"
    return path, torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "make",
    [lambda: EMAWeightAveraging(decay=0.5), lambda: StochasticWeightAveraging(0.1, swa_epoch_start=1)],
    ids=["EMAWeightAveraging", "StochasticWeightAveraging"],
)
def test_callbacks_of_lightning(make: Callable[[], lightning.Callback], tmp_path: Path) -> None:
    path, loaded = trained(tmp_path, make())
    averaged, last = (read_checkpoint(path, kind).state for kind in (Weights.EMA, Weights.RAW))
    assert averaged.keys() == last.keys() == RAW.keys()
    assert not torch.equal(averaged["4.weight"], last["4.weight"])
    if "current_model_state" in loaded:
        assert_equal(below("model.", averaged), loaded["state_dict"])
        assert_equal(below("model.", last), loaded["current_model_state"])
    else:
        assert_equal(below("model.", last), loaded["state_dict"])
    assert_equal(read_checkpoint(path).state, averaged)


def test_our_own_checkpoint_with_lightnings_averages(tmp_path: Path) -> None:
    model = MulticlassClassifier("squeezenet1_1", 3, input_size=32)
    raw = model.state_dict()
    ema = {name: value + 1 for name, value in raw.items()}
    content = {
        "state_dict": ema,
        "current_model_state": raw,
        "averaging_state": {"n_averaged": steps(4)},
        "otx_xai": model.description(),
    }
    path = saved(tmp_path / "best.ckpt", content)
    assert_equal(load_checkpoint(path).state_dict(), ema)
    assert_equal(load_checkpoint(path, weights=Weights.RAW).state_dict(), raw)


def test_averages_of_torch_and_timm(tmp_path: Path) -> None:
    module = network()
    of_torch, of_timm = AveragedModel(module), timm.utils.ModelEmaV3(module, decay=0.5)
    for _ in range(2):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1)
        of_torch.update_parameters(module)
        of_timm.update(module)
    for name, average in (("model_ema", of_torch.state_dict()), ("state_dict_ema", of_timm.module.state_dict())):
        path = saved(tmp_path / "a.pth", {"model": deepcopy(module.state_dict()), name: average})
        assert_equal(read_checkpoint(path, Weights.RAW).state, module.state_dict())
        found = read_checkpoint(path).state
        expected = of_torch.module if name == "model_ema" else of_timm.module
        assert_equal(found, expected.state_dict())
        assert not torch.equal(found["0.weight"], module.state_dict()["0.weight"])


@pytest.mark.parametrize("names", [("online_network.", "target_network."), ("encoder_q.", "encoder_k.")])
def test_of_networks_that_follow_another_the_one_that_learns_counts(names: tuple[str, str], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"state_dict": below(names[1], EMA) | below(names[0], RAW)})
    assert_equal(short(read_checkpoint(path).state), RAW)
    assert_equal(short(read_checkpoint(path, Weights.EMA).state), EMA)


def test_of_a_teacher_of_other_shapes_the_student_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = nn.Linear(5, 5).state_dict()
    path = saved(tmp_path / "a.pth", below("teacher.", teacher) | below("student.", RAW))
    assert_equal(read_checkpoint(path).state, RAW)
    assert "two networks of different shapes, student (11 tensors) and teacher (2 tensors)" in caplog.text
    with pytest.raises(ConfigError, match="holds no such weights"):
        read_checkpoint(path, Weights.EMA)


def test_heads_that_are_called_student_and_teacher_are_parts_of_one_network(tmp_path: Path) -> None:
    head = nn.Linear(2, 2).state_dict()
    state = RAW | below("student_head.", head) | below("teacher_head.", head)
    assert_equal(read_checkpoint(saved(tmp_path / "a.pth", state)).state, state)


def test_a_class_that_fits_both_gets_those_that_count(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", below("student.", RAW) | below("teacher.", EMA))
    for weights, wanted in ((None, EMA), (Weights.RAW, RAW)):
        module = network()
        fill(module, read_checkpoint(path, weights), path)
        assert_equal(module.state_dict(), wanted)
    whole = nn.ModuleDict({"student": network(), "teacher": network()})
    fill(whole, read_checkpoint(path), path)
    assert_equal(whole.state_dict(), below("student.", RAW) | below("teacher.", EMA))


def short(state: State) -> State:
    return {name.removeprefix("network."): value for name, value in state.items()}
