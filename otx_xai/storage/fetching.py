"""Files of a store that have to lie on this machine, kept in a folder for the next time."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from otx_xai.errors import ConfigError
from otx_xai.storage.objects import Entry, fetch_file, look
from otx_xai.storage.urls import Url

_MOST_GB = 20.0
"""Of models and plans that are kept, unless ``$OTX_XAI_CACHE_GB`` says otherwise."""
_IN_USE = 24 * 3600.0
"""Seconds since it was last asked for in which a state is not removed: a run may be reading it."""


def cache_folder() -> Path:
    """Return where files of stores are kept: ``$OTX_XAI_CACHE``, by default ``otx_xai`` in the user's cache."""
    own = os.environ.get("OTX_XAI_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otx_xai"


def scratch_folder(url: Url) -> Path:
    """Return where a run that writes into a folder of a store keeps, on this machine, what is not there yet."""
    return cache_folder() / "runs" / hashlib.sha256(str(url).encode()).hexdigest()[:32]


def file_here(place: Path | Url) -> Path:
    """Return the path of a file on this machine; one of a store is fetched, again where it has changed.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read.
    """
    if isinstance(place, Path):
        return place
    entry = look(place)
    if entry is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    return fetch_folder(place.parent, {place.name: entry}) / place.name


def fetch_folder(folder: Url, files: Mapping[str, Entry]) -> Path:
    """Fetch files that belong together into one folder of this machine.

    Each state of them has a folder of its own: where a tag (ETag, generation, …) or a size has changed, they are
    fetched again. Where all of these take more than 20 GB (``$OTX_XAI_CACHE_GB``), those that nobody has asked for
    within a day are removed, the oldest first.

    Args:
        folder: what they are in.
        files: name relative to it → what the store says of it.

    Returns:
        The folder that they are in now, under the same names.

    Raises:
        OSError: one cannot be read, or written here.
        ConfigError: ``$OTX_XAI_CACHE_GB`` is no number.
    """
    state = "\n".join(f"{name}\t{entry.size}\t{entry.tag}" for name, entry in sorted(files.items()))
    key = hashlib.sha256(f"{folder}\n{state}".encode()).hexdigest()[:32]
    here, fetched = cache_folder() / "models" / key, False
    for name, entry in files.items():
        target = here / name
        if entry.tag and target.is_file() and target.stat().st_size == entry.size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            fetch_file(folder / name, part, entry.size)
            os.replace(part, target)
            fetched = True
        finally:
            part.unlink(missing_ok=True)
    most = _most_bytes()
    with suppress(OSError):  # a cache that is not cleaned harms no run
        os.utime(here)
        if fetched:
            _make_room(here.parent, most)
    return here


def _make_room(states: Path, most: float) -> None:
    """Remove what was not asked for lately, the oldest first, until the rest fits; what cannot be removed stays."""
    sizes = {state: _size(state) for state in _by_age(states)}
    total, now = sum(sizes.values()), time.time()
    for state, size in sizes.items():
        if total <= most or now - state.stat().st_mtime < _IN_USE:
            return
        shutil.rmtree(state, ignore_errors=True)
        total -= size


def _size(state: Path) -> int:
    return sum(file.stat().st_size for file in state.rglob("*") if file.is_file())


def _by_age(states: Path) -> list[Path]:
    return sorted((state for state in states.iterdir() if state.is_dir()), key=lambda state: state.stat().st_mtime)


def _most_bytes() -> float:
    told = os.environ.get("OTX_XAI_CACHE_GB")
    try:
        most = _MOST_GB if told is None else float(told)
    except ValueError:
        raise ConfigError(f"OTX_XAI_CACHE_GB is {told!r}; expected a number of gigabytes, such as 20.") from None
    return most * 1e9
