"""The places of a detector's levels in the image, for heads that leave boxes undecoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.graph.columns import pieces_of
from otx_xai.graph.view import View
from otx_xai.postprocess.scores import softmax
from otx_xai.records import FloatArray, Size

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32, 64), (8, 16, 32, 64, 128), (16, 32), (16,), (8,), (32,))
"""Strides that detectors have, usual ones first."""


def may_be_places(count: int | None, size: Size | None, told: str = "") -> bool:
    """Tell whether there may be so many places together, one prediction each.

    Args:
        count: their number; ``None``: open.
        size: ``(height, width)`` of the network's input; ``None``: open.
        told: strides as the exporter writes them; empty: it does not.
    """
    return count is None or size is None or _strides(count, size, told) is not None


def strides_of(count: int, size: Size, told: str = "", levels: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the strides whose levels have so many places together; arguments as of :func:`may_be_places`.

    Args:
        count: number of places of all levels.
        size: ``(height, width)`` of the network's input.
        told: strides as the exporter writes them; empty: it does not.
        levels: numbers of places of the levels in their order, where the graph tells: PP-YOLOE begins with the
            coarsest. Else the finest comes first.

    Raises:
        ModelError: no usual ones do.
    """
    strides = _strides(count, size, told)
    if strides is None:
        raise ModelError(
            f"The model predicts for {count} places of an input of {size[0]}x{size[1]}; expected those of strides "
            f"{told or 'of 8, 16 and 32, or similar ones'}. Export it with its boxes decoded."
        )
    turned = strides[::-1]
    return turned if [places_of(size, [stride]) for stride in turned] == list(levels) else strides


def _strides(count: int, size: Size, told: str) -> tuple[int, ...] | None:
    numbers = "".join(sign if sign.isdigit() else " " for sign in told).split()
    known = [tuple(int(number) for number in numbers)] if numbers else STRIDES
    return next((strides for strides in known if places_of(size, strides) == count), None)


def places_of(size: Size, strides: Sequence[int]) -> int:
    """Return how many places the levels of an input have together; cells at the borders may stick out."""
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def level_sizes(view: View, output: ov.Output, axis: int) -> tuple[int, ...]:
    """Return how many places levels have in an output that joins them, in its order; one where it joins none."""
    return tuple(piece.width for piece in pieces_of(view, output, axis))


def grid(size: Size, strides: Sequence[int], shift: float) -> tuple[FloatArray, FloatArray]:
    """Return where places lie, and their strides.

    Args:
        size: ``(height, width)`` of the network's input.
        strides: of the levels, in their order.
        shift: from the corner of a cell, in cells: 0.5 is its middle.

    Returns:
        Points ``(P, 2)``, x and y in pixels, and strides ``(P,)``; levels in order, row by row.
    """
    points, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: -(-size[0] // stride), : -(-size[1] // stride)].reshape(2, -1).astype(np.float32)
        points.append((np.stack([x, y], axis=1) + np.float32(shift)) * np.float32(stride))
        steps.append(np.full(len(x), stride, np.float32))
    return np.concatenate(points), np.concatenate(steps)


def sides_of(numbers: FloatArray) -> FloatArray:
    """Return distances to the four sides ``(P, 4)`` from their distributions ``(P, 4·n)``, in strides.

    Args:
        numbers: raw scores of the distances 0 to ``n - 1``, side by side; with ``n`` 1 they are the distances.
    """
    length = numbers.shape[1] // 4
    if length == 1:
        return numbers
    shares = softmax(numbers.reshape(-1, 4, length))
    result: FloatArray = shares @ np.arange(length, dtype=np.float32)
    return result


def boxes_around(points: FloatArray, distances: FloatArray) -> FloatArray:
    """Return the boxes ``(P, 4)`` xyxy whose left, top, right and bottom sides lie so far from points."""
    result: FloatArray = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
    return result
