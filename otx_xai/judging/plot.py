"""One picture of a judgement: a panel a metric with a dot a method, and the curves of the sanity checks.

It is drawn with what draws overlays, so that it needs no package for plots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from otx_xai.counting import counted
from otx_xai.judging.judgement import JudgedMethod, Judgement
from otx_xai.judging.sanity import UNCHANGED, Sanity
from otx_xai.metrics import Estimate, estimates
from otx_xai.metrics.summaries import COLUMNS
from otx_xai.records import UInt8Array
from otx_xai.report.text import Colour, shorten, text_width, write

_PAPER, _INK, _FAINT, _GRID = (255, 255, 255), (40, 44, 52), (120, 124, 132), (226, 228, 232)
_CONTROL = (150, 150, 150)
_COLOURS: tuple[Colour, ...] = (
    (31, 119, 180),
    (214, 39, 40),
    (44, 160, 44),
    (148, 103, 189),
    (255, 127, 14),
    (23, 190, 207),
    (140, 86, 75),
    (227, 119, 194),
    (188, 189, 34),
)
_LETTERS, _SMALL = 17, 14
_ROW, _HEAD, _AXIS = 26, 50, 28
_NAMES, _PANEL, _GAP, _EDGE = 210, 250, 30, 24
_ACROSS = 5
_CURVES = 300
_DOT = 5


@dataclass(frozen=True)
class _Axis:
    """From values to pixels along one line.

    Args:
        low: value at ``first``.
        high: value at ``last``.
        first: pixel.
        last: pixel.
    """

    low: float
    high: float
    first: int
    last: int

    def at(self, value: float) -> int:
        """Return the pixel of a value; those beyond the ends at the ends, all at the first where these are one."""
        share = min(1.0, max(0.0, (value - self.low) / ((self.high - self.low) or 1.0)))
        return round(self.first + share * (self.last - self.first))


def draw_judgement(judgement: Judgement) -> UInt8Array:
    """Draw a judgement with at least one judged image.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``.
    """
    rows = [method for method in judgement.methods if method.name in judgement.scores]
    found = {method.name: estimates(judgement.scores[method.name]) for method in rows}
    metrics = [name for name in COLUMNS if any(own[name].count for own in found.values())]
    width = _EDGE * 2 + _NAMES + min(_ACROSS, len(metrics)) * (_PANEL + _GAP)
    counts = judgement.counts
    title = f"{counted(counts.judged, 'image')}; bars: standard error of the mean over images"
    bands = [_line(width, title)]
    for first in range(0, len(metrics), _ACROSS):
        bands.append(_band(width, rows, found, metrics[first : first + _ACROSS]))
    if judgement.sanity is not None and judgement.sanity.stages:
        bands.append(_line(width, _sanity_title(judgement.sanity)))
        bands.append(_sanity_band(width, rows, judgement.sanity))
    return np.concatenate(bands)


def _band(
    width: int, rows: Sequence[JudgedMethod], found: dict[str, dict[str, Estimate]], metrics: Sequence[str]
) -> UInt8Array:
    """Draw some metrics side by side, with the names of the rows on the left."""
    band = _paper(_HEAD + len(rows) * _ROW + _AXIS + _GAP, width)
    for number, method in enumerate(rows):
        top = _HEAD + number * _ROW
        name = shorten(method.name, _NAMES - 10, _LETTERS)
        left = _EDGE + _NAMES - 10 - text_width(name, _LETTERS)
        write(band[top : top + _ROW], name, left, _LETTERS, _INK if not method.is_control else _FAINT)
    for place, metric in enumerate(metrics):
        left = _EDGE + _NAMES + place * (_PANEL + _GAP)
        values = [found[method.name][metric] for method in rows]
        panel = _paper(len(band), _PANEL)
        _panel(panel, COLUMNS[metric], values, _colours(rows))
        band[:, left : left + _PANEL] = panel
    return band


def _panel(panel: UInt8Array, title: str, values: Sequence[Estimate], colours: Sequence[Colour]) -> None:
    name, arrow = title.rsplit(" ", 1)
    write(panel[:26], name, 4, _LETTERS, _INK)
    write(panel[24:46], "more is better" if arrow == "↑" else "less is better", 4, _SMALL, _FAINT)
    ends = [edge for own in values if own.count for edge in (own.mean - _error(own), own.mean + _error(own))]
    low, high, step = _nice(min(ends), max(ends))
    axis = _Axis(low, high, 14, _PANEL - 14)
    bottom = _HEAD + len(values) * _ROW
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        x = axis.at(value)
        cv2.line(panel, (x, _HEAD), (x, bottom), _GRID, 1)
        _centred(panel[bottom + 2 : bottom + 24], f"{value:.3g}", x)
    for number, (own, colour) in enumerate(zip(values, colours, strict=True)):
        if not own.count:
            continue
        y = _HEAD + number * _ROW + _ROW // 2
        ends_x = axis.at(own.mean - _error(own)), axis.at(own.mean + _error(own))
        cv2.line(panel, (ends_x[0], y), (ends_x[1], y), colour, 2, cv2.LINE_AA)
        cv2.circle(panel, (axis.at(own.mean), y), _DOT, colour, -1, cv2.LINE_AA)


def _sanity_band(width: int, rows: Sequence[JudgedMethod], sanity: Sanity) -> UInt8Array:
    """Draw the curve of each method over the number of random layers, and a dot for another class."""
    band = _paper(_CURVES + 3 * _GAP, width)
    lows = [alike.rank.mean for own in sanity.methods.values() for alike in own.all if alike.rank.count]
    across = _Axis(0, sanity.layers, _EDGE + 60, _EDGE + 60 + 2 * _PANEL)
    up = _Axis(min(0.0, math.floor(min(lows, default=0.0) * 5) / 5), 1.0, _GAP + _CURVES, _GAP)
    _frame(band, across, up, sanity)
    colours = dict(zip((method.name for method in rows), _colours(rows), strict=True))
    other = across.last + 90
    for number, (name, own) in enumerate(sanity.methods.items()):
        points = [(0, 1.0)] + [
            (count, alike.rank.mean)
            for count, alike in zip(sanity.stages, own.layers, strict=False)
            if alike.rank.count
        ]
        places = np.array([[across.at(count), up.at(value)] for count, value in points], np.int32)
        colour = colours.get(name, _INK)
        cv2.polylines(band, [places], False, colour, 2, cv2.LINE_AA)
        for x, y in places.tolist():
            cv2.circle(band, (x, y), _DOT - 1, colour, -1, cv2.LINE_AA)
        if own.labels is not None and own.labels.rank.count:
            cv2.circle(band, (other, up.at(own.labels.rank.mean)), _DOT, colour, -1, cv2.LINE_AA)
        told = f"{name}: does not change with {', '.join(own.unchanged)}" if own.unchanged else name
        write(band[_GAP + number * _ROW :][:_ROW], told, other + 90, _LETTERS, colour)
    return band


def _frame(band: UInt8Array, across: _Axis, up: _Axis, sanity: Sanity) -> None:
    other = across.last + 90
    for tick in range(round((up.high - up.low) * 5) + 1):
        value = up.low + tick / 5
        y = up.at(value)
        cv2.line(band, (across.first, y), (other + 40, y), _GRID, 1)
        write(band[y - 11 : y + 11], f"{value:.1f}", across.first - 40, _SMALL, _FAINT)
    y = up.at(UNCHANGED)
    for x in range(across.first, other + 40, 12):
        cv2.line(band, (x, y), (x + 6, y), _FAINT, 1)
    for count in sanity.stages:
        _centred(band[up.first + 4 : up.first + 26], str(count), across.at(count))
    _centred(band[up.first + 26 : up.first + 50], "random layers, from the output", (across.first + across.last) // 2)
    _centred(band[up.first + 4 : up.first + 26], "another class", other)


def _sanity_title(sanity: Sanity) -> str:
    return (
        f"Sanity, {counted(sanity.images, 'image')}: rank correlation of maps with those of the network as it is; "
        f"from {UNCHANGED:g} (broken line) a map counts as unchanged"
    )


def _colours(rows: Sequence[JudgedMethod]) -> list[Colour]:
    return [_CONTROL if method.is_control else _COLOURS[number % len(_COLOURS)] for number, method in enumerate(rows)]


def _error(own: Estimate) -> float:
    return own.error if math.isfinite(own.error) else 0.0


def _nice(low: float, high: float) -> tuple[float, float, float]:
    """Return the ends of an axis around some values, and the distance of its ticks: 1, 2 or 5 times a power of 10."""
    span = max(high - low, 0.01)
    power = 10 ** math.floor(math.log10(span / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 4)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


def _centred(strip: UInt8Array, text: str, middle: int) -> None:
    left = max(0, min(strip.shape[1] - text_width(text, _SMALL), middle - text_width(text, _SMALL) // 2))
    write(strip, text, left, _SMALL, _FAINT)


def _line(width: int, text: str) -> UInt8Array:
    strip = _paper(44, width)
    write(strip[6:38], shorten(text, width - 2 * _EDGE, _LETTERS), _EDGE, _LETTERS, _INK)
    return strip


def _paper(height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), _PAPER, np.uint8)
