"""Augmentation for training, on tensors that already have the network's input size. Boxes and masks follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torchvision.transforms import v2

from otx_xai.records import Size


def classification_augmentation(size: Size) -> Any:
    """Return a transform of images: random crop (60-100 % of the area, resized back), flip, colours.

    Args:
        size: ``(height, width)`` of the network's input.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.6, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
        ]
    )


def detection_augmentation() -> Any:
    """Return a transform of images with their boxes and masks (``tv_tensors``): flip, colours."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
        ]
    )


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Make what is drawn inside follow from ``seed`` alone, and leave torch's generator as it was; None: do nothing."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
