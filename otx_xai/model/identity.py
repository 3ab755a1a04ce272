"""What a model does, and by which of its outputs: decided once, from the user, the exporter and the graph in turn."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from otx_xai.errors import ModelError, TaskError
from otx_xai.graph.logits import Logits
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.view import View
from otx_xai.model.class_scores import find_class_scores, has_named_logits
from otx_xai.model.formats.box_format import DetectorOutputs, Found
from otx_xai.model.formats.choice import BOX_FORMATS, READ_BY_CALLER, describe_ports, find_format, unknown_outputs
from otx_xai.model.model_info import malformed, read_flag
from otx_xai.model.model_options import ModelOptions
from otx_xai.neighbours.hints import Hints, source_of, told_by
from otx_xai.records import Size, Task

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

_FAMILY = "model_info/model_type"
"""What tells the family of a model, which may have masks or none."""


@dataclass(frozen=True)
class Identity:
    """What a model does, and by which outputs.

    Args:
        task: one of the three flavours of classification, detection or instance segmentation.
        source: who says so, in words.
        class_scores: of a classifier.
        boxes: of a model that finds boxes, how its outputs are read; ``None`` where nobody can, and nobody has to.
    """

    task: Task
    source: str
    class_scores: Logits | None = None
    boxes: Found | None = None


@dataclass(frozen=True)
class Told:
    """What is said of a model outside of its graph.

    Args:
        options: by the user.
        info: in ``model_info``.
        hints: by the exporter elsewhere.
        num_names: number of class names that any of them gives.
    """

    options: ModelOptions
    info: dict[str, str]
    hints: Hints
    num_names: int | None = None


def identify(view: View, told: Told, size: Size | None, *, needs_format: bool = True) -> Identity:
    """Say what a model does, and by which of its outputs.

    Args:
        view: of its graph, XAI outputs left out.
        told: what is said of it.
        size: ``(height, width)`` of its input; ``None`` where it is open.
        needs_format: boxes are going to be read, so that a format that nobody knows is an error.

    Raises:
        TaskError: it does something else, or its graph contradicts what is said.
        ConfigError: there is no such output or format, or the model has another one.
        ModelError: several outputs or formats are possible, or none is known.
    """
    declared, source = _declared(view.model, told)
    if isinstance(declared, str) and not isinstance(declared, Task):
        raise TaskError(
            f"{source} of the model says {declared}, which cannot be explained; expected a classifier, a detector or "
            "an instance segmentation model. If it is one, say so with --task."
        )
    finds_boxes = declared is not None and not declared.is_classification
    outputs = describe_ports(
        view.model, view, size=size, num_names=told.num_names, said=told.hints.said, declared=finds_boxes
    )
    if declared is not None and declared.is_classification:
        return _classifier(view.model, told, None if has_named_logits(view.model) else _looks(outputs))
    found = find_format(outputs, _named_format(told))
    reason = found.match.reason if found is not None else outputs.evidence
    if declared is None and reason is None:
        return _classifier(view.model, told, None)
    if declared is None:
        declared, source = evident_task(outputs) if found is None else found.match.task, f"graph: {reason}"
    if source == _FAMILY and found is not None and found.match.task is Task.INSTANCE_SEGMENTATION:
        declared, source = found.match.task, f"{source}, and {found.match.reason}"
    _require_masks(view.model, declared, source, found)
    if found is None and told.options.read_by_caller:
        found = READ_BY_CALLER
    if found is None and needs_format:
        raise ModelError(unknown_outputs(outputs))
    return Identity(declared, source, boxes=found)


def _named_format(told: Told) -> str | None:
    """Return the format of boxes that somebody names: the user, or ``model_info`` of a model that we saved."""
    name, names = told.info.get("box_format", ""), [row.name for row in BOX_FORMATS]
    if told.options.format is not None or not name:
        return told.options.format
    if name not in names:
        raise malformed(told.info, "box_format", f"one of {', '.join(names)}", "pass --format")
    return name


def _declared(model: ov.Model, told: Told) -> tuple[Task | str | None, str]:
    """Return the task that somebody tells, and who; text stands for a task that the package does not know."""
    options = told.options
    if options.task is not None:
        return options.task, f"--task {options.task}"
    if options.format is not None:
        return None, ""
    declared, source = _written(told)
    if declared is None and options.output is not None:
        return Task.CLASSIFICATION, f"--output {options.output}"
    # ``logits`` are what OTX calls the output of a classifier, whatever else there is
    if declared is None and has_named_logits(model):
        return Task.CLASSIFICATION, ""
    if declared is None and told.hints.task is not None:
        return told.hints.task, source_of(told.hints, "task")
    return declared, source


def _written(told: Told) -> tuple[Task | str | None, str]:
    """Return the task that ``model_info`` tells, and the key that tells it.

    A family, as which Ultralytics writes YOLO into classifiers too, tells less than an exporter that names the task.
    """
    info = told.info
    text = info.get("task_type", "").strip()
    if text:
        try:
            return Task(text), told_by(told.hints, "task_type")
        except ValueError:
            return text, told_by(told.hints, "task_type")
    kind = info.get("model_type", "").lower().replace("_", "").replace("-", "")
    if kind == Task.CLASSIFICATION.value:
        return Task.CLASSIFICATION, _FAMILY
    if told.hints.task is not None:
        return None, ""
    other = next((task for beginning, task in _OTHER_MODEL_TYPES.items() if kind.startswith(beginning)), None)
    return other, _FAMILY


def _looks(outputs: DetectorOutputs) -> tuple[Task, str] | None:
    """Return what a model looks like that is said to be a classifier, and why, where it looks like one with boxes."""
    matches = (row.matches(outputs) for row in BOX_FORMATS)
    sure = next((match for match in matches if match is not None and match.sure), None)
    if sure is not None:
        return sure.task, sure.reason
    reason = outputs.evidence
    return None if reason is None else (evident_task(outputs), reason)


def evident_task(outputs: DetectorOutputs) -> Task:
    """Return what a model does that finds boxes in no known format: outputs like masks beside labels tell."""
    labels = [len(port.shape) for port in outputs.ports if port.is_integer]
    like = [port for port in outputs.ports if labels and len(port.shape) >= min(labels) + 2 and not port.is_integer]
    named = any("masks" in port.names for port in outputs.ports)
    return Task.INSTANCE_SEGMENTATION if named or like else Task.DETECTION


def _require_masks(model: ov.Model, task: Task, source: str, found: Found | None) -> None:
    if task is Task.INSTANCE_SEGMENTATION and found is not None and found.match.task is Task.DETECTION:
        raise TaskError(
            f"{source} says instance segmentation, but the model gives no masks: its outputs are "
            f"{describe_outputs(model.outputs)}; expected masks [1,N,h,w] beside boxes and labels. It looks like a "
            "model for --task detection."
        )


def _classifier(model: ov.Model, told: Told, looks: tuple[Task, str] | None) -> Identity:
    logits = find_class_scores(model, told.options.output, boxes=looks)
    task, source = _flavour(model, told, logits)
    return Identity(task, source, logits)


def _flavour(model: ov.Model, told: Told, logits: Logits) -> tuple[Task, str]:
    """Return the flavour of classification, and who said so. A soft-max contradicts independent classes."""
    found, source = _claimed_flavour(told)
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


def _claimed_flavour(told: Told) -> tuple[Task | None, str]:
    """Return the flavour that somebody names; ``None`` with the source of plain "classification"."""
    options, info, hints = told.options, told.info, told.hints
    declared, source = (options.task, f"--task {options.task}") if options.task is not None else _written(told)
    if isinstance(declared, Task) and declared is not Task.CLASSIFICATION:
        return declared, source
    if read_flag(info, "hierarchical"):
        return Task.H_LABEL_CLS, "model_info/hierarchical"
    if info.get("multilabel"):
        multilabel = read_flag(info, "multilabel")
        return Task.MULTI_LABEL_CLS if multilabel else Task.MULTI_CLASS_CLS, told_by(hints, "multilabel")
    if hints.task not in (None, Task.CLASSIFICATION) and declared is None:
        return hints.task, source_of(hints, "task")
    return None, source if declared is not None else ""
