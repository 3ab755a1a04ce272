"""Files of images appear when the journal lists them, never before: what a killed run leaves is known to be its own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from otx_xai.errors import OutputError
from otx_xai.report.files import unwritable_text, write_atomic

STAGING = ".staging"
"""Folder in that of a run where files wait for their line in the journal."""


def publish(work_dir: Path, files: Iterable[str]) -> None:
    """Move files from staging to their places, each as a whole, over what is there.

    Args:
        work_dir: folder of the run.
        files: relative to it, and to the staging folder.

    Raises:
        OutputError: a file cannot be written.
    """
    for file in files:
        target = work_dir / file
        try:
            _move(work_dir / STAGING / file, target)
        except OSError as error:
            raise OutputError(unwritable_text(target, error)) from error


def clear_staging(work_dir: Path) -> None:
    """Remove what waits, if anything, such as the files of images that a killed run was writing."""
    shutil.rmtree(work_dir / STAGING, ignore_errors=True)


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
