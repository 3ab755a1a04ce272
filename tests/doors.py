"""The doors of the package as most tests want them: one call from a model to what is known of it, or to its plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import ModelError
from otx_xai.explain.insertion import split_layers
from otx_xai.explain.plan import How, Plan, plan
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.graph.features import Anatomy
from otx_xai.graph.logits import Logits
from otx_xai.graph.view import View
from otx_xai.model import ModelOptions, open_model
from otx_xai.model.formats import box_reading
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.choice import describe_ports, find_format, unknown_outputs
from otx_xai.model.identity import Identity, Told, evident_task, identify
from otx_xai.model.model_info import model_info
from otx_xai.model.structure import Structure
from otx_xai.neighbours.hints import NO_HINTS
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import XAI_OUTPUTS, Detections, InputGeometry, InputOptions, ModelFacts, Size, Task


def describe(
    model: ov.Model | Path, *, task: Task | None = None, labels: Any = None, options: InputOptions | None = None
) -> ModelFacts:
    """Return what is known of a model."""
    return open_model(model, ModelOptions(task, labels, options or InputOptions())).facts


def find_identity(model: ov.Model, task: Task | None = None, *, num_names: int | None = None) -> Identity:
    """Say what a model does, and by which outputs."""
    told = Told(ModelOptions(task), model_info(model), NO_HINTS, num_names)
    return identify(View(model, XAI_OUTPUTS), told, None, needs_format=False)


def find_task(model: ov.Model, task: Task | None = None) -> tuple[Task, str]:
    """Say what a model does, and who says so."""
    identity = find_identity(model, task)
    return identity.task, identity.source


def find_logits(model: ov.Model) -> Logits:
    """Find the class scores of a classifier."""
    found = find_identity(model, Task.CLASSIFICATION).class_scores
    assert found is not None
    return found


def find_boxes_format(
    model: ov.Model, *, size: Size | None = None, num_names: int | None = None, declared: bool = True
) -> Found | None:
    """Find how the outputs of a detector are read."""
    view = View(model, XAI_OUTPUTS)
    return find_format(describe_ports(model, view, size=size, num_names=num_names, declared=declared))


def prepare(
    model: str | Path | ov.Model,
    *,
    task: Task | None = None,
    labels: Any = None,
    options: InputOptions | None = None,
    confidence_threshold: float | None = None,
    batch: int = 1,
    keep_open: bool = False,
    targets: Any = None,
    threshold: float = 0.3,
    method_options: Mapping[str, Any] | None = None,
    target_layer: str | None = None,
    **how: Any,
) -> Plan:
    """Open a model and plan what explains it."""
    said = ModelOptions(
        task,
        labels,
        options or InputOptions(),
        confidence_threshold=confidence_threshold,
        target_layers=split_layers(target_layer),
    )
    opened = open_model(model, said, batch=batch, keep_open=keep_open)
    chosen = How(target_layer=target_layer, options=method_options or {}, **how)
    return plan(opened, chosen, targets=targets, threshold=threshold)


def looks_like(model: ov.Model) -> tuple[Task | None, str]:
    """Return what the outputs and operations of a model say that it does, and why; ``None``: nothing of boxes."""
    outputs = describe_ports(model, View(model, XAI_OUTPUTS), size=None, num_names=None)
    found = find_format(outputs)
    if found is not None:
        return found.match.task, found.match.reason
    reason = outputs.evidence
    return (None, "") if reason is None else (evident_task(outputs), reason)


def effective_batch(model: ov.Model) -> int | None:
    """Return how many images a model takes at once; ``None``: any number."""
    return open_model(model, ModelOptions(input=InputOptions(size=None)), keep_open=True).batch


def fixed(model: ov.Model, batch: int, options: InputOptions | None = None) -> ov.Model:
    """Return a model with a static input."""
    return open_model(model, ModelOptions(input=options or InputOptions()), batch=batch).graph


def format_of(outputs: Mapping[str, np.ndarray], *, size: Size | None = None, num_names: int | None = None) -> Found:
    """Return the format that outputs of these names, shapes and types have, whatever computes them."""
    parameters, results = [], []
    for name, values in outputs.items():
        parameter = ops.parameter(list(values.shape), values.dtype)
        value = ops.abs(parameter)
        value.output(0).get_tensor().set_names({name})
        parameters.append(parameter)
        results.append(ops.result(value))
    model = ov.Model(results, parameters)
    found = find_boxes_format(model, size=size, num_names=num_names)
    if found is None:
        view = View(model, XAI_OUTPUTS)
        raise ModelError(unknown_outputs(describe_ports(model, view, size=size, num_names=num_names)))
    return found


def read_detections(
    outputs: Mapping[str, np.ndarray],
    image_size: Size,
    geometry: InputGeometry,
    *,
    num_classes: int | None = None,
    **thresholds: Any,
) -> Detections:
    """Read the outputs of a detector of which nothing else is known."""
    found = format_of(outputs, size=geometry.size, num_names=num_classes)
    return box_reading.read_detections(outputs, found, image_size, geometry, **thresholds)


def read_proposals(outputs: Mapping[str, np.ndarray], size: Size, num_classes: int, **options: Any) -> Proposals:
    """Read all that a detector proposes of which nothing else is known."""
    found = format_of(outputs, size=size, num_names=num_classes)
    return box_reading.read_proposals(outputs, found, size, num_classes, **options)


def read_box_classes(
    model: ov.Model, *, num_classes: int | None = None, target_layers: tuple[str, ...] = ()
) -> BoxClasses:
    """Return what the graph of a detector tells of its classes."""
    return Structure(model).box_classes(num_classes, target_layers)


def dissect(model: ov.Model, logits: Logits, layout: str | None = None) -> Anatomy:
    """Return the features of a classifier behind which its head begins."""
    return Structure(model, layout, class_scores=logits).anatomy
