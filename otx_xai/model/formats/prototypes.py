"""Masks as sums of prototypes, as YOLO's instance segmentation gives them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otx_xai.model.formats.box_format import Arrays, DetectorOutputs, Match, OutputPort
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import FloatArray, Size


def prototypes_beside(outputs: DetectorOutputs, boxes: OutputPort, count: int) -> OutputPort | None:
    """Return the output that holds so many maps, ``[1, C, h, w]`` or ``[1, h, w, C]``; ``None`` without any."""
    maps = [port for port in outputs.ports if port is not boxes and len(port.shape) == 4 and not port.is_integer]
    fitting = [port for port in maps if count in (port.shape[1], port.shape[3]) and port.shape[0] in (None, 1)]
    return fitting[0] if len(fitting) == 1 else None


def masks_of(
    outputs: Arrays, match: Match, coefficients: FloatArray, boxes: FloatArray, size: Size
) -> Callable[[NDArray[np.intp]], FloatArray] | None:
    """Return what makes the masks of some boxes, over the whole input; ``None`` where there are no prototypes.

    Args:
        outputs: of one image; the role ``prototypes`` tells which holds the maps.
        match: how they are read.
        coefficients: ``(M, C)``.
        boxes: ``(M, 4)``, xyxy in pixels of the network's input; outside of them masks are 0.
        size: of the network's input.
    """
    if "prototypes" not in match.roles:
        return None
    maps = np.asarray(outputs[match.roles["prototypes"]], np.float32)[0]
    if len(maps) != coefficients.shape[1]:
        maps = maps.transpose(2, 0, 1)

    def masks(places: NDArray[np.intp]) -> FloatArray:
        (count, rows, columns), (height, width) = maps.shape, size
        raw = coefficients[places] @ maps.reshape(count, -1)
        scale = np.array([columns / width, rows / height, columns / width, rows / height], np.float32)
        inside = _inside(boxes[places] * scale, (rows, columns))
        return sigmoid(raw).reshape(-1, rows, columns) * inside

    return masks


def _inside(boxes: FloatArray, size: Size) -> NDArray[np.bool_]:
    """Return which cells begin inside of boxes ``(M, 4)``, ``(M, h, w)``."""
    left, top, right, bottom = (side[:, None] for side in boxes.T)
    rows, columns = (np.arange(length, dtype=np.float32) for length in size)
    down, along = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    inside: NDArray[np.bool_] = down[:, :, None] & along[:, None, :]
    return inside
