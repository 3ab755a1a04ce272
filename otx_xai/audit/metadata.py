"""Texts that images can be sliced by: the folders that they lie in, and the columns of a user's table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from otx_xai.errors import DataError
from otx_xai.storage import place_of, read_text

_SHOWN = 60


def folders_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the folder of each image as the column ``folder``; nothing where all lie in one.

    Args:
        names: of the images, with ``/`` between folders.

    >>> folders_of(["night/a.png", "day/b.png"])
    {'folder': ['night', 'day']}
    """
    folders = [str(PurePosixPath(name).parent) for name in names]
    return {"folder": folders} if len(set(folders)) > 1 else {}


def read_metadata(path: str | Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Read a CSV file with an image a line, whose first column names the images.

    Args:
        path: the file, with a header.
        names: of the images; a line may name one by its name without its folder, where only one is called so.

    Returns:
        Column → a text an image; empty where the file has no line for it.

    Raises:
        DataError: it cannot be read, or names none of the images.
    """
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(read_text(place_of(path)))) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"The metadata {str(path)!r} cannot be read: {error}. Expected a CSV file in UTF-8 with a header, whose "
            "first column names the images."
        ) from error
    if not header:
        raise DataError(f"The metadata {str(path)!r} is empty. Expected a header, and a line for each image.")
    places = _places(names)
    columns: dict[str, list[str]] = {title: [""] * len(names) for title in header[1:] if title}
    hits = 0
    for row in rows:
        place = places.get(row[0].replace("\\", "/"))
        if place is None:
            continue
        hits += 1
        for title, value in zip(header[1:], row[1:], strict=False):
            if title:
                columns[title][place] = value
    if names and not hits:
        found = f"; its first line says {rows[0][0][:_SHOWN]!r}" if rows else ", and has no line"
        hint = " Columns are separated by commas." if len(header) == 1 and re.search(r"[;\t|]", header[0]) else ""
        raise DataError(
            f"The first column of {str(path)!r} names none of the {len(names)} images{found}. Expected their names, "
            f"relative to the data root: the first of them is {names[0]!r}.{hint}"
        )
    return columns


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return where each image is, by its name, and by the last part of it where that is unique."""
    short: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        short.setdefault(PurePosixPath(name).name, []).append(place)
    unique = {name: places[0] for name, places in short.items() if len(places) == 1}
    return unique | {name: place for place, name in enumerate(names)}
