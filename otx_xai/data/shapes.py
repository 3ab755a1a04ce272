"""Drawn shapes on cluttered backgrounds: small labelled images whose evidence is known to the pixel.

The demo trains on them and measures whether a saliency map points at the shape; the tests use them wherever a real
picture is wanted. Everything follows from the random generator that is passed in: the same seed gives the same
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.data.clutter import draw_background, noise, ramp
from otx_xai.data.patterns import draw_pattern
from otx_xai.errors import ConfigError, OutputError
from otx_xai.records import BoolArray, FloatArray, Size, UInt8Array

SHAPE_LABELS: tuple[str, ...] = ("circle", "cross", "heart", "square", "star", "triangle")
"""Class names; a *target* is an index into them. Sorted, so an ImageFolder counts its classes in the same order."""

_SMALLEST_SIDE = 24
_SUPERSAMPLING = 4
_ATTEMPTS = 50


@dataclass(frozen=True)
class Shape:
    """A picture of one shape.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        mask: ``bool`` ``(H, W)``, true on the pixels that the shape covers.
        target: index into :data:`SHAPE_LABELS`.
    """

    image: UInt8Array
    mask: BoolArray
    target: int

    @property
    def label(self) -> str:
        """The name of the shape."""
        return SHAPE_LABELS[self.target]


@dataclass(frozen=True)
class ShapeFile:
    """A picture of one shape on disk.

    Args:
        path: the JPEG picture.
        mask_path: its mask, a PNG of the same size: 255 on the shape, 0 elsewhere.
        target: index into :data:`SHAPE_LABELS`.
    """

    path: Path
    mask_path: Path
    target: int


def draw_shape(
    rng: np.random.Generator,
    size: Size,
    target: int,
    *,
    radius: tuple[float, float] = (0.18, 0.30),
    patterned: bool = False,
) -> Shape:
    """Draw one shape of random size, place, rotation and colour on a cluttered background.

    The shape lies wholly inside the picture. Its colour stands out from what it covers.

    Args:
        rng: the only source of randomness.
        size: ``(height, width)`` of the picture, at least 24 pixels each.
        target: index into :data:`SHAPE_LABELS`.
        radius: smallest and largest radius of the shape, as a part of the picture's shorter side, in (0, 0.5].
        patterned: give each class a pattern of its own (:mod:`otx_xai.data.patterns`), which is learned in seconds.

    Returns:
        The picture, the mask of the shape, and the target.

    Raises:
        ConfigError: the size is too small, the target is no class, or the radius is out of range.
    """
    _check(size, target, radius)
    background = draw_background(rng, size)
    outline = _draw_outline(rng, size, SHAPE_LABELS[target], rng.uniform(*radius) * min(size))
    coverage = _cover(size, outline)
    paint = _paint(rng, size, _pick_colour(rng, background, coverage))
    if patterned:
        paint = paint + draw_pattern(rng, size, SHAPE_LABELS[target])[..., None]
    blended = background + coverage[..., None] * (paint - background)
    noisy = blended + noise(rng, rng.uniform(1, 6), (*size, 3))
    return Shape(image=np.clip(noisy, 0, 255).astype(np.uint8), mask=coverage >= 0.5, target=target)


@dataclass(frozen=True)
class Scene:
    """A picture of several shapes that do not touch.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        masks: ``bool`` ``(M, H, W)``, one a shape.
        outlines: one a shape: ``float32`` ``(P, 2)``, its corners as ``(x, y)`` in pixels.
        targets: one a shape: index into :data:`SHAPE_LABELS`.
    """

    image: UInt8Array
    masks: BoolArray
    outlines: tuple[FloatArray, ...]
    targets: tuple[int, ...]

    @property
    def boxes(self) -> FloatArray:
        """The tightest box of every mask, ``float32`` ``(M, 4)`` ``xyxy`` in pixels."""
        boxes = []
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return np.array(boxes, np.float32).reshape(-1, 4)


def draw_scene(
    rng: np.random.Generator,
    size: Size,
    targets: Sequence[int],
    *,
    radius: tuple[float, float] = (0.12, 0.22),
    patterned: bool = False,
) -> Scene:
    """Draw shapes that do not touch on one cluttered background.

    Args:
        rng: the only source of randomness.
        size: ``(height, width)`` of the picture, at least 24 pixels each.
        targets: one a shape: index into :data:`SHAPE_LABELS`.
        radius: smallest and largest radius of a shape, as a part of the picture's shorter side, in (0, 0.5].
        patterned: give each class a pattern of its own.

    Returns:
        The picture. A shape for which no room is found in 50 attempts is left out; the first one always has room.

    Raises:
        ConfigError: the size is too small, a target is no class, or the radius is out of range.
    """
    for target in targets:
        _check(size, target, radius)
    canvas = draw_background(rng, size)
    taken = np.zeros(size, np.uint8)
    masks, outlines, drawn = [], [], []
    for target in targets:
        for _ in range(_ATTEMPTS):
            outline = _draw_outline(rng, size, SHAPE_LABELS[target], rng.uniform(*radius) * min(size))
            coverage = _cover(size, outline)
            if not taken[coverage > 0].any():
                break
        else:
            continue
        paint = _paint(rng, size, _pick_colour(rng, canvas, coverage))
        if patterned:
            paint = paint + draw_pattern(rng, size, SHAPE_LABELS[target])[..., None]
        canvas = canvas + coverage[..., None] * (paint - canvas)
        taken |= cv2.dilate((coverage > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
        masks.append(coverage >= 0.5)
        outlines.append(outline.astype(np.float32))
        drawn.append(target)
    noisy = canvas + noise(rng, rng.uniform(1, 6), (*size, 3))
    stacked = np.array(masks, np.bool_).reshape(-1, *size)
    return Scene(np.clip(noisy, 0, 255).astype(np.uint8), stacked, tuple(outlines), tuple(drawn))


def _check(size: Size, target: int, radius: tuple[float, float]) -> None:
    if not 0 < radius[0] <= radius[1] <= 0.5:
        raise ConfigError(f"The radius is {radius}; expected two rising numbers above 0 and up to 0.5.")
    if not 0 <= target < len(SHAPE_LABELS):
        raise ConfigError(f"The target is {target}; expected an index from 0 to {len(SHAPE_LABELS) - 1}.")
    if min(size) < _SMALLEST_SIDE:
        raise ConfigError(f"The picture size is {size}; expected at least {_SMALLEST_SIDE} pixels a side.")


def draw_size(rng: np.random.Generator, size: int) -> Size:
    """Draw the ``(height, width)`` of a picture: each side from 3/4 to 5/4 of ``size``, so seldom a square."""
    height, width = rng.integers(size * 3 // 4, size * 5 // 4, 2, endpoint=True).tolist()
    return height, width


def write_shapes(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 160,
    mask_folder: str | Path | None = None,
) -> tuple[ShapeFile, ...]:
    """Write pictures as ``<folder>/<label>/<nnnn>.jpg`` and masks as ``<mask_folder>/<label>/<nnnn>.png``.

    The classes take turns, so their numbers differ by one at most.

    Args:
        folder: where the pictures go; created if it is missing.
        count: number of pictures, at least one.
        seed: the same seed, count and size give the same files.
        size: typical side in pixels; see :func:`draw_size`.
        mask_folder: where the masks go; ``<folder>_masks`` where it is not given, so that no source of images
            takes a mask for a picture.

    Returns:
        What was written, in the order of drawing.

    Raises:
        ConfigError: nothing to draw, or the size is too small.
        OutputError: a file cannot be written.
    """
    if count < 1:
        raise ConfigError(f"The number of pictures is {count}; expected at least 1.")
    folder = Path(folder)
    mask_folder = folder.with_name(f"{folder.name}_masks") if mask_folder is None else Path(mask_folder)
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        shape = draw_shape(rng, draw_size(rng, size), number % len(SHAPE_LABELS))
        name = f"{shape.label}/{number:04d}"
        file = ShapeFile(folder / f"{name}.jpg", mask_folder / f"{name}.png", shape.target)
        write_picture(file.path, cv2.cvtColor(shape.image, cv2.COLOR_RGB2BGR))
        write_picture(file.mask_path, shape.mask.astype(np.uint8) * 255)
        files.append(file)
    return tuple(files)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Encode by the file's ending and write; ``picture`` is grey, or BGR.

    Raises:
        OutputError: the file cannot be written.
    """
    _, encoded = cv2.imencode(path.suffix, picture)
    write_file(path, encoded.tobytes())


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and make its folder if it is missing.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}. Choose a folder that is writable.") from error


# --------------------------------------------------------------------------------------------------------------------
# The shape
# --------------------------------------------------------------------------------------------------------------------


def _draw_outline(rng: np.random.Generator, size: Size, label: str, radius: float) -> NDArray[np.float64]:
    """Return the corners of a shape somewhere in the picture, ``(points, 2)`` as ``(x, y)``."""
    height, width = size
    centre = rng.uniform(radius, (width - radius, height - radius))
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outline: NDArray[np.float64] = centre + radius * _OUTLINES[label]() @ rotation.T
    return outline


def _cover(size: Size, outline: NDArray[np.float64]) -> FloatArray:
    """Return the part of each pixel that lies inside of the outline, ``float32`` ``(H, W)`` in [0, 1]."""
    height, width = size
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, [np.round(outline * _SUPERSAMPLING).astype(np.int32)], 255)
    coverage = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    part: FloatArray = coverage.astype(np.float32) / 255
    return part


def _circle() -> NDArray[np.float64]:
    return _ring(64)


def _cross() -> NDArray[np.float64]:
    arm, end = 0.38, 0.92
    quarter = np.array([[end, -arm], [end, arm], [arm, arm]])
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turn) for turn in range(4)]
    return np.concatenate([quarter @ turn.T for turn in turns])


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2.5], axis=1) / 17.5


def _square() -> NDArray[np.float64]:
    return _ring(4)


def _star() -> NDArray[np.float64]:
    return _ring(10) * np.where(np.arange(10) % 2, 0.5, 1.0)[:, None]


def _triangle() -> NDArray[np.float64]:
    return _ring(3)


def _ring(points: int) -> NDArray[np.float64]:
    """Return the corners of a regular polygon on the unit circle, ``(points, 2)`` as ``(x, y)``."""
    angles = np.arange(points) * 2 * np.pi / points
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_OUTLINES: dict[str, Callable[[], NDArray[np.float64]]] = {
    "circle": _circle,
    "cross": _cross,
    "heart": _heart,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}


def _pick_colour(rng: np.random.Generator, background: FloatArray, coverage: FloatArray) -> FloatArray:
    """Return, of a few random colours, the one farthest from what the shape covers: ``float32`` ``(3,)``."""
    covered = background[coverage >= 0.5].mean(axis=0)
    candidates = rng.uniform(0, 255, (12, 3)).astype(np.float32)
    farthest: FloatArray = candidates[np.abs(candidates - covered).sum(axis=1).argmax()]
    return farthest


def _paint(rng: np.random.Generator, size: Size, colour: FloatArray) -> FloatArray:
    """Return the colour with a light from one side, ``float32`` ``(H, W, 3)``: few real surfaces are flat."""
    light = (ramp(rng, size) - 0.5) * np.float32(rng.uniform(0, 50))
    return colour + light[..., None]
