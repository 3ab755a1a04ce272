"""torchvision: how the usual weights of an architecture want their images; an assumption for any other weights."""

from __future__ import annotations

import logging
from typing import Any

from otx_xai.neighbours.hints import Hints
from otx_xai.records import Interpolation, ResizeType

_logger = logging.getLogger(__name__)
_ASSUMED = ("mean", "scale", "size", "resize_type", "crop", "interpolation", "reverse_input_channels")


def assumed_hints(architecture: str) -> Hints | None:
    """Say how torchvision's own weights of an architecture want their images, and log that this is an assumption.

    Args:
        architecture: a name of torchvision, such as ``resnet50``.

    Returns:
        Normalisation, size, resize and crop, all marked as assumed; ``None`` where torchvision does not know the name,
        or has no weights or no fixed steps for it.
    """
    steps = _steps(architecture)
    if steps is None:
        return None
    hints = _classifier(architecture, steps) if hasattr(steps, "crop_size") else _detector(architecture)
    _logger.info("Images are assumed to be prepared as for the weights of %s.", hints.source)
    return hints


def _steps(architecture: str) -> Any | None:
    """The transforms of the default weights, where they are those of a classifier or of a detector."""
    from torchvision.models import get_model_weights, list_models

    name = architecture.lower()
    if name not in list_models() or not list(get_model_weights(name)):
        return None
    steps = get_model_weights(name).DEFAULT.transforms()
    # torchvision gives these no public name; those of videos have frames of two sizes
    return steps if type(steps).__name__ in ("ImageClassification", "ObjectDetection") else None


def _classifier(architecture: str, steps: Any) -> Hints:
    crop, resize = steps.crop_size[0], steps.resize_size[0]
    return Hints(
        mean=tuple(float(f"{255 * number:.7g}") for number in steps.mean),
        scale=tuple(float(f"{255 * number:.7g}") for number in steps.std),
        reverse_input_channels=False,
        size=(crop, crop),
        resize_type=ResizeType.CROP,
        crop=min(1.0, crop / resize),
        interpolation=Interpolation(steps.interpolation.value),
        source=f"torchvision's {architecture}",
        assumed=_ASSUMED,
    )


def _detector(architecture: str) -> Hints:
    """Their detectors normalise by themselves, and take pixels from 0 to 1."""
    return Hints(
        mean=(0.0,),
        scale=(255.0,),
        reverse_input_channels=False,
        source=f"torchvision's {architecture}",
        assumed=_ASSUMED,
    )
