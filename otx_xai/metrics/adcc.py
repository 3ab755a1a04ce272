"""Average drop, coherency, complexity, and ADCC, their harmonic mean. Pure functions on arrays.

Average drop: Grad-CAM++ (arXiv 1710.11063). The others: Poppi et al. (arXiv 2104.10252). All are parts of 1 rather than
percentages.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from otx_xai.records import FloatArray, UInt8Array


def mask_image(image: UInt8Array, saliency_map: FloatArray, colour: UInt8Array) -> UInt8Array:
    """Multiply an image with its map, as the network sees it.

    Args:
        image: ``uint8`` ``(H, W, 3)``, the network's input.
        saliency_map: ``float32`` ``(H, W)`` in [0, 1].
        colour: ``uint8`` ``(3,)``: the pixel that becomes 0 behind the network's normalisation; see
            :func:`~otx_xai.metrics.zero_colour`. What the map leaves out fades to it.

    Returns:
        ``uint8`` ``(H, W, 3)``.
    """
    zero = colour.astype(np.float32)
    product = (image - zero) * saliency_map[..., None] + zero
    masked: UInt8Array = cv2.convertScaleAbs(product)
    return masked


def average_drop(scores: FloatArray, masked: FloatArray) -> FloatArray:
    """Return the part of its score that each class loses where the image is masked by the map of that class.

    Args:
        scores: of the images, ``(...)``, at least 0.
        masked: of the images multiplied with their maps, ``(...)``.

    Returns:
        ``float32`` ``(...)`` in [0, 1], of which the mean is the average drop; less is better. NaN where the class
        had no score that it could lose.
    """
    scores, masked = np.asarray(scores, np.float32), np.asarray(masked, np.float32)
    none = np.full(np.broadcast(scores, masked).shape, np.nan, np.float32)
    drops: FloatArray = np.divide(np.maximum(scores - masked, 0), scores, out=none, where=scores > 0)
    return drops


def coherency(maps: FloatArray, masked: FloatArray) -> FloatArray:
    """Return how well the maps of images agree with the maps of the same images multiplied with their maps.

    Args:
        maps: ``(M, h, w)``, finite.
        masked: the maps of the same classes in the masked images, ``(M, h, w)``.

    Returns:
        ``float32`` ``(M,)`` in [0, 1], more is better: ``(1 + r) / 2`` of Pearson's correlation ``r``, so that 0.5 is
        no agreement. A constant map agrees with none.
    """
    first, second = _centred(maps), _centred(masked)
    spread = np.sqrt(np.square(first).sum(axis=1) * np.square(second).sum(axis=1))
    correlation = np.divide((first * second).sum(axis=1), spread, out=np.zeros(len(first)), where=spread > 0)
    result: FloatArray = ((1 + np.clip(correlation, -1, 1)) / 2).astype(np.float32)
    return result


def complexity(maps: FloatArray) -> FloatArray:
    """Return the mean of every map ``(M, h, w)`` in [0, 1]: ``float32`` ``(M,)``; less is better."""
    result: FloatArray = maps.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return result


def adcc(coherency: ArrayLike, complexity: ArrayLike, average_drop: ArrayLike) -> NDArray[np.float64]:
    """Return the harmonic mean of coherency, ``1 - complexity`` and ``1 - average_drop``.

    Args:
        coherency: in [0, 1], of any shape, as the others.
        complexity: in [0, 1].
        average_drop: in [0, 1].

    Returns:
        In [0, 1], more is better; 0 where one of the three is. Given the averages of many images, it is what the paper
        tabulates; the average of the ADCC of single images is lower.
    """
    parts = np.stack(np.broadcast_arrays(coherency, 1 - np.asarray(complexity), 1 - np.asarray(average_drop)))
    with np.errstate(divide="ignore"):  # 1 / 0 = ∞, and 3 / ∞ = 0
        mean: NDArray[np.float64] = 3 / (1 / np.maximum(parts.astype(np.float64), 0)).sum(axis=0)
    return mean


def _centred(maps: Any) -> NDArray[np.float64]:
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    centred: NDArray[np.float64] = flat - flat.mean(axis=1, keepdims=True)
    return centred
