"""The scores of a method, and tables of their averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from otx_xai.metrics.adcc import adcc
from otx_xai.records import FloatArray


@dataclass(frozen=True, eq=False)
class Scores:
    """What the maps of one method score, one number an image: ``float32`` ``(N,)`` each, in [0, 1].

    NaN stands where there is no score: no boxes are known, or the class scored nothing in the image.

    Args:
        insertion_blur: area under the insertion curve, from a blurred image; more is better.
        insertion_zero: from an image of one colour.
        deletion_blur: area under the deletion curve, to a blurred image; less is better.
        deletion_zero: to an image of one colour.
        average_drop: less is better.
        coherency: more is better.
        complexity: less is better.
        pointing_game: more is better.
        energy_in_box: more is better.
    """

    insertion_blur: FloatArray
    insertion_zero: FloatArray
    deletion_blur: FloatArray
    deletion_zero: FloatArray
    average_drop: FloatArray
    coherency: FloatArray
    complexity: FloatArray
    pointing_game: FloatArray
    energy_in_box: FloatArray


@dataclass(frozen=True)
class Estimate:
    """An average over images.

    Args:
        mean: the average; NaN over no image.
        error: its standard error; NaN over fewer than two images.
        count: number of images.
    """

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        if not self.count:
            return "-"
        return f"{self.mean:.3f}" if self.count < 2 else f"{self.mean:.3f} ±{self.error:.3f}"


COLUMNS = {
    "insertion_blur": "insertion blur ↑",
    "insertion_zero": "insertion zero ↑",
    "deletion_blur": "deletion blur ↓",
    "deletion_zero": "deletion zero ↓",
    "average_drop": "average drop ↓",
    "coherency": "coherency ↑",
    "complexity": "complexity ↓",
    "adcc": "ADCC ↑",
    "pointing_game": "pointing game ↑",
    "energy_in_box": "energy in box ↑",
}
"""Titles of the metrics; the arrow points to where better is."""


def estimates(scores: Scores) -> dict[str, Estimate]:
    """Average every metric over the images that have it.

    ADCC is the harmonic mean of averages, as published, over the images that have all three of its parts; its standard
    error is that of the jackknife.

    Returns:
        One estimate for each key of :data:`COLUMNS`.
    """
    found = {field.name: mean_of(getattr(scores, field.name)) for field in fields(scores)}
    return {name: _adcc(scores) if name == "adcc" else found[name] for name in COLUMNS}


def differences(scores: Scores, control: Scores) -> dict[str, Estimate]:
    """Average how much more a method scores than a control on the same images, image by image.

    The standard error of a difference is far below that of the two scores, since images that are hard for one are hard
    for the other.

    Returns:
        One estimate for each metric but ADCC, which single images do not have.
    """
    names = [field.name for field in fields(scores)]
    return {name: mean_of(getattr(scores, name) - getattr(control, name)) for name in names}


def table(scores: Mapping[str, Scores], *, markdown: bool = False) -> str:
    """Lay averages and standard errors out: a row a method, a column a metric that any method has.

    Args:
        scores: name of the method → its scores.
        markdown: with bars between columns.
    """
    rows = {name: estimates(own) for name, own in scores.items()}
    columns = [column for column in COLUMNS if any(row[column].count for row in rows.values())]
    cells = [["method", "images", *(COLUMNS[column] for column in columns)]]
    for name, row in rows.items():
        images = len(scores[name].complexity)
        # a number of images beside a figure that fewer of them have
        shown = [f"{row[c]} ({row[c].count})" if 0 < row[c].count < images else str(row[c]) for c in columns]
        cells.append([name, str(images), *shown])
    lines = lined_up(cells)
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], f"|{'|'.join('-' * (len(cell) + 2) for cell in lines[0])}|", *texts[1:]])


def lined_up(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Fill the cells of a table up with spaces, so that its columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]


def mean_of(values: FloatArray) -> Estimate:
    """Average values ``(N,)``, one an image, over those that are not NaN."""
    known = values[~np.isnan(values)].astype(np.float64)
    count = len(known)
    if not count:
        return Estimate(np.nan, np.nan, 0)
    error = known.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Estimate(float(known.mean()), float(error), count)


def _adcc(scores: Scores) -> Estimate:
    parts = np.stack([scores.coherency, scores.complexity, scores.average_drop]).astype(np.float64)
    parts = parts[:, ~np.isnan(parts).any(axis=0)]
    count = parts.shape[1]
    if not count:
        return Estimate(np.nan, np.nan, 0)
    total = parts.sum(axis=1)
    mean = float(adcc(*(total / count)))
    if count < 2:
        return Estimate(mean, np.nan, count)
    without: NDArray[np.float64] = adcc(*(total[:, None] - parts) / (count - 1))
    error = np.sqrt((count - 1) * np.square(without - without.mean()).mean())
    return Estimate(mean, float(error), count)
