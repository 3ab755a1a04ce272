"""Images on disk: which ones a folder, a file, a list or a pattern stands for."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from otx_xai.data.naming import name_images
from otx_xai.errors import DataError
from otx_xai.records import ImageInfo

IMAGE_SUFFIXES = (".bmp", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What a file is called that a folder or a pattern is searched for, in any case."""

LIST_SUFFIXES = (".lst", ".txt")
"""What a file is called that lists images, in any case."""


def find_images(data_root: str | Path) -> tuple[ImageInfo, ...]:
    """Find the images that ``data_root`` stands for, and give each the name its results go by.

    Args:
        data_root: one of

            * a folder, searched with all its sub-folders. Hidden files and folders are skipped; links to folders are
              followed, and a folder that is reached in several ways is searched once. Sorted by name.
            * an image file, whatever its suffix.
            * a list (``.txt``, ``.lst``; UTF-8): one path a line, relative to the list's folder; blank lines and lines
              that begin with ``#`` are ignored. The order is kept. A path is not looked at before it is read, so that
              a missing file is reported as one failed image.
            * a glob pattern, where ``**`` stands for any number of folders. Sorted by name.

    Returns:
        At least one image. :attr:`ImageInfo.name` is relative to the folder, to the fixed part of the pattern, or to
        the list's folder (to the deepest folder that holds all listed files, where some lie outside of it).

    Raises:
        DataError: ``data_root`` does not exist, cannot be read, or holds no image.
    """
    root = os.path.expanduser(data_root)
    if os.path.isdir(root):
        return name_images(_images_in_folder(root))
    if os.path.isfile(root):
        if _suffix(root) in LIST_SUFFIXES:
            return name_images(_images_in_list(root))
        return name_images([(root, os.path.basename(root))])
    if glob.has_magic(root):
        return name_images(_images_of_pattern(root))
    raise DataError(_missing_text(root))


def _images_in_folder(root: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    others: Counter[str] = Counter()
    for folder, prefix, names in _walk(root):
        for name in names:
            if _suffix(name) in IMAGE_SUFFIXES:
                found.append((os.path.join(folder, name), prefix + name))
            else:
                others[_suffix(name)] += 1
    if not found:
        raise DataError(
            f"The folder {root!r} holds no image: files named {_suffix_words()} (in any case) were looked for, "
            f"in sub-folders too, and {_counts_text(others)}. Give a folder of images, an image file, a list of paths "
            f"(.txt), or a pattern such as {os.path.join(root, '**', '*.png')!r}."
        )
    return sorted(found, key=_second)


def _walk(root: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield ``root`` and every folder below it: its path, its place below ``root`` ("" or "a/b/"), its files.

    Hidden entries are left out. Every folder comes once: under its own name where it has one below ``root``, else
    under the first link to it. So links that lead in circles do no harm.
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
                entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=_entry_name)
        except OSError as error:
            raise DataError(_unreadable_folder_text(folder, error)) from error
        files = []
        for entry in entries:
            if entry.is_symlink():
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


def _images_in_list(root: str) -> list[tuple[str, str]]:
    try:
        text = Path(root).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"The list {root!r} cannot be read: {error.strerror}. Check the path and its rights."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list {root!r} is no UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}). "
            "Expected one image path a line; save it as UTF-8."
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    folder = os.path.dirname(root)
    paths = [os.path.join(folder, line) for line in lines if line and not line.startswith("#")]
    if not paths:
        raise DataError(
            f"The list {root!r} names no image: it has {len(lines)} lines, all of them blank or comments. Expected one "
            "image path a line, relative to the folder of the list."
        )
    return _relative_to(folder, paths)


def _images_of_pattern(pattern: str) -> list[tuple[str, str]]:
    root, parts = _split_pattern(pattern)
    if not os.path.isdir(root or os.curdir):
        raise DataError(f"The pattern {pattern!r} matches nothing. {_missing_text(root)}")
    matches = sorted(set(_expand(root, parts)))
    paths = [path for path in matches if _suffix(path) in IMAGE_SUFFIXES]
    if not paths:
        others = Counter(_suffix(path) for path in matches)
        raise DataError(
            f"The pattern {pattern!r} matches no image: files named {_suffix_words()} (in any case) were looked for, "
            f"and {_counts_text(others)}. A folder is entered only by '/': use '**/*.jpg' for files in all sub-folders."
        )
    return sorted(_relative_to(root, paths), key=_second)


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


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _second(pair: tuple[str, str]) -> str:
    return pair[1]


def _suffix_words() -> str:
    return ", ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)


def _counts_text(others: Counter[str]) -> str:
    if not others:
        return "no file at all was found"
    kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in others.most_common(4)]
    return f"{others.total()} other files were found ({', '.join(kinds)}{', …' if len(others) > len(kinds) else ''})"


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
