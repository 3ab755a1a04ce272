"""Files of images appear when the journal lists them, never before: what a killed run leaves is known to be its own."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from otx_xai.errors import OutputError
from otx_xai.report.files import unwritable_text, write_atomic

STAGING = ".staging"
"""Folder in that of a run where files wait for their line in the journal."""

_TORN = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""What :func:`otx_xai.storage.local.replace_whole` calls a file until it is whole."""


def publish(work_dir: Path, files: Iterable[str], root: Path | None = None) -> None:
    """Move files from staging to their places, each as a whole, over what is there.

    Args:
        work_dir: folder of the run.
        files: relative to where they go, and to the staging folder.
        root: where they go; ``work_dir`` by default.

    Raises:
        OutputError: a file cannot be written.
    """
    for file in files:
        target = (root or work_dir) / file
        try:
            _move(work_dir / STAGING / file, target)
        except OSError as error:
            raise OutputError(unwritable_text(target, error)) from error


def clear_staging(work_dir: Path) -> None:
    """Remove what waits, if anything, such as the files of images that a killed run was writing."""
    shutil.rmtree(work_dir / STAGING, ignore_errors=True)
    clear_torn(work_dir)


def clear_torn(folder: Path) -> None:
    """Remove the files of a folder that a killed run was writing, whatever they were to become.

    Args:
        folder: that nobody else writes to.
    """
    with suppress(OSError):  # they harm nobody
        for path in [entry.path for entry in os.scandir(folder) if _TORN.fullmatch(entry.name)]:
            os.unlink(path)


def _move(source: Path, target: Path) -> None:
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
