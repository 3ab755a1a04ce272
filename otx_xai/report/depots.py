"""Where the finished files of a run lie: a folder of this machine, or one of an object store."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from otx_xai.errors import OutputError
from otx_xai.report.files import MAP_FOLDER, unwritable_text
from otx_xai.report.staging import move
from otx_xai.storage import Place, Url


class Depot(Protocol):
    """Keeps files by their names, which are relative to it, with ``/``."""

    @property
    def place(self) -> Place:
        """The folder that names are relative to."""

    def has(self, file: str) -> bool:
        """Whether a file is there and not empty: a power failure may leave the name of a file without its content."""

    def take(self, source: Path, file: str) -> None:
        """Take a finished file of this machine away, over what is there; it may have to wait for :meth:`flush`.

        Raises:
            OutputError: it cannot be taken.
        """

    def flush(self) -> None:
        """Let everything that was taken be there.

        Raises:
            OutputError: a file cannot be written.
        """

    def open_here(self, file: str, scratch: Path) -> Path:
        """Return the path of a file on this machine, where a copy may have to be made in ``scratch``.

        Raises:
            OutputError: it cannot be read.
        """

    def remove(self, file: str) -> bool:
        """Remove a file, and its folders where they are empty then; return whether it was there.

        Raises:
            OSError: it cannot be removed.
        """

    @property
    def tells_cases_apart(self) -> bool:
        """Whether names that differ in upper and lower case only are two files."""


class FolderDepot:
    """A folder of this machine: files are moved into their places, each as a whole.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> Path:
        """See :class:`Depot`."""
        return self._root

    def has(self, file: str) -> bool:
        """See :class:`Depot`."""
        try:
            return os.stat(self._root / file).st_size > 0
        except OSError:
            return False

    def take(self, source: Path, file: str) -> None:
        """See :class:`Depot`; it is there at once."""
        target = self._root / file
        try:
            move(source, target)
        except OSError as error:
            raise OutputError(unwritable_text(target, error)) from error

    def flush(self) -> None:
        """See :class:`Depot`."""

    def open_here(self, file: str, scratch: Path) -> Path:
        """See :class:`Depot`."""
        return self._root / file

    def remove(self, file: str) -> bool:
        """See :class:`Depot`."""
        try:
            os.unlink(self._root / file)
        except (FileNotFoundError, NotADirectoryError):
            return False
        for folder in list(PurePosixPath(file).parents)[:-1]:
            try:
                os.rmdir(self._root / folder)
            except OSError:  # other files are in it
                break
        return True

    @property
    def tells_cases_apart(self) -> bool:
        """See :class:`Depot`."""
        return not (self._root / MAP_FOLDER.upper()).exists()


class StoreDepot:
    """A folder of an object store: files are put as whole objects, many at once.

    Args:
        url: the folder.
    """

    def __init__(self, url: Url) -> None:
        self._url = url
        self._waiting: dict[str, Path] = {}

    @property
    def place(self) -> Url:
        """See :class:`Depot`."""
        return self._url

    def has(self, file: str) -> bool:
        """See :class:`Depot`; all that is there is listed once, before anything is taken."""
        return self._sizes.get(file, 0) > 0

    def take(self, source: Path, file: str) -> None:
        """See :class:`Depot`; the file of this machine is removed when it is there."""
        self._waiting[file] = source

    def hand_over(self) -> dict[str, Path]:
        """Return what was taken and is not there yet, so that somebody else can :meth:`send` it."""
        waiting, self._waiting = self._waiting, {}
        return waiting

    def send(self, files: dict[str, Path]) -> None:
        """Put files of this machine, and remove them here.

        Raises:
            OutputError: one cannot be put.
        """
        from otx_xai.storage.objects import send_files

        try:
            send_files({self._url / file: source for file, source in files.items()})
        except OSError as error:
            raise OutputError(unwritable_text(self._url, error)) from error
        for source in files.values():
            with suppress(OSError):  # it lies in a scratch folder
                source.unlink()

    def flush(self) -> None:
        """See :class:`Depot`."""
        self.send(self.hand_over())

    def open_here(self, file: str, scratch: Path) -> Path:
        """See :class:`Depot`."""
        from otx_xai.storage.objects import fetch_file

        target = scratch / PurePosixPath(file).name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch_file(self._url / file, target, self._sizes.get(file, 0))
        except OSError as error:
            raise OutputError(
                f"{self._url / file} cannot be read: {error.strerror}. Check the rights to it."
            ) from error
        return target

    def remove(self, file: str) -> bool:
        """See :class:`Depot`."""
        from otx_xai.storage.objects import look, remove_object

        return look(self._url / file) is not None and remove_object(self._url / file)

    @property
    def tells_cases_apart(self) -> bool:
        """See :class:`Depot`."""
        return True

    @cached_property
    def _sizes(self) -> dict[str, int]:
        from otx_xai.storage.objects import objects_below

        try:
            below = objects_below(self._url / MAP_FOLDER)
        except OSError as error:
            raise OutputError(f"{self._url} cannot be listed: {error.strerror}. Check the rights to it.") from error
        return {f"{MAP_FOLDER}/{name}": entry.size for name, entry in below.items()}
