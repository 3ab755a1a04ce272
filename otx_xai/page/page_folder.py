"""Where the parts of a page go: files in a folder, or texts that are gathered for one file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Protocol

from otx_xai.errors import OutputError
from otx_xai.page.script_text import script_text
from otx_xai.report.files import unwritable_text, write_atomic
from otx_xai.report.staging import clear_torn

DATA = "data"
"""Folder beside the page with all that it loads."""
INDEX = "index.html"

_PART = "-[0-9][0-9][0-9][0-9][0-9]"
_NAMES = (f"*{_PART}.js", f"thumbs{_PART}.jpg", "page.js", "page.css")


class PageParts(Protocol):
    """What takes the parts of a page."""

    def add_script(self, kind: str, number: int, value: Any) -> None:
        """Take data that the page reads as a script."""

    def add_atlas(self, number: int, jpeg: bytes) -> None:
        """Take a sheet of thumbnails."""


class PageFolder:
    """Writes each part as a file of its own.

    Args:
        folder: of the page.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[Path] = []

    def add_script(self, kind: str, number: int, value: Any) -> None:
        """Write ``data/<kind>-<number>.js``."""
        self.add_file(f"{DATA}/{kind}-{number:05}.js", script_text(kind, number, value))

    def add_atlas(self, number: int, jpeg: bytes) -> None:
        """Write ``data/thumbs-<number>.jpg``."""
        self.add_file(f"{DATA}/thumbs-{number:05}.jpg", jpeg)

    def add_file(self, name: str, data: bytes) -> None:
        """Write any file."""
        write_atomic(self._folder / name, data)
        self.written.append(self._folder / name)

    def remove_index(self) -> None:
        """Remove the page that was here before, so that nobody opens it while its parts change.

        Raises:
            OutputError: it cannot be removed.
        """
        index = self._folder / INDEX
        try:
            index.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(unwritable_text(index, error)) from error

    def remove_older(self) -> None:
        """Remove parts of a page that was here before and had more of them, and what a killed audit was writing."""
        kept = set(self.written)
        for path in (path for name in _NAMES for path in (self._folder / DATA).glob(name)):
            if path not in kept:
                path.unlink(missing_ok=True)
        clear_torn(self._folder / DATA)


class OneFile:
    """Gathers the parts for a page of one file."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []

    @property
    def script(self) -> str:
        """All parts as one script."""
        return b"".join(self._texts).decode("ascii")

    def add_script(self, kind: str, number: int, value: Any) -> None:
        """Keep the script."""
        self._texts.append(script_text(kind, number, value))

    def add_atlas(self, number: int, jpeg: bytes) -> None:
        """Keep the sheet as an address that holds it."""
        self.add_script("thumbs", number, "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"))
