"""Cluttered backgrounds that shapes are drawn on: gradients with noise, stripes, lines, scribbles and blobs.

Everything follows from the random generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from otx_xai.records import FloatArray, Size


def draw_background(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return a gradient with two or three kinds of clutter on it, ``float32`` ``(H, W, 3)`` in [0, 255]."""
    background = _gradient(rng, size)
    for clutter in rng.permutation(len(_CLUTTER))[: rng.integers(2, 4)]:
        background = _CLUTTER[clutter](rng, background)
    return np.clip(background, 0, 255)


def _gradient(rng: np.random.Generator, size: Size) -> FloatArray:
    start, end = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    gradient: FloatArray = start + ramp(rng, size)[..., None] * (end - start)
    return gradient


def ramp(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return a slope from 0 to 1 in a random direction, ``float32`` ``(H, W)``."""
    phase = _phase(rng, size)
    ramp: FloatArray = (phase - phase.min()) / np.ptp(phase)
    return ramp


def _phase(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return the distance of each pixel along a random direction, ``float32`` ``(H, W)`` in pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.arange(side, dtype=np.float32) for side in size)
    return x * np.float32(np.cos(angle)) + y[:, None] * np.float32(np.sin(angle))


def noise(rng: np.random.Generator, spread: float, shape: tuple[int, ...]) -> FloatArray:
    """Return normal noise around 0, ``float32``."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def _add_clouds(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """Coarse noise, smoothly enlarged."""
    height, width = background.shape[:2]
    coarse = noise(rng, 22, (*rng.integers(3, 9, 2).tolist(), 3))
    clouds: FloatArray = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return background + clouds


def _add_grain(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """Fine grey noise."""
    height, width = background.shape[:2]
    return background + noise(rng, rng.uniform(5, 18), (height, width, 1))


def _add_stripes(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """A wave across the whole picture."""
    height, width = background.shape[:2]
    period = rng.uniform(5, 0.25 * min(height, width))
    wave = np.sin(_phase(rng, (height, width)) * np.float32(2 * np.pi / period))
    striped: FloatArray = background + wave[..., None] * rng.uniform(-25, 25, 3).astype(np.float32)
    return striped


def _add_lines(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """Straight lines from beyond one edge to beyond another."""
    height, width = background.shape[:2]
    canvas = background.copy()
    for _ in range(rng.integers(3, 9)):
        ends = rng.uniform(-0.3, 1.3, (2, 2)) * (width, height)
        thickness = int(rng.integers(1, 4))
        start, end = np.round(ends).astype(int).tolist()
        cv2.line(canvas, start, end, rng.uniform(0, 255, 3).tolist(), thickness, cv2.LINE_AA)
    return canvas


def _add_scribbles(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """Open, crooked strokes."""
    height, width = background.shape[:2]
    canvas = background.copy()
    for _ in range(rng.integers(2, 6)):
        steps = rng.normal(0, 0.09 * min(height, width), (rng.integers(4, 9), 2))
        stroke = rng.uniform(0, (width, height)) + np.cumsum(steps, axis=0)
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.polylines(canvas, [np.round(stroke).astype(np.int32)], False, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return canvas


def _add_blobs(rng: np.random.Generator, background: FloatArray) -> FloatArray:
    """Soft, long spots without an edge."""
    height, width = background.shape[:2]
    canvas = background.copy()
    for _ in range(rng.integers(3, 8)):
        fall_y, fall_x = (
            np.exp(-(((np.arange(side) - rng.uniform(0, side)) / (rng.uniform(0.05, 0.25) * min(height, width))) ** 2))
            for side in (height, width)
        )
        spot = np.outer(fall_y, fall_x).astype(np.float32)
        canvas += spot[..., None] * rng.uniform(-70, 70, 3).astype(np.float32)
    return canvas


_CLUTTER: tuple[Callable[[np.random.Generator, FloatArray], FloatArray], ...] = (
    _add_clouds,
    _add_grain,
    _add_stripes,
    _add_lines,
    _add_scribbles,
    _add_blobs,
)
