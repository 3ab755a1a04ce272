from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from otx_xai.data.shapes import SHAPE_LABELS, draw_shape
from otx_xai.errors import ConfigError, LabelError, ModelError, OutputError
from otx_xai.models import MODEL_CLASSES, MulticlassClassifier, MultilabelClassifier, OTXModel, build_model
from otx_xai.models.base import DESCRIPTION_KEY
from otx_xai.records import InputGeometry, ResizeType, Task

SIZE = (48, 64)
SLIM = {"width_mult": 0.35}


def _classifier(**options: Any) -> MulticlassClassifier:
    torch.manual_seed(0)
    options = {"labels": SHAPE_LABELS, "input_size": SIZE, "network_options": SLIM, **options}
    return MulticlassClassifier("mobilenet_v2", **options)


def _images(count: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    pictures = [draw_shape(rng, SIZE, index % len(SHAPE_LABELS)).image for index in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def test_attributes() -> None:
    model = _classifier(mean=127.5, scale=[10, 20, 30], resize_type="fit_to_window", pad_value=114)
    assert model.task is Task.MULTI_CLASS_CLS
    assert model.labels == SHAPE_LABELS
    assert model.geometry == InputGeometry(SIZE, ResizeType.FIT_TO_WINDOW, 114)
    assert (model.mean, model.scale) == ((127.5, 127.5, 127.5), (10.0, 20.0, 30.0))


def test_defaults_are_those_of_the_architecture() -> None:
    model = MulticlassClassifier("mobilenet_v2", 2, network_options=SLIM)
    assert model.geometry == InputGeometry((224, 224))
    assert model.mean == (123.675, 116.28, 103.53)
    assert model.scale == (58.395, 57.12, 57.375)
    assert model.labels == ("0", "1")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_forward_normalises(dtype: torch.dtype) -> None:
    model = _classifier(mean=(10, 20, 30), scale=(2, 4, 8)).eval()
    images = _images(3)
    pixels = images.numpy().astype(np.float64)
    normalised = (pixels - np.array([10, 20, 30]).reshape(3, 1, 1)) / np.array([2, 4, 8]).reshape(3, 1, 1)
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(normalised).float())
        torch.testing.assert_close(model(images.to(dtype)), expected)
        torch.testing.assert_close(model.export_module()(images.to(dtype)), (expected,))


def test_loss_of_exclusive_classes() -> None:
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 5, 2, 2, 1])
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), targets.numpy()]).mean()
    assert float(_classifier().loss_of(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_loss_of_independent_classes() -> None:
    model = MultilabelClassifier("mobilenet_v2", ["a", "b", "c"], input_size=SIZE, network_options=SLIM)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    scores = 1 / (1 + np.exp(-logits.numpy()))
    expected = -np.where(targets.numpy() > 0, np.log(scores), np.log(1 - scores)).mean()
    assert model.task is Task.MULTI_LABEL_CLS
    assert float(model.loss_of(logits, targets)) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.score(logits), scores, rtol=1e-5)


def test_scores_of_exclusive_classes() -> None:
    model = _classifier()
    metric = model.make_metric()
    metric.update(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2]))
    scores = model.summarise(metric)
    assert float(scores["accuracy"]) == pytest.approx(3 / 4)
    # Classes 0, 1 and 2: precision 1/2, 1, 1; recall 1, 1/2, 1. The others don't occur, and don't count.
    assert float(scores["f1"]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_two_classes_may_share_a_name() -> None:
    assert _classifier(labels=["crane", "dog", "crane"]).labels == ("crane", "dog", "crane")


@pytest.mark.parametrize("model_class", [MulticlassClassifier, MultilabelClassifier])
def test_a_single_class_can_be_trained_and_scored(model_class: type[OTXModel]) -> None:
    model = model_class("mobilenet_v2", ["only"], input_size=SIZE, network_options=SLIM).eval()
    targets = torch.zeros(2, dtype=torch.int64) if model_class is MulticlassClassifier else torch.ones(2, 1)
    metric = model.make_metric()
    assert torch.isfinite(model.evaluate(_images(2), targets, metric))
    assert set(model.summarise(metric)) == {"accuracy", "f1"}


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated", "ignore:.*num_workers")
@pytest.mark.parametrize(("scheduler", "optimizer"), [("onecycle", "adamw"), ("cosine", "sgd")])
def test_training_lowers_the_loss(scheduler: Any, optimizer: Any) -> None:
    model = _classifier(scheduler=scheduler, optimizer=optimizer, learning_rate=5e-3 if optimizer == "adamw" else 5e-2)
    images, targets = _images(12), torch.arange(12) % 6
    loader = DataLoader(list(zip(images, targets, strict=True)), batch_size=12)
    before = float(model.loss(images, targets).detach())
    trainer = _trainer(max_steps=8)
    trainer.fit(model, loader, loader)
    assert float(model.train().loss(images, targets).detach()) < 0.7 * before
    assert {"train/loss", "val/loss", "val/accuracy", "val/f1"} <= set(trainer.callback_metrics)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated", "ignore:.*num_workers")
def test_test_and_predict() -> None:
    model = MultilabelClassifier("mobilenet_v2", ["a", "b"], input_size=SIZE, network_options=SLIM)
    images = _images(3)
    pairs = DataLoader([(image, torch.tensor([1.0, 0])) for image in images], batch_size=2)
    trainer = _trainer()
    assert set(trainer.test(model, pairs, verbose=False)[0]) == {"test/loss", "test/accuracy", "test/f1"}
    for loader in (pairs, DataLoader(list(images), batch_size=2)):
        predicted = trainer.predict(model, loader)
        scores = torch.cat([batch["scores"] for batch in predicted])
        with torch.inference_mode():
            torch.testing.assert_close(scores, model.eval()(images).sigmoid())


def test_rate_rises_and_falls() -> None:
    for scheduler, last in (("onecycle", 0.0), ("cosine", 0.0), ("none", 1.0)):
        model = _classifier(scheduler=scheduler, warmup=0.25, learning_rate=1.0)
        optimizer = model._make_optimizer()
        schedule = model._make_schedule(optimizer, 20)
        rates = []
        for _ in range(20):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert max(rates) == pytest.approx(1, abs=1e-6)
        assert rates[:5] == sorted(rates[:5])
        assert rates[5:] == sorted(rates[5:], reverse=True)
        assert rates[-1] == pytest.approx(last, abs=0.02)


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine", "none"])
@pytest.mark.parametrize("steps", [1, 2, 3, 11])
def test_runs_of_any_length_have_a_schedule(scheduler: Any, steps: int) -> None:
    model = _classifier(scheduler=scheduler)
    optimizer = model._make_optimizer()
    schedule = model._make_schedule(optimizer, steps)
    for _ in range(steps):
        assert optimizer.param_groups[0]["lr"] > 0
        optimizer.step()
        schedule.step()


def test_biases_and_normalisation_do_not_decay() -> None:
    model = _classifier(weight_decay=0.5)
    decayed, kept = model._make_optimizer().param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.5, 0.0)
    counts = [sum(1 for parameter in model.parameters() if (parameter.ndim > 1) is large) for large in (True, False)]
    assert [len(decayed["params"]), len(kept["params"])] == counts


def test_endless_run_needs_no_schedule() -> None:
    model = _classifier()
    model.trainer = _trainer(max_epochs=-1)
    model.trainer.fit_loop.setup_data = lambda: None
    model.trainer.fit_loop.max_batches = 4
    with pytest.raises(ConfigError, match="The run has no end"):
        model.configure_optimizers()


def test_description_builds_the_same_model() -> None:
    model = _classifier(mean=1, scale=2, resize_type="crop", learning_rate=0.5, optimizer="sgd", warmup=0.0).eval()
    description = json.loads(json.dumps(model.description()))
    again = build_model(description).eval()
    assert again.description() == model.description()
    again.load_state_dict(model.state_dict(), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(again(_images(2)), model(_images(2)))


def test_weights_on_disk_describe_themselves(tmp_path: Path) -> None:
    model = _classifier().eval()
    path = model.save_weights(tmp_path / "deep" / "best.pth")
    stored = torch.load(path, weights_only=True)
    again = build_model(stored[DESCRIPTION_KEY]).eval()
    again.load_state_dict(stored["state_dict"], strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(again(_images(2)), model(_images(2)))
    assert [file.name for file in path.parent.iterdir()] == ["best.pth"]


def test_weights_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        _classifier().save_weights(tmp_path / "file" / "best.pth")


def test_lightning_checkpoint_describes_itself() -> None:
    checkpoint: dict[str, Any] = {}
    model = _classifier()
    model.on_save_checkpoint(checkpoint)
    stream = io.BytesIO()
    torch.save(checkpoint, stream)
    stream.seek(0)
    assert torch.load(stream, weights_only=True) == {DESCRIPTION_KEY: model.description()}


@pytest.mark.parametrize(
    ("description", "error", "says"),
    [
        ({"class": "os.system", "init": {}}, ModelError, "names class 'os.system'; expected one of"),
        ({"init": {}}, ModelError, "names class None"),
        ({"class": "Detector"}, ModelError, "under init"),
        ({"format": 2, "class": "Detector", "init": {}}, ModelError, "format 2"),
        ({"class": "Detector", "init": {"wings": 2}}, ConfigError, "arguments of Detector do not fit.*wings"),
        ({"class": "Detector", "init": {"architecture": "fcos_resnet18"}}, LabelError, "has no labels"),
    ],
)
def test_broken_descriptions_are_refused(description: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build_model(description)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": []}, "at least one class"),
        ({"labels": ["a", " ", ""]}, r"labels of classes \[1, 2\] are empty"),
        ({"labels": "a,b"}, "expected a list of names"),
        ({"labels": None}, "has no labels"),
        ({"input_size": (1, 2, 3)}, r"input_size is \(1, 2, 3\)"),
        ({"input_size": 0}, "input_size is 0"),
        ({"mean": (1, 2)}, r"mean is \(1, 2\)"),
        ({"scale": 0}, "other than 0"),
        ({"pad_value": 256}, "pad_value is 256"),
        ({"resize_type": "squeeze"}, "is no ResizeType"),
        ({"learning_rate": 0}, "learning_rate is 0; expected a number above 0"),
        ({"weight_decay": -1}, "weight_decay is -1; expected a number from 0"),
        ({"warmup": 1}, "warmup is 1; expected a number from 0 and below 1"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected one of adamw, sgd"),
        ({"scheduler": "step"}, "scheduler is 'step'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        _classifier(**options)


def test_model_classes_are_named_as_they_are() -> None:
    assert all(model_class.__name__ == name for name, model_class in MODEL_CLASSES.items())
