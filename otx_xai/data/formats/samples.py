"""What all formats are read into: samples, and the data set they belong to."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otx_xai.data.annotations import Segment
from otx_xai.errors import DataError
from otx_xai.records import FloatArray, ImageInfo, Size, Task

TITLES = {
    "imagefolder": "ImageFolder",
    "coco": "COCO",
    "voc": "Pascal VOC",
    "multilabel_csv": "multi-label CSV",
    "folder": "folder",
    "list": "list of images",
    "pattern": "pattern",
    "file": "single image",
}
"""The formats, and what they are called in messages."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT = re.compile(r"(?<![a-z])(training|train|validation|valid|val|testing|test)(?![a-z])")


_MOST_NOTES = 4
_NO_BOXES = np.zeros((0, 4), np.float32)


def no_boxes() -> FloatArray:
    """Return an empty array of boxes, ``float32`` ``(0, 4)``: always the same one, as there may be a million images."""
    return _NO_BOXES


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One image and what is known of it.

    Args:
        image: the image.
        classes: class indices of the whole image: one, or for multi-label data any number, rising.
        boxes: ``float32`` ``(M, 4)`` ``xyxy`` in pixels of the image.
        box_labels: one class index a box.
        segments: one mask a box; None where there are no masks, or none were asked for.
        size: ``(height, width)`` that the annotations were made for; None where they do not tell.
    """

    image: ImageInfo
    classes: tuple[int, ...] = ()
    boxes: FloatArray = field(default_factory=no_boxes)
    box_labels: tuple[int, ...] = ()
    segments: tuple[Segment, ...] | None = None
    size: Size | None = None


@dataclass(frozen=True, eq=False)
class Recognised:
    """A data set, as :func:`otx_xai.data.formats.recognise` found it.

    Args:
        root: the folder that all images lie in, or the pattern.
        format: a key of :data:`TITLES`.
        task: what the annotations are used for; None where there are none and no task was asked for.
        labels: class names, in the order of the class indices; empty where there are no annotations.
        subsets: ``train``, ``val``, ``test``, and ``predict`` for images without annotations; absent where empty.
        images: all images once, sorted by name (those of a list in its order).
        notes: what was left out and why, and why other formats were not recognised.
    """

    root: str
    format: str
    task: Task | None
    labels: tuple[str, ...]
    subsets: dict[str, tuple[Sample, ...]]
    images: tuple[ImageInfo, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Say in one line what this is: ``COCO, detection, 2 labels (cat, dog), train 80, val 20 images``."""
        counts = ", ".join(f"{name} {len(samples)}" for name, samples in self.subsets.items())
        words = [TITLES[self.format], str(self.task or "no annotations")]
        if self.labels:
            shown = ", ".join(self.labels[:6]) + (", …" if len(self.labels) > 6 else "")
            words.append(f"{len(self.labels)} label{'s' * (len(self.labels) > 1)} ({shown})")
        words.append(f"{counts} image{'s' * (len(self.images) != 1)}")
        more = len(self.notes) - _MOST_NOTES
        notes = (*self.notes[:_MOST_NOTES], *([f"and {more} more"] if more > 0 else []))
        return "; ".join((", ".join(words), *notes))


def unnamed(path: str) -> ImageInfo:
    """Return a record for an image that gets its name once all images are known."""
    return ImageInfo(path, "", "")


def split_of_folder(name: str) -> str | None:
    """Return which split a folder is called after, if any."""
    return _SPLITS.get(name.lower())


def split_of_file(stem: str) -> str | None:
    """Return the split that a file is called after: ``train`` for ``instances_train2017``; None for ``trainval``."""
    found = {_SPLITS[word] for word in _SPLIT.findall(stem.lower())}
    return found.pop() if len(found) == 1 else None


def inside(root: str, folder: str, name: str, source: str) -> str:
    """Return the path of a file that an annotation file names.

    Args:
        root: what the path must not leave.
        folder: what the name is relative to.
        name: as it stands in the annotation file.
        source: the annotation file, for the error.

    Raises:
        DataError: the name leads out of ``root``.
    """
    path = os.path.normpath(os.path.join(folder, name.replace("\\", "/")))
    if not os.path.abspath(path).startswith(os.path.join(os.path.abspath(root), "")):
        raise DataError(
            f"{source} names the image {name!r}, which leads out of the data root {root!r}. Expected paths inside of "
            "it. If the file comes from somebody else, do not trust it; else move the images below the data root, or "
            "give a data_root that holds both."
        )
    return path


def finite_numbers(values: Any, count: int | None = None) -> bool:
    """Whether values from an annotation file are a list of finite numbers, ``count`` of them if given."""
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and (count is None or len(values) == count)
        and all(type(value) in (int, float) and abs(value) < 1e9 and math.isfinite(value) for value in values)
    )


def counted(number: int, what: str) -> tuple[str, ...]:
    """Return a note on how many things were left out; none where there were none."""
    return (f"left out: {number} {what}",) if number else ()


def check_unique(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the labels, which must differ.

    Raises:
        DataError: two are equal, or there is none.
    """
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated or not labels:
        what = f"names {repeated[0]!r} more than once" if repeated else "names no class"
        raise DataError(f"{source} {what}. Expected at least one class, each with a name of its own. Rename them.")
    return tuple(labels)
