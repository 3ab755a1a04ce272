"""What a plain state dict is fed: what the configuration beside it says, or what is usual for its architecture."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from otx_xai.models.architectures import TIMM_PREFIX
from otx_xai.neighbours import Hints, assumed_hints
from otx_xai.neighbours.timm_config import timm_hints
from otx_xai.records import Task

logger = logging.getLogger("otx_xai")

_ASSUMED = ("resize_type", "pad_value", "crop", "interpolation")
"""What is assumed of the input of an architecture; its size and its normalisation are defaults of the network."""


def named_architecture(hints: Hints) -> str | None:
    """Return the architecture that a configuration of timm names, where timm is installed and has it."""
    name = hints.said.get("architecture", "")
    if hints.said.get("exporter") != "timm" or find_spec("timm") is None:
        return None
    import timm

    return TIMM_PREFIX + name if timm.is_model(name) else None


def usual_input(architecture: str, task: Task) -> Hints:
    """Say how images are usually fitted in for a classifier of an architecture, and log that this is an assumption.

    Args:
        architecture: as :mod:`otx_xai.models.architectures` names it.
        task: what it does; nothing is usual for detectors, which take the whole image.
    """
    if not task.is_classification:
        return Hints()
    if architecture.startswith(TIMM_PREFIX):
        return _usual_of_timm(architecture.removeprefix(TIMM_PREFIX))
    hints = assumed_hints(architecture)
    return Hints() if hints is None else _fitting_alone(hints)


def _usual_of_timm(name: str) -> Hints:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return Hints()
    source = f"timm's {name}"
    logger.info("Images are assumed to be prepared as for the weights of %s.", source)
    return replace(_fitting_alone(timm_hints(asdict(config), Path(source))), source=source)


def _fitting_alone(hints: Hints) -> Hints:
    return Hints(**{name: getattr(hints, name) for name in _ASSUMED}, source=hints.source, assumed=_ASSUMED)


def as_arguments(hints: Hints) -> dict[str, Any]:
    """Return what hints say of the input as arguments of :class:`~otx_xai.models.OTXModel`."""
    arguments = {
        "mean": None if hints.mean is None else _three(hints.mean),
        "scale": None if hints.scale is None else _three(hints.scale),
        "input_size": None if hints.size is None else list(hints.size),
        "resize_type": None if hints.resize_type is None else str(hints.resize_type),
        "pad_value": hints.pad_value,
        "crop": hints.crop,
        "interpolation": None if hints.interpolation is None else str(hints.interpolation),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _three(numbers: tuple[float, ...]) -> list[float]:
    return list(numbers if len(numbers) == 3 else numbers * 3)
