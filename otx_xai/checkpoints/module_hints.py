"""What a module in hand says of its input: those of timm, transformers and torchvision, and LightningModules."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from otx_xai.checkpoints.fitting import recognise
from otx_xai.errors import CheckpointError
from otx_xai.models.plain_outputs import is_detector_of_torchvision
from otx_xai.neighbours import Hints, assumed_hints, merged
from otx_xai.neighbours.timm_config import timm_hints
from otx_xai.records import ResizeType, Size, Task

logger = logging.getLogger("otx_xai")

_NOTHING = Hints()
_RGB = 3
_TASKS = {
    "multi_label_classification": Task.MULTI_LABEL_CLS,
    "ForImageClassification": Task.CLASSIFICATION,
    "ForObjectDetection": Task.DETECTION,
}
"""What transformers call their problems, and how their classes end."""
_TOLD = (
    *("task", "labels", "mean", "scale", "reverse_input_channels"),
    *("size", "resize_type", "pad_value", "crop", "interpolation"),
)


@dataclass(frozen=True)
class ModuleInput:
    """What a module is fed.

    Args:
        hints: what it, or the library that it is of, says; ``size`` where anything tells it.
        channels: of its input.
    """

    hints: Hints
    channels: int = _RGB


def module_input(module: nn.Module) -> ModuleInput:
    """Find out what a module in hand is fed.

    Args:
        module: anybody's. Where it says nothing itself, its one part that does counts, as an assumption: that it feeds
            its images to this part as they are.
    """
    hints = _own_hints(module)
    if hints is None:
        told = [(name, said) for name, part in module.named_children() if (said := _own_hints(part)) is not None]
        hints = _as_assumed(*told[0], module) if len(told) == 1 else _NOTHING
    example = _example_shape(module)
    if example is not None:
        of_example = Hints(size=example[1:], source=f"example_input_array of {type(module).__name__}")
        hints = merged(of_example, hints)
    return ModuleInput(hints, example[0] if example is not None else _channels(module))


def _as_assumed(name: str, hints: Hints, module: nn.Module) -> Hints:
    told = tuple(field for field in _TOLD if getattr(hints, field) is not None)
    return replace(hints, source=f"{hints.source}, the part {name!r} of {type(module).__name__}", assumed=told)


def _own_hints(module: nn.Module) -> Hints | None:
    """Return what a module of a known library says; ``None`` of any other."""
    for reader in (_of_timm, _of_transformers, _of_torchvision):
        hints = reader(module)
        if hints is not None:
            return hints
    return None


# --------------------------------------------------------------------------------------------------------------------
# Libraries
# --------------------------------------------------------------------------------------------------------------------


def _of_timm(module: nn.Module) -> Hints | None:
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    if not isinstance(config, Mapping) or "input_size" not in config:
        return None
    source = f"timm's pretrained_cfg of {config.get('architecture') or type(module).__name__}"
    hints = replace(timm_hints(config, Path(source)), files=(), source=source)
    built_for = getattr(getattr(module, "patch_embed", None), "img_size", None)
    return hints if built_for is None else replace(hints, size=_sides(built_for) or hints.size)


def _of_transformers(module: nn.Module) -> Hints | None:
    config = getattr(module, "config", None)
    if config is None or not hasattr(config, "model_type") or not hasattr(config, "to_dict"):
        return None
    name = type(module).__name__
    problem = str(getattr(config, "problem_type", None))
    tasks = (task for ending, task in _TASKS.items() if name.endswith(ending) or problem == ending)
    return Hints(
        task=next(tasks, None),
        labels=_names(getattr(config, "id2label", None)),
        size=_sides(getattr(config, "image_size", None)),
        said={"exporter": "hugging face", "model_type": str(config.model_type), "architectures": name},
        source=f"config of {name}",
    )


def _names(id2label: Any) -> tuple[str, ...] | None:
    """Return the class names of transformers, unless they only count."""
    if not isinstance(id2label, Mapping) or not id2label:
        return None
    named = {int(index): str(name) for index, name in id2label.items()}
    if sorted(named) != list(range(len(named))) or all(name == f"LABEL_{index}" for index, name in named.items()):
        return None
    return tuple(named[index] for index in range(len(named)))


def _of_torchvision(module: nn.Module) -> Hints | None:
    if is_detector_of_torchvision(module):
        return _of_detector(module)
    if not type(module).__module__.startswith("torchvision.models."):
        return None
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    try:
        fit = recognise(shapes, Task.CLASSIFICATION)
    except CheckpointError:  # built with options of its own: nobody knows what it was trained for
        return None
    hints = assumed_hints(fit.architecture)
    built_for = _sides(getattr(module, "image_size", None))
    return hints if hints is None or built_for is None else replace(hints, size=built_for)


def _of_detector(module: nn.Module) -> Hints:
    """Their detectors take pixels from 0 to 1, and resize and normalise by themselves."""
    fixed, shortest = (getattr(module.transform, name, None) for name in ("fixed_size", "min_size"))
    side = shortest[-1] if isinstance(shortest, Sequence) else shortest
    size = (int(fixed[1]), int(fixed[0])) if fixed else _sides(side)
    has_masks = hasattr(module, "roi_heads") and module.roi_heads.has_mask()
    return Hints(
        task=Task.INSTANCE_SEGMENTATION if has_masks else Task.DETECTION,
        mean=(0.0,),
        scale=(255.0,),
        reverse_input_channels=False,
        size=size,
        resize_type=ResizeType.STANDARD if fixed else ResizeType.FIT_TO_WINDOW,
        pad_value=0,
        source=f"torchvision's {type(module).__name__}",
        assumed=() if fixed else ("size", "resize_type", "pad_value"),
    )


# --------------------------------------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------------------------------------


def _example_shape(module: nn.Module) -> tuple[int, int, int] | None:
    """Return channels, height and width of a LightningModule's ``example_input_array``."""
    example = getattr(module, "example_input_array", None)
    found = next(_tensors(example), None)
    return None if found is None else (int(found.shape[-3]), int(found.shape[-2]), int(found.shape[-1]))


def _tensors(example: Any) -> Iterator[Tensor]:
    inside = example.values() if isinstance(example, Mapping) else example
    for one in inside if isinstance(example, Mapping | tuple | list) else [example]:
        if isinstance(one, Tensor) and one.ndim in (3, 4):
            yield one


def _channels(module: nn.Module) -> int:
    """Return what the first convolution takes, three where there is none."""
    of_config = getattr(getattr(module, "config", None), "num_channels", None)
    if isinstance(of_config, int):
        return of_config
    return next((int(part.in_channels) for part in module.modules() if isinstance(part, nn.Conv2d)), _RGB)


def _sides(value: Any) -> Size | None:
    """Read a size: one number, or height and width."""
    numbers = [value, value] if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(numbers, tuple | list) or len(numbers) != 2:
        return None
    return (int(numbers[0]), int(numbers[1]))
