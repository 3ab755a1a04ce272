"""A store in memory for tests, and a fault that hits a part of its calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from otx_xai.storage import Url, patience
from otx_xai.storage.objects import objects_below
from otx_xai.storage.patience import Patience

CALLS = ("cat_file", "pipe_file", "put_file", "get_file", "info", "find", "ls", "rm_file", "exists")
"""All that is asked of a store."""


@contextmanager
def memory_store(cache: Path) -> Iterator[Url]:
    """Empty the store in memory, before and after; waits between tries are short, what is fetched lies in ``cache``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "PATIENCE", Patience(first_wait=0.0005, longest_wait=0.002, seconds=10))
        patch.setenv("OTX_XAI_CACHE", str(cache))
        _empty()
        yield Url("memory://bucket")
        _empty()


def _empty() -> None:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def upload(folder: Path, url: Url) -> None:
    """Put all files of a folder."""
    for file in folder.rglob("*"):
        if file.is_file():
            MemoryFileSystem().pipe_file(str(url / file.relative_to(folder).as_posix()), file.read_bytes())


def contents(url: Url) -> dict[str, bytes]:
    """Return all objects below a URL, by their names."""
    return {name: MemoryFileSystem().cat_file(str(url / name)) for name in objects_below(url)}


def refuse_some(patch: pytest.MonkeyPatch, part: float, seed: int = 0) -> Callable[[], tuple[int, int]]:
    """Let a part of all calls fail as an overloaded store does; return what tells how many were refused, and made."""
    dice, counts = random.Random(seed), [0, 0]

    def faulty(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            counts[1] += 1
            if dice.random() < part:
                counts[0] += 1
                raise RuntimeError("503 Slow Down")
            return plain(*args, **named)

        return call

    for name in CALLS:
        patch.setattr(MemoryFileSystem, name, faulty(getattr(MemoryFileSystem, name)))
    return lambda: (counts[0], counts[1])
