"""What a checkpoint holds → a model with these weights, labels, normalisation and input geometry."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from otx_xai.checkpoints.contents import Contents, read_checkpoint
from otx_xai.checkpoints.fitting import Fit, compare_with, current_names, differences, recognise, without_auxiliary
from otx_xai.checkpoints.told_by import told_by_description, told_by_neighbours, told_labels
from otx_xai.checkpoints.told_input import as_arguments, named_architecture, usual_input
from otx_xai.data.label_files import user_names
from otx_xai.errors import CheckpointError, ConfigError, OtxXaiError, TaskError
from otx_xai.models import build_model
from otx_xai.models.architectures import architectures
from otx_xai.models.base import DESCRIPTION_FORMAT, OTXModel
from otx_xai.neighbours import Hints, from_config_files, merged, source_of
from otx_xai.records import InputOptions, Task, Weights, parse_numbers

logger = logging.getLogger("otx_xai")

_CLASS_NAMES = {
    Task.CLASSIFICATION: "MulticlassClassifier",
    Task.MULTI_CLASS_CLS: "MulticlassClassifier",
    Task.MULTI_LABEL_CLS: "MultilabelClassifier",
    Task.DETECTION: "Detector",
    Task.INSTANCE_SEGMENTATION: "InstanceSegmenter",
}

_DANGEROUS_OPTIONS = ("checkpoint", "file", "pretrained", "url", "weights")
"""Options of builders with such words in their name read files or download; a checkpoint has no business in them."""

_NO_OPTIONS = InputOptions()


@dataclass(frozen=True)
class Loaded:
    """A model, and all that was read for it.

    Args:
        model: in evaluation mode, on the CPU.
        files: the checkpoint, and the configurations beside it that count.
        told_by: who told what became part of the model, see :class:`~otx_xai.neighbours.Hints`.
    """

    model: OTXModel
    files: tuple[Path, ...]
    told_by: Mapping[str, str]


def load_checkpoint(
    path: str | Path,
    *,
    model: str | None = None,
    default_model: str | None = None,
    task: Task | str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    options: InputOptions | None = None,
    weights: Weights | None = None,
) -> OTXModel:
    """Read a torch checkpoint and build its model.

    Args:
        path: a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file: one of ours, or a state dict, also in a wrapper
            such as ``{"state_dict": …}`` and with prefixes such as ``module.``.
        model: the architecture of a plain state dict, ``mobilenet_v2``, ``timm/vit_tiny_patch16_224``. Classifiers
            are recognised where it is not given. A checkpoint of ours that says otherwise is an error.
        default_model: the architecture of a plain state dict where ``model`` is not given, as a recipe tells it.
        task: what the model does; of a plain state dict by default what its architecture is for, with exclusive
            classes.
        labels: class names (a text file with one name a line, a JSON list, ``a,b,c``, or the names); those in the
            checkpoint by default, or else ``0``, ``1``, ….
        options: ``mean``, ``scale``, ``resize_type``, ``pad_value``, ``crop``, ``interpolation`` and ``size`` of the
            input, which outrank the checkpoint. They become part of the model: what is exported from it must not be
            normalised again.
        weights: those averaged over training (EMA), or those of the last step, where the trainer kept both; averaged
            ones by default.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: the file is missing, broken, refused, or fits no architecture, or not the one given.
        ConfigError: an option has a wrong value, or contradicts the checkpoint; the architecture is unknown.
        LabelError: the number of labels is not the number of classes.
        TaskError: the checkpoint is of another task.
    """
    return load_with_files(
        path,
        model=model,
        default_model=default_model,
        task=task,
        labels=labels,
        options=options,
        weights=weights,
    ).model


def load_with_files(
    path: str | Path,
    *,
    model: str | None = None,
    default_model: str | None = None,
    task: Task | str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    options: InputOptions | None = None,
    weights: Weights | None = None,
) -> Loaded:
    """Do what :func:`load_checkpoint` does, and tell what was read."""
    task = None if task is None else Task(task)
    if task is not None and task not in _CLASS_NAMES:
        raise TaskError(f"--task {task} has no torch models here; expected one of {', '.join(map(str, _CLASS_NAMES))}.")
    contents = read_checkpoint(path, weights)
    options = options or _NO_OPTIONS
    if contents.description is not None:
        built = _described(Path(path), contents, contents.description, model, task, labels, options)
        loaded = Loaded(built, (Path(path),), told_by_description(built, "the checkpoint", labels, options))
    else:
        loaded = _plain(Path(path), contents, model or default_model, task, labels, options)
    loaded.model.eval()
    return loaded


# --------------------------------------------------------------------------------------------------------------------
# Our own checkpoints
# --------------------------------------------------------------------------------------------------------------------


def _described(
    path: Path,
    contents: Contents,
    description: dict[str, Any],
    model: str | None,
    task: Task | None,
    labels: Any,
    options: InputOptions,
) -> OTXModel:
    """Build the model that a checkpoint of ours describes."""
    init = _checked_init(path, description)
    if model is not None and model != init["architecture"]:
        raise ConfigError(
            f"--model is {model}, but the checkpoint {path} says that it is {init['architecture']}. Leave --model away."
        )
    init |= _input_arguments(options)
    if labels is not None:
        init["labels"] = list(user_names(labels, len(init["labels"]))[0])
    try:
        built = build_model(description | {"init": init})
    except OtxXaiError as error:
        raise CheckpointError(f"The description in the checkpoint {path} cannot be used: {error}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(_bad_description_text(path, error)) from error
    if (
        task is not None
        and task is not built.task
        and not (task is Task.CLASSIFICATION and built.task.is_classification)
    ):
        raise TaskError(f"--task is {task}, but the checkpoint {path} is of {built.task}. Leave --task away.")
    _fill(built, contents.state, str(path), init["architecture"])
    return built


def _checked_init(path: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments out of a description that anybody may have written."""
    if description.get("format") != DESCRIPTION_FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has a description of format {description.get('format')!r}; this version reads "
            f"{DESCRIPTION_FORMAT}. Update otx_xai, or save the model again."
        )
    init = description.get("init")
    if not isinstance(init, dict) or not isinstance(init.get("architecture"), str):
        raise CheckpointError(_bad_description_text(path, "it names no architecture"))
    if not isinstance(init.get("labels"), list):
        raise CheckpointError(_bad_description_text(path, "it has no list of labels"))
    network_options = init.get("network_options") or {}
    if not isinstance(network_options, Mapping):
        raise CheckpointError(_bad_description_text(path, f"network_options is {network_options!r}"))
    dangerous = [name for name in network_options if any(word in str(name).lower() for word in _DANGEROUS_OPTIONS)]
    if dangerous:
        raise CheckpointError(_bad_description_text(path, f"network_options has {dangerous[0]!r}, which reads files"))
    return {**init, "pretrained": False}


def _bad_description_text(path: Path, reason: object) -> str:
    return (
        f"The description in the checkpoint {path} cannot be used: {reason}. Expected what otx_xai writes; save the "
        "model again, or its state dict alone and pass --model."
    )


# --------------------------------------------------------------------------------------------------------------------
# State dicts of others
# --------------------------------------------------------------------------------------------------------------------


def _plain(
    path: Path, contents: Contents, model: str | None, task: Task | None, labels: Any, options: InputOptions
) -> Loaded:
    """Build the model of a plain state dict."""
    state = current_names(contents.state)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    fit, beside = _recognised(path, model, task, shapes, from_config_files(path.absolute().parent))
    task = task or fit.task
    names, source = _names(labels, beside, fit.num_classes or 0)
    logger.info("Labels: %s.", source)
    hints = merged(beside, usual_input(fit.architecture, task)) if beside.resize_type is None else beside
    arguments: dict[str, Any] = {"architecture": fit.architecture, "labels": list(names)}
    arguments |= as_arguments(hints)
    if fit.size is not None:
        arguments["input_size"] = fit.size
    arguments |= _input_arguments(options)
    if options.resize_type is not None and options.crop is None:
        arguments.pop("crop", None)  # it belongs to the resize that was overruled
    built = build_model({"format": DESCRIPTION_FORMAT, "class": _CLASS_NAMES[task], "init": arguments})
    _fill(built, state, str(path), fit.architecture)
    told = told_by_neighbours(built, hints, options, told_size=fit.size is not None)
    return Loaded(built, (path, *map(Path, beside.files)), told | told_labels(source))


def _names(labels: Any, beside: Hints, count: int) -> tuple[tuple[str, ...], str]:
    """Return class names and where they come from: the user, or what lies beside where it has one a class."""
    if labels is not None or beside.labels is None:
        return user_names(labels, count)
    source = source_of(beside, "labels")
    if len(beside.labels) == count:
        return beside.labels, source
    logger.warning("%s names %d classes, and the checkpoint has %d: no name counts.", source, len(beside.labels), count)
    return user_names(None, count)


def _recognised(
    path: Path, model: str | None, task: Task | None, shapes: Mapping[str, tuple[int, ...]], beside: Hints
) -> tuple[Fit, Hints]:
    """Find the architecture: the user's, then the one that a configuration beside the file names, then by shapes.

    Returns:
        The fit, and what lies beside; nothing, where that is of another architecture.
    """
    if model is not None:
        return _fit_of(path, model, task or _task_of(model), shapes), beside
    named = named_architecture(beside)
    if named is not None:
        fit = compare_with(task or Task.CLASSIFICATION, named, shapes)
        if fit.fits:
            logger.info("The checkpoint %s is a %s (%s) with %s classes.", path, named, beside.source, fit.num_classes)
            return fit, beside
        logger.warning("%s beside %s is of another model: it names %s, and %s.", beside.source, path, named, fit)
        beside = Hints()
    try:
        fit = recognise(shapes, task, hint=path.name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_of_transformers(path, beside)}") from error
    logger.info("The checkpoint %s is a %s with %s classes.", path, fit.architecture, fit.num_classes)
    return fit, beside


def _of_transformers(path: Path, beside: Hints) -> str:
    """Say how weights of transformers are explained, which are of no use without its code; empty of any others."""
    if beside.said.get("exporter") != "hugging face":
        return ""
    names, folder = beside.said.get("architectures") or "a model", path.parent
    return (
        f" {beside.source} beside it says that it is {names} of transformers: optimum-cli export openvino --model "
        f"{folder} exported writes a folder to pass, and Python takes the network itself, Explainer(network)."
    )


def _task_of(architecture: str) -> Task:
    """Return what an architecture is for; names that are unknown are taken for classifiers."""
    others = (Task.DETECTION, Task.INSTANCE_SEGMENTATION)
    return next((task for task in others if architecture in architectures(task)), Task.CLASSIFICATION)


def _fit_of(path: Path, model: str, task: Task, found: Mapping[str, tuple[int, ...]]) -> Fit:
    """Compare a state dict with the architecture that the user names.

    Raises:
        CheckpointError: it does not fit.
    """
    fit = compare_with(task, model, found)
    if not fit.fits:
        raise CheckpointError(
            f"The checkpoint {path} is no {model}. Compared with it, names and shapes are {fit}. Expected equal names "
            "and shapes; pass another --model, or none to have it recognised."
        )
    return fit


def _fill(built: OTXModel, state: Mapping[str, torch.Tensor], path: str, architecture: str) -> None:
    """Put tensors into a model, and refuse what does not fit exactly."""
    target: nn.Module = built if any(name.startswith("network.") for name in state) else built.network
    wanted = without_auxiliary(architecture, target.state_dict())
    state = without_auxiliary(architecture, state)
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    fit = differences(built.task, architecture, shapes, {name: tuple(tensor.shape) for name, tensor in state.items()})
    if fit.faults or fit.resized:
        raise CheckpointError(
            f"The weights in {path} do not fit the model that is built for them. Names and shapes are {fit}. Expected "
            "equal ones; leave --input.size away if it was given, or save the checkpoint again."
        )
    filled = OrderedDict(state)
    # Names and shapes are those of now, whatever version of torchvision the file is from: modules need not convert them
    filled._metadata = target.state_dict()._metadata  # type: ignore[attr-defined]
    target.load_state_dict(filled, strict=False)


# --------------------------------------------------------------------------------------------------------------------
# Arguments
# --------------------------------------------------------------------------------------------------------------------


def _input_arguments(options: InputOptions) -> dict[str, Any]:
    """Return the constructor's arguments for what the user says of the input."""
    arguments: dict[str, Any] = {}
    if options.mean is not None:
        arguments["mean"] = _channels("mean", options.mean)
    if options.scale is not None:
        arguments["scale"] = _channels("scale", options.scale)
    if options.resize_type is not None:
        arguments["resize_type"] = str(options.resize_type)
    if options.pad_value is not None:
        arguments["pad_value"] = options.pad_value
    if options.size is not None:
        arguments["input_size"] = _sides(options.size)
    if options.crop is not None:
        arguments["crop"] = options.crop
    if options.interpolation is not None:
        arguments["interpolation"] = str(options.interpolation)
    return arguments


def _channels(name: str, value: Any) -> list[float]:
    numbers = parse_numbers(value)
    if not numbers or len(numbers) not in (1, 3) or (name == "scale" and 0 in numbers):
        nonzero = ", none of them 0" if name == "scale" else ""
        raise ConfigError(f"--input.{name} is {value!r}; expected one number or one per channel (3){nonzero}.")
    return list(numbers if len(numbers) == 3 else numbers * 3)


def _sides(value: Any) -> list[int]:
    numbers = parse_numbers(value)
    if not numbers or len(numbers) > 2 or any(number < 1 or number != int(number) for number in numbers):
        raise ConfigError(
            f"--input.size is {value!r}; expected height,width in pixels, or one number for both, for example 224,224."
        )
    return [int(numbers[0]), int(numbers[-1])]
