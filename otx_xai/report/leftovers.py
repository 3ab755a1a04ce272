"""Files of earlier runs in the same folder, which go once a new run is complete, unless it has written them anew."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from otx_xai.errors import OutputError
from otx_xai.report.depots import Depot
from otx_xai.report.files import MAP_FOLDER, unwritable_text, utf8
from otx_xai.storage.json_text import parse_json

logger = logging.getLogger("otx_xai")

EARLIER = ".earlier.jsonl"
"""File in the folder of a run: the lists of files of those lines that journals there have lost."""


def set_aside(work_dir: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Note the files of lines that a journal is about to lose.

    Args:
        work_dir: folder of the run.
        entries: lines of its journal.

    Raises:
        OutputError: they cannot be noted.
    """
    lists = map(_listed, entries)
    lines = (utf8(json.dumps(files, ensure_ascii=False) + "\n") for files in lists if files)
    first = next(lines, None)
    if first is None:
        return
    path = work_dir / EARLIER
    try:
        with open(path, "ab") as file:
            file.write(b"\n" + first)  # the last line may be torn
            file.writelines(lines)
    except OSError as error:
        raise OutputError(unwritable_text(path, error)) from error


def set_journal_aside(journal: Path) -> None:
    """Note the files of a whole journal that is about to be emptied; lines that are broken have none.

    Raises:
        OutputError: they cannot be noted.
    """
    set_aside(journal.parent, (entry for entry in _objects(journal) if isinstance(entry, dict)))


def remove_leftovers(journal: Path, depot: Depot) -> int:
    """Remove the files that were noted, apart from those that the journal lists, and the folders that this empties.

    Nothing else is touched: no file that no journal has listed, and none outside of the folder of pictures. Where this
    is cut short, it goes on the next time.

    Args:
        journal: of a run that is complete.
        depot: where the files of images lie.

    Returns:
        The number of files removed.

    Raises:
        OutputError: the lists cannot be read, or their file not be removed.
    """
    path = journal.parent / EARLIER
    if not path.exists():
        return 0
    key = str if depot.tells_cases_apart else _folded
    kept = _keys(journal, key)
    removed = failed = 0
    for file in _files(_objects(path)):
        if not _is_among(kept, key(file)):
            try:
                removed += depot.remove(file)
            except OSError as error:
                failed += 1
                logger.warning(
                    "%s is of an earlier run, and cannot be removed: %s.", depot.place / file, error.strerror
                )
    if not failed:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(unwritable_text(path, error)) from error
    return removed


def _objects(path: Path) -> Iterator[Any]:
    """Yield what is on the whole lines of a file of JSON lines; nothing where there is no file.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for line in file:
                with suppress(ValueError):
                    yield parse_json(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}. Check its mode, and the disk.") from error


def _listed(entry: Mapping[str, Any]) -> Any:
    """Return the files that a line lists: those of its image, or the one that these are packed into."""
    return [entry["pack"]] if "pack" in entry else entry.get("files")


def _files(lists: Iterable[Any]) -> Iterator[str]:
    """Yield the files that are below the folder of pictures."""
    for files in lists:
        for file in files if isinstance(files, list) else ():
            parts = PurePosixPath(file).parts if isinstance(file, str) and "\\" not in file else ()
            if len(parts) > 1 and parts[0] == MAP_FOLDER and ".." not in parts:
                yield file


def _folded(file: str) -> str:
    """Make names the same that a file system takes for the same that does not tell upper and lower case apart."""
    return unicodedata.normalize("NFC", file.casefold())


def _keys(journal: Path, key: Callable[[str], str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the hashes of all files of a journal, sorted: there may be millions of them."""
    lists = (_listed(entry) for entry in _objects(journal) if isinstance(entry, dict))
    return np.sort(np.fromiter((hash(key(file)) for file in _files(lists)), np.int64))


def _is_among(kept: np.ndarray[Any, np.dtype[np.int64]], key: str) -> bool:
    place = int(np.searchsorted(kept, hash(key)))
    return place < len(kept) and int(kept[place]) == hash(key)
