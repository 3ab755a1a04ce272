"""What a model is, from the user's options, ``model_info`` and the graph, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import openvino as ov

from otx_xai.errors import TaskError
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.graph.logits import Logits
from otx_xai.graph.output_names import describe_outputs
from otx_xai.model.class_scores import find_logits
from otx_xai.model.detection_outputs import box_evidence, lacks_masks
from otx_xai.model.image_input import describe_input
from otx_xai.model.label_names import box_class_names, class_names
from otx_xai.model.model_info import malformed, model_info, read_flag, read_share
from otx_xai.records import InputOptions, ModelFacts, Task, Tiling, parse_numbers

_NO_OPTIONS = InputOptions()
_OTHER_MODEL_TYPES: dict[str, Task | str] = {
    "anomaly": "anomaly detection",
    "keypoint": "keypoint detection",
    "maskrcnn": Task.INSTANCE_SEGMENTATION,
    "nanodet": Task.DETECTION,
    "segmentation": "segmentation",
    "ssd": Task.DETECTION,
    "yolo": Task.DETECTION,
}
"""Beginnings of Model API's ``model_type`` that mean another task than classification."""


def describe(
    model: ov.Model,
    *,
    task: Task | None = None,
    labels: str | Path | Sequence[str] | None = None,
    options: InputOptions = _NO_OPTIONS,
    classes: BoxClasses | None = None,
) -> ModelFacts:
    """Say what a model does and what it wants to be fed.

    An argument outranks ``model_info``, ``model_info`` outranks the graph, the graph outranks a default; ``sources``
    of the result tells for ``task``, ``labels``, ``input`` and ``normalisation`` which one decided.

    Args:
        model: as it was read; it is not changed.
        task: what the user says it does.
        labels: a text file with one name a line, a JSON file with a list of names, ``a,b,c``, or the names.
        options: what the user says of its input.
        classes: of a model that finds boxes: what its graph tells of its classes.

    Returns:
        The facts. ``task`` is one of the three flavours of classification, detection or instance segmentation; ``mean``
        and ``scale`` are empty, or have one number for each channel.

    Raises:
        TaskError: the model does something else, or its graph contradicts ``task``.
        ConfigError: an option is malformed, contradicts the graph, or is needed because the graph leaves it open.
        LabelError: the number of labels is not the number of classes, or is not known at all.
        ModelError: ``model_info`` is malformed, or the model's input is no batch of images.
    """
    info = model_info(model)
    kind, task_source = find_task(model, task)
    if kind.is_classification:
        logits = find_logits(model)
        kind, task_source = _flavour(model, info, task, logits)
        names, label_source = class_names(labels, info, logits.num_classes)
        first_label = 0
    else:
        names, label_source, first_label = box_class_names(labels, info, classes or BoxClasses())
    image = describe_input(model, info, options)
    return ModelFacts(
        task=kind,
        labels=names,
        geometry=image.geometry,
        input_layout=image.layout,
        mean=image.mean,
        scale=image.scale,
        reverse_input_channels=image.reverse_channels,
        zero=image.zero,
        multilabel=kind is Task.MULTI_LABEL_CLS,
        confidence_threshold=read_share(info, "confidence_threshold"),
        iou_threshold=read_share(info, "iou_threshold"),
        first_label=first_label,
        tiling=None if kind.is_classification else read_tiling(info),
        sources={
            "task": task_source,
            "labels": label_source,
            "input": image.source,
            "normalisation": image.normalisation_source,
        },
    )


def find_task(model: ov.Model, task: Task | None = None) -> tuple[Task, str]:
    """Say what a model does, and who says so: the user, ``task_type`` or ``model_type``, or its outputs.

    Args:
        model: as it was read.
        task: what the user says it does.

    Returns:
        ``CLASSIFICATION`` or the flavour that was named, ``DETECTION`` or ``INSTANCE_SEGMENTATION``, and the source.

    Raises:
        TaskError: ``model_info`` names a task that the package does not know, or instance segmentation is claimed of a
            detector without masks.
    """
    declared, source = (task, f"--task {task}") if task is not None else _declared(model_info(model))
    if declared is Task.INSTANCE_SEGMENTATION and lacks_masks(model):
        raise TaskError(
            f"{source} says instance segmentation, but the model gives no masks: its outputs are "
            f"{describe_outputs(model.outputs)}; expected masks [1,N,h,w] beside boxes and labels. It looks like a "
            "model for --task detection."
        )
    if isinstance(declared, Task):
        return declared, source
    if declared is not None:
        raise TaskError(
            f"{source} of the model says {declared}, which cannot be explained; expected a classifier, a detector or "
            "an instance segmentation model. If it is one, say so with --task."
        )
    # ``logits`` are what OTX calls the output of a classifier, whatever else there is
    if any("logits" in output.get_names() for output in model.outputs):
        return Task.CLASSIFICATION, ""
    evidence = box_evidence(model)
    if evidence is not None:
        return evidence.task, f"graph: {evidence.reason}"
    return Task.CLASSIFICATION, ""


def read_tiling(info: dict[str, str]) -> Tiling | None:
    """Read how large images are to be tiled; ``None`` where ``model_info`` has no ``tile_size``.

    Raises:
        ModelError: a value is malformed, or tiles do not get anywhere.
    """
    if not info.get("tile_size", "").strip():
        return None
    default = Tiling(_count(info, "tile_size", 1))
    overlap = read_share(info, "tiles_overlap", default.overlap)
    if overlap == 1:
        raise malformed(info, "tiles_overlap", "a number from 0 to less than 1")
    return Tiling(
        size=default.size,
        overlap=overlap,
        max_predictions=_count(info, "max_pred_number", default.max_predictions),
        whole_image=default.whole_image if "tile_with_full_img" not in info else read_flag(info, "tile_with_full_img"),
    )


def _count(info: dict[str, str], key: str, default: int) -> int:
    if not info.get(key, "").strip():
        return default
    numbers = parse_numbers(info[key])
    if numbers is None or len(numbers) != 1 or numbers[0] < 1 or numbers[0] != int(numbers[0]):
        raise malformed(info, key, "a whole number of at least 1")
    return int(numbers[0])


def log_line(info: ModelFacts) -> str:
    """One line that tells what is known of a model and who said so."""
    height, width = info.geometry.size
    tiling = info.tiling
    tiles = f" | tiles of {tiling.size} pixels, {tiling.overlap:.0%} overlap (model_info/tile_size)" if tiling else ""
    return (
        f"task {info.task} ({info.sources.get('task', 'given')}) | "
        f"{len(info.labels)} labels ({info.sources.get('labels', 'given')}) | "
        f"input {height}x{width} {info.input_layout} {info.geometry.resize_type} "
        f"({info.sources.get('input', 'given')}) | "
        f"normalisation {info.sources.get('normalisation', 'given')}{tiles}"
    )


def _declared(info: dict[str, str]) -> tuple[Task | str | None, str]:
    """The task that ``model_info`` tells, and the key that tells it. Text stands for a task unknown to the package."""
    text = info.get("task_type", "").strip()
    if text:
        try:
            return Task(text), "model_info/task_type"
        except ValueError:
            return text, "model_info/task_type"
    kind = info.get("model_type", "").lower().replace("_", "").replace("-", "")
    if kind == Task.CLASSIFICATION.value:
        return Task.CLASSIFICATION, "model_info/model_type"
    other = next((task for beginning, task in _OTHER_MODEL_TYPES.items() if kind.startswith(beginning)), None)
    return other, "model_info/model_type"


def _flavour(model: ov.Model, info: dict[str, str], task: Task | None, logits: Logits) -> tuple[Task, str]:
    """The flavour of classification, and who said so. A soft-max in the graph contradicts independent classes."""
    found, source = _claimed_flavour(info, task)
    if found is Task.MULTI_LABEL_CLS and logits.activation == "softmax":
        raise TaskError(
            f"{source} says that classes are independent, but the model ends in a soft-max, which makes them "
            "exclusive; expected a sigmoid or raw scores. Pass --task multi_class_cls."
        )
    if found is not None:
        return found, source
    if logits.activation is None and logits.num_classes == 1:
        # a soft-max over one score is 1, whatever the score
        return Task.MULTI_LABEL_CLS, "graph: it has a single class score, which is read by a sigmoid"
    if logits.activation == "sigmoid":
        return Task.MULTI_LABEL_CLS, "graph: it ends in a sigmoid"
    return Task.MULTI_CLASS_CLS, source or f"graph: output {describe_outputs([model.outputs[logits.result_index]])}"


def _claimed_flavour(info: dict[str, str], task: Task | None) -> tuple[Task | None, str]:
    """The flavour that the user or ``model_info`` names; ``None`` with the source of plain "classification"."""
    declared, source = (task, f"--task {task}") if task is not None else _declared(info)
    if isinstance(declared, Task) and declared is not Task.CLASSIFICATION:
        return declared, source
    if read_flag(info, "hierarchical"):
        return Task.H_LABEL_CLS, "model_info/hierarchical"
    if info.get("multilabel"):
        multilabel = read_flag(info, "multilabel")
        return Task.MULTI_LABEL_CLS if multilabel else Task.MULTI_CLASS_CLS, "model_info/multilabel"
    return None, source if declared is not None else ""
