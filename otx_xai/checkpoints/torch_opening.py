"""Whatever torch has, a checkpoint or a module in hand → an ``ov.Model``, and what else is known of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openvino as ov
from torch import nn

from otx_xai.checkpoints.contents import read_checkpoint
from otx_xai.checkpoints.load import load_with_files
from otx_xai.checkpoints.module_hints import module_input
from otx_xai.checkpoints.told_by import told_by_description
from otx_xai.checkpoints.user_class import build_module, fill, import_class, names_a_class
from otx_xai.conversion import module_to_openvino, to_openvino
from otx_xai.errors import ConfigError
from otx_xai.graph.rt_info import write
from otx_xai.models import OTXModel, build_model
from otx_xai.neighbours import Hints, source_of
from otx_xai.records import InputOptions, Size, Task, Weights, parse_numbers

logger = logging.getLogger("otx_xai")

_OWN_MODELS = "otx_xai.models"
_NO_INPUT = InputOptions()


@dataclass(frozen=True)
class TorchOptions:
    """What is said of a torch model.

    Args:
        model: its architecture, ``mobilenet_v2``; its class as ``package.module:Class``, or the class itself, or a
            mapping of ``class_path`` and ``init_args``; or the module whose weights a checkpoint holds.
        default_model: the architecture of a plain state dict where ``model`` names none, as a recipe tells it.
        task: what it does.
        labels: class names that the user gives.
        input: what the user says of its input.
        weights: averaged over training (EMA) or of the last step, where a checkpoint keeps both.
        normalised: images come as the network wants them, rather than as pictures.
        size: ``(height, width)`` that images have where they come normalised, or that an example of them has.
    """

    model: Any = None
    default_model: str | None = None
    task: Task | None = None
    labels: str | Path | Sequence[str] | None = None
    input: InputOptions | None = None
    weights: Weights | None = None
    normalised: bool = False
    size: Size | None = None


@dataclass(frozen=True)
class TorchOpened:
    """A torch model as OpenVINO has it.

    Args:
        model: a classifier takes any number of images; models of this package have ``model_info``.
        hints: what else is known: normalisation and size of timm's, transformers' and torchvision's networks.
        labels: what the user says of class names, where that is not part of the model by now.
        options: what the user says of the input, where that is not part of the model by now.
        source: where it is from, in words.
        files: that were read.
    """

    model: ov.Model
    hints: Hints = field(default_factory=Hints)
    labels: str | Path | Sequence[str] | None = None
    options: InputOptions = _NO_INPUT
    source: str = ""
    files: tuple[Path, ...] = ()


_NO_OPTIONS = TorchOptions()


def open_torch(source: str | Path | nn.Module, options: TorchOptions = _NO_OPTIONS) -> TorchOpened:
    """Open a torch checkpoint, or a module in hand.

    Args:
        source: a ``.ckpt``, ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file, or a module, which is not changed.
        options: what is said of it.

    Raises:
        CheckpointError: the checkpoint is missing, broken, refused, or does not fit.
        ModelError: the module cannot be converted.
        ConfigError: an option has a wrong value or contradicts the checkpoint; a class cannot be imported or made; no
            size of the input is known.
        LabelError: the number of labels is not the number of classes.
        TaskError: the checkpoint is of another task.
    """
    if isinstance(source, nn.Module):
        return _opened(source, options, f"{type(source).__name__} in hand")
    path = Path(source).expanduser()
    module = _module_of_user(options.model)
    if module is None:
        return _known(path, options)
    contents = read_checkpoint(path, options.weights)
    built = module(contents.arguments)
    fill(built, contents, path)
    built.eval()
    return replace(_opened(built, options, f"{path} ({type(built).__name__}, {contents.weights})"), files=(path,))


def without_normalisation(model: OTXModel) -> OTXModel:
    """Return a copy that takes images as they are after normalisation."""
    description = model.description()
    copy = build_model(description | {"init": description["init"] | {"mean": (0.0,) * 3, "scale": (1.0,) * 3}})
    copy.network.load_state_dict(model.network.state_dict())
    copy.eval()
    return copy


# --------------------------------------------------------------------------------------------------------------------
# Which module
# --------------------------------------------------------------------------------------------------------------------


def _module_of_user(model: Any) -> Callable[[Mapping[str, Any]], nn.Module] | None:
    """Return what makes the user's own module of the arguments in a checkpoint; ``None``: it is none of the user's."""
    if isinstance(model, nn.Module):
        return None if isinstance(model, OTXModel) else lambda kept: deepcopy(model)
    made_by, arguments = _of_mapping(model) if isinstance(model, Mapping) else (model, {})
    if names_a_class(made_by):
        made_by = import_class(made_by)
    if not callable(made_by):
        return None
    return lambda kept: build_module(made_by, arguments, kept)


def _of_mapping(model: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Read ``class_path`` and ``init_args``, as recipes have them; those of this package name an architecture."""
    name, arguments = model.get("class_path"), model.get("init_args") or {}
    if isinstance(name, str) and not name.startswith(_OWN_MODELS):
        return name if ":" in name else ":".join(name.rsplit(".", 1)), arguments
    return None, arguments


def _known(path: Path, options: TorchOptions) -> TorchOpened:
    """Open a checkpoint of ours, or one of a known architecture."""
    given = options.input or _NO_INPUT
    if options.normalised and given.size is None and options.size is not None:
        given = replace(given, size=options.size)
    loaded = load_with_files(
        path,
        model=options.model if isinstance(options.model, str) else None,
        default_model=options.default_model or _architecture(options.model),
        task=options.task,
        labels=options.labels,
        options=given,
        weights=options.weights,
    )
    rest = replace(given, mean=None, scale=None, size=None, layout=None)
    model = loaded.model
    told = dict(loaded.told_by)
    opened = _opened_own(model, f"{path} ({model.architecture})", told, normalised=options.normalised)
    return replace(opened, options=rest, files=loaded.files)


def _architecture(model: Any) -> str | None:
    return (model.get("init_args") or {}).get("architecture") if isinstance(model, Mapping) else None


# --------------------------------------------------------------------------------------------------------------------
# Conversion
# --------------------------------------------------------------------------------------------------------------------


def _opened(module: nn.Module, options: TorchOptions, source: str) -> TorchOpened:
    given = options.input or _NO_INPUT
    if isinstance(module, OTXModel):
        opened = _opened_own(module, source, told_by_description(module, source), normalised=options.normalised)
        return replace(opened, labels=options.labels, options=given)
    known = module_input(module)
    size, told = _size(module, options, known.hints)
    converted = module_to_openvino(module, size, known.channels)
    logger.info("Converted %s for images of %d×%d by %s.", source, *size, converted.way)
    hints = replace(known.hints, size=size, told_by={"size": told})
    rest = replace(given, size=None)
    return TorchOpened(converted.graph, hints, options.labels, rest, source)


def _opened_own(model: OTXModel, source: str, told: dict[str, str], *, normalised: bool) -> TorchOpened:
    """Convert a model of this package, which says all of itself.

    Args:
        model: it.
        source: where it is from, in words.
        told: who told what of it.
        normalised: leave its normalisation out of the graph.
    """
    if not normalised:
        return TorchOpened(to_openvino(model), Hints(told_by=told), source=source)
    del told["normalisation"]
    graph = to_openvino(without_normalisation(model))
    for key, values in (("mean_values", model.mean), ("scale_values", model.scale)):
        write(graph, " ".join(map(str, values)), ["model_info", key])
    return TorchOpened(graph, Hints(told_by=told), source=source)


def _size(module: nn.Module, options: TorchOptions, hints: Hints) -> tuple[Size, str]:
    """Return the size of the input, and who told it: the user, then the data, then the module.

    Raises:
        ConfigError: nothing tells.
    """
    given = None if options.input is None or options.input.size is None else parse_numbers(options.input.size)
    if given is not None and len(given) in (1, 2) and all(side >= 1 and side == int(side) for side in given):
        return (int(given[0]), int(given[-1])), "--input.size"
    if options.input is not None and options.input.size is not None:
        raise ConfigError(f"--input.size is {options.input.size!r}; expected height,width in pixels, or one number.")
    if options.size is not None:
        return options.size, "the images that are given"
    if hints.size is None:
        raise ConfigError(
            f"Nothing tells what size of images {type(module).__name__} takes: it has no example_input_array, and is "
            "no network of timm, transformers or torchvision. Pass InputOptions(size=(height, width)), --input.size."
        )
    return hints.size, source_of(hints, "size")
