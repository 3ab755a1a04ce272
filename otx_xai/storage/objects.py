"""Whole objects in a store, through ``fsspec``: every call is made patiently, and every error is an ``OSError``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from otx_xai.errors import ConfigError
from otx_xai.storage.patience import patiently
from otx_xai.storage.urls import EXTRAS, Url

AnswerT = TypeVar("AnswerT")

_AT_ONCE = 16
"""Calls that are made side by side: what takes long is the way to the store and back."""

HUB = "hf"
"""Protocol of the Hugging Face Hub, whose file system differs from those of other stores in some ways."""
_NOT_FOUND = 404

_TAGS = ("ETag", "etag", "md5Hash", "blob_id", "generation", "mtime", "LastModified", "last_modified", "created")
"""What stores call that which changes with the content of an object, the surest first."""


@dataclass(frozen=True)
class Entry:
    """What a store says of an object.

    Args:
        size: in bytes.
        tag: changes when the content does; empty where the store tells nothing of the kind.
    """

    size: int
    tag: str


def read_object(url: Url) -> bytes:
    """Read an object.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read.
    """
    return _ask(url, "reading", _streamed if url.protocol == HUB else _content)


def read_head(url: Url, size: int) -> bytes:
    """Read the first bytes of an object, ``size`` of them or all it has.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read.
    """
    read = _streamed if url.protocol == HUB else _content
    return _ask(url, "reading", lambda store, path: read(store, path, size))


def _content(store: Any, path: str, size: int | None = None) -> bytes:
    return bytes(store.cat_file(path) if size is None else store.cat_file(path, start=0, end=size))


def _streamed(store: Any, path: str, size: int | None = None) -> bytes:
    """Read an object of the Hub as it comes: its ``cat_file`` asks several times how large it is."""
    with store.open(path, "rb", block_size=0, size=0) as file:
        return bytes(file.read(-1 if size is None else size))


def write_object(url: Url, data: bytes, *, only_new: bool = False) -> None:
    """Put an object, over what is there.

    Args:
        url: where to.
        data: the content.
        only_new: do not, where something is there. The store itself sees to it if it can (S3, Google); where it cannot,
            two who put at the same time may both succeed.

    Raises:
        OSError: it cannot be put; with ``only_new``, something is there (FileExistsError).
    """

    def put(store: Any, path: str) -> None:
        if not only_new:
            store.pipe_file(path, data)
            return
        try:
            store.pipe_file(path, data, mode="create")
        except (TypeError, NotImplementedError):  # a store that knows no conditions
            if store.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(url)) from None
            store.pipe_file(path, data)

    _ask(url, "writing", put, len(data))


def send_file(source: Path, url: Url) -> None:
    """Put a file of this machine as one object, over what is there.

    Raises:
        OSError: it cannot be put, or the file cannot be read.
    """
    size = source.stat().st_size
    _ask(url, "writing", lambda store, path: store.put_file(os.fspath(source), path), size)


def send_files(files: Mapping[Url, Path]) -> None:
    """Put files of this machine as objects, several at once.

    Args:
        files: where to → what.

    Raises:
        OSError: one cannot be put, or read; of the others some are.
    """
    _at_once(partial(send_file, source, url) for url, source in files.items())


def fetch_file(url: Url, target: Path, size: int = 0) -> None:
    """Fetch an object into a file of this machine, over what is there.

    Args:
        url: the object.
        target: the file, in a folder that exists.
        size: of the object in bytes, where it is known.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read or written.
    """
    _ask(url, "reading", lambda store, path: store.get_file(path, os.fspath(target)), size)


def remove_object(url: Url) -> bool:
    """Remove an object; return whether it was there, as far as the store tells.

    Raises:
        OSError: it cannot be removed.
    """

    def drop(store: Any, path: str) -> None:
        if url.protocol == HUB:
            store.info(path)  # it refuses to remove what is not there, in words of its own
        store.rm_file(path)

    try:
        _ask(url, "removing", drop)
    except FileNotFoundError:
        return False
    return True


def remove_objects(urls: Iterable[Url]) -> None:
    """Remove objects, several at once; those that are not there do not matter.

    Raises:
        OSError: one cannot be removed.
    """
    _at_once(partial(remove_object, url) for url in urls)


def look(url: Url) -> Entry | None:
    """Return what a store says of an object; ``None`` where there is none.

    Raises:
        OSError: the store does not say.
    """
    try:
        info = _ask(url, "looking at", lambda store, path: store.info(path))
    except FileNotFoundError:
        return None
    return _entry(info) if info.get("type", "file") == "file" else None


def objects_below(url: Url) -> dict[str, Entry]:
    """List all objects whose names begin with that of a folder.

    Returns:
        Name relative to it → what the store says, sorted by name; empty where there is no such folder.

    Raises:
        OSError: they cannot be listed.
    """

    def list_all(store: Any, path: str) -> dict[str, Any]:
        found: dict[str, Any] = store.find(path, detail=True, **_brief(url))
        return found

    with suppress(FileNotFoundError):
        found = _ask(url, "listing", list_all)
        start = f"{_opened(url)[1].rstrip('/')}/"
        names = ((name.removeprefix(start), info) for name, info in found.items() if name.startswith(start))
        return {name: _entry(info) for name, info in sorted(names) if name and not name.endswith("/")}
    return {}


def objects_in(url: Url) -> dict[str, Entry]:
    """List the objects right in a folder, not those in folders below it; see :func:`objects_below`."""

    def list_these(store: Any, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = store.ls(path, detail=True, **_brief(url))
        return found

    with suppress(FileNotFoundError):
        infos = [info for info in _ask(url, "listing", list_these) if info["type"] == "file"]
        found = {str(info["name"]).rpartition("/")[2]: _entry(info) for info in infos}
        return {name: found[name] for name in sorted(found) if name}
    return {}


def _brief(url: Url) -> dict[str, bool]:
    """Return what keeps a listing of the Hub from telling who has changed each file, and when."""
    return {"expand_info": False} if url.protocol == HUB else {}


def _entry(info: Mapping[str, Any]) -> Entry:
    told = next((info[name] for name in _TAGS if info.get(name)), "")
    tag = str(told.timestamp() if isinstance(told, datetime) else told)  # listings may tell a number instead
    return Entry(int(info.get("size") or 0), tag)


def _at_once(calls: Iterable[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(_AT_ONCE, "otx_xai storage") as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def _ask(url: Url, doing: str, call: Callable[[Any, str], AnswerT], size: int = 0) -> AnswerT:
    """Make a call to the store of a URL."""

    def ask() -> AnswerT:
        store, path = _opened(url)
        try:
            return call(store, path)
        except Exception as error:
            if getattr(getattr(error, "response", None), "status_code", None) == _NOT_FOUND:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(url)) from error
            raise

    try:
        return patiently(ask, f"{doing} {url}", size)
    except OSError as error:
        code = error.errno or _code_of(error)
        said = error.strerror or (str(error) if type(error) is OSError and str(error) else os.strerror(code))
        raise type(error)(code, said, str(url)) from error


def _code_of(error: OSError) -> int:
    codes = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST, PermissionError: errno.EACCES}
    return codes.get(type(error), errno.EIO)


def _opened(url: Url) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Raises:
        ConfigError: the package that it needs is missing.
    """
    protocol = url.protocol
    try:
        from fsspec import filesystem

        options = {} if protocol == "memory" else {"use_listings_cache": False}
        if protocol == HUB:  # or it lists a whole folder to tell of one file in it
            options["expand_info"] = True
        store = filesystem(protocol, **options)
    except ImportError as error:
        package = f"'otx-xai[{EXTRAS[protocol]}]'" if EXTRAS[protocol] else "fsspec"
        raise ConfigError(
            f"{protocol}:// needs a package that is not installed ({error.name or error}): pip install {package}"
        ) from error
    path = store._strip_protocol(str(url))
    if protocol == HUB:  # it keeps listings whatever it is told
        store.invalidate_cache(path)
    return store, path
