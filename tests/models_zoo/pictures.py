"""Drawn pictures: smooth, so that it matters little which filter resizes them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALL = (150, 210)
"""Height and width of a picture that every network stretches: made larger, all linear filters give the same."""


def wider(side: int) -> tuple[int, int]:
    """Return the size of a picture that is cropped on both sides, where its height is kept."""
    return side, side * 4 // 3 // 2 * 2


def draw(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Draw blurred ellipses and rectangles on a gradient, RGB ``(H, W, 3)``."""
    height, width = size
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    ends = chance.uniform(40, 215, (3, 3))
    picture = (ends[0] + y[..., None] * (ends[1] - ends[0]) + x[..., None] * (ends[2] - ends[0])) / 1.5
    picture = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    for number in range(14):
        centre = (int(chance.uniform(0, width)), int(chance.uniform(0, height)))
        half = (int(chance.uniform(0.04, 0.18) * width) + 1, int(chance.uniform(0.04, 0.18) * height) + 1)
        colour = tuple(int(value) for value in chance.integers(0, 256, 3))
        if number % 2:
            cv2.ellipse(picture, centre, half, float(chance.uniform(0, 180)), 0, 360, colour, -1)
        else:
            corners = [(centre[0] - half[0], centre[1] - half[1]), (centre[0] + half[0], centre[1] + half[1])]
            cv2.rectangle(picture, *corners, colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), max(size) / 120)


def write(folder: Path, *sizes: tuple[int, int]) -> dict[str, Image.Image]:
    """Write the same scene in each size, so that a network finds about as much in each; return them by file name."""
    pictures = {}
    for size in sizes:
        name = f"{size[0]}x{size[1]}.png"
        pictures[name] = Image.fromarray(draw(size))
        pictures[name].save(folder / name)
    return pictures
