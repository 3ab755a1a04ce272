"""Images in an object store: which ones a folder, an object, a list or a pattern stands for, as on a disk."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from otx_xai.data.file_kinds import HEAD, IMAGE_SUFFIXES, is_image
from otx_xai.data.sieve import HIDDEN, NO_IMAGE, Sieve
from otx_xai.errors import DataError
from otx_xai.storage import Url, is_url, place_of
from otx_xai.storage.objects import look, objects_below, read_head

Found = list[tuple[str, str]]
"""URL and place of each image, in order."""


def search_store(root: Url) -> tuple[Found, tuple[str, ...]]:
    """Find the images below a URL, or those that match one with wild cards.

    Args:
        root: a folder, an image, or a pattern.

    Returns:
        The images, sorted by place; and what was passed over, in words.

    Raises:
        DataError: there is none, or the store cannot be read.
    """
    try:
        if glob.has_magic(root.text):
            return _of_pattern(root)
        if root.name and look(root) is not None:
            return [(root.text, root.name)], ()
        return _below(root)
    except OSError as error:
        raise DataError(f"{str(root)!r} cannot be read: {error.strerror}. Check its name and its rights.") from error


def listed_images(folder: Url | None, lines: Sequence[str], root: str) -> Found:
    """Return the images that a list names.

    Args:
        folder: of the list, where that is in a store: lines may be relative to it.
        lines: URLs, and paths.
        root: the list, for the error.

    Raises:
        DataError: paths of this machine stand among URLs.
    """
    places = [place_of(line) if is_url(line) else folder and _joined(folder, line) for line in lines]
    urls = list(dict.fromkeys(place.text for place in places if isinstance(place, Url)))
    if not all(isinstance(place, Url) for place in places):
        raise DataError(f"The list {root!r} names paths and URLs. Expected either; make two lists of it.")
    start = f"{folder}/"
    if folder is None or not all(url.startswith(start) for url in urls):
        start = os.path.commonpath([posixpath.dirname(url.replace("://", "/", 1)) for url in urls])
        start = f"{start.replace('/', '://', 1)}/" if "/" in start else f"{start}://" if start else ""
    return [(url, url[len(start) :].replace("://", "/")) for url in urls]


def _joined(folder: Url, line: str) -> Url:
    return Url(f"{folder.protocol}://{posixpath.normpath(posixpath.join(folder.text.partition('://')[2], line))}")


def _below(root: Url) -> tuple[Found, tuple[str, ...]]:
    names = objects_below(root)
    if not names:
        raise DataError(
            f"{str(root)!r} does not exist, or is empty. Expected an image, a folder of images, a list of images "
            "(.txt), or a pattern such as 's3://bucket/images/**/*.jpg'."
        )
    sieve = Sieve(_why_no_image)
    found = [(f"{root}/{name}", name) for name in _visible(names, sieve) if sieve.keeps(f"{root}/{name}", name)]
    if not found:
        raise DataError(
            f"The folder {str(root)!r} holds no image: objects named {', '.join(f'*{end}' for end in IMAGE_SUFFIXES)} "
            f"(in any case), and those that begin like an image, were looked for, and {sieve.found()}."
        )
    return found, sieve.words()


def _visible(names: Iterable[str], sieve: Sieve) -> Iterator[str]:
    """Yield the names without a hidden component; each hidden file or folder is noted once."""
    hidden = ""
    for name in names:
        parts = name.split("/")
        first = next((number for number, part in enumerate(parts) if part.startswith(".")), None)
        if first is None:
            yield name
        elif hidden != (place := "/".join(parts[: first + 1])):
            hidden = place
            sieve.drop(place, HIDDEN)


def _of_pattern(pattern: Url) -> tuple[Found, tuple[str, ...]]:
    parts = pattern.text.partition("://")[2].split("/")
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    if not fixed:
        raise DataError(f"The pattern {str(pattern)!r} names no bucket. Expected wild cards behind its name only.")
    root, sieve = Url(f"{pattern.protocol}://{'/'.join(parts[:fixed])}"), Sieve(_why_no_image)
    names = [name for name in objects_below(root) if _matches(name.split("/"), parts[fixed:])]
    found = [(f"{root}/{name}", name) for name in names if sieve.keeps(f"{root}/{name}", f"{root}/{name}")]
    if not found:
        raise DataError(
            f"The pattern {str(pattern)!r} matches no image, and {sieve.found()}. A folder is entered only by '/': use "
            "'**/*.jpg' for files in all sub-folders."
        )
    return found, sieve.words()


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the components of a name match those of a pattern; ``**`` stands for any number of folders."""
    if not parts or not names:
        return not parts and not names
    head, *rest = parts
    if head != "**":
        hidden = names[0].startswith(".") and not head.startswith(".")
        return not hidden and fnmatchcase(names[0], head) and _matches(names[1:], rest)
    if not rest:
        return not any(name.startswith(".") for name in names)
    return _matches(names, rest) or (not names[0].startswith(".") and _matches(names[1:], parts))


def _why_no_image(url: str) -> str:
    place = place_of(url)
    assert isinstance(place, Url)
    try:
        return "" if is_image(read_head(place, HEAD)) else NO_IMAGE
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
