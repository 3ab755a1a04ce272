"""Images on disk: :func:`find_images` lists and names them, :func:`read_image` decodes one.

Names are made with results in mind. A result file is called ``<stem>_<kind>`` or ``<stem>_class_<label>_<kind>``, where
the label part holds no dot (see :func:`otx_xai.report.files.slug`). Stems are given so that no two images of a run can
ever claim the same result file, on file systems that tell upper from lower case and on those that do not:

* A stem is an image's name without its suffix, unless another image of the run has that stem or that name.
* A stem of the form ``x_class…`` keeps its suffix where ``x`` belongs to another image. As label parts hold no dot,
  ``x_class_a.jpg_…`` cannot be read as a result of ``x``.
* Where a name has no suffix to keep, or differs from another in case only, ``.2``, ``.3``, … is appended.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
import threading
import unicodedata
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import DataError, ImageError
from otx_xai.records import ImageInfo, UInt8Array

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
        return _describe(_images_in_folder(root))
    if os.path.isfile(root):
        if _suffix(root) in LIST_SUFFIXES:
            return _describe(_images_in_list(root))
        return _describe([(root, os.path.basename(root))])
    if glob.has_magic(root):
        return _describe(_images_of_pattern(root))
    raise DataError(_missing_text(root))


def read_image(path: str | Path) -> UInt8Array:
    """Read and decode one image.

    Grey and palette images become RGB, CMYK is converted, an alpha channel is dropped, 16 bits a channel are scaled to
    8, and the orientation in the EXIF data is applied. Of a file with several images the first is taken.

    Args:
        path: a JPEG, PNG, BMP, WebP or TIFF file (or any other kind that this build of OpenCV decodes).

    Returns:
        RGB ``uint8`` ``(H, W, 3)``, contiguous.

    Raises:
        ImageError: the file is missing, unreadable, empty, no image, cut short, or holds values that have no agreed
            range (signed, 32-bit and floating-point TIFF).
    """
    data = _read_bytes(path)
    kind = _kind(data)
    if kind == "PNG":
        data = _clean_png(data, path)
    elif kind == "JPEG" and not _jpeg_is_complete(data):
        raise ImageError(_broken_text(path, "JPEG", "its end marker is missing, so the file is cut short"))
    with _silent_cv2:
        image = _decode_tiff(data, path) if kind == "TIFF" else _decode(data, cv2.IMREAD_COLOR, path)
    if image is None:
        raise ImageError(_undecoded_text(path, data, kind))
    rgb: UInt8Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


# ---------------------------------------------------------------------------------------------------------------------
# Finding. Every finder returns pairs (path to open, path relative to the root with "/").


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


# ---------------------------------------------------------------------------------------------------------------------
# Naming.

_UNPORTABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\ud800-\udfff]|[. ]+(?=/|$)')
"""What some file system refuses in a name: these characters, and dots and spaces at the end of a component."""
_RESERVED = re.compile(r"(?i)(?:^|(?<=/))(con|prn|aux|nul|com\d|lpt\d)(?=[./]|$)")
_CLASS = re.compile(r"_class(?=_|$)")
_LONGEST_STEM = 120
"""Bytes of a stem's last component, which leaves room for the class and the kind in the 255 that file systems allow."""
_LONGEST_SUFFIX = 10


def _describe(found: Sequence[tuple[str, str]]) -> tuple[ImageInfo, ...]:
    """Turn pairs (path, relative path) into records; linear in their number."""
    names = [_portable(relative) for _, relative in found]
    names = _number_repeats(names, str, taken=set(names))
    stems = _stems(names)
    return tuple(ImageInfo(Path(path), name, stem) for (path, _), name, stem in zip(found, names, stems, strict=True))


def _portable(relative: str) -> str:
    """Replace what cannot be part of a file name everywhere; ``..`` cannot survive this."""
    return _RESERVED.sub(r"_\1", _UNPORTABLE.sub("_", relative))


def _stems(names: Sequence[str]) -> list[str]:
    """Name the results of every image, by the rules in the head of this module."""
    pairs = [_stem_and_full(name) for name in names]
    keys = [(_fold(short), _fold(full)) for short, full in pairs]
    uses = Counter(key for pair in keys for key in set(pair))
    owned = set(uses)
    avoided = owned | {claim for key in owned for claim in _claims(key)}
    stems = [short if uses[key] == 1 else full for (short, full), (key, _) in zip(pairs, keys, strict=True)]
    stems = _number_repeats(stems, _fold, avoided)
    for index, (_, full) in enumerate(pairs):
        if _is_ambiguous(stems[index], owned):
            stems[index] = full
            if _is_ambiguous(full, owned):
                stems[index] = _numbered(full, _fold, avoided)
    return stems


def _stem_and_full(name: str) -> tuple[str, str]:
    """Return a name without and with its suffix, both short enough to be a part of a file name."""
    stem, suffix = os.path.splitext(name)
    if len(suffix) > _LONGEST_SUFFIX:
        stem, suffix = name, ""
    last = stem.rpartition("/")[2]
    if len(last.encode()) > _LONGEST_STEM:
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        kept = last.encode()[: _LONGEST_STEM - len(digest) - 1].decode(errors="ignore")
        stem = f"{stem.removesuffix(last)}{kept}~{digest}"
    return stem, stem + suffix


def _fold(text: str) -> str:
    """Return what is equal for texts that some file system takes for the same name."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _claims(key: str) -> list[str]:
    """Return the stems whose class results could be called ``key…``: ``x`` and ``x_class_a`` for ``x_class_a_class``.

    A dot behind ``_class`` rules that out, since the label part of a result's name holds none.
    """
    return [key[: match.start()] for match in _CLASS.finditer(key) if "." not in key[match.end() :]]


def _is_ambiguous(stem: str, owned: set[str]) -> bool:
    return any(claim in owned for claim in _claims(_fold(stem)))


def _number_repeats(texts: Iterable[str], fold: Callable[[str], str], taken: set[str]) -> list[str]:
    """Append ``.2``, ``.3``, … to all but the first of equal texts, avoiding ``taken``, which is extended."""
    seen: set[str] = set()
    unique = []
    for text in texts:
        key = fold(text)
        unique.append(_numbered(text, fold, taken) if key in seen else text)
        seen.add(key)
    return unique


def _numbered(text: str, fold: Callable[[str], str], taken: set[str]) -> str:
    number = 2
    while fold(f"{text}.{number}") in taken:
        number += 1
    taken.add(fold(f"{text}.{number}"))
    return f"{text}.{number}"


# ---------------------------------------------------------------------------------------------------------------------
# Reading.

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker other than the ones that stand inside of compressed data (stuffed zeros and restart markers)."""


class _SilentCv2:
    """Keeps OpenCV's log off stderr while any thread is inside: a broken file is reported once, by an exception."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0
        self._log = getattr(cv2.utils, "logging", cv2)  # the functions moved in OpenCV 5

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._level = self._log.getLogLevel()
                self._log.setLogLevel(0)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._log.setLogLevel(self._level)


_silent_cv2 = _SilentCv2()


def _read_bytes(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(
            f"The image {str(path)!r} does not exist. Check the path, and where it is relative to."
        ) from error
    except IsADirectoryError as error:
        raise ImageError(
            f"{str(path)!r} is a folder, expected an image. Give the folder itself as data_root."
        ) from error
    except OSError as error:
        raise ImageError(f"The image {str(path)!r} cannot be read: {error.strerror}. Check its permissions.") from error
    if not data:
        raise ImageError(f"The image {str(path)!r} is an empty file (0 bytes). Fetch it again, or remove it.")
    return data


def _kind(data: bytes) -> str:
    """Tell the kind of an image file by its first bytes; empty where they are not known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), "")


def _clean_png(data: bytes, path: str | Path) -> bytes:
    """Check the chunks of a PNG and keep the ones that make the picture.

    libpng writes its complaints straight to stderr: on broken files, and on harmless colour profiles that OpenCV does
    not use anyway. Neither reaches it from here.
    """
    view = memoryview(data)
    kept = [view[:8]]
    start, kind = 8, b""
    while kind != b"IEND":
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            raise ImageError(_broken_text(path, "PNG", f"it ends in the middle of a chunk, after {len(data)} bytes"))
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError(
                _broken_text(path, "PNG", f"the checksum of its {kind.decode('ascii', 'replace')} chunk is wrong")
            )
        if is_critical or kind == b"eXIf":
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the picture's end marker is there: of a file without it, OpenCV 4 makes a half grey picture."""
    if data.endswith(b"\xff\xd9"):
        return True
    # Something follows the picture, as in camera files, or its end is missing. Walk the segments, so that neither the
    # end marker of an embedded thumbnail nor anything behind the picture is mistaken for the picture's own.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[0] == b"\xff\xd9":
            return True
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False


def _decode_tiff(data: bytes, path: str | Path) -> NDArray[Any] | None:
    """Decode a TIFF without OpenCV's own scaling to 8 bits, which guesses a range for the kinds that have none."""
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, path)
    if image is None:
        image = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if image is None or image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise ImageError(
            f"The TIFF image {str(path)!r} holds {image.dtype} values, which have no agreed range. Expected unsigned "
            "values of 8 or 16 bits: scale its values to 0-255 and save it as uint8."
        )
    scaled: UInt8Array = cv2.convertScaleAbs(image, alpha=1 / 257)
    return scaled


def _decode(data: bytes, flags: int, path: str | Path) -> NDArray[Any] | None:
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(
            f"The image {str(path)!r} cannot be decoded: OpenCV says {error.err!r}. It may be too large (2^30 pixels "
            "are the limit) or broken; open it in a viewer, and save it again smaller or as PNG."
        ) from error
    return image


def _broken_text(path: str | Path, kind: str, reason: str) -> str:
    return f"The image {str(path)!r} is a broken {kind} file: {reason}. Fetch or save it again, or remove it."


def _undecoded_text(path: str | Path, data: bytes, kind: str) -> str:
    if not kind:
        return (
            f"{str(path)!r} is not an image: no kind of image begins with the bytes {data[:8].hex(' ')}. Expected a "
            "JPEG, PNG, BMP, WebP or TIFF file; remove it from the data, or convert it."
        )
    return _broken_text(path, kind, "its content cannot be decoded")
