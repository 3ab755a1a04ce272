"""What is made once for a key, and kept while it is in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, of which the least recently used ones are forgotten; safe in threads.

    Args:
        most: how many are kept, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = RLock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key, which is made where there is none; others wait meanwhile."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
            return self._values[key]

    def __len__(self) -> int:
        return len(self._values)
