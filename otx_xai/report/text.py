"""Letters on pictures.

OpenCV 5 draws TrueType; OpenCV 4 draws Hershey strokes, which know ASCII only. Sizes are in pixels.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from typing import Any

import cv2
import numpy as np

from otx_xai.records import UInt8Array

Colour = tuple[int, int, int]

LARGEST_PART = 0.4
"""Part of a picture's height that letters over it may cover: below about 30 pixels there are none."""

_HAS_TRUETYPE = hasattr(cv2, "FontFace")
_HERSHEY = cv2.FONT_HERSHEY_SIMPLEX
_ELLIPSIS = "..."  # the font draws the single sign for Chinese, at half height
_SCORE = re.compile(r"\s+[<>~]?\d+(\.\d+)?%?$")
_local = threading.local()


def letter_size(side: int) -> int:
    """Return the height of letters for a picture whose shorter side is ``side``, in pixels."""
    return max(8, round(0.9 * math.sqrt(side)))


def band_height(side: int) -> int:
    """Return the height of the band that holds the caption of a picture whose shorter side is ``side``, in pixels."""
    size = letter_size(side)
    return size + 2 * (max(2, size // 2) * 2 // 3)


def write(strip: UInt8Array, text: str, left: int, size: int, colour: Colour) -> None:
    """Write a line into ``strip`` (a view into a picture), centred vertically."""
    baseline = (strip.shape[0] + round(size * 0.7)) // 2
    canvas = np.ascontiguousarray(strip)
    if _HAS_TRUETYPE:
        cv2.putText(canvas, text, (left, baseline), colour, _font(), size)
    else:
        scale = _hershey_scale(size)
        thickness = max(1, round(scale))
        cv2.putText(canvas, _ascii(text), (left, baseline), _HERSHEY, scale, colour, thickness, cv2.LINE_AA)
    if canvas is not strip:
        strip[:] = canvas


def text_width(text: str, size: int) -> int:
    """Return the width of a text in pixels."""
    if _HAS_TRUETYPE:
        return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size)[2])
    scale = _hershey_scale(size)
    return int(cv2.getTextSize(_ascii(text), _HERSHEY, scale, max(1, round(scale)))[0][0])


def _font() -> Any:
    """Return this thread's own font: it keeps a cache of drawn letters."""
    if not hasattr(_local, "font"):
        _local.font = cv2.FontFace("uni")
    return _local.font


def _hershey_scale(size: int) -> float:
    return size / 30


def _ascii(text: str) -> str:
    """Write a text with ASCII letters: accents are dropped, other letters become ``?``."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode("ascii")


def shorten(text: str, width: int, size: int) -> str:
    """Return ``text`` where it fits into ``width`` pixels, else with an ellipsis before its score, else nothing."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if text_width(text, size) <= width:
        return text
    match = _SCORE.search(text)
    name, score = (text[: match.start()], match[0]) if match else (text, "")
    fitting = _longest_fit(name, f"{_ELLIPSIS}{score}", width, size) or (
        _longest_fit(name, _ELLIPSIS, width, size) if score else ""
    )
    return fitting or (score.strip() if text_width(score.strip(), size) <= width else "")


def _longest_fit(name: str, end: str, width: int, size: int) -> str:
    """Return the longest beginning of ``name`` that fits together with ``end``; empty where not one letter fits."""
    low, high = 0, len(name)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(name[:middle] + end, size) <= width:
            low = middle
        else:
            high = middle - 1
    return name[:low].rstrip() + end if low else ""
