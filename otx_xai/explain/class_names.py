"""Class names, and the words that stand in their place, looked up as users write them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from otx_xai.errors import TargetError

logger = logging.getLogger("otx_xai")

ALL = "-1"
"""What stands for all classes."""


class ClassNames:
    """Class names, to be looked up as users write them.

    Args:
        labels: class names in order.
        words: those that may stand in the place of classes, beside -1.
    """

    def __init__(self, labels: Sequence[str], words: Sequence[str]) -> None:
        self._labels = labels
        self._words = words
        self._exact, self._folded = _by_name(tuple(labels))

    def find(self, text: str) -> int | None:
        """Return the class of this name, the first where several have it."""
        found = self._called(text)
        return found[0] if found else None

    def word(self, item: Any) -> str | None:
        """Return what ``item`` says in the place of classes: a word that is no class name, or -1."""
        word = _fold(str(item))
        if word == ALL:
            return word
        is_word = isinstance(item, str) and word in self._words and self.find(item) is None
        return word if is_word else None

    def everything(self) -> tuple[int, ...]:
        """Return all classes."""
        return tuple(range(len(self._labels)))

    def index(self, item: Any) -> int:
        """Return the class that ``item``, an index or a name, means.

        Raises:
            TargetError: there is none.
        """
        text = str(item).strip()
        is_number = isinstance(item, int | np.integer) and not isinstance(item, bool)
        found = [] if is_number else self._called(text)
        if len(found) > 1:
            logger.warning(
                "Classes %s are all called %r; explaining %d. Pass the index to choose.", found, text, found[0]
            )
        if found:
            return found[0]
        if not text.removeprefix("-").isdecimal():
            raise TargetError(self._unknown(text))
        if not 0 <= int(text) < len(self._labels):
            raise TargetError(
                f"Target {text} is no class of the model, which has {len(self._labels)}. {self._expected()}"
            )
        return int(text)

    def _called(self, text: str) -> Sequence[int]:
        """Return all classes of this name; those that are written exactly so, where there are any."""
        return self._exact.get(text) or self._folded.get(_fold(text)) or []

    def _expected(self) -> str:
        *others, last = "-1 (all classes)", *map(repr, self._words)
        return (
            f"Expected an index from 0 to {len(self._labels) - 1} or a class name; or, by itself, {', '.join(others)} "
            f"or {last}."
        )

    def _unknown(self, text: str) -> str:
        close = difflib.get_close_matches(_fold(text), self._folded, n=3)
        names = [self._labels[self._folded[name][0]] for name in close] or list(self._labels[:3])
        words = "Close names" if close else "The class names begin with"
        return (
            f"Target {text!r} is no class of the model. {words}: {', '.join(map(repr, names))}. {self._expected()} "
            f"Names come from label_names, from --labels, or from the model's model_info."
        )


@lru_cache(maxsize=4)
def _by_name(labels: tuple[str, ...]) -> tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]:
    """Return the classes of each name: as it is written, and as users may write it."""
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        exact.setdefault(label, []).append(index)
        folded.setdefault(_fold(label), []).append(index)
    return exact, folded


def _fold(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())
