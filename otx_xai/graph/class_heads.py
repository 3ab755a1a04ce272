"""The class heads of a one-stage detector: what is known of the convolutions that score its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objectness:
    """What a head's class scores are multiplied by.

    Args:
        output: the tensor, one level of raw scores, in the viewed model.
        order: positions of its axes batch, channel, height and width.
        channels: for each anchor its channel, ``(A,)``.
    """

    output: ov.Output
    order: tuple[int, int, int, int]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ClassHead:
    """The raw class scores of one level, before soft-max or sigmoid.

    Args:
        output: the tensor, in the viewed model.
        order: positions of its axes batch, channel, height and width.
        channels: for each anchor and class its channel, ``int64`` ``(A, L)``; the background is a class here.
        size: height and width; those of an assumed input where the model leaves them open.
        objectness: what multiplies the class scores, or ``None``.
    """

    output: ov.Output
    order: tuple[int, int, int, int]
    channels: NDArray[np.int64]
    size: tuple[int, int]
    objectness: Objectness | None = None

    @property
    def anchors(self) -> int:
        """Anchors a place."""
        return len(self.channels)


@dataclass(frozen=True)
class ClassHeads:
    """All levels of a detector.

    Args:
        levels: the finest first.
        activation: what turns raw scores into probabilities.
        background: number of the class that stands for nothing, or ``None``.
    """

    levels: tuple[ClassHead, ...]
    activation: Literal["sigmoid", "softmax"]
    background: int | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, the background left out."""
        return int(self.levels[0].channels.shape[1]) - (self.background is not None)


@dataclass(frozen=True)
class ScoreColumns:
    """Where an output holds class scores, as whoever knows its format tells.

    Args:
        result: number of the output.
        axis: along which a prediction lies.
        begin: the first column of class scores.
        end: the column behind the last one.
        objectness: the column of what multiplies them, where there is one.
        chosen: the column holds the best score of each box that was chosen in the graph, whatever its class.
    """

    result: int
    axis: int
    begin: int
    end: int
    objectness: int | None = None
    chosen: bool = False
