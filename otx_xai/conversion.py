"""A torch model → ``ov.Model`` that says all about itself.

Normalisation is part of the graph: what was trained is what is converted.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import frontend
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, ModelError
from otx_xai.graph.compiler_faults import split_instead
from otx_xai.graph.rt_info import label_entries, write
from otx_xai.records import Interpolation, Size, Task

if TYPE_CHECKING:
    from torch import nn

    from otx_xai.models.base import OTXModel
    from otx_xai.models.plain_outputs import PlainOutputs

IMAGE = "image"
_OUTPUTS: dict[Task, tuple[str, ...]] = {
    Task.DETECTION: ("boxes", "labels"),
    Task.INSTANCE_SEGMENTATION: ("boxes", "labels", "masks"),
}
_CHATTY = ("onnx_ir", "onnxscript", "torch.onnx", "torch.fx.experimental.symbolic_shapes")
_FAULTS = (
    *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NameError),
    *(frontend.GeneralFailure, frontend.NotImplementedFailure),
    *(frontend.OpConversionFailure, frontend.OpValidationFailure),
)
"""What a module that a converter cannot follow, and the converter, raise."""

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
        write(converted, value, ["model_info", key])
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
        return _convert(traced, example_input=example, input=[ov.PartialShape(list(example.shape))])
    return _convert(torch.export.export(module, (example,), dynamic_shapes=dynamic_shapes(batch)))


def _convert(program: Any, **options: Any) -> ov.Model:
    """Convert what was exported or traced, with what OpenVINO would get wrong written in another way."""
    from openvino.frontend.pytorch import ConversionExtension

    extensions = [ConversionExtension(name, _gather) for name in ("aten.gather.default", "aten::gather")]
    return ov.convert_model(program, extension=extensions, **options)


def _gather(node: Any) -> list[ov.Output]:
    """Write ``torch.gather``."""
    data, axis, indices = (node.get_input(number) for number in range(3))
    number = int(axis.get_node().data)
    indices = ops.convert(indices, np.int32)
    return list(ops.gather_elements(split_instead(data, number), indices, number).outputs())


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
    with at_rest(model, model.export_module) as module:
        yield module


@contextmanager
def at_rest(module: nn.Module, traced: Callable[[], nn.Module] | None = None) -> Iterator[nn.Module]:
    """Yield a module in evaluation mode, in ``float32`` on the CPU, without gradients; it is as before afterwards.

    Args:
        module: it is not moved; where it is elsewhere or of another type, a copy is yielded.
        traced: makes what is yielded in its place, sharing its weights.
    """
    import torch

    modes = {part: part.training for part in module.modules()}
    yielded = (traced() if traced else module).eval()
    tensors = [*yielded.parameters(), *yielded.buffers()]
    if any(one.device.type != "cpu" or one.dtype in (torch.float16, torch.bfloat16, torch.float64) for one in tensors):
        yielded = _copied(yielded).cpu().float()
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
        ):  # validation may run in inference mode, which no export takes
            yield yielded
    finally:
        for part, training in modes.items():
            part.training = training


def _copied(module: nn.Module) -> nn.Module:
    """Copy a module without the trainer that a LightningModule is attached to."""
    trainers = (getattr(part, "_trainer", None) for part in module.modules())
    return deepcopy(module, {id(trainer): None for trainer in trainers if trainer is not None})


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what converters say about themselves and their future out of the user's sight.

    OpenVINO's converter leaves the root logger at ERROR where it fails: everybody's warnings would be lost.
    """
    loggers = [logging.getLogger(name) for name in (*_CHATTY, None)]
    levels = [logger.level for logger in loggers]
    for chatty in loggers[:-1]:
        chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def output_names(task: Task) -> tuple[str, ...]:
    """Return the names of the outputs of a converted model, in their order."""
    return _OUTPUTS.get(task, ("logits",))


# --------------------------------------------------------------------------------------------------------------------
# Anybody's module
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Converted:
    """A module that was converted.

    Args:
        graph: inputs and outputs are named.
        way: ``torch.export`` or ``trace``.
    """

    graph: ov.Model
    way: str


def module_to_openvino(module: nn.Module, example_size: Size, channels: int = 3) -> Converted:
    """Convert anybody's module that takes images, through ``torch.export``, or else a trace.

    Args:
        module: takes ``float32`` ``(N, C, H, W)``, and gives a tensor, a tuple or dict of tensors, an output of
            transformers, or, as torchvision's detectors do, a list of dicts. It is not changed.
        example_size: ``(height, width)`` of the input in pixels.
        channels: number of channels of the input.

    Returns:
        A model with the input ``image``, and a dynamic batch where the module takes any number of images. Outputs have
        the names of the module's, ``logits`` where it gives one tensor of rank 2; a list of dicts becomes ``boxes``
        ``(1, M, 5)`` (xyxy in pixels of the input, score), ``labels`` ``(1, M)``, and ``masks``.

    Raises:
        ModelError: the module does not take such images, gives something else, or cannot be converted.
    """
    import torch

    from otx_xai.models.plain_outputs import plain_module, with_plain_outputs

    with at_rest(plain_module(module)) as resting, quietly():
        example = torch.zeros(2, channels, *example_size)
        traced = with_plain_outputs(resting, example)
        converted = _exported(traced.module, example) if traced.takes_batches else None
        reason = converted if isinstance(converted, str) else "it gives a list of boxes"
        if not isinstance(converted, ov.Model):
            converted = _traced(module, traced, example, reason)
            way = f"trace, since torch.export fails: {reason}" if traced.takes_batches else "trace"
        else:
            way = "torch.export"
    converted.inputs[0].get_tensor().set_names({IMAGE})
    for output, name in zip(converted.outputs, traced.names, strict=True):
        output.get_tensor().set_names({name})
    return Converted(converted, way)


def _exported(module: nn.Module, example: Any) -> ov.Model | str:
    """Convert through ``torch.export``; where that cannot be done, return why."""
    import torch

    try:
        with redirect_stderr(StringIO()):  # torch prints the graph that it could not finish
            program = torch.export.export(module, (example,), dynamic_shapes=dynamic_shapes(None))
        converted = _convert(program)
        converted.reshape([-1, *example.shape[1:]])
    except _FAULTS as error:
        return _reason(error)
    return converted


def _traced(named: nn.Module, traced: PlainOutputs, example: Any, reason: str) -> ov.Model:
    """Convert through a trace, which fixes what depends on the image, and keeps the batch open where it can."""
    try:
        if traced.takes_batches:
            converted = _recorded(traced.module, example)
            if _follows_batch(converted):
                return converted
        return _recorded(traced.module, example[:1])
    except _FAULTS as error:
        raise ModelError(
            f"{type(named).__name__} cannot be converted to OpenVINO. torch.export: {reason}. torch.jit.trace: "
            f"{_reason(error)}. Expected a module whose forward both can follow; export it to ONNX, and pass that."
        ) from error


def _recorded(module: nn.Module, example: Any) -> ov.Model:
    import torch

    recorded = torch.jit.trace(module, example, strict=False, check_trace=False)
    return _convert(recorded, example_input=example, input=[ov.PartialShape(list(example.shape))])


def _follows_batch(model: ov.Model) -> bool:
    """Open the batch of a traced model, if all outputs follow another than the one that was traced."""
    traced, *rest = model.inputs[0].get_partial_shape()
    other = traced.get_length() + 1
    try:
        for batch in (other, -1):
            model.reshape([batch, *rest])
            firsts = [output.get_partial_shape()[0] for output in model.outputs]
            if batch > 0 and firsts != [ov.Dimension(other)] * len(firsts):
                return False
    except RuntimeError:  # the trace has fixed the number of images inside
        return False
    return all(first.is_dynamic for first in firsts)


def _reason(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("No conversion rule") or "Conversion is failed" in line]
    return next(iter([*telling, *lines]), type(error).__name__).rstrip(".:")


# --------------------------------------------------------------------------------------------------------------------
# What a model says about itself
# --------------------------------------------------------------------------------------------------------------------


def model_info_of(model: OTXModel) -> dict[str, str]:
    """Return what OTX writes into ``rt_info`` ``model_info``, as strings.

    Mean is 0 and scale is 1, since normalisation is in the graph.
    """
    interpolation = model.geometry.interpolation
    return {
        "model_type": _MODEL_TYPES.get(model.task, "Classification"),
        "task_type": "classification" if model.task.is_classification else str(model.task),
        **label_entries(list(model.labels), independent=model.task is Task.MULTI_LABEL_CLS),
        **_info_of_task(model.task),
        "mean_values": "0.0 0.0 0.0",
        "scale_values": "1.0 1.0 1.0",
        "resize_type": str(model.geometry.resize_type),
        "pad_value": str(model.geometry.pad_value),
        **({"interpolation": str(interpolation)} if interpolation is not Interpolation.LINEAR else {}),
        **({"crop": f"{model.geometry.crop:.9g}"} if model.geometry.crop < 1 else {}),
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
