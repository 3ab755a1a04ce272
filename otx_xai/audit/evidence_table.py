"""The evidence of an audit: what a model did with each image of a data set, in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import FloatArray, InputGeometry, IntArray, MapGrid, Size, Task, UInt8Array

NO_CLASS = -1
"""Stands for a class where there is none."""


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Boxes of many images, sorted by image.

    Args:
        image: which image each lies in, ``int64`` ``(B,)``, rising.
        target: class of each, ``int64`` ``(B,)``.
        xyxy: ``float32`` ``(B, 4)``, in pixels of the image.
        score: ``float32`` ``(B,)`` in [0, 1]; 1 of annotations.
    """

    image: IntArray
    target: IntArray
    xyxy: FloatArray
    score: FloatArray

    def __len__(self) -> int:
        return len(self.image)

    def of(self, image: int) -> slice:
        """Return which rows are of one image."""
        return slice(*np.searchsorted(self.image, [image, image + 1]).tolist())

    @classmethod
    def empty(cls) -> BoxTable:
        """Return a table without a row."""
        none = np.zeros(0, np.int64)
        return cls(none, none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class MapTable:
    """Saliency maps of many images, sorted by image.

    Args:
        image: which image each is of, ``int64`` ``(M,)``, rising.
        target: class that it explains, ``int64`` ``(M,)``.
        box: row of :attr:`Evidence.found` that it explains; -1 of a class.
        grids: ``uint8`` ``(M, h, w)``, each over the whole of the network's input: 0 is its smallest value, 255 its
            largest. It may be a memory map; take slices of it.
        ranges: smallest and largest value before that, ``float32`` ``(M, 2)``.
    """

    image: IntArray
    target: IntArray
    box: IntArray
    grids: UInt8Array
    ranges: FloatArray

    def __len__(self) -> int:
        return len(self.image)

    def row(self, image: int, target: int) -> int | None:
        """Return the row of the map of a class (not of a box) of an image; ``None`` where there is none."""
        first, end = np.searchsorted(self.image, [image, image + 1]).tolist()
        rows = first + np.flatnonzero((self.target[first:end] == target) & (self.box[first:end] < 0))
        return int(rows[0]) if len(rows) else None

    def rows(self, targets: IntArray) -> IntArray:
        """Return for each image the row of the map of its class in ``targets`` ``(N,)``; -1 where there is none."""
        found = np.full(len(targets), -1, np.int64)
        hits = np.flatnonzero((self.box < 0) & (self.target == targets[self.image]))
        found[self.image[hits][::-1]] = hits[::-1]
        return found


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one model did with ``N`` images. Row ``i`` of every column is image ``i``.

    Args:
        task: of the model.
        labels: class names.
        multilabel: classes are independent of one another.
        geometry: how images lie in the network's input, which maps cover.
        grid: where the places of maps lie in the input; ``None``: they divide it evenly.
        names: of the images.
        sizes: ``(height, width)`` of the images, ``int64`` ``(N, 2)``.
        best: classes of the best scores of a classifier, best first, ``int64`` ``(N, T)``; ``T`` is at most ten, and
            all classes where they are independent.
        best_scores: their scores in [0, 1], ``float32`` ``(N, T)``.
        given: annotated classes, ``int64`` ``(N, G)``, filled up with :data:`NO_CLASS`; ``G`` is 1 where classes are
            exclusive, and all are :data:`NO_CLASS` where the data have no annotations.
        given_scores: what the model scores for them, ``float32`` ``(N, G)``; NaN where there is no class.
        features: pooled features, ``float16`` ``(N, D)``; ``D`` is 0 where the model shows none. May be a memory
            map.
        looks: name → a number an image, ``float32`` ``(N,)``: ``brightness``, ``contrast`` in [0, 1], ``sharpness``.
        metadata: name → a text an image, from a table of the user's and the folders that images lie in.
        objects: annotated boxes; ``None`` where the data have none.
        found: boxes that a detector found; ``None`` of a classifier.
        maps: of the classifier's best class and the annotated one, or of each box that was found.
    """

    task: Task
    labels: tuple[str, ...]
    multilabel: bool
    geometry: InputGeometry
    grid: MapGrid | None
    names: Sequence[str]
    sizes: IntArray
    best: IntArray
    best_scores: FloatArray
    given: IntArray
    given_scores: FloatArray
    features: NDArray[np.float16]
    looks: Mapping[str, FloatArray] = field(default_factory=dict)
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    objects: BoxTable | None = None
    found: BoxTable | None = None
    maps: MapTable = field(default_factory=lambda: no_maps((1, 1)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def predicted(self) -> IntArray:
        """The best class of each image, ``int64`` ``(N,)``; :data:`NO_CLASS` of a detector."""
        return self.best[:, 0] if self.best.shape[1] else np.full(len(self), NO_CLASS, np.int64)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Which images have an annotated class of the whole image, ``(N,)``."""
        labelled: NDArray[np.bool_] = (self.given != NO_CLASS).any(axis=1)
        return labelled

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Where the best class is among those that are annotated, ``(N,)``; false where there are none."""
        right: NDArray[np.bool_] = (self.given == self.predicted[:, None]).any(axis=1) & self.is_labelled
        return right


def no_maps(size: Size) -> MapTable:
    """Return a table of maps without a row, of a grid of this size."""
    none = np.zeros(0, np.int64)
    return MapTable(none, none, none, np.zeros((0, *size), np.uint8), np.zeros((0, 2), np.float32))
