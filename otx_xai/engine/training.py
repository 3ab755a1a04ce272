"""Stages of training, testing, predicting and exporting; Lightning's Trainer does the loops."""

from __future__ import annotations

import json
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otx_xai.errors import ConfigError
from otx_xai.postprocess.detections import boxes_on_image
from otx_xai.records import ImageInfo, InputGeometry, Size, Task
from otx_xai.report.files import utf8, write_atomic, write_json

try:
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
except ImportError as error:
    raise ConfigError(
        f"Training needs torch and lightning, and {error.name} is not installed. Run: pip install otx-xai[train]"
    ) from error

from otx_xai.checkpoints import read_checkpoint
from otx_xai.models import MODEL_CLASSES, OTXModel
from otx_xai.models.architectures import load_matching

logger = logging.getLogger("otx_xai")

ModelSpec = OTXModel | Mapping[str, Any] | str
"""A model, what a recipe says of one (``class_path``, ``init_args``), or the name of an architecture."""

_CLASS_OF_TASK = {
    Task.CLASSIFICATION: "MulticlassClassifier",
    Task.MULTI_CLASS_CLS: "MulticlassClassifier",
    Task.MULTI_LABEL_CLS: "MultilabelClassifier",
    Task.DETECTION: "Detector",
    Task.INSTANCE_SEGMENTATION: "InstanceSegmenter",
}


_MONITORED = {
    Task.MULTI_CLASS_CLS: "val/accuracy",
    Task.MULTI_LABEL_CLS: "val/f1",
    Task.DETECTION: "val/map",
    Task.INSTANCE_SEGMENTATION: "val/map_mask",
}


def monitored(model: OTXModel) -> str:
    """Return the score whose best epoch is kept."""
    return _MONITORED[model.task]


def build(spec: ModelSpec, task: Task | None, labels: Sequence[str]) -> OTXModel:
    """Make the model to train.

    Args:
        spec: a model, which is returned as it is, the section of a recipe, or the name of an architecture.
        task: of an architecture that is given by name; multi-class classification by default.
        labels: class names of the data, which a new model gets unless its recipe names others.

    Raises:
        ConfigError: there is no such class or architecture, or an argument does not fit.
    """
    if isinstance(spec, OTXModel):
        return spec
    if isinstance(spec, str):
        kind = _CLASS_OF_TASK.get(task or Task.MULTI_CLASS_CLS)
        if kind is None:
            raise ConfigError(f"There is no model for task {task}; expected {', '.join(map(str, _CLASS_OF_TASK))}.")
        return _construct(kind, {"architecture": spec}, labels)
    kind = str(spec.get("class_path", "")).rpartition(".")[2]
    if kind not in MODEL_CLASSES:
        raise ConfigError(
            f"model.class_path is {spec.get('class_path')!r}; expected one of {', '.join(MODEL_CLASSES)}."
        )
    return _construct(kind, dict(spec.get("init_args") or {}), labels)


def _construct(kind: str, arguments: dict[str, Any], labels: Sequence[str]) -> OTXModel:
    if arguments.get("labels") is None:
        if not labels:
            raise ConfigError(
                "Neither the data nor the model names classes. Expected a folder for each class below --data_root, or "
                "annotations; or names of classes as --model.labels."
            )
        arguments["labels"] = tuple(labels)
    try:
        model: OTXModel = MODEL_CLASSES[kind](**arguments)
    except TypeError as error:
        raise ConfigError(
            f"The arguments of model {kind} do not fit: {error}. `otx train --help` lists them."
        ) from error
    return model


def take_over(model: OTXModel, path: str | Path) -> None:
    """Give a model the weights of a checkpoint that have the name and shape of its own.

    The backbone of a detector is named as a classifier of its architecture is, apart from the words before it.

    Args:
        model: changed in place.
        path: ``.ckpt`` or ``.pth``.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: none of its weights fits.
    """
    stored = {_own_name(name): tensor for name, tensor in read_checkpoint(path).state.items()}
    state = model.network.state_dict()
    fitting = {name: stored[_own_name(name)] for name in state if _own_name(name) in stored}
    left = load_matching(model.network, fitting)
    weights = [name for name in state if not name.endswith("num_batches_tracked")]
    if len(left) == len(weights):
        raise ConfigError(
            f"No weight of {path} has the name and shape of one of {model.architecture}. Expected a checkpoint of the "
            "same architecture, or of the classifier that is its backbone; leave start_from out to begin at random."
        )
    logger.info("Begins with %d of %d weights of %s.", len(weights) - len(left), len(weights), path)


def _own_name(name: str) -> str:
    """Return what a weight is called in a classifier."""
    return name.removeprefix("network.").removeprefix("backbone.").removeprefix("body.")


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and the workers of loaders."""
    lightning.seed_everything(seed, workers=True, verbose=False)


def make_trainer(run: Path, arguments: Mapping[str, Any], *, monitor: str = "") -> Any:
    """Make Lightning's Trainer.

    Args:
        run: folder of the run: logs and checkpoints go there.
        arguments: of the Trainer; those that are given win, callbacks are added to ours.
        monitor: logged value whose highest epoch is kept as ``best.ckpt``; empty to keep no checkpoint.

    Raises:
        ConfigError: the Trainer does not take an argument.
    """
    options: dict[str, Any] = {"default_root_dir": run, "accelerator": "auto", "devices": 1} | dict(arguments)
    callbacks = list(options.pop("callbacks", None) or [])
    options["enable_checkpointing"] = bool(monitor) and options.get("enable_checkpointing") is not False
    if options["enable_checkpointing"]:
        best = ModelCheckpoint(run, "best", monitor=monitor, mode="max", save_last=True, enable_version_counter=False)
        callbacks.append(best)
    options.setdefault("logger", lightning.pytorch.loggers.CSVLogger(run, name="", version=""))
    try:
        return lightning.Trainer(callbacks=callbacks, **options)
    except (TypeError, ValueError, lightning.fabric.utilities.exceptions.MisconfigurationException) as error:
        raise ConfigError(f"Lightning's Trainer refuses its arguments: {error}.") from error


@contextmanager
def lightning_manners() -> Iterator[None]:
    """Keep Lightning's advertisements and advice on workers off the log, and make Ctrl-C what it is elsewhere."""
    loud = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loud]
    handler = signal.getsignal(signal.SIGINT)
    for logger in loud:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated")
            warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=r".*The number of training batches.*smaller than the logging.*")
            warnings.filterwarnings(
                "ignore", message=r".*(Checkpoint|Experiment logs) directory .* exists and is not.*"
            )
            yield
    except SystemExit as stop:  # Lightning exits the process on Ctrl-C, and leaves it deaf to further ones
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)


def metrics_of(trainer: Any) -> dict[str, float]:
    """Return what a trainer has logged last, by name, as numbers."""
    return {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}


def write_metrics(run: Path, metrics: Mapping[str, float]) -> None:
    """Write ``metrics.json``."""
    write_json(run / "metrics.json", dict(metrics))


def per_image(batch: Mapping[str, Any], geometry: InputGeometry) -> list[dict[str, Any]]:
    """Divide what a model says of a batch into one dict an image, its boxes in pixels of the original image.

    Args:
        batch: ``scores`` ``(N, K)``, or ``detections``, dicts with ``boxes`` in pixels of the input; and ``sizes``
            of the original images, ``(N, 2)``, where they are known.
        geometry: how images were fitted into the input.
    """
    if "detections" not in batch:
        return [{"scores": scores} for scores in batch["scores"]]
    detections: list[dict[str, Any]] = batch["detections"]
    if "sizes" not in batch:
        return detections
    return [
        found | {"boxes": _on_original(found["boxes"], (int(size[0]), int(size[1])), geometry)}
        for found, size in zip(detections, batch["sizes"], strict=True)
    ]


def _on_original(boxes: torch.Tensor, size: Size, geometry: InputGeometry) -> torch.Tensor:
    height, width = size
    moved = torch.from_numpy(boxes_on_image(boxes.float().cpu().numpy(), size, geometry))
    return moved.clamp(min=0).minimum(moved.new_tensor([width, height, width, height]))


def write_predictions(
    path: Path, images: Sequence[ImageInfo], predictions: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> None:
    """Write one line of JSON an image: ``name``, ``path``, and ``predictions``, each with target, label and score.

    Args:
        path: the file.
        images: in the order of ``predictions``.
        predictions: one an image: ``scores`` ``(K,)`` of a classifier, else ``boxes``, ``labels`` and ``scores``.
        labels: class names.
    """
    lines = []
    for image, prediction in zip(images, predictions, strict=True):
        found = _boxes(prediction, labels) if "boxes" in prediction else _classes(prediction, labels)
        line = {"name": image.name, "path": str(image.path), "predictions": found}
        lines.append(json.dumps(line, ensure_ascii=False))
    write_atomic(path, utf8("".join(f"{line}\n" for line in lines)))


def _classes(prediction: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    scores = torch.as_tensor(prediction["scores"]).tolist()
    best = sorted(range(len(scores)), key=lambda target: -scores[target])[:5]
    return [{"target": target, "label": labels[target], "score": scores[target]} for target in best]


def _boxes(prediction: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    rows = zip(prediction["boxes"].tolist(), prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True)
    return [
        {"target": target, "label": labels[target], "score": score, "box": [round(side, 2) for side in box]}
        for box, target, score in rows
    ]
