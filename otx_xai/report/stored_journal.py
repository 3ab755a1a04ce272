"""The journal of a run in an object store: it grows on this machine, and is put in numbered segments.

Objects cannot be appended to. So the lines of a run are put as ``.journal/00000.jsonl``, ``00001.jsonl``, …, each
once, as a whole, together with the files of their images; what a killed run loses is the segment in hand. When the run
ends they become one ``predictions.jsonl``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from otx_xai.errors import OutputError
from otx_xai.report.depots import StoreDepot
from otx_xai.report.files import unwritable_text, write_atomic
from otx_xai.report.leftovers import EARLIER
from otx_xai.storage import Url, read_bytes
from otx_xai.storage.fetching import scratch_folder
from otx_xai.storage.objects import objects_in, remove_objects

SEGMENTS = ".journal"
"""Folder of a run in a store that holds its lines until it ends."""

SEGMENT_SECONDS = 60.0
"""A segment is put when it is so old, if it has not as many lines before."""


class StoredJournal:
    """What lies in the folder of a run in a store apart from pictures, and its copy on this machine.

    Args:
        url: the folder in the store.
        name: of the journal.
        files_first: files of images are there before the lines that list them; else after them.
        most: lines of a segment.
        root: folder in the store that the files of images go into; ``url`` by default.
    """

    def __init__(
        self, url: Url, name: str, *, files_first: bool = False, most: int = 1, root: Url | None = None
    ) -> None:
        self.folder = scratch_folder(url)
        """On this machine; it belongs to the run that has locked the folder in the store."""
        self.depot = StoreDepot(root or url)
        self._url = url
        self._name = name
        self._files_first = files_first
        self._most = most
        self._lines: list[bytes] = []
        self._began = time.monotonic()
        self._number = 0
        self._pool = ThreadPoolExecutor(1, "otx_xai store")
        self._putting: Future[None] | None = None

    def pull(self) -> None:
        """Copy the journal, with its segments, and the list of files of earlier runs to this machine.

        Raises:
            OutputError: one cannot be read.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        segments = self._segments()
        self._number = max((int(name[:5]) for name in segments), default=-1) + 1
        parts = [self._url / self._name, *(self._url / SEGMENTS / name for name in segments)]
        write_atomic(self.folder / self._name, b"".join(map(self._read, parts)))
        if earlier := self._read(self._url / EARLIER):
            write_atomic(self.folder / EARLIER, earlier)

    def begin(self, *, anew: bool) -> None:
        """Let the store know which files may be left over, and, if the run begins anew, have no lines.

        Raises:
            OutputError: that cannot be written.
        """
        self.push_earlier()
        if anew:
            self._remove([self._url / self._name, *(self._url / SEGMENTS / name for name in self._segments())])
            self._number = 0
        self._began = time.monotonic()

    def push_earlier(self) -> None:
        """Copy the list of files of earlier runs to the store, or remove it there.

        Raises:
            OutputError: that cannot be written.
        """
        here = self.folder / EARLIER
        if here.exists():
            write_atomic(self._url / EARLIER, here.read_bytes())
        else:
            self._remove([self._url / EARLIER])

    def add(self, line: bytes) -> bool:
        """Note a line; return whether it is time to put the segment."""
        self._lines.append(line)
        return len(self._lines) >= self._most or time.monotonic() - self._began >= SEGMENT_SECONDS

    def put_segment(self) -> None:
        """Put what was noted and taken since the last time, while the run goes on.

        Raises:
            OutputError: the last segment could not be put.
        """
        self.wait()
        lines, files = b"".join(self._lines), self.depot.hand_over()
        self._lines, self._began = [], time.monotonic()
        if lines or files:
            self._putting = self._pool.submit(self._put, self._number, lines, files)
            self._number += 1

    def wait(self) -> None:
        """Wait until the last segment is there.

        Raises:
            OutputError: it could not be put.
        """
        if self._putting is not None:
            putting, self._putting = self._putting, None
            putting.result()

    def close(self) -> None:
        """End the thread that puts segments; what is noted and not put is lost."""
        self._pool.shutdown(wait=True)

    def conclude(self) -> None:
        """Put the journal as one object, and remove its segments.

        Raises:
            OutputError: that cannot be written.
        """
        write_atomic(self._url / self._name, (self.folder / self._name).read_bytes())
        self._remove([self._url / SEGMENTS / name for name in self._segments()])
        self.push_earlier()

    def _put(self, number: int, lines: bytes, files: dict[str, Path]) -> None:
        if self._files_first:
            self.depot.send(files)
        if lines:
            write_atomic(self._url / SEGMENTS / f"{number:05d}.jsonl", lines)
        if not self._files_first:
            self.depot.send(files)

    def _segments(self) -> list[str]:
        try:
            return sorted(name for name in objects_in(self._url / SEGMENTS) if name[:5].isdigit())
        except OSError as error:
            raise OutputError(f"{self._url} cannot be listed: {error.strerror}. Check the rights to it.") from error

    def _read(self, url: Url) -> bytes:
        try:
            return read_bytes(url)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OutputError(f"{url} cannot be read: {error.strerror}. Check the rights to it.") from error

    def _remove(self, urls: Iterable[Url]) -> None:
        try:
            remove_objects(urls)
        except OSError as error:
            raise OutputError(unwritable_text(self._url, error)) from error
