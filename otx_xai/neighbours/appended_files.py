"""Files that were appended to a model as a ZIP archive, as TensorFlow Lite has them."""

from __future__ import annotations

import logging
import zipfile
import zlib
from pathlib import Path

_logger = logging.getLogger(__name__)
_MAX_FILES = 256
_MAX_BYTES = 4 * 1024 * 1024
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)


def appended_files(path: Path) -> dict[str, bytes]:
    """Return the files in the archive at the end of a file, name → content.

    A damaged archive is told in the log and gives none; a file in it of more than 4 MiB is told and left out.

    Args:
        path: a model; one without an archive gives no file.
    """
    try:
        if not zipfile.is_zipfile(path):
            return {}
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename: _read(archive, info) for info in archive.infolist()[:_MAX_FILES] if _is_small(path, info)
            }
    except _BROKEN as error:
        _logger.warning("The files inside %s cannot be read (%s): labels in it, if any, do not count.", path, error)
        return {}


def _is_small(path: Path, info: zipfile.ZipInfo) -> bool:
    if info.file_size <= _MAX_BYTES:
        return True
    _logger.warning("%s inside %s has %d bytes: it is not read for labels.", info.filename, path, info.file_size)
    return False


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # the size that an archive states may be a lie
    with archive.open(info) as file:
        return file.read(_MAX_BYTES)
