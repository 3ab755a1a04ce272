"""How the files of images are kept: each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from otx_xai.report.depots import Depot

Line = dict[str, Any]
"""One image in the journal."""


class Shelf(Protocol):
    """Keeps the files of images, as their lines in the journal list them."""

    def has(self, line: Mapping[str, Any]) -> bool:
        """Whether all files are there that a line of an earlier run lists."""

    def take_up(self, lines: Sequence[Line]) -> None:
        """Note the lines of an earlier run that stay."""

    def describe(self, line: Line) -> Line:
        """Return a line as the journal is to list it."""

    def put(self, line: Line, files: Sequence[str]) -> None:
        """Take the files of an image, whose line is in the journal, out of the folder where they wait.

        Raises:
            OutputError: one cannot be written.
        """

    def settle(self) -> None:
        """Finish what is begun.

        Raises:
            OutputError: it cannot be written.
        """

    def packs(self) -> list[str]:
        """Return the names of all files that the files of several images may go into."""


class PlainShelf:
    """Each file in its place.

    Args:
        depot: where files go.
        staging: folder where they wait.
    """

    def __init__(self, depot: Depot, staging: Path) -> None:
        self._depot = depot
        self._staging = staging

    def has(self, line: Mapping[str, Any]) -> bool:
        """See :class:`Shelf`."""
        return "pack" not in line and all(map(self._depot.has, line["files"]))

    def take_up(self, lines: Sequence[Line]) -> None:
        """See :class:`Shelf`."""

    def describe(self, line: Line) -> Line:
        """See :class:`Shelf`."""
        return line

    def put(self, line: Line, files: Sequence[str]) -> None:
        """See :class:`Shelf`."""
        for file in files:
            self._depot.take(self._staging / file, file)

    def settle(self) -> None:
        """See :class:`Shelf`."""

    def packs(self) -> list[str]:
        """See :class:`Shelf`."""
        return []
