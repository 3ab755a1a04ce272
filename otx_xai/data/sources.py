"""Images on disk: which ones a folder, a file, a list or a pattern stands for."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from otx_xai.data.file_kinds import IMAGE_SUFFIXES, irregular, suffix_of
from otx_xai.data.naming import name_images
from otx_xai.data.sieve import HIDDEN, Sieve
from otx_xai.data.stored_images import listed_images, search_store
from otx_xai.errors import DataError
from otx_xai.records import ImageInfo
from otx_xai.storage import Url, is_url, place_of, read_text

logger = logging.getLogger("otx_xai")

LIST_SUFFIXES = (".lst", ".txt")
"""What a file is called that lists images, in any case."""


@dataclass(frozen=True)
class FoundImages:
    """The images that were found, and what was passed over.

    Args:
        images: at least one.
        not_read: what stands among them and is not read, in words, with counts and the first names.
    """

    images: tuple[ImageInfo, ...]
    not_read: tuple[str, ...] = ()


def find_images(data_root: str | Path) -> tuple[ImageInfo, ...]:
    """Find the images that ``data_root`` stands for; see :func:`search_images`."""
    return search_images(data_root).images


def search_images(data_root: str | Path) -> FoundImages:
    """Find the images that ``data_root`` stands for, give each the name its results go by, and log what is not read.

    In folders and patterns a file is an image if its suffix says so (:data:`IMAGE_SUFFIXES`, in any case). Where the
    suffix says nothing, or there is none, its first bytes decide; arrays (``.npy``) that may be images count, see
    :func:`otx_xai.data.file_kinds.is_image`. What is called like an image and is none (a named pipe, a link that leads
    nowhere, a folder without images) is found too, so that it is reported as an image that failed.

    Args:
        data_root: one of

            * a folder, searched with all its sub-folders. Hidden files and folders are skipped; links to folders are
              followed, and a folder that is reached in several ways is searched once. Sorted by name.
            * an image file, whatever its suffix.
            * a list (``.txt``, ``.lst``; UTF-8): one path a line, relative to the list's folder; blank lines and lines
              that begin with ``#`` are ignored. The order is kept. A path is not looked at before it is read, so that
              a missing file is reported as one failed image.
            * a glob pattern, where ``**`` stands for any number of folders. Sorted by name.
            * a URL of one of these in an object store (``s3://bucket/folder``); lists name URLs, or what lies beside
              them.

    Returns:
        At least one image, and what was passed over. :attr:`ImageInfo.name` is relative to the folder, to the fixed
        part of the pattern, or to the list's folder (to the deepest folder that holds all listed files, where some lie
        outside of it).

    Raises:
        DataError: ``data_root`` does not exist, is no regular file, cannot be read, or holds no image.
    """
    place = place_of(data_root) if "://" in str(data_root) else data_root
    found = _search_store(place) if isinstance(place, Url) else _search(os.path.expanduser(place))
    if found.not_read:
        logger.info("Not read: %s.", "; ".join(found.not_read))
    return found


def _search_store(root: Url) -> FoundImages:
    if root.suffix.lower() in LIST_SUFFIXES:
        return FoundImages(name_images(_images_in_list(root)))
    found, not_read = search_store(root)
    return FoundImages(name_images(found), not_read)


def _search(root: str) -> FoundImages:
    if os.path.isdir(root):
        return _images_in_folder(root)
    if os.path.isfile(root):
        is_list = suffix_of(root) in LIST_SUFFIXES
        return FoundImages(name_images(_images_in_list(root) if is_list else [(root, os.path.basename(root))]))
    if what := irregular(root):
        raise DataError(
            f"{root!r} is {what}. Expected a regular file or a folder: write a list of images to a .txt file first."
        )
    if glob.has_magic(root):
        return _images_of_pattern(root)
    raise DataError(_missing_text(root))


def _images_in_folder(root: str) -> FoundImages:
    found: list[tuple[str, str]] = []
    folders: list[tuple[str, str]] = []
    sieve = Sieve()
    for folder, prefix, names in _walk(root, sieve):
        if prefix and suffix_of(prefix[:-1]) in IMAGE_SUFFIXES:
            folders.append((folder, prefix[:-1]))
        pairs = ((os.path.join(folder, name), prefix + name) for name in names)
        found += (pair for pair in pairs if sieve.keeps(*pair))
    if not found:
        raise DataError(
            f"The folder {root!r} holds no image: files named {_suffix_words()} (in any case), and files that begin "
            f"like an image, were looked for, in sub-folders too, and {sieve.found()}. Give a folder of "
            f"images, an image file, a list of paths (.txt), or a pattern such as "
            f"{os.path.join(root, '**', '*.png')!r}."
        )
    found.sort(key=_second)
    return FoundImages(name_images(sorted(found + _without_images(folders, found), key=_second)), sieve.words())


def _without_images(folders: Iterable[tuple[str, str]], found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the folders that are called like images and hold none; ``found`` is sorted by place."""
    places = [place for _, place in found]
    empty = []
    for folder, place in folders:
        first = bisect_left(places, f"{place}/")
        if first == len(places) or not places[first].startswith(f"{place}/"):
            empty.append((folder, place))
    return empty


def _walk(root: str, sieve: Sieve | None = None) -> Iterator[tuple[str, str, list[str]]]:
    """Yield ``root`` and every folder below it: its path, its place below ``root`` ("" or "a/b/"), its files.

    Hidden entries are left out, and noted in ``sieve``. Every folder comes once: under its own name where it has one
    below ``root``, else under the first link to it. So links that lead in circles do no harm.
    """
    seen: set[tuple[int, int]] = set()
    folders = [(root, "")]
    links: deque[tuple[str, str]] = deque()
    while folders or links:
        folder, prefix = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=_entry_name)
        except OSError as error:
            raise DataError(_unreadable_folder_text(folder, error)) from error
        files = []
        for entry in entries:
            if entry.name.startswith("."):
                if sieve is not None:
                    sieve.drop(prefix + entry.name, HIDDEN)
            elif entry.is_symlink():
                if os.path.isdir(entry.path):
                    links.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    files.append(entry.name)
            elif entry.is_dir():
                folders.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                files.append(entry.name)
        yield folder, prefix, files


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _images_in_list(root: str | Url) -> list[tuple[str, str]]:
    try:
        text = read_text(root)
    except OSError as error:
        raise DataError(
            f"The list {str(root)!r} cannot be read: {error.strerror}. Check the path and its rights."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list {str(root)!r} is no UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}). "
            "Expected one image path a line; save it as UTF-8."
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise DataError(
            f"The list {str(root)!r} names no image: it has {len(lines)} lines, all of them blank or comments. "
            "Expected one image path a line, relative to the folder of the list."
        )
    if isinstance(root, Url) or any(map(is_url, named)):
        return listed_images(root.parent if isinstance(root, Url) else None, named, str(root))
    folder = os.path.dirname(root)
    return _relative_to(folder, [os.path.join(folder, line) for line in named])


def _images_of_pattern(pattern: str) -> FoundImages:
    root, parts = _split_pattern(pattern)
    if not os.path.isdir(root or os.curdir):
        raise DataError(f"The pattern {pattern!r} matches nothing. {_missing_text(root)}")
    sieve = Sieve()
    paths = [path for path in sorted(set(_expand(root, parts))) if sieve.keeps(path, path)]
    if not paths:
        raise DataError(
            f"The pattern {pattern!r} matches no image: files named {_suffix_words()} (in any case), and files that "
            f"begin like an image, were looked for, and {sieve.found()}. A folder is entered only by '/': "
            "use '**/*.jpg' for files in all sub-folders."
        )
    return FoundImages(name_images(sorted(_relative_to(root, paths), key=_second)), sieve.words())


def _split_pattern(pattern: str) -> tuple[str, list[str]]:
    """Split a pattern into the folder before its first wild card, and the components behind it."""
    parts: list[str] = []
    root = pattern
    while glob.has_magic(root):
        root, part = os.path.split(root)
        if part:
            parts.insert(0, part)
    return root, parts


def _expand(folder: str, parts: list[str]) -> Iterator[str]:
    """Yield the files below ``folder`` that match the components of a pattern; some perhaps twice."""
    is_folder = os.path.isdir(folder or os.curdir)
    if not parts:
        if not is_folder:
            yield folder
    elif not is_folder:
        return
    elif parts == ["**"]:
        for inner, _, names in _walk(folder or os.curdir):
            yield from (os.path.join(inner, name) for name in names)
    elif parts[0] == "**":
        for inner, _, _ in _walk(folder or os.curdir):
            yield from _expand(inner, parts[1:])
    elif glob.has_magic(parts[0]):
        for name in _matching_names(folder, parts[0]):
            yield from _expand(os.path.join(folder, name), parts[1:])
    elif os.path.lexists(os.path.join(folder, parts[0])):
        yield from _expand(os.path.join(folder, parts[0]), parts[1:])


def _matching_names(folder: str, part: str) -> list[str]:
    try:
        names = os.listdir(folder or os.curdir)
    except OSError as error:
        raise DataError(_unreadable_folder_text(folder, error)) from error
    return [name for name in fnmatch.filter(names, part) if part.startswith(".") or not name.startswith(".")]


def _relative_to(root: str, paths: Iterable[str]) -> list[tuple[str, str]]:
    """Pair every path, once, with its place below ``root``, or below the common folder where one lies outside."""
    places: dict[str, str] = {}
    for path in paths:
        places.setdefault(os.path.abspath(path), path)
    start = os.path.join(os.path.abspath(root), "")
    if not all(place.startswith(start) for place in places):
        try:
            start = os.path.join(os.path.commonpath([os.path.dirname(place) for place in places]), "")
        except ValueError as error:
            raise DataError(
                f"The images lie on several drives ({next(iter(places))!r} is one of them), and so have no common "
                "folder that results could be named after. Make one list a drive."
            ) from error
    return [(path, place[len(start) :].replace(os.sep, "/")) for place, path in places.items()]


def _second(pair: tuple[str, str]) -> str:
    return pair[1]


def _suffix_words() -> str:
    return ", ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)


def _missing_text(path: str) -> str:
    existing = os.path.abspath(path)
    while not os.path.exists(existing) and os.path.dirname(existing) != existing:
        existing = os.path.dirname(existing)
    return (
        f"{path!r} does not exist (of its absolute path, {existing!r} does). Expected an image file, a folder of "
        "images, a list of paths (.txt), or a pattern such as 'images/**/*.jpg'."
    )


def _unreadable_folder_text(folder: str, error: OSError) -> str:
    return (
        f"The folder {folder!r} cannot be read: {error.strerror}. Give yourself read permission, or name the images "
        "with a list of paths (.txt) or a pattern that leaves this folder out."
    )
