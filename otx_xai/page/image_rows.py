"""What is written of each image: a short row that the page holds of all, and a long one that it loads as needed."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from otx_xai.page.page_image import PageBox, PageImage, PageMap
from otx_xai.records import Size

Cell = tuple[int, Size]

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]*://")


def short_rows(images: Sequence[PageImage], cells: Sequence[Cell | None]) -> dict[str, Any]:
    """Return what the page sorts, filters and finds images by, in columns.

    Args:
        images: some of the audit.
        cells: where the thumbnail of each lies.
    """
    names = sorted({name for image in images for name, _ in image.values})
    values = [dict(image.values) for image in images]
    return {
        "names": [image.name for image in images],
        "cases": [image.case for image in images],
        "given": [sorted({*image.given, *(box.target for box in image.objects)}) for image in images],
        "best": [[int(target), _short(score)] for target, score in (_best(image) for image in images)],
        "found": [sorted({box.target for box in image.found}) for image in images],
        "cells": [[-1, 0, 0] if cell is None else [cell[0], *cell[1]] for cell in cells],
        "findings": [list(image.findings) for image in images],
        "slices": [list(image.slices) for image in images],
        "baseline": [int(any(one.baseline for one in image.maps)) for image in images],
        "values": {name: [_short(held.get(name, math.nan)) for held in values] for name in names},
    }


def long_row(image: PageImage) -> dict[str, Any]:
    """Return what the page shows of an image where it is looked at."""
    return {
        "size": list(image.size),
        "link": link_text(image.link),
        "best": [[int(target), _short(score)] for target, score in image.best],
        "extent": [_short(part) for part in image.extent],
        "maps": [_map_row(one) for one in image.maps],
        "found": [_box_row(box) for box in image.found],
        "objects": [_box_row(box) for box in image.objects],
    }


def link_text(link: str) -> str:
    """Return a relative path as a relative address.

    Args:
        link: with ``/`` between folders, as the file system has it; empty: none.

    Raises:
        ValueError: it is no relative path; pages name no place of the machine that wrote them.
    """
    if _ABSOLUTE.match(link):
        raise ValueError(f"link is {link!r}; expected a path relative to the folder of the page.")
    # With ./ in front a file called javascript:… is a file.
    return "./" + quote(os.fsencode(link)) if link else ""


def _best(image: PageImage) -> tuple[int, float]:
    if image.best:
        return image.best[0]
    scored = [(box.score, box.target) for box in image.found if box.score is not None]
    score, target = max(scored, default=(math.nan, -1))
    return target, score


def _map_row(one: PageMap) -> dict[str, Any]:
    return {
        "target": int(one.target),
        "box": int(one.box),
        "size": list(one.grid.shape),
        "grid": base64.b64encode(one.grid.tobytes()).decode("ascii"),
        "range": [_short(one.low), _short(one.high)],
        "baseline": one.baseline,
    }


def _box_row(box: PageBox) -> list[Any]:
    return [int(box.target), *map(_short, box.xyxy), None if box.score is None else _short(box.score), box.fault]


def _short(number: float) -> float | None:
    return float(f"{number:.5g}") if math.isfinite(number) else None
