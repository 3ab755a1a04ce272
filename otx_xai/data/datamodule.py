"""The data of a run, as OTX scripts name it: any format that is recognised, as batches for Lightning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from otx_xai.data.datasets import AnnotatedImages, ClassifiedImages, PlainImages, ShuffledOnce, collate_annotated
from otx_xai.data.formats import Recognised, Sample, recognise
from otx_xai.errors import ConfigError, DataError
from otx_xai.records import ImageInfo, InputGeometry, ResizeType, Size, Task

logger = logging.getLogger(__name__)


class OTXDataModule(lightning.LightningDataModule):  # type: ignore[misc]
    """Images, and their annotations where there are any.

    Nothing is looked at before it is needed, and images are read by the loaders only. Images are fitted into the
    network's input exactly as explain does it.

    Args:
        data_root: a folder, file or pattern; see :func:`otx_xai.data.formats.recognise`.
        task: which use is wanted of data that have several, such as COCO.
        batch_size: images a batch.
        num_workers: processes that read images; 0 reads them in this one.
        input_size: of the network, ``height, width`` or one number for both; None: the model's.
        resize_type: how images are fitted in (``standard``, ``fit_to_window``, ``fit_to_window_letterbox``, ``crop``);
            None: the model's.
        pad_value: grey level 0-255 of padding; None: the model's.
        augment: change training images at random: crop and flip (for boxes, flip only), colours.
        val_fraction: part of the training images, in [0, 1), to validate with where the data do not say which.
        seed: of the split, the order, and the augmentation: the same seed gives the same batches, whatever the number
            of workers.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        data_root: str | Path = "data",
        task: Task | str | None = None,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        input_size: int | Sequence[int] | None = None,
        resize_type: ResizeType | str | None = None,
        pad_value: int | None = None,
        augment: bool = True,
        val_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ConfigError(
                f"batch_size is {batch_size} and num_workers {num_workers}; expected at least 1, and at least 0."
            )
        if pad_value is not None and not 0 <= pad_value <= 255:
            raise ConfigError(f"pad_value is {pad_value}; expected a grey level from 0 to 255.")
        if not 0 <= val_fraction < 1:
            raise ConfigError(f"val_fraction is {val_fraction}; expected a number from 0 up to, but not including, 1.")
        self.data_root = data_root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.input_size = _size(input_size)
        self.resize_type = None if resize_type is None else ResizeType(resize_type)
        self.pad_value = pad_value
        self.augment = augment
        self.val_fraction = val_fraction
        self.seed = seed
        self._wanted_task = None if task is None else Task(task)
        self._geometry: InputGeometry | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments but ``data_root`` and ``task``, as plain values that a recipe can hold."""
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "input_size": None if self.input_size is None else list(self.input_size),
            "resize_type": None if self.resize_type is None else self.resize_type.value,
            "pad_value": self.pad_value,
            "augment": self.augment,
            "val_fraction": self.val_fraction,
            "seed": self.seed,
        }

    @cached_property
    def recognised(self) -> Recognised:
        """What lies at ``data_root``; looked up once, and logged in one line.

        Raises:
            DataError: nothing, or something broken.
        """
        found = recognise(self.data_root, self._wanted_task, val_fraction=self.val_fraction, seed=self.seed)
        logger.info("%s: %s", self.data_root, found.summary())
        return found

    @property
    def task(self) -> Task | None:
        """What the annotations are used for; without annotations, the task that was asked for."""
        return self.recognised.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the class indices; empty where the data name none."""
        return self.recognised.labels

    def images(self) -> tuple[ImageInfo, ...]:
        """Return all images, annotated or not, in a fixed order: what explain and predict go through.

        Raises:
            DataError: there are none.
        """
        return self.recognised.images

    @property
    def geometry(self) -> InputGeometry:
        """How images are fitted into the network's input.

        Raises:
            ConfigError: no model was given yet, and no ``input_size``.
        """
        if self._geometry is not None:
            return self._geometry
        if self.input_size is None:
            raise ConfigError(
                "The size of the network's input is not known. Pass input_size to OTXDataModule, or call fit_to with "
                "the model's geometry, as Engine does."
            )
        return InputGeometry(self.input_size, self.resize_type or ResizeType.STANDARD, self.pad_value or 0)

    def fit_to(self, geometry: InputGeometry) -> None:
        """Fit images into the input of a model, from the next loader on.

        Args:
            geometry: the model's.

        Raises:
            ConfigError: an argument of this data module contradicts it.
        """
        own = {"input_size": self.input_size, "resize_type": self.resize_type, "pad_value": self.pad_value}
        models = {"input_size": geometry.size, "resize_type": geometry.resize_type, "pad_value": geometry.pad_value}
        for name, value in own.items():
            if value is not None and value != models[name]:
                raise ConfigError(
                    f"{name} of the data is {value}, of the model {models[name]}. Expected the same, or images are "
                    "explained in another way than they were trained. Leave it out of the data: the model's is used."
                )
        self._geometry = geometry

    def train_dataloader(self) -> Any:
        """Return shuffled, augmented batches of the training images; a last batch of one image is left out.

        Raises:
            DataError: there are no annotated training images.
        """
        samples = self._samples("train")
        single = len(samples) % self.batch_size == 1 and len(samples) > self.batch_size
        return self._loader(
            self._dataset(samples, self.augment),
            self._collate,
            sampler=ShuffledOnce(len(samples), self.seed),
            drop_last=single,  # batch normalisation cannot train on one value a channel
        )

    def val_dataloader(self) -> Any:
        """Return batches of the validation images, in order; none where there are no such images."""
        if "val" not in self.recognised.subsets and "train" in self.recognised.subsets:
            return []
        return self._loader(self._dataset(self._samples("val"), False), self._collate)

    def test_dataloader(self) -> Any:
        """Return batches of the test images, in order; of the validation images where there are none to test with.

        Raises:
            DataError: there are neither.
        """
        subset = "test" if "test" in self.recognised.subsets else "val"
        return self._loader(self._dataset(self._samples(subset), False), self._collate)

    def predict_dataloader(self) -> Any:
        """Return batches of :meth:`images`, in their order.

        A batch is images ``uint8`` ``(N, 3, H, W)`` and the sizes of the originals ``int64`` ``(N, 2)`` as height,
        width.
        """
        return self._loader(PlainImages(self.images(), self.geometry), None)

    def _samples(self, subset: str) -> tuple[Sample, ...]:
        found = self.recognised
        if not found.subsets.get(subset):
            raise DataError(
                f"{str(self.data_root)!r} holds no annotated images for subset {subset!r}. It was recognised as: "
                f"{found.summary()}. Expected an ImageFolder, COCO, Pascal VOC or a multi-label CSV"
                + (f" that serves task {found.task}." if found.task else ".")
                + " Give the folder that holds images and annotations, and check --task."
            )
        return found.subsets[subset]

    def _dataset(self, samples: Sequence[Sample], augment: bool) -> Any:
        match self.task:
            case Task.DETECTION | Task.INSTANCE_SEGMENTATION:
                masks = self.task is Task.INSTANCE_SEGMENTATION
                return AnnotatedImages(samples, self.geometry, masks=masks, augment=augment)
            case Task.MULTI_LABEL_CLS:
                return ClassifiedImages(samples, self.geometry, multilabel=len(self.labels), augment=augment)
            case _:
                return ClassifiedImages(samples, self.geometry, augment=augment)

    @property
    def _collate(self) -> Callable[[Any], Any] | None:
        return collate_annotated if self.task in (Task.DETECTION, Task.INSTANCE_SEGMENTATION) else None

    def _loader(self, dataset: Any, collate: Callable[[Any], Any] | None, **options: Any) -> Any:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            **options,
        )


def _size(value: int | Sequence[int] | None) -> Size | None:
    """Return height and width."""
    if value is None:
        return None
    sides = [value, value] if isinstance(value, int) else list(value)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigError(f"input_size is {value!r}; expected height and width in pixels, or one number for both.")
    return sides[0], sides[1]
