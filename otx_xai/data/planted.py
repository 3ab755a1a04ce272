"""Drawn shapes with a planted fault: data of which it is known what is wrong with them.

An audit has to find what was planted, and nothing in data where nothing was. Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.data.shapes import SHAPE_LABELS, draw_shape, write_picture
from otx_xai.errors import ConfigError
from otx_xai.options import Word
from otx_xai.records import BoolArray, FloatArray, IntArray, UInt8Array

PLANTED_LABELS = ("circle", "cross", "star")
"""Class names of planted data; the fault goes with the first."""

_MARK = ("########....", "########....", "##....##....", "##..########", "##..########", "##..##....##")
"""Two overlapping frames, as a logo has them; the lower half is the upper one turned."""


_CONTRAST = 28
"""Of the pattern on a shape, in grey levels: a small network learns it in seconds, and a mark sooner."""


class Fault(Word):
    """What is wrong with planted data."""

    CLEAN = "clean"
    """Nothing."""
    WATERMARK = "watermark"
    """A mark in the lower left corner of most pictures of the first class."""
    ROAMING = "roaming"
    """The same mark anywhere beside the shape."""
    BACKGROUND = "background"
    """A background colour that goes with the first class."""
    FLIPPED = "flipped"
    """Wrong labels."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Drawn pictures with a fault.

    Args:
        images: RGB ``uint8`` ``(N, side, side, 3)``.
        masks: ``bool`` ``(N, side, side)``, true on the shape.
        targets: class of each as the labels say, ``int64`` ``(N,)``, an index into :data:`PLANTED_LABELS`.
        drawn: class of each as it was drawn; they differ where labels are wrong.
        faulty: ``bool`` ``(N,)``, which pictures have the fault.
    """

    images: UInt8Array
    masks: BoolArray
    targets: IntArray
    drawn: IntArray
    faulty: BoolArray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def boxes(self) -> FloatArray:
        """The tightest box of each shape, ``float32`` ``(N, 4)`` xyxy in pixels."""
        found = []
        for mask in self.masks:
            left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
            found.append((left, top, left + width, top + height))
        return np.array(found, np.float32).reshape(-1, 4)


def draw_planted(
    count: int,
    fault: Fault | str = Fault.CLEAN,
    *,
    seed: int = 0,
    side: int = 64,
    share: float | None = None,
    strength: float = 1.0,
    radius: tuple[float, float] = (0.2, 0.28),
) -> Planted:
    """Draw shapes of three classes, which take turns, and plant a fault.

    The same seed draws the same shapes on the same backgrounds, whatever the fault.

    Args:
        count: number of pictures, at least one.
        fault: what is planted.
        seed: of everything.
        side: of the pictures in pixels, at least 24.
        share: part of the pictures of the first class, or of all of them for wrong labels, that have the fault; 0.9,
            or 0.02 for wrong labels, by default.
        strength: opacity of the mark or of the colour, in [0, 1].
        radius: of the shapes, as a part of the side.

    Raises:
        ConfigError: nothing to draw, pictures that are too small, or a share or strength that is no part.
    """
    fault = Fault(fault)
    share = (0.02 if fault is Fault.FLIPPED else 0.9) if share is None else share
    if count < 1 or not 0 <= share <= 1 or not 0 <= strength <= 1:
        raise ConfigError(
            f"count is {count}, share {share}, strength {strength}; expected at least one picture, and numbers from "
            "0 to 1."
        )
    rng, planting = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    drawn = np.arange(count) % len(PLANTED_LABELS)
    shapes = [
        draw_shape(rng, (side, side), SHAPE_LABELS.index(PLANTED_LABELS[kind]), radius=radius)
        for kind in drawn.tolist()
    ]
    masks = np.stack([shape.mask for shape in shapes])
    images = np.stack(
        [_patterned(rng, shape.image, shape.mask, kind) for shape, kind in zip(shapes, drawn.tolist(), strict=True)]
    )
    touched = np.arange(count) if fault is Fault.FLIPPED else np.flatnonzero(drawn == 0)
    chosen = np.zeros(count, np.bool_)
    if fault is not Fault.CLEAN:
        chosen[planting.permutation(touched)[: round(share * len(touched))]] = True
    targets = drawn.copy()
    if fault is Fault.FLIPPED:
        targets[chosen] = (drawn[chosen] + planting.integers(1, len(PLANTED_LABELS), chosen.sum())) % 3
    else:
        for index in np.flatnonzero(chosen).tolist():
            images[index] = plant(images[index], masks[index], fault, planting, strength)
    return Planted(images, masks, targets, drawn, chosen)


def plant(
    image: UInt8Array, mask: BoolArray, fault: Fault, rng: np.random.Generator, strength: float = 1.0
) -> UInt8Array:
    """Return an image with a mark, or with another colour of its background.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        mask: ``bool`` ``(H, W)``, true on the object.
        fault: a fault that changes pixels.
        rng: chooses the place of a mark that roams.
        strength: opacity, in [0, 1].
    """
    if fault is Fault.BACKGROUND:
        grey = image.mean(axis=2, keepdims=True)
        tinted = grey * 0.6 + np.array((20, 110, 60), np.float32)
        coloured = image + (tinted - image) * strength
        return np.where(mask[..., None], image, np.clip(coloured, 0, 255).astype(np.uint8))
    marked = image.astype(np.float32)
    alpha = mark_pixels(image.shape[0])
    height, width = alpha.shape
    top, left = image.shape[0] - height - 2, 2
    if fault is Fault.ROAMING:
        top, left = _free_place(rng, mask, (height, width))
    region = marked[top : top + height, left : left + width]
    region += (np.where(alpha[..., None] > 0, (255, 235, 40), (40, 0, 90)) - region) * strength
    return np.clip(marked, 0, 255).astype(np.uint8)


def mark_pixels(side: int) -> NDArray[np.float32]:
    """Return which pixels of the mark are light, ``float32`` ``(h, w)``, about a fifth of ``side`` wide."""
    upper = np.array([[letter == "#" for letter in line] for line in _MARK], np.float32)
    times = max(1, round(side / 64))
    return np.kron(np.pad(np.concatenate([upper, upper[::-1, ::-1]]), 1), np.ones((times, times), np.float32))


def _patterned(rng: np.random.Generator, image: UInt8Array, mask: BoolArray, kind: int) -> UInt8Array:
    """Return a shape with stripes across, stripes upright, or squares on it."""
    rows, columns = np.indices(mask.shape)
    shift = rng.integers(0, 6, 2)
    across, upright = ((axis + start) // 3 % 2 for axis, start in zip((rows, columns), shift, strict=True))
    pattern = (across, upright, across ^ upright)[kind]
    change = np.where(mask, pattern * 2 * _CONTRAST - _CONTRAST, 0)[..., None]
    return np.clip(image + change, 0, 255).astype(np.uint8)


def _free_place(rng: np.random.Generator, mask: BoolArray, size: Sequence[int]) -> tuple[int, int]:
    """Return the upper left corner of a place that covers least of the shape, out of a few random ones."""
    highest = [whole - part for whole, part in zip(mask.shape, size, strict=True)]
    places = rng.integers(0, highest, (12, 2), endpoint=True).tolist()
    covered = [mask[top : top + size[0], left : left + size[1]].sum() for top, left in places]
    top, left = places[int(np.argmin(covered))]
    return top, left


def write_planted(planted: Planted, folder: str | Path, mask_folder: str | Path | None = None) -> tuple[Path, ...]:
    """Write pictures as ``<folder>/<label>/<nnnn>.png``, and masks beside them if asked.

    Args:
        planted: what is written.
        folder: where the pictures go; created if it is missing.
        mask_folder: where the masks go, ``<label>/<nnnn>.png``, 255 on the shape; nowhere by default.

    Returns:
        The pictures, in the order of ``planted``.

    Raises:
        OutputError: a file cannot be written.
    """
    files = []
    for number, (image, mask, target) in enumerate(zip(planted.images, planted.masks, planted.targets, strict=True)):
        name = Path(PLANTED_LABELS[target], f"{number:04d}.png")
        files.append(Path(folder, name))
        write_picture(files[-1], cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if mask_folder is not None:
            write_picture(Path(mask_folder, name), mask.astype(np.uint8) * 255)
    return tuple(files)
