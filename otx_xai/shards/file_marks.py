"""What tells whether the file of an image is still the one that was planned, without reading it."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from otx_xai.errors import DataError
from otx_xai.records import ImageInfo
from otx_xai.storage import Url, is_url, place_of

Mark = tuple[int | None, int | str | None]
"""Size in bytes, and when a file was last written, in microseconds; of an object what the store calls its version. Both
are ``None`` where there is no file, or an object was not asked for."""

NO_MARK: Mark = (None, None)

_AT_ONCE = 16


def planned_marks(images: Sequence[ImageInfo], root: str) -> list[Mark]:
    """Return the marks of all images of a run; of objects in one listing of the folder that they are in.

    Args:
        images: all of them, perhaps a million.
        root: what they were found by; objects that a list or a pattern names are not asked for one by one.

    Raises:
        DataError: a store cannot be read.
    """
    if not is_url(root):
        return [_on_disk(image) for image in images]
    if glob.has_magic(root):
        return [NO_MARK] * len(images)
    from otx_xai.storage.objects import objects_below

    folder = place_of(root)
    assert isinstance(folder, Url)
    try:
        below = {f"{folder}/{name}": entry for name, entry in objects_below(folder).items()}
    except OSError as error:
        raise _unreadable(root, error) from error
    found = [below.get(image.file) for image in images]
    return [(entry.size, entry.tag) if entry is not None else NO_MARK for entry in found]


def present_marks(images: Sequence[ImageInfo]) -> list[Mark]:
    """Return the marks of some images, several asked for at once where they are objects.

    Raises:
        DataError: a store cannot be read.
    """
    with ThreadPoolExecutor(_AT_ONCE, "otx_xai marks") as pool:
        return list(pool.map(_in_store_or_on_disk, images))


def _in_store_or_on_disk(image: ImageInfo) -> Mark:
    if not is_url(image.file):
        return _on_disk(image)
    from otx_xai.storage.objects import look

    place = place_of(image.file)
    assert isinstance(place, Url)
    try:
        entry = look(place)
    except OSError as error:
        raise _unreadable(image.file, error) from error
    return NO_MARK if entry is None else (entry.size, entry.tag)


def _on_disk(image: ImageInfo) -> Mark:
    """Look at a file; of one that is not there, or hidden, a run tells when it reads it."""
    try:
        status = os.stat(image.file)
    except OSError:
        return NO_MARK
    return status.st_size, status.st_mtime_ns // 1000


def _unreadable(place: str, error: OSError) -> DataError:
    return DataError(f"{place!r} cannot be read: {error.strerror}. Check its name and its rights.")
