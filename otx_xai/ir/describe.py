"""What a model is, from the user's options, ``model_info`` and the graph, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import openvino as ov

from otx_xai.errors import TaskError
from otx_xai.ir.inputs import describe_input
from otx_xai.ir.labels import class_names
from otx_xai.ir.logits import Logits, describe_outputs, find_logits
from otx_xai.ir.model_info import model_info, read_flag
from otx_xai.records import InputOptions, ModelInfo, Task

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
) -> ModelInfo:
    """Say what a model does and what it wants to be fed.

    An argument outranks ``model_info``, ``model_info`` outranks the graph, the graph outranks a default; ``sources``
    of the result tells for ``task``, ``labels``, ``input`` and ``normalisation`` which one decided.

    Args:
        model: a classifier, as it was read; it is not changed.
        task: what the user says it does.
        labels: a text file with one name a line, a JSON file with a list of names, ``a,b,c``, or the names.
        options: what the user says of its input.

    Returns:
        The facts. ``task`` is one of the three flavours of classification; ``mean`` and ``scale`` are empty, or have
        one number for each channel.

    Raises:
        TaskError: the model is no classifier, or its graph contradicts ``task``.
        ConfigError: an option is malformed, contradicts the graph, or is needed because the graph leaves it open.
        LabelError: the number of labels is not the number of classes.
        ModelError: ``model_info`` is malformed, or the model's input is no batch of images.
    """
    info = model_info(model)
    _refuse_other_task(info, task)
    logits = find_logits(model)
    flavour, task_source = _flavour(model, info, task, logits)
    names, label_source = class_names(labels, info, logits.num_classes)
    image = describe_input(model, info, options)
    return ModelInfo(
        task=flavour,
        labels=names,
        geometry=image.geometry,
        input_layout=image.layout,
        mean=image.mean,
        scale=image.scale,
        reverse_input_channels=image.reverse_channels,
        multilabel=flavour is Task.MULTI_LABEL_CLS,
        sources={
            "task": task_source,
            "labels": label_source,
            "input": image.source,
            "normalisation": image.normalisation_source,
        },
    )


def log_line(info: ModelInfo) -> str:
    """One line that tells what is known of a model and who said so."""
    height, width = info.geometry.size
    return (
        f"task {info.task} ({info.sources.get('task', 'given')}) | "
        f"{len(info.labels)} labels ({info.sources.get('labels', 'given')}) | "
        f"input {height}x{width} {info.input_layout} {info.geometry.resize_type} "
        f"({info.sources.get('input', 'given')}) | "
        f"normalisation {info.sources.get('normalisation', 'given')}"
    )


def _refuse_other_task(info: dict[str, str], task: Task | None) -> None:
    """Raise ``TaskError`` if the user, or else ``model_info``, says that the model is no classifier."""
    if task is not None:
        if not task.is_classification:
            raise TaskError(f"--task {task} comes in a later version; this one explains classification models.")
        return
    declared, source = _declared(info)
    if declared is not None and not (isinstance(declared, Task) and declared.is_classification):
        raise TaskError(
            f"{source} of the model says {declared}, which this version does not explain; expected a classification "
            "model. If it is one, say so with --task classification."
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
    if logits.activation == "sigmoid":
        return Task.MULTI_LABEL_CLS, "graph: it ends in a sigmoid"
    return Task.MULTI_CLASS_CLS, source or f"graph: output {describe_outputs(model, [logits.result_index])}"


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
