"""Images are parted from other files, and what is passed over is counted."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from os import stat as status_of

from otx_xai.data.file_kinds import HEAD, IMAGE_SUFFIXES, OTHER_SUFFIXES, irregular, is_image, suffix_of

NO_IMAGE = "no image"
HIDDEN = "hidden"
"""Why something is passed over."""

_PHRASES = {
    NO_IMAGE: ("file that is no image", "files that are no images"),
    HIDDEN: ("hidden file or folder", "hidden files and folders"),
}
_SHOWN = 5
"""So many files that are not read are named."""


def why_no_image(path: str) -> str:
    """Say why a file whose suffix says nothing is passed over; empty where its content is an image."""
    try:
        if not stat.S_ISREG(status_of(path).st_mode):
            return irregular(path) or NO_IMAGE
        with open(path, "rb") as file:
            return "" if is_image(file.read(HEAD)) else NO_IMAGE
    except OSError as error:
        return irregular(path) or f"cannot be opened: {error.strerror}"


@dataclass
class Sieve:
    """Parts images from other files, and counts these.

    Args:
        look: says of a file whose suffix says nothing why it is no image; empty where it is one.
    """

    look: Callable[[str], str] = why_no_image
    others: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def keeps(self, path: str, name: str) -> bool:
        """Whether a file is an image; what is none is noted under its name."""
        suffix = suffix_of(path)
        if suffix in IMAGE_SUFFIXES:
            return True
        reason = NO_IMAGE if suffix in OTHER_SUFFIXES else self.look(path)
        if reason:
            self.others[suffix] += 1
            self.drop(name, reason)
        return not reason

    def drop(self, name: str, reason: str) -> None:
        """Note what is passed over."""
        self.counts[reason] += 1
        self.names.setdefault(reason, [])
        if self.counts[reason] <= _SHOWN:
            self.names[reason].append(name.encode(errors="backslashreplace").decode())

    def words(self) -> tuple[str, ...]:
        """Say what was passed over, and why."""
        return tuple(self._sentence(reason, count) for reason, count in sorted(self.counts.items()))

    def found(self) -> str:
        """Say what was there, where there is no image."""
        if not self.others:
            return "no file at all was found"
        kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in self.others.most_common(4)]
        more = ", …" if len(self.others) > len(kinds) else ""
        return f"{self.others.total()} other files were found ({', '.join(kinds)}{more})"

    def _sentence(self, reason: str, count: int) -> str:
        one, many = _PHRASES.get(reason, (f"× {reason}", f"× {reason}"))
        names = ", ".join(self.names[reason]) + (", …" if count > _SHOWN else "")
        return f"{count} {one if count == 1 else many} ({names})"
