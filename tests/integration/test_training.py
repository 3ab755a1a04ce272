"""Train, test, predict, export and explain from one recipe, on data that is drawn on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from drawn_sets import write_multilabel_csv

from otx_xai import Engine, ExplainConfig, Explainer, InputOptions, OTXDataModule
from otx_xai.checkpoints import load_checkpoint
from otx_xai.cli import main
from otx_xai.conversion import to_openvino
from otx_xai.data.shape_sets import write_coco, write_image_folder
from otx_xai.errors import ConfigError, LabelError
from otx_xai.recipe import list_recipes

LABELS = ("circle", "square", "star")
COUNTS = {"train": 9, "val": 3, "test": 3}
SMALL = {"model.init_args.architecture": "squeezenet1_1", "model.init_args.input_size": 64}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}


FEW_PROPOSALS = {"box_batch_size_per_image": 8, "rpn_post_nms_top_n_train": 50}
"""Heads of R-CNNs take most of a step, and each of 512 proposals the same."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One data set a task, drawn."""
    root = tmp_path_factory.mktemp("data")
    write_image_folder(root / "classes", COUNTS, labels=LABELS, size=64)
    write_multilabel_csv(root / "labels", COUNTS, labels=LABELS, size=64)
    write_coco(root / "boxes", COUNTS, labels=LABELS, size=64)
    return {
        "multi_class_cls": root / "classes",
        "multi_label_cls": root / "labels",
        "detection": root / "boxes",
        "instance_segmentation": root / "boxes",
    }


def slim(task: str) -> tuple[str, dict[str, Any]]:
    """A recipe, and what makes it small."""
    return {
        "multi_class_cls": ("resnet_slim", {}),
        "multi_label_cls": ("multilabel_mobilenet_v3_large", SMALL),
        "detection": ("fcos_resnet18", {"model.init_args.input_size": 96}),
        "instance_segmentation": ("maskrcnn_resnet18", {"model.init_args.input_size": 96}),
    }[task]


TASKS = ("multi_class_cls", "multi_label_cls", "detection", "instance_segmentation")
ANY_BOX = {"explain_config.confidence_threshold": 0.02, "explain_config.predicted_maps_conf_thr": 0.02}
"""A detector that was trained for a moment is sure of nothing."""


def otx(verb: str, recipe: str, work_dir: Path, *options: object) -> None:
    code = main([verb, "--config", recipe, "--work_dir", str(work_dir), "--debug", *map(str, options)])
    assert code == 0


@pytest.mark.parametrize("task", TASKS)
def test_one_recipe_serves_every_verb(task: str, data: dict[str, Path], tmp_path: Path):
    recipe, changes = slim(task)
    size = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    quiet = [word for name, value in QUIET.items() for word in (f"--trainer.{name}", str(value))]
    root = data[task]
    otx("train", recipe, tmp_path, "--data_root", root, *size, *quiet, "--trainer.max_epochs", 1)
    latest = tmp_path / ".latest"
    assert {"best.ckpt", "last.ckpt", "config.yaml", "metrics.json"} <= {it.name for it in (latest / "train").iterdir()}
    otx("test", recipe, tmp_path, "--data_root", root, *quiet)
    metrics = json.loads((latest / "test" / "metrics.json").read_text())
    assert all(np.isfinite(value) for value in metrics.values())
    assert any(name.startswith("test/") for name in metrics)
    otx("predict", recipe, tmp_path, "--data_root", root, *quiet)
    lines = (latest / "predict" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == sum(COUNTS.values())
    otx("export", recipe, tmp_path, "--explain", "True")
    assert (latest / "export" / "exported_model.xml").is_file()
    checkpoint = latest / "train" / "best.ckpt"
    out = tmp_path / "explained"
    found = [] if "cls" in task else [word for name, value in ANY_BOX.items() for word in (f"--{name}", value)]
    otx("explain", recipe, out, "--checkpoint", checkpoint, "--data_root", root, "--dump", "True", *found)
    entries = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(entries) == sum(COUNTS.values())
    looked_at = "*_overlay.png" if "cls" in task else "*_sheet.png"
    assert any((out / "saliency_map").rglob(looked_at))
    assert all(("box" in it) == ("cls" not in task) for entry in entries for it in entry["predictions"])


@pytest.mark.parametrize("task", ["detection", "instance_segmentation"])
def test_every_task_in_python(task: str, data: dict[str, Path], tmp_path: Path):
    root = data[task]
    recipe, changes = slim(task)
    engine = Engine.from_config(recipe, data_root=root, work_dir=tmp_path, **changes, **QUIET)
    assert np.isfinite(engine.train(max_steps=1, limit_val_batches=1)["train/loss"])
    assert engine.test()
    predictions = engine.predict()
    assert len(predictions) == sum(COUNTS.values())
    assert engine.export(explain=True).path.is_file()
    config = ExplainConfig(confidence_threshold=0.02, predicted_maps_conf_thr=0.02)
    run = engine.explain(
        checkpoint=tmp_path / ".latest" / "train" / "last.ckpt",
        datamodule=OTXDataModule(root),
        explain_config=config,
        dump=True,
    )
    assert (run.explained, run.failures) == (sum(COUNTS.values()), {})
    # what is predicted is what is explained
    entries = [json.loads(line) for line in (run.work_dir / "predictions.jsonl").read_text().splitlines()]
    for entry, prediction in zip(entries, predictions, strict=True):
        sure = [i for i, score in enumerate(prediction["scores"]) if score > 0.021]
        assert len(entry["predictions"]) >= len(sure)
        for i, found in zip(sure[:3], entry["predictions"], strict=False):
            assert found["score"] == pytest.approx(float(prediction["scores"][i]), abs=2e-3)


def test_the_same_in_python(data: dict[str, Path], tmp_path: Path):
    root = data["multi_class_cls"]
    recipe, changes = slim("multi_class_cls")
    engine = Engine.from_config(recipe, data_root=root, work_dir=tmp_path, **changes, **QUIET)
    assert engine.train(max_epochs=1).keys() >= {"val/accuracy", "val/f1", "train/loss"}
    assert engine.test().keys() >= {"test/accuracy", "test/f1"}
    predictions = engine.predict()
    assert len(predictions) == sum(COUNTS.values())
    report = engine.export(explain=True)
    assert report.max_difference < 1e-4
    checkpoint = tmp_path / ".latest" / "train" / "best.ckpt"
    run = engine.explain(checkpoint=checkpoint, datamodule=OTXDataModule(root), dump=False)
    assert (run.explained, run.failures) == (sum(COUNTS.values()), {})
    # what is predicted is what is explained
    loaded = load_checkpoint(checkpoint)
    best = Engine(checkpoint=checkpoint, work_dir=tmp_path, **QUIET).predict(datamodule=OTXDataModule(root))
    for prediction, explanation in zip(best, run.explanations, strict=True):
        found = explanation.predictions[0]
        assert found.score == pytest.approx(float(prediction["scores"][found.target]), abs=1e-3)
        assert found.label == loaded.labels[found.target]


def test_maps_of_a_checkpoint_are_those_of_its_export(data: dict[str, Path], tmp_path: Path):
    model_file = tmp_path / "plain.pth"
    torch.manual_seed(0)
    import torchvision

    network = torchvision.models.squeezenet1_1(num_classes=3).eval()
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, model_file)
    config = ExplainConfig(target_explain_group="ALL")
    size = InputOptions(size=64)
    options = {"labels": LABELS, "explain_config": config, "data_root": data["multi_class_cls"] / "test", "input": size}
    direct = Engine(work_dir=tmp_path / "a").explain(model_file, **options)
    report = Engine(work_dir=tmp_path / "b").export(model_file, labels=LABELS, input=size)
    exported = Engine(work_dir=tmp_path / "c").explain(
        report.path, explain_config=config, data_root=options["data_root"]
    )
    assert len(direct.explanations) == 3
    for one, other in zip(direct.explanations, exported.explanations, strict=True):
        assert tuple(one.label_names) == tuple(other.label_names) == LABELS
        assert any(saliency_map.any() for saliency_map in one.saliency_map.values())
        for target, saliency_map in one.saliency_map.items():
            np.testing.assert_allclose(saliency_map.astype(int), other.saliency_map[target].astype(int), atol=1)


def test_normalisation_is_inside_what_is_exported():
    from otx_xai.models import MulticlassClassifier

    torch.manual_seed(0)
    model = MulticlassClassifier("timm/resnet10t", LABELS, input_size=64).eval()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    explanation = Explainer(to_openvino(model))(image, targets="predicted")
    with torch.no_grad():
        scores = model(torch.from_numpy(image.transpose(2, 0, 1).copy())[None]).softmax(1)[0]
    assert explanation.predictions[0].score == pytest.approx(float(scores.max()), abs=1e-4)
    assert scores.max() > 0.35  # more than chance, which any normalisation would give


def test_other_class_names_are_refused(data: dict[str, Path], tmp_path: Path):
    from otx_xai.models import MulticlassClassifier

    checkpoint = MulticlassClassifier("timm/resnet10t", ("a", "b", "c"), input_size=64).save_weights(
        tmp_path / "model.pth"
    )
    module = OTXDataModule(data["multi_class_cls"])
    with pytest.raises(LabelError, match=r"Checkpoint \(3\): a, b, c\. Data \(3\): circle, square, star"):
        Engine(work_dir=tmp_path).explain(checkpoint, datamodule=module)
    with pytest.raises(LabelError, match="name different classes"):
        Engine(work_dir=tmp_path, **QUIET).test(checkpoint, datamodule=module)


def test_without_anything_trained_the_checkpoint_is_missed(tmp_path: Path, data: dict[str, Path]):
    with pytest.raises(ConfigError, match="No checkpoint was given"):
        Engine(work_dir=tmp_path).test(data_root=data["multi_class_cls"])
    with pytest.raises(ConfigError, match="No model was given to train"):
        Engine(work_dir=tmp_path).train(data_root=data["multi_class_cls"])


def test_the_saved_configuration_trains_again(data: dict[str, Path], tmp_path: Path):
    engine = Engine.from_config(
        "mobilenet_v3_large",
        data_root=data["multi_class_cls"],
        work_dir=tmp_path,
        **{"model.init_args.architecture": "mobilenet_v3_small", "model.init_args.input_size": 64},
        **QUIET,
    )
    engine.train(max_epochs=1)
    config = tmp_path / ".latest" / "train" / "config.yaml"
    assert yaml.safe_load(config.read_text())["model"]["init_args"]["labels"] == list(LABELS)
    assert main(["train", "--config", str(config), "--work_dir", str(tmp_path / "again"), "--debug"]) == 0


@pytest.mark.parametrize("recipe", [it for it in list_recipes() if it.architecture], ids=lambda recipe: recipe.name)
def test_every_recipe_trains_a_step(recipe: Any, data: dict[str, Path], tmp_path: Path):
    size = 224 if "/" in recipe.architecture else 96 if recipe.folder == "classification" else 128
    if recipe.architecture.startswith("ssd"):
        size = 320 if "lite" in recipe.architecture else 300
    few = FEW_PROPOSALS if "rcnn_resnet50" in recipe.architecture else {}
    batch = 1 if recipe.architecture == "ssd300_vgg16" else 2  # it takes no less than 300 pixels, and has no statistics
    engine = Engine.from_config(
        recipe.path,
        data_root=data[recipe.task],
        work_dir=tmp_path,
        **{"model.init_args.input_size": size, "data.batch_size": batch, "model.init_args.network_options": few},
        **QUIET,
        enable_checkpointing=False,
        logger=False,
    )
    metrics = engine.train(max_steps=1, limit_val_batches=0)
    assert np.isfinite(metrics["train/loss"])


def test_images_of_a_loader_are_those_of_the_folder(data: dict[str, Path], tmp_path: Path):
    """Normalised tensors of a plain DataLoader give the maps that the files give."""
    from otx_xai.models import MulticlassClassifier

    torch.manual_seed(0)
    model = MulticlassClassifier("timm/resnet10t", LABELS, input_size=64).eval()
    checkpoint = model.save_weights(tmp_path / "model.pth")
    folder = data["multi_class_cls"] / "test"
    by_file = Engine(work_dir=tmp_path / "a").explain(checkpoint, data_root=folder)
    module = OTXDataModule(folder, "multi_class_cls")
    module.fit_to(model.geometry)
    images = [image for batch, _ in module.predict_dataloader() for image in batch]
    normalised = [model.normalise(image[None])[0] for image in images]
    loader = torch.utils.data.DataLoader(normalised, batch_size=2)
    by_loader = Engine(work_dir=tmp_path / "b").explain(checkpoint, datamodule=loader)
    assert by_loader.explained == by_file.explained == 3
    for one, other in zip(by_file.explanations, by_loader.explanations, strict=True):
        assert one.predictions[0].score == pytest.approx(other.predictions[0].score, abs=1e-4)
        for target, saliency_map in one.saliency_map.items():
            np.testing.assert_allclose(saliency_map.astype(int), other.saliency_map[target].astype(int), atol=1)
