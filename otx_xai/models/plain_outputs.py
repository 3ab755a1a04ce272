"""Anybody's module → one that takes a batch of images and gives a tuple of tensors, which converters can follow."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from otx_xai.errors import ModelError

PIXEL_VALUES = "pixel_values"
"""What models of transformers call their images."""

LOGITS = "logits"

_FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError)
_WRAPPERS = ("_orig_mod", "module")
"""Where ``torch.compile``, and DataParallel and its kin, hold the module that they are given."""


@dataclass(frozen=True)
class PlainOutputs:
    """A module with plain outputs.

    Args:
        module: takes ``(N, C, H, W)``, gives a tuple of tensors.
        names: of the tensors, in their order.
        takes_batches: any number of images, else one.
    """

    module: nn.Module
    names: tuple[str, ...]
    takes_batches: bool = True


def plain_module(module: nn.Module) -> nn.Module:
    """Return what ``torch.compile``, DataParallel or DistributedDataParallel wrap."""
    wrappers = ("OptimizedModule", "DataParallel", "DistributedDataParallel", "AveragedModel")
    while type(module).__name__ in wrappers:
        module = next(inner for name in _WRAPPERS if (inner := getattr(module, name, None)) is not None)
    return module


def with_plain_outputs(module: nn.Module, example: Tensor) -> PlainOutputs:
    """Run a module once, and say what it gives.

    Args:
        module: in evaluation mode.
        example: ``float32`` ``(N, C, H, W)``.

    Raises:
        ModelError: it does not take such images, or gives no tensors.
    """
    if is_detector_of_torchvision(module):
        _run(module, list(example[:1]))
        masks = ("masks",) if _has_masks(module) else ()
        return PlainOutputs(_Detector(module), ("boxes", "labels", *masks), takes_batches=False)
    keyword = PIXEL_VALUES if PIXEL_VALUES in inspect.signature(module.forward).parameters else None
    found = _run(module, example, keyword)
    names = tuple(_named_tensors(found))
    if not names:
        raise ModelError(
            f"{type(module).__name__} gives {_words(found)} for images {tuple(example.shape)}; expected a tensor of "
            "class scores, or a tuple or dict that holds tensors. Pass the part of it that gives class scores."
        )
    return PlainOutputs(_Tensors(module, keyword), names)


def is_detector_of_torchvision(module: nn.Module) -> bool:
    """Whether a module takes a list of images and gives a list of boxes, as torchvision's detectors do."""
    from torchvision.models.detection import FCOS, RetinaNet
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.ssd import SSD

    return isinstance(module, (GeneralizedRCNN, RetinaNet, FCOS, SSD))


def _has_masks(module: nn.Module) -> bool:
    return hasattr(module, "roi_heads") and bool(module.roi_heads.has_mask())


def _run(module: nn.Module, images: Any, keyword: str | None = None) -> Any:
    try:
        return module(**{keyword: images}) if keyword else module(images)
    except _FAULTS as error:
        shape = tuple(images.shape) if isinstance(images, Tensor) else tuple(images[0].shape)
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        parts = ", ".join(name for name, _ in module.named_children())
        raise ModelError(
            f"{type(module).__name__} fails for images {shape}: {reason}. Expected a module whose forward takes a "
            "batch of images. Say the size that it wants (size=(height, width)), or pass the part of it that is the "
            f"network; it has {parts or 'no parts'}."
        ) from error


# --------------------------------------------------------------------------------------------------------------------
# Outputs
# --------------------------------------------------------------------------------------------------------------------


class _Tensors(nn.Module):  # type: ignore[misc]
    """Takes images, gives the tensors among what a module gives."""

    def __init__(self, network: nn.Module, keyword: str | None) -> None:
        super().__init__()
        self.network = network
        self.keyword = keyword

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.network(**{self.keyword: images}) if self.keyword else self.network(images)
        return tuple(_named_tensors(found).values())


def _named_tensors(found: Any) -> dict[str, Tensor]:
    """Return the tensors that a module gives by name; what lies deeper (hidden states, attentions) is left out."""
    if isinstance(found, Tensor):
        return {LOGITS if found.ndim == 2 else "output": found} if found.ndim else {}
    named = dict(_items(found))
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor) and value.ndim}
    if LOGITS in tensors:  # losses and features of the same model are none of its answers
        return {name: value for name, value in tensors.items() if name == LOGITS or name.startswith("pred_")}
    return tensors


def _items(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, Mapping):
        yield from ((str(name), value) for name, value in found.items())
    elif hasattr(found, "_asdict"):  # a named tuple
        yield from found._asdict().items()
    elif isinstance(found, tuple | list):
        yield from ((f"output_{number}", value) for number, value in enumerate(found))
    elif hasattr(found, LOGITS):
        yield LOGITS, found.logits


def _words(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a number, {tuple(found.shape)}"
    inside = sorted({type(value).__name__ for _, value in _items(found)})
    return f"a {type(found).__name__}" + (f" of {', '.join(inside)}" if inside else "")


class _Detector(nn.Module):  # type: ignore[misc]
    """Takes one image, gives boxes with scores, labels, and masks inside their boxes where there are any."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.has_masks = _has_masks(network)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = _with_small_masks(self.network, images[0]) if self.has_masks else self.network([images[0]])[0]
        boxes = torch.cat([found["boxes"], found["scores"][:, None]], dim=1)
        outputs = (boxes[None], found["labels"][None])
        return (*outputs, found["masks"][None, :, 0]) if self.has_masks else outputs


def _with_small_masks(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Do what Mask R-CNN does, but leave masks inside their boxes: no converter follows how they are pasted."""
    from torchvision.models.detection.transform import resize_boxes

    images, _ = network.transform([image])
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    (found,), _ = network.roi_heads(features, proposals, images.image_sizes)
    boxes = resize_boxes(found["boxes"], images.image_sizes[0], tuple(image.shape[-2:]))
    return {**found, "boxes": boxes}
