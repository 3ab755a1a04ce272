"""The evidence of several runs as that of one: the same bytes that one run over all their images would have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from otx_xai.audit.evidence_files import FILES, Layout
from otx_xai.audit.evidence_reading import Stored
from otx_xai.errors import OutputError
from otx_xai.records import IntArray
from otx_xai.report.files import unwritable_text


class Joined:
    """Records of several runs, one behind the other; see :func:`joined`.

    Args:
        folder: where they are written.
        files: name of a file of records → it, open.
    """

    def __init__(self, folder: Path, files: Mapping[str, IO[bytes]]) -> None:
        self._folder, self._files = folder, files
        self._rows = 0
        self._ends = dict.fromkeys(FILES[1:], 0)
        self._layout: Layout | None = None

    def add(self, stored: Stored) -> int:
        """Append the records of a run, in the order of its lines; return the row of the first of its images.

        Memory grows with the records of this one run, apart from its thumbnails.

        Raises:
            OutputError: they are of another layout, are broken, or cannot be written.
        """
        first = self._rows
        if not len(stored.rows):
            return first
        self._lay_out(stored)
        try:
            ends = {"maps": self._spans(stored, "maps"), "boxes": self._spans(stored, "boxes")}
            ends["thumbnails"] = self._thumbnails(stored)
            images = stored.images[stored.rows]
            for name, own in ends.items():
                images[f"{name}_end"] = own
                self._ends[name] = int(own[-1])
            self._files["images"].write(images.tobytes())
        except OSError as error:
            raise OutputError(unwritable_text(self._folder, error)) from error
        self._rows += len(stored.rows)
        return first

    def conclude(self) -> None:
        """Write the layout of the records, if there are any.

        Raises:
            OutputError: it cannot be written.
        """
        if self._layout is not None:
            self._layout.write(self._folder)

    def _lay_out(self, stored: Stored) -> None:
        known, other = self._layout or stored.layout, stored.layout
        known = replace(known, grid=known.grid or other.grid)
        if other != replace(known, grid=other.grid) or other.grid not in (None, known.grid):
            raise OutputError(
                f"The evidence in {stored.folder} has records of another kind than that before it: {other}, not "
                f"{known}. Expected parts of one audit; remove this part, and take its evidence again."
            )
        self._layout = known

    def _spans(self, stored: Stored, name: str) -> IntArray:
        """Append the maps, or boxes, of each image; return how many there are up to and with each."""
        image, rows = stored.spans(name)
        records = getattr(stored, name)
        if len(rows) and int(rows.max()) >= len(records):
            raise _too_short(stored, name)
        self._files[name].write(records[rows].tobytes())
        counts = np.bincount(image, minlength=len(stored.rows))
        return np.asarray(self._ends[name] + np.cumsum(counts), np.int64)

    def _thumbnails(self, stored: Stored) -> IntArray:
        sizes = stored.thumbnail_sizes()
        for size, data in zip(sizes.tolist(), stored.thumbnails(), strict=True):
            if len(data) < size:
                raise _too_short(stored, "thumbnails")
            self._files["thumbnails"].write(data)
        return np.asarray(self._ends["thumbnails"] + np.cumsum(sizes), np.int64)


def _too_short(stored: Stored, name: str) -> OutputError:
    return OutputError(
        f"The evidence in {stored.folder} is shorter than its journal: {name}.bin ends too early. Remove the part of "
        "this shard, and take its evidence again."
    )


@contextmanager
def joined(folder: Path) -> Iterator[Joined]:
    """Write the records of several runs into a folder that exists, over what is there.

    Raises:
        OutputError: they cannot be written.
    """
    with ExitStack() as stack:
        try:
            files = {name: stack.enter_context(open(folder / f"{name}.bin", "wb")) for name in FILES}
        except OSError as error:
            raise OutputError(unwritable_text(folder, error)) from error
        records = Joined(folder, files)
        yield records
        try:
            stack.close()
        except OSError as error:
            raise OutputError(unwritable_text(folder, error)) from error
        records.conclude()
