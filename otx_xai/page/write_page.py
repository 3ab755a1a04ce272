"""Writes the page of an audit: one file to open, and data beside it that are loaded as they are looked at."""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from otx_xai.errors import ConfigError
from otx_xai.page.atlases import CELL, CELLS, COLUMNS
from otx_xai.page.image_parts import ImageParts
from otx_xai.page.page_folder import DATA, INDEX, OneFile, PageFolder, PageParts
from otx_xai.page.page_image import PageImage
from otx_xai.report.files import utf8

PageKind = Literal["full", "single", "noimages"]

MOST_OF_ONE_FILE = 200
"""Images in a page of one file."""

_CHUNK = 1000
"""Short rows in a script: some 100 KB."""
_LONG_CHUNK = 200
"""Most long rows in a script: at 7 × 7 places and two maps some 100 KB."""

_SCRIPTS = (
    "basics.js",
    "store.js",
    "colours.js",
    "drawing.js",
    "charts.js",
    "tiles.js",
    "grid.js",
    "viewer.js",
    "overview.js",
    "images_view.js",
    "tables.js",
    "confusion.js",
    "comparison.js",
    "printing.js",
    "pages.js",
)
"""In this order they make up the page's script."""


def write_page(
    folder: Path, content: Mapping[str, Any], images: Iterable[PageImage], *, kind: PageKind = "full"
) -> list[Path]:
    """Write the page of an audit.

    Images are taken one after another, and the memory does not grow with their number. ``index.html`` goes first
    where there is one, and is written last: a page is whole or absent.

    Args:
        folder: where ``index.html`` goes; made as needed. Older parts of a page in it are removed.
        content: what ``audit.json`` holds, in the terms of JSON; numbers that are not finite become ``null``.
        images: with names that are unique, in the order of the audit.
        kind: ``full``; ``single``: one file, of at most :data:`MOST_OF_ONE_FILE` images, of which those that findings
            name come first; ``noimages``: without pixels and links.

    Returns:
        The files, ``index.html`` last.

    Raises:
        ConfigError: Jinja2 is missing.
        OutputError: a file cannot be written.
        ValueError: the link of an image is no relative path.
    """
    template = _template()
    files = PageFolder(folder)
    files.remove_index()
    if kind == "single":
        images = _chosen(content, images)
    elif kind == "noimages":
        images = (replace(image, thumbnail=None, link="") for image in images)
    parts: PageParts = OneFile() if kind == "single" else files
    facts = _write_images(parts, content, images)
    parts.add_script("content", 0, {"content": content, "page": {"kind": kind, **facts}})
    files.add_file(INDEX, _index(template, str(content.get("title", "Audit")), files, parts))
    files.remove_older()
    return files.written


def _write_images(parts: PageParts, content: Mapping[str, Any], images: Iterable[PageImage]) -> dict[str, Any]:
    """Write what is said of images in parts, and return what the page must know of these."""
    wanted = _named(content)
    places: dict[str, int] = {}
    writer = ImageParts(parts, short=_CHUNK, long=_LONG_CHUNK)
    for place, image in enumerate(images):
        if image.name in wanted:
            places[image.name] = place
        writer.add(image)
    writer.finish()
    return {
        "count": writer.count,
        "chunk": _CHUNK,
        "starts": writer.starts,
        "cell": CELL,
        "columns": COLUMNS,
        "cells": CELLS,
        "places": list(places.items()),
    }


def _index(template: Any, title: str, files: PageFolder, parts: PageParts) -> bytes:
    """Return the file that is opened, and write its style and its script beside it unless they are in it."""
    style, script = _asset("page.css"), _script()
    inline = [script, parts.script] if isinstance(parts, OneFile) else []
    if not inline:
        files.add_file(f"{DATA}/page.css", style.encode())
        files.add_file(f"{DATA}/page.js", script.encode())
    policy = _policy(style, inline)
    return utf8(
        template.render(title=title, data=DATA, style=style if inline else "", scripts=inline, policy=policy),
    )


def _named(content: Mapping[str, Any]) -> dict[str, int]:
    """Return the images that the content names, each with how soon a reader meets it."""
    ranks: dict[str, int] = {}
    for group in ("findings", "clusters"):
        for entry in content.get(group) or ():
            for rank, name in enumerate(entry["images"]):
                ranks[name] = min(rank + (group == "clusters") * 1000, ranks.get(name, 10**9))
    for rank, entry in enumerate(content.get("label_review") or ()):
        ranks[entry["image"]] = min(rank, ranks.get(entry["image"], 10**9))
    return ranks


def _chosen(content: Mapping[str, Any], images: Iterable[PageImage]) -> Iterator[PageImage]:
    """Return those for a page of one file, in their order: of each finding the first, then others as they come."""
    ranks = _named(content)
    kept: list[tuple[int, int, PageImage]] = []
    for place, image in enumerate(images):
        rank = ranks.get(image.name, 10**6 if image.findings else 10**7)
        row = (-rank, -place, image)
        if len(kept) < MOST_OF_ONE_FILE:
            heapq.heappush(kept, row)
        else:
            heapq.heappushpop(kept, row)
    return (replace(image, link="") for _, _, image in sorted(kept, key=lambda row: -row[1]))


def _policy(style: str, inline: list[str]) -> str:
    """Return what the page may load: its own files, or in one file the very texts that are in it."""
    styles = _hashed(style) if inline else "'self'"
    scripts = " ".join(map(_hashed, inline)) if inline else "'self'"
    pictures = "data:" if inline else "'self'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src {pictures}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script() -> str:
    return "(() => {\n'use strict';\n" + "".join(map(_asset, _SCRIPTS)) + "})();\n"


def _asset(name: str) -> str:
    return (resources.files("otx_xai.page") / "assets" / name).read_text(encoding="utf-8")


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ConfigError("The page of an audit needs Jinja2: pip install otx-xai[audit].") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_asset("index.html.j2"))
