"""Torchvision's detectors without their own pre-processing: tensors in, tensors or losses out.

Torchvision resizes and normalises inside its detectors. Here the images already have the size of the input and are
already normalised, so that what is trained, explained and exported is one and the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from otx_xai.errors import DataError
from otx_xai.records import Size

Detections = dict[str, Tensor]


class AsGiven(nn.Module):  # type: ignore[misc]
    """Takes the place of torchvision's resizing and normalisation, and changes nothing."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Stack images of one size."""
        stacked = torch.stack(images)
        height, width = stacked.shape[-2:]
        return ImageList(stacked, [(int(height), int(width))] * len(images)), targets

    def postprocess(
        self, detections: list[Detections], image_sizes: list[Size], original_sizes: list[Size]
    ) -> list[Detections]:
        """Return what is already in pixels of the input; masks stay inside their boxes."""
        return detections


def first_class(network: nn.Module) -> int:
    """Return the class that torchvision gives label 0: 1 where class 0 is the background (SSD, R-CNN), else 0."""
    return 0 if isinstance(network, (FCOS, RetinaNet)) else 1


def detect(network: nn.Module, images: Tensor) -> list[Detections]:
    """Run a detector in evaluation mode.

    Args:
        network: one of torchvision's detectors with :class:`AsGiven` inside.
        images: normalised ``float32`` ``(N, 3, H, W)``.

    Returns:
        For each image ``boxes`` ``(M, 4)`` xyxy in pixels of the input, ``labels`` ``int64`` ``(M,)`` from 0,
        ``scores`` ``(M,)``, best first; from Mask R-CNN also ``masks`` ``(M, 1, h, w)`` in [0, 1] inside each box.
    """
    first = first_class(network)
    return [{**found, "labels": found["labels"] - first} for found in network(list(images.unbind(0)))]


def losses(network: nn.Module, images: Tensor, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a detector's losses, in training and in evaluation mode.

    Args:
        network: one of torchvision's detectors with :class:`AsGiven` inside.
        images: normalised ``float32`` ``(N, 3, H, W)``.
        targets: for each image ``boxes`` ``float32`` ``(M, 4)``, ``labels`` ``int64`` ``(M,)`` from 0, and for Mask
            R-CNN ``masks`` ``uint8`` ``(M, H, W)``. Boxes without area are left out.
    """
    first = first_class(network)
    with _losses_wanted(network):
        found: dict[str, Tensor] = network(
            list(images.unbind(0)), [_with_area({**target, "labels": target["labels"] + first}) for target in targets]
        )
    return found


def paste(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Put masks from inside their boxes into the whole picture.

    Args:
        masks: ``float32`` ``(M, 1, h, w)`` in [0, 1].
        boxes: ``float32`` ``(M, 4)`` xyxy in pixels of the picture.
        size: ``(height, width)`` of the picture.

    Returns:
        ``float32`` ``(M, 1, H, W)`` in [0, 1].
    """
    if not len(masks):
        return masks.new_zeros((0, 1, *size))
    return paste_masks_in_image(masks, boxes, size)


def stack(images: Tensor | Sequence[Tensor], size: Size) -> Tensor:
    """Return a batch ``(N, 3, H, W)`` from a list of images.

    Raises:
        DataError: an image does not have the size of the network's input.
    """
    for image in images:
        if tuple(image.shape[-2:]) != size:
            raise DataError(
                f"An image of the batch is {tuple(image.shape[-2:])}, and the network's input is {size}. Expected "
                "images that were fitted into the input; give the data module the model's geometry."
            )
    return images if isinstance(images, Tensor) else torch.stack(list(images))


class ExportedDetector(nn.Module):  # type: ignore[misc]
    """What is traced of a detector: one image in, boxes with scores, labels, and masks where there are any, out."""

    def __init__(self, normalise: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return ``boxes`` ``(1, M, 5)``, ``labels`` ``(1, M)``, and of Mask R-CNN ``masks`` ``(1, M, h, w)``."""
        (found,) = detect(self.network, self.normalise(images))
        boxes = torch.cat([found["boxes"], found["scores"][:, None]], dim=1)
        outputs = (boxes[None], found["labels"][None])
        return (*outputs, found["masks"][None, :, 0]) if "masks" in found else outputs


@contextmanager
def _losses_wanted(network: nn.Module) -> Iterator[None]:
    """Make a detector return losses, whatever the mode of its layers: batch statistics stay as they are."""
    switches = [part for part in (network, *(getattr(network, name, None) for name in ("rpn", "roi_heads"))) if part]
    modes = [part.training for part in switches]
    for part in switches:
        part.training = True
    try:
        yield
    finally:
        for part, mode in zip(switches, modes, strict=True):
            part.training = mode


def _with_area(target: dict[str, Tensor]) -> dict[str, Tensor]:
    boxes = target["boxes"]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return {name: target[name][kept] for name in ("boxes", "labels", "masks") if name in target}
