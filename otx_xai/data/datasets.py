"""Torch data sets over samples: read, fit into the network's input as explain does it, augment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors

from otx_xai.data.annotations import RunLengths, move_boxes, move_segment
from otx_xai.data.formats import Sample
from otx_xai.data.reading import read_image
from otx_xai.data.transforms import classification_augmentation, detection_augmentation, seeded
from otx_xai.errors import DataError
from otx_xai.postprocess.geometry import Placement, fit, place
from otx_xai.records import ImageInfo, InputGeometry, Size, UInt8Array

Key = int | tuple[int, int]
"""Which sample; with a second number, the seed of its augmentation."""


class ClassifiedImages(Dataset):  # type: ignore[misc]
    """Images with their class, or their classes.

    Items are an image, ``uint8`` ``(3, H, W)`` RGB at the size of the network's input, and a target: ``int64`` ``()``,
    or ``float32`` ``(K,)`` of 0 and 1 for multi-label data.

    Args:
        samples: the images.
        geometry: the network's input.
        multilabel: number of classes of multi-label data; None: one class an image.
        augment: whether to augment.

    Raises:
        ImageError: an image cannot be read (when it is asked for).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        geometry: InputGeometry,
        *,
        multilabel: int | None = None,
        augment: bool = False,
    ) -> None:
        self.samples = samples
        self.geometry = geometry
        self.multilabel = multilabel
        self.augmentation = classification_augmentation(geometry.size) if augment else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Any, Any]:
        index, seed = _index_and_seed(key)
        sample = self.samples[index]
        image, _ = _read_fitted(sample.image, self.geometry)
        if self.augmentation is not None:
            with seeded(seed):
                image = self.augmentation(image)
        if self.multilabel is None:
            return image, torch.tensor(sample.classes[0])
        target = torch.zeros(self.multilabel)
        target[list(sample.classes)] = 1
        return image, target


class AnnotatedImages(Dataset):  # type: ignore[misc]
    """Images with boxes, and masks where they are wanted.

    Items are an image, ``uint8`` ``(3, H, W)`` RGB at the size of the network's input, and a dict in its pixels:
    ``boxes`` ``float32`` ``(M, 4)`` ``xyxy``, ``labels`` ``int64`` ``(M,)``, ``masks`` ``uint8`` ``(M, H, W)``. Boxes
    of which the input shows less than a pixel are left out.

    Args:
        samples: the images.
        geometry: the network's input.
        masks: whether masks are wanted; then every sample has them.
        augment: whether to augment.

    Raises:
        DataError: an image cannot be read, or is not of the size it was annotated at (when it is asked for).
    """

    def __init__(
        self, samples: Sequence[Sample], geometry: InputGeometry, *, masks: bool = False, augment: bool = False
    ) -> None:
        self.samples = samples
        self.geometry = geometry
        self.masks = masks
        self.augmentation = detection_augmentation() if augment else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Any, dict[str, Any]]:
        index, seed = _index_and_seed(key)
        sample = self.samples[index]
        image, size = _read_fitted(sample.image, self.geometry)
        _check_size(sample, size)
        target = self._target(sample, place(size, self.geometry))
        if self.augmentation is not None:
            with seeded(seed):
                moving = {
                    **target,
                    "boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=self.geometry.size),
                }
                if self.masks:
                    moving["masks"] = tv_tensors.Mask(target["masks"])
                image, moved = self.augmentation(tv_tensors.Image(image), moving)
            image = image.as_subclass(torch.Tensor)
            target = {name: value.as_subclass(torch.Tensor) for name, value in moved.items()}
        return image, target

    def _target(self, sample: Sample, placement: Placement) -> dict[str, Any]:
        boxes, kept = move_boxes(sample.boxes, placement)
        masks = np.zeros((0, *self.geometry.size), np.uint8)
        if self.masks and sample.segments:
            masks = np.stack([move_segment(segment, placement) for segment in sample.segments])
            kept &= masks.any(axis=(1, 2))
            masks = masks[kept]
        labels = np.array(sample.box_labels, np.int64).reshape(-1)[kept]
        target = {"boxes": torch.from_numpy(boxes[kept]), "labels": torch.from_numpy(labels)}
        return target | ({"masks": torch.from_numpy(masks)} if self.masks else {})


class PlainImages(Dataset):  # type: ignore[misc]
    """Images without annotations.

    Items are an image, ``uint8`` ``(3, H, W)`` RGB at the size of the network's input, and its own size, ``int64``
    ``(2,)`` as height, width.

    Args:
        images: the images.
        geometry: the network's input.
    """

    def __init__(self, images: Sequence[ImageInfo], geometry: InputGeometry) -> None:
        self.images = images
        self.geometry = geometry

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, size = _read_fitted(self.images[index], self.geometry)
        return image, torch.tensor(size)


class ShuffledOnce(Sampler):  # type: ignore[misc]
    """Every sample once an epoch, in an order and with seeds for augmentation that follow from ``seed`` and epoch.

    Epochs count up by themselves; Lightning sets them, so that a resumed training goes on as it would have.

    Args:
        count: number of samples.
        seed: of order and augmentation.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch the next iteration is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        order, seeds = rng.permutation(self.count), rng.integers(0, 2**31, self.count)
        return iter([(int(index), int(seed)) for index, seed in zip(order, seeds, strict=True)])


def collate_annotated(items: Sequence[tuple[Any, dict[str, Any]]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Make a batch of images with boxes: a list of images and a list of dicts."""
    return [image for image, _ in items], [target for _, target in items]


def _index_and_seed(key: Key) -> tuple[int, int | None]:
    return key if isinstance(key, tuple) else (key, None)


def _read_fitted(info: ImageInfo, geometry: InputGeometry) -> tuple[Any, Size]:
    """Return an image as a tensor of the network's input, and its own size."""
    image: UInt8Array = read_image(info.file)
    fitted = fit(image, geometry)
    return torch.from_numpy(np.ascontiguousarray(fitted.transpose(2, 0, 1))), (image.shape[0], image.shape[1])


def _check_size(sample: Sample, size: Size) -> None:
    masks = [segment.size for segment in sample.segments or () if isinstance(segment, RunLengths)]
    wrong = next((declared for declared in (sample.size, *masks) if declared is not None and declared != size), None)
    if wrong is None:
        return
    turned = " Its EXIF data turn it by 90 degrees, which the annotations ignore." if wrong == size[::-1] else ""
    raise DataError(
        f"The image {sample.image.file!r} is {size[0]}x{size[1]} pixels (height x width), its annotations were "
        f"made for {wrong[0]}x{wrong[1]}.{turned} Expected the same size, or boxes lie beside their objects. Put the "
        "image in that was annotated, or annotate it again."
    )
