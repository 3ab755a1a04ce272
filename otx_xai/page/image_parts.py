"""Writes what a page says of its images, in parts that it loads one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from otx_xai.page.atlases import AtlasWriter
from otx_xai.page.image_rows import Cell, long_row, short_rows
from otx_xai.page.page_folder import PageParts
from otx_xai.page.page_image import PageImage

_MAP_BYTES = 300_000
"""Of a part with long rows, which a browser reads as a whole: detectors have a map a box."""


class ImageParts:
    """Takes images one after another; the memory is that of one part of each kind.

    Args:
        parts: where they go.
        short: number of short rows in a part.
        long: most long rows in a part; fewer where their maps are many.
    """

    def __init__(self, parts: PageParts, *, short: int, long: int) -> None:
        self.count = 0
        self.starts: list[int] = []
        """The first image of each part of long rows."""
        self._parts = parts
        self._most = (short, long)
        self._atlas = AtlasWriter()
        self._images: list[PageImage] = []
        self._cells: list[Cell | None] = []
        self._long: list[dict[str, Any]] = []
        self._map_bytes = 0
        self._written = [0, 0, 0]

    def add(self, image: PageImage) -> None:
        """Take an image.

        Raises:
            OutputError: a file cannot be written.
            ValueError: its link is no relative path.
        """
        if not self._long:
            self.starts.append(self.count)
        self._long.append(long_row(image))
        self._map_bytes += sum(one.grid.size for one in image.maps)
        self._cells.append(self._atlas.add(image.thumbnail) if image.thumbnail is not None else None)
        # What the short row does not need is let go.
        self._images.append(replace(image, thumbnail=None, maps=tuple(one for one in image.maps if one.baseline)))
        self.count += 1
        if len(self._images) == self._most[0]:
            self._write_short()
        if len(self._long) == self._most[1] or self._map_bytes >= _MAP_BYTES:
            self._write_long()
        if self._atlas.is_full:
            self._write_atlas()

    def finish(self) -> None:
        """Write the parts that are not full."""
        if self._images:
            self._write_short()
        if self._long:
            self._write_long()
        if not self._atlas.is_empty:
            self._write_atlas()

    def _write_short(self) -> None:
        self._parts.add_script("images", self._next(0), short_rows(self._images, self._cells))
        self._images, self._cells = [], []

    def _write_long(self) -> None:
        self._parts.add_script("details", self._next(1), self._long)
        self._long, self._map_bytes = [], 0

    def _write_atlas(self) -> None:
        self._parts.add_atlas(self._next(2), self._atlas.take())

    def _next(self, kind: int) -> int:
        self._written[kind] += 1
        return self._written[kind] - 1
