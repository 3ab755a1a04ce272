"""A torch model → ``ov.Model`` that says all about itself.

Normalisation is part of the graph: what was trained is what is converted.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import openvino as ov

from otx_xai.errors import ConfigError
from otx_xai.records import Task

if TYPE_CHECKING:
    from torch import nn

    from otx_xai.models.base import OTXModel

IMAGE = "image"
_OUTPUTS: dict[Task, tuple[str, ...]] = {
    Task.DETECTION: ("boxes", "labels"),
    Task.INSTANCE_SEGMENTATION: ("boxes", "labels", "masks"),
}
_MODEL_TYPES = {Task.DETECTION: "ssd", Task.INSTANCE_SEGMENTATION: "MaskRCNN"}


# --------------------------------------------------------------------------------------------------------------------
# To OpenVINO
# --------------------------------------------------------------------------------------------------------------------


def to_openvino(model: OTXModel, *, batch: int | None = None) -> ov.Model:
    """Convert a model.

    Args:
        model: it is not changed.
        batch: static number of images; ``None``: any number for a classifier, one for a detector.

    Returns:
        A model with the input ``image``, ``float32`` ``(N, 3, H, W)``, RGB on the 0-255 scale, and the outputs
        ``logits`` ``(N, K)``, or ``boxes`` ``(1, M, 5)`` (xyxy in pixels of the input, score) and ``labels``
        ``(1, M)``, for instance segmentation also ``masks`` ``(1, M, h, w)`` inside each box. ``rt_info`` has
        ``model_info``.

    Raises:
        ConfigError: the batch is no number that the model can take.
    """
    batch = checked_batch(model, batch)
    with ready(model) as module, quietly():
        converted = _converted(module, model, batch)
    converted.inputs[0].get_tensor().set_names({IMAGE})
    for output, name in zip(converted.outputs, output_names(model.task), strict=True):
        output.get_tensor().set_names({name})
    converted.reshape([-1 if batch is None else batch, 3, *model.geometry.size])
    for key, value in model_info_of(model).items():
        converted.set_rt_info(value, ["model_info", key])
    return converted


def _converted(module: nn.Module, model: OTXModel, batch: int | None) -> ov.Model:
    """Convert through ``torch.export``, which fails loudly where a trace would fix what it saw in one image.

    Detectors are traced: how many boxes they find depends on the image, which ``torch.export`` does not take.
    """
    import torch

    example = torch.zeros(batch or 2, 3, *model.geometry.size)
    if not model.task.is_classification:
        # Without the check, which traces twice more: what is exported is compared with torch anyway
        traced = torch.jit.trace(module, example, strict=False, check_trace=False)
        return ov.convert_model(traced, example_input=example, input=[ov.PartialShape(list(example.shape))])
    return ov.convert_model(torch.export.export(module, (example,), dynamic_shapes=dynamic_shapes(batch)))


def dynamic_shapes(batch: int | None) -> Any:
    """Return what ``torch.export`` wants to know of the axes of an image input."""
    import torch

    return None if batch is not None else ({0: torch.export.Dim("batch")},)


def checked_batch(model: OTXModel, batch: int | None) -> int | None:
    """Return the static batch, ``None`` for a dynamic one."""
    if batch is not None and (not isinstance(batch, int) or batch < 1):
        raise ConfigError(f"batch is {batch!r}; expected a number of images from 1, or none to leave it open.")
    if model.task.is_classification:
        return batch
    if batch not in (None, 1):
        raise ConfigError(f"batch is {batch}; a model for {model.task} is exported for one image. Leave batch away.")
    return 1


@contextmanager
def ready(model: OTXModel) -> Iterator[nn.Module]:
    """Yield what is traced, on the CPU and in evaluation mode, and give the model its mode back."""
    import torch

    modes = {module: module.training for module in model.modules()}
    module = model.export_module().eval()
    if any(parameter.device.type != "cpu" for parameter in module.parameters()):
        module = deepcopy(module).cpu()
    try:
        with torch.no_grad():
            yield module
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what converters say about themselves and their future out of the user's sight."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx")]
    levels = [chatty.level for chatty in loggers]
    for chatty in loggers:
        chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for chatty, level in zip(loggers, levels, strict=True):
            chatty.setLevel(level)


def output_names(task: Task) -> tuple[str, ...]:
    """Return the names of the outputs of a converted model, in their order."""
    return _OUTPUTS.get(task, ("logits",))


# --------------------------------------------------------------------------------------------------------------------
# What a model says about itself
# --------------------------------------------------------------------------------------------------------------------


def model_info_of(model: OTXModel) -> dict[str, str]:
    """Return what OTX writes into ``rt_info`` ``model_info``, as strings.

    Mean is 0 and scale is 1, since normalisation is in the graph. Spaces in labels are ``_`` under ``labels``;
    ``label_info`` keeps them.
    """
    names = list(model.labels)
    words = [name.replace(" ", "_") for name in names]
    groups = [[name] for name in names] if model.task is Task.MULTI_LABEL_CLS else [names]
    return {
        "model_type": _MODEL_TYPES.get(model.task, "Classification"),
        "task_type": "classification" if model.task.is_classification else str(model.task),
        "labels": " ".join(words),
        "label_ids": " ".join(words),
        "label_info": json.dumps({"label_names": names, "label_ids": names, "label_groups": groups}),
        **_info_of_task(model.task),
        "mean_values": "0.0 0.0 0.0",
        "scale_values": "1.0 1.0 1.0",
        "resize_type": str(model.geometry.resize_type),
        "pad_value": str(model.geometry.pad_value),
        "reverse_input_channels": "False",
    }


def _info_of_task(task: Task) -> dict[str, str]:
    if not task.is_classification:
        return {"confidence_threshold": "0.5", "iou_threshold": "0.5"}
    flavour = {
        "multilabel": str(task is Task.MULTI_LABEL_CLS),
        "hierarchical": "False",
        "output_raw_scores": "True",
    }
    return flavour | ({"confidence_threshold": "0.5"} if task is Task.MULTI_LABEL_CLS else {})
