"""Folders of runs: a new one for each, links to the latest of every verb, and the newest checkpoint."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path

from otx_xai.errors import ConfigError, OutputError
from otx_xai.storage import Url, place_of

logger = logging.getLogger("otx_xai")

WORKSPACE = Path("otx-workspace")
"""Where runs go when nothing is said."""

LATEST = ".latest"
CHECKPOINTS = ("best.ckpt", "last.ckpt")
"""What a training run leaves, the better first."""


def named_folder(work_dir: str | Path | None) -> Path | None:
    """Return the folder of results that a user names, ``~`` expanded; ``None`` where none is named.

    Raises:
        ConfigError: the name is empty, which would mean the current folder, or a URL.
    """
    if work_dir is None:
        return None
    if not str(work_dir).strip():
        raise ConfigError("--work_dir is empty; expected a folder. Write '.' for the current one, or leave it out.")
    place = place_of(work_dir)
    if isinstance(place, Url):
        raise ConfigError(
            f"--work_dir is {str(place)!r}; expected a folder of this machine. Copy its content into the store later."
        )
    return place


def new_run(work_dir: Path | None, verb: str) -> Path:
    """Create the folder ``<work_dir>/<timestamp>`` of a run, and link to it as ``<work_dir>/.latest/<verb>``.

    Args:
        work_dir: folder of runs; ``otx-workspace`` by default.
        verb: what runs.

    Raises:
        OutputError: the folder cannot be made.
    """
    base = work_dir or WORKSPACE
    run = base / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    make(run)
    _link_latest(run, base / LATEST / verb)
    return run


def explain_run(work_dir: Path | None) -> Path:
    """Create the folder of an explain run: ``work_dir`` itself, which a second call resumes, else a new one."""
    return _own_folder(work_dir, "explain")


def audit_run(work_dir: Path | None) -> Path:
    """Create the folder of an audit: ``work_dir`` itself, which a second call resumes, else a new one."""
    return _own_folder(work_dir, "audit")


def make(folder: Path) -> None:
    """Create a folder.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The work directory {folder} cannot be made: {error.strerror}. Expected a folder that can be written "
            f"to; choose another --work_dir."
        ) from error


def newest_checkpoint(work_dir: Path | None) -> Path:
    """Return the checkpoint of the latest training run.

    Raises:
        ConfigError: nothing was trained there.
    """
    latest = (work_dir or WORKSPACE) / LATEST / "train"
    for name in CHECKPOINTS:
        if (latest / name).is_file():
            return (latest / name).resolve()
    raise ConfigError(
        f"No checkpoint was given, and {latest} holds none of {', '.join(CHECKPOINTS)}. Expected a model file: pass it "
        "as --checkpoint, or train one in this --work_dir first."
    )


def _own_folder(work_dir: Path | None, verb: str) -> Path:
    if work_dir is None:
        return new_run(None, verb)
    make(work_dir)
    _link_latest(work_dir, work_dir / LATEST / verb)
    return work_dir


def _link_latest(run: Path, latest: Path) -> None:
    leads_to = os.path.relpath(run, latest.parent)
    try:
        if latest.is_symlink() and os.readlink(latest) == leads_to:
            return  # nothing is touched that a run in progress there has made
        latest.parent.mkdir(exist_ok=True)
        latest.unlink(missing_ok=True)
        latest.symlink_to(leads_to, target_is_directory=True)
    except OSError as error:  # a convenience, which some file systems do not have
        if os.access(run, os.W_OK):  # else the run itself fails, and says why
            logger.warning("%s does not lead to the latest run: %s.", latest, error.strerror)
