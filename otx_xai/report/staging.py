"""Files of images appear when the journal lists them, never before: what a killed run leaves is known to be its own."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from otx_xai.report.files import write_atomic

STAGING = ".staging"
"""Folder in that of a run where files wait for their line in the journal."""

_TORN = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""What :func:`otx_xai.storage.local.replace_whole` calls a file until it is whole."""


def clear_staging(work_dir: Path) -> None:
    """Remove what waits, if anything, such as the files of images that a killed run was writing."""
    shutil.rmtree(work_dir / STAGING, ignore_errors=True)
    clear_torn(work_dir)


def clear_torn(folder: Path) -> None:
    """Remove what a killed run was writing into a folder that nobody else writes to, whatever it was to become."""
    with suppress(OSError):  # they harm nobody
        for path in [entry.path for entry in os.scandir(folder) if _TORN.fullmatch(entry.name)]:
            os.unlink(path)


def move(source: Path, target: Path) -> None:
    """Move a file to its place, as a whole, over what is there; folders are created as needed.

    Raises:
        OSError: it cannot be moved.
        OutputError: it lies on another disk, and cannot be written there.
    """
    try:
        _replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_atomic(target, source.read_bytes())  # a link leads to another disk
        source.unlink()


def _replace(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except FileNotFoundError:
        os.makedirs(target.parent, exist_ok=True)
        os.replace(source, target)
