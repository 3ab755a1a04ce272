"""Files of a store that have to lie on this machine, kept in a folder for the next time."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from otx_xai.storage.objects import Entry, fetch_file, look
from otx_xai.storage.urls import Url


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
    fetched again.

    Args:
        folder: what they are in.
        files: name relative to it → what the store says of it.

    Returns:
        The folder that they are in now, under the same names.

    Raises:
        OSError: one cannot be read, or written here.
    """
    state = "\n".join(f"{name}\t{entry.size}\t{entry.tag}" for name, entry in sorted(files.items()))
    key = hashlib.sha256(f"{folder}\n{state}".encode()).hexdigest()[:32]
    here = cache_folder() / "models" / key
    for name, entry in files.items():
        target = here / name
        if entry.tag and target.is_file() and target.stat().st_size == entry.size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            fetch_file(folder / name, part, entry.size)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return here
