"""Images, and what models find in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from otx_xai.records.vocabulary import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image of the data. There may be a million of them, so it is small.

    Args:
        file: where it is read from.
        name: its path relative to the data root, with ``/``; names results. Unique in a run.
        stem: ``name`` without what is not needed to be unique: file results begin with it.
    """

    file: str
    name: str
    stem: str

    @property
    def path(self) -> Path:
        """Where it is read from."""
        return Path(self.file)


PER_IMAGE_TARGET = -1
"""The target of a map that knows no classes."""


@dataclass(frozen=True)
class Prediction:
    """One class that a classifier gives an image, or one box that a detector finds in it.

    Args:
        target: class index.
        label: class name.
        score: probability in [0, 1].
        box: xyxy in pixels of the original image; ``None`` of a class.
        number: of a box, its place among the predictions of its image, from 0, best first. It tells boxes apart that
            are equal in everything else.
    """

    target: int
    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    number: int | None = None


@dataclass(frozen=True)
class ScoreOrigin:
    """Numbers in an output of a detector that the scores of its boxes were read from, one a box.

    Args:
        output: name of the output.
        elements: which of its elements, ``int64`` ``(M,)``, counted through all axes of the output of one image.
        slopes: by how much the logarithm of the score grows with them, up to a factor for each box that all its origins
            share, ``float32`` ``(M,)``; 0 where a box has its score from elsewhere. ``None``: 1.
    """

    output: str
    elements: IntArray
    slopes: FloatArray | None = None

    def of(self, boxes: NDArray[np.intp]) -> ScoreOrigin:
        """Return the origin of the scores of some boxes."""
        return ScoreOrigin(self.output, self.elements[boxes], None if self.slopes is None else self.slopes[boxes])


@dataclass(frozen=True)
class Detections:
    """What a detector finds in one image, best first.

    Args:
        boxes: ``float32`` ``(M, 4)``, xyxy in pixels of the original image, inside of it.
        labels: class indices, ``int64`` ``(M,)``.
        scores: ``float32`` ``(M,)`` in [0, 1].
        masks: ``float32`` ``(M, h, w)`` in [0, 1], each over its own box (``masks_fill_boxes``) or over the whole of
            the network's input; ``None`` for a detector.
        mask_boxes: with masks, the boxes that they fill, ``float32`` ``(M, 4)``, xyxy on the original image, which they
            may exceed.
        masks_fill_boxes: see ``masks``.
        origins: where in the model's outputs the scores come from; several where a score is a product.
        turned: the turned boxes that ``boxes`` are around, ``float32`` ``(M, 5)``: centre, width and height in pixels
            of the original image, which they may exceed, angle in radians; ``None`` where boxes are upright.
        doubt: why they look as if they were read otherwise than the model means them, in words; mostly empty.
    """

    boxes: FloatArray
    labels: IntArray
    scores: FloatArray
    masks: FloatArray | None = None
    mask_boxes: FloatArray | None = None
    masks_fill_boxes: bool = True
    origins: tuple[ScoreOrigin, ...] = ()
    turned: FloatArray | None = None
    doubt: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ClassAnswer:
    """What a classifier says of one image, beside its predictions and the maps in [0, 1].

    Args:
        scores: probabilities of all classes, ``float32`` ``(K,)``.
        features: pooled features, ``float32`` ``(C,)``; empty where the graph does not give any.
        ranges: smallest and largest value of each map before it was scaled, ``float32`` ``(M, 2)``.
    """

    scores: FloatArray
    features: FloatArray
    ranges: FloatArray
