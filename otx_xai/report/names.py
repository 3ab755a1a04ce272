"""Names that are safe on every file system, and never two the same."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_SLUG_BYTES = 80
_KEPT_PUNCTUATION = frozenset("-+=,&'()")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)")


def slug(text: str) -> str:
    """Make a text part of a file name that every file system takes.

    Letters and digits of all scripts and ``-+=,&'()`` stay; any run of other characters becomes one ``_``. So there is
    never a dot in it, which the naming of images relies on (see :mod:`otx_xai.data.sources`).

    Args:
        text: any text, such as a class name.

    Returns:
        1 to 80 bytes of UTF-8, in Unicode's composed form; ``unnamed`` where nothing is left.
    """
    kept = "".join(letter if _stays(letter) else "_" for letter in unicodedata.normalize("NFC", text))
    kept = _cut(re.sub("_+", "_", kept).strip("_"), _SLUG_BYTES).rstrip("_")
    return f"{kept}_" if _RESERVED.fullmatch(kept) else kept or "unnamed"


def slugs(labels: Sequence[str]) -> tuple[str, ...]:
    """Make one slug a label, no two the same even where upper and lower case are not told apart.

    Labels that give the same slug get their class index appended: ``crane_134`` and ``crane_517``.

    Args:
        labels: class names, in the order of classes.

    Returns:
        As many slugs, each of at most 80 bytes of UTF-8.
    """
    plain = [slug(label) for label in labels]
    keys = [_fold(text) for text in plain]
    uses = Counter(keys)
    taken = set(keys)
    unique = []
    for index, (text, key) in enumerate(zip(plain, keys, strict=True)):
        if uses[key] == 1:
            unique.append(text)
            continue
        end = f"_{index}"
        while _fold(_with_end(text, end)) in taken:
            end += f"_{index}"
        unique.append(_with_end(text, end))
        taken.add(_fold(unique[-1]))
    return tuple(unique)


def _stays(letter: str) -> bool:
    return letter.isalnum() or letter in _KEPT_PUNCTUATION or unicodedata.category(letter).startswith("M")


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _with_end(text: str, end: str) -> str:
    return _cut(text, _SLUG_BYTES - len(end)) + end


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())
