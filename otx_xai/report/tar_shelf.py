"""Files of images in tar files that WebDataset reads, and that are the same bytes however often a run was stopped.

A tar file holds the files of a fixed number of images that follow one another, in their order. Its entries are called
``<stem>.<rest>``, where dots in the last component of the stem are written as ``%2E`` (and ``%`` as ``%25``): what
WebDataset takes for one sample, all up to the first dot, is one image. Owner, rights and time of each entry are fixed.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otx_xai.errors import OutputError
from otx_xai.records import ImageInfo
from otx_xai.report.depots import Depot, FolderDepot
from otx_xai.report.files import MAP_FOLDER, unwritable_text
from otx_xai.report.shelves import Line
from otx_xai.report.staging import move
from otx_xai.storage.local import replace_whole

PACKING = ".packing"
"""Folder in that of a run where files wait until those of all images of their tar file are there."""


@dataclass(frozen=True)
class Packing:
    """Which images share a tar file.

    Args:
        size: images a tar file.
        places: name of an image → its place, from 0, among all images of the run, of which these may be a part.
    """

    size: int
    places: Mapping[str, int]


class TarShelf:
    """Files of images, packed.

    Args:
        depot: where tar files go.
        folder: of the run on this machine.
        staging: folder where files wait for their line in the journal.
        images: those that are explained.
        packing: which of them share a tar file.
    """

    def __init__(
        self, depot: Depot, folder: Path, staging: Path, images: Iterable[ImageInfo], packing: Packing
    ) -> None:
        self._depot = depot
        self._staging = staging
        self._packing = folder / PACKING
        self._size, self._places = packing.size, packing.places
        self._stems = {image.name: image.stem for image in images}
        self._counts = Counter(self._places[name] // self._size for name in self._stems)
        self._groups: dict[int, dict[int, list[str]]] = {}
        self._changed: set[int] = set()
        self._packed: dict[int, set[str]] = {}
        self._written = 0

    def packs(self) -> list[str]:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        return list(map(pack_name, sorted(self._counts)))

    def has(self, line: Mapping[str, Any]) -> bool:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        place = self._places.get(line["name"])
        if place is None or line.get("pack") != pack_name(place // self._size):
            return False
        number = place // self._size
        return self._waits(number, line["files"]) or self._is_packed(number, line["files"])

    def take_up(self, lines: Sequence[Line]) -> None:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        for line in lines:
            number = self._note(line)
            if not self._is_packed(number, line["files"]):
                self._changed.add(number)
        for number in [number for number in self._groups if number not in self._changed]:
            self._forget(number)
        self._packed.clear()

    def describe(self, line: Line) -> Line:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        name = line["name"]
        files = [entry_name(self._stems[name], file) for file in line["files"]]
        return {**line, "files": files, "pack": pack_name(self._places[name] // self._size)}

    def put(self, line: Line, files: Sequence[str]) -> None:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        number = self._note(line)
        for source, entry in zip(files, line["files"], strict=True):
            target = self._waiting(number) / entry
            try:
                move(self._staging / source, target)
            except OSError as error:
                raise OutputError(unwritable_text(target, error)) from error
        for other in sorted(self._changed - {number}):
            self._pack(other)
            self._forget(other)
        self._changed.add(number)

    def settle(self) -> None:
        """See :class:`~otx_xai.report.shelves.Shelf`."""
        for number in sorted(self._changed):
            self._pack(number)

    def _note(self, line: Line) -> int:
        place = self._places[line["name"]]
        number = place // self._size
        self._groups.setdefault(number, {})[place] = line["files"]
        return number

    def _forget(self, number: int) -> None:
        """Let go of a group that is packed; of one that lacks images nothing is forgotten: they may come yet."""
        if len(self._groups[number]) == self._counts[number]:
            del self._groups[number]
            shutil.rmtree(self._waiting(number), ignore_errors=True)

    def _waiting(self, number: int) -> Path:
        return self._packing / f"{number:05d}"

    def _waits(self, number: int, entries: Sequence[str]) -> bool:
        return all(_is_whole(self._waiting(number) / entry) for entry in entries)

    def _is_packed(self, number: int, entries: Sequence[str]) -> bool:
        """Whether a tar file holds entries; in a store it does where it exists, as it is put before their lines."""
        if not isinstance(self._depot, FolderDepot):
            return self._depot.has(pack_name(number))
        if number not in self._packed:
            self._packed[number] = self._entries_of(number)
        return self._packed[number].issuperset(entries)

    def _entries_of(self, number: int) -> set[str]:
        if not self._depot.has(pack_name(number)):
            return set()
        try:
            with tarfile.open(self._depot.open_here(pack_name(number), self._packing), "r:") as pack:
                return set(pack.getnames())
        except (OSError, tarfile.TarError):  # it is written anew
            return set()

    def _pack(self, number: int) -> None:
        """Write the tar file of a group, of all images of it that are there."""
        entries = [entry for _, files in sorted(self._groups[number].items()) for entry in files]
        draft = self._packing / f"{number:05d}.{self._written}.tar"
        self._written += 1
        try:
            self._unpack(number, entries)
            _write(draft, self._waiting(number), entries)
        except (OSError, tarfile.TarError) as error:
            reason = error if isinstance(error, OSError) else OSError(0, str(error))
            raise OutputError(unwritable_text(draft, reason)) from error
        self._depot.take(draft, pack_name(number))
        self._changed.discard(number)

    def _unpack(self, number: int, entries: Sequence[str]) -> None:
        """Take those entries that do not wait out of the tar file that an earlier run has left."""
        missing = {entry for entry in entries if not _is_whole(self._waiting(number) / entry)}
        if not missing:
            return
        with tarfile.open(self._depot.open_here(pack_name(number), self._packing), "r:") as pack:
            for entry in pack:
                content = pack.extractfile(entry) if entry.name in missing else None
                if content is not None:
                    replace_whole(self._waiting(number) / entry.name, content.read())  # a kill may leave no half of it


def _is_whole(path: Path) -> bool:
    """Whether a file is there; an empty one is what a power failure has left."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def clear_packing(folder: Path) -> None:
    """Remove what waits in the folder of a run: all of it is packed, or of no use."""
    shutil.rmtree(folder / PACKING, ignore_errors=True)


def pack_name(number: int) -> str:
    """Return the name of a tar file, relative to the folder of the run."""
    return f"{MAP_FOLDER}/{number:05d}.tar"


def entry_name(stem: str, file: str) -> str:
    """Return what a file of an image is called in a tar file.

    >>> entry_name("cats/v1.2", "saliency_map/cats/v1.2_class_cat_overlay.png")
    'cats/v1%2E2.class_cat_overlay.png'

    Args:
        stem: of the image.
        file: relative to the folder of the run.
    """
    folder, slash, last = stem.rpartition("/")
    rest = file.removeprefix(f"{MAP_FOLDER}/").removeprefix(stem).removeprefix("_")
    return f"{folder}{slash}{last.replace('%', '%25').replace('.', '%2E')}.{rest}"


def _write(draft: Path, folder: Path, entries: Sequence[str]) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as pack:
        for entry in entries:
            told = tarfile.TarInfo(entry)  # owner and time are 0
            told.size, told.mode = os.path.getsize(folder / entry), 0o644
            with open(folder / entry, "rb") as file:
                pack.addfile(told, file)
