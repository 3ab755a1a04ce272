"""A word in the log about files that take long to be read: where a network drive hangs, nothing else would tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident

logger = logging.getLogger("otx_xai")

LONG = 60.0
"""Seconds after which a file is named."""
LOOKED_EVERY = 5.0
"""Seconds."""


class SlowReads:
    """Watches files while they are read, by any number of threads; none is given up, as a system call cannot be."""

    def __init__(self) -> None:
        self._reading: dict[int, tuple[str, float]] = {}

    @contextmanager
    def reading(self, file: str) -> Iterator[None]:
        """Read a file in this context."""
        self._reading[get_ident()] = file, time.monotonic()
        try:
            yield
        finally:
            del self._reading[get_ident()]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Name files that take long, each once, for as long as this context lasts."""
        stop = Event()
        watch = Thread(target=self._watch, args=(stop,), name="otx_xai slow reads", daemon=True)
        watch.start()
        try:
            yield
        finally:
            stop.set()
            watch.join()

    def _watch(self, stop: Event) -> None:
        told: set[tuple[str, float]] = set()
        while not stop.wait(LOOKED_EVERY):
            for file, began in set(self._reading.copy().values()) - told:
                seconds = time.monotonic() - began
                if seconds >= LONG:
                    told.add((file, began))
                    logger.warning(
                        "%s has been read for %.0f s, and the run waits for it. Is the drive that it is on there?",
                        file,
                        seconds,
                    )
