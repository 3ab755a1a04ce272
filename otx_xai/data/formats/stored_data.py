"""Annotated data in an object store: a folder here that looks like theirs, with annotations and without pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from otx_xai.data.file_kinds import HEAD, IMAGE_SUFFIXES, OTHER_SUFFIXES, suffix_of
from otx_xai.data.formats.samples import Recognised
from otx_xai.errors import DataError
from otx_xai.records import ImageInfo
from otx_xai.storage import Url
from otx_xai.storage.objects import objects_below, read_head, read_object

_ANNOTATIONS = (".json", ".csv", ".xml", ".txt", ".lst")
_AT_ONCE = 16


def read_stored(folder: Url, read: Callable[[str], Recognised], file: str = "") -> Recognised:
    """Read annotated data of a store as if they lay on this machine.

    Args:
        folder: that holds images and annotations.
        read: reads a folder, or a file in it.
        file: in the folder that is read; by default the folder itself is.

    Returns:
        The data, whose images are those in the store.

    Raises:
        DataError: as of ``read``; or the store cannot be read.
    """
    with _shadow(folder) as here:
        try:
            found = read(os.path.join(here, file) if file else here)
        except DataError as error:
            raise DataError(str(error).replace(here, str(folder))) from error
    return _moved(found, here, folder)


@contextmanager
def _shadow(folder: Url) -> Iterator[str]:
    """Give a folder of this machine with all files: annotations whole, of what may be an image the head, else empty."""
    try:
        names = list(objects_below(folder))
        if not names:
            raise DataError(f"{str(folder)!r} does not exist, or is empty. Expected a folder of images.")
        with TemporaryDirectory(prefix="otx_xai-") as place, ThreadPoolExecutor(_AT_ONCE) as pool:
            here = Path(place, folder.name or "bucket")
            for name, data in zip(names, pool.map(lambda name: _read(folder, name), names), strict=True):
                target = here / name
                if not target.is_relative_to(here) or ".." in target.parts:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            yield str(here)
    except OSError as error:
        raise DataError(f"The data in {str(folder)!r} cannot be read: {error.strerror}. Check its rights.") from error


def _read(folder: Url, name: str) -> bytes:
    suffix = suffix_of(name)
    if suffix in _ANNOTATIONS:
        return read_object(folder / name)
    return b"" if suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES else read_head(folder / name, HEAD)


def _moved(found: Recognised, here: str, folder: Url) -> Recognised:
    """Let images be those of the store."""

    def moved(infos: Sequence[ImageInfo]) -> dict[str, ImageInfo]:
        return {info.file: replace(info, file=_url(info.file, here, folder)) for info in infos}

    images = moved(found.images)
    subsets = {
        name: tuple(replace(sample, image=images[sample.image.file]) for sample in subset)
        for name, subset in found.subsets.items()
    }
    notes = tuple(note.replace(here, str(folder)) for note in found.notes)
    root = str(folder) if os.path.abspath(found.root) == here else _url(found.root, here, folder)
    return replace(found, root=root, subsets=subsets, images=tuple(images.values()), notes=notes)


def _url(file: str, here: str, folder: Url) -> str:
    return f"{folder}/{Path(os.path.normpath(file)).relative_to(here).as_posix()}"
