"""Names for images, so that no two results of a run are ever called the same.

Names are made with results in mind. A result file is called ``<stem>_<kind>`` or ``<stem>_class_<label>_<kind>``, where
the label part holds no dot (see :func:`otx_xai.report.names.slug`). Stems are given so that no two images of a run can
ever claim the same result file, on file systems that tell upper from lower case and on those that do not:

* A stem is an image's name without its suffix, unless another image of the run has that stem or that name.
* A stem of the form ``x_class…`` keeps its suffix where ``x`` belongs to another image. As label parts hold no dot,
  ``x_class_a.jpg_…`` cannot be read as a result of ``x``.
* A name is the path below the data root. What some file system refuses in it becomes ``_``; where that makes it the
  name of another image, ``.2``, ``.3``, … is appended, but never to a name in which nothing was replaced.
* Where a name has no suffix to keep, or differs from another in case only, ``.2``, ``.3``, … is appended.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from otx_xai.records import ImageInfo

_UNPORTABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\ud800-\udfff]|[. ]+(?=/|$)')
"""What some file system refuses in a name: these characters, and dots and spaces at the end of a component."""
_RESERVED = re.compile(r"(?i)(?:^|(?<=/))(con|prn|aux|nul|com\d|lpt\d)(?=[./]|$)")
_CLASS = re.compile(r"_class(?=_|$)")
_LONGEST_STEM = 120
"""Bytes of a stem's last component, which leaves room for the class and the kind in the 255 that file systems allow."""
_LONGEST_SUFFIX = 10


def name_images(found: Sequence[tuple[str, str]]) -> tuple[ImageInfo, ...]:
    """Turn pairs (path, relative path) into records; linear in their number."""
    names = _names([relative for _, relative in found])
    stems = _stems(names)
    return tuple(ImageInfo(path, name, stem) for (path, _), name, stem in zip(found, names, stems, strict=True))


def _names(relatives: Sequence[str]) -> list[str]:
    """Make paths portable, and number those that become what another one is: it keeps its name."""
    names = [_portable(relative) for relative in relatives]
    unchanged_first = sorted(range(len(names)), key=lambda i: names[i] != relatives[i])
    unique = _number_repeats((names[i] for i in unchanged_first), str, taken=set(names))
    for i, name in zip(unchanged_first, unique, strict=True):
        names[i] = name
    return names


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
