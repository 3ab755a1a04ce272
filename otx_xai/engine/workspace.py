"""Folders of runs: a new one for each, links to the latest of every verb, and the newest checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from otx_xai.errors import ConfigError, OutputError
from otx_xai.storage import Place, Url, place_of
from otx_xai.storage.objects import send_file

logger = logging.getLogger("otx_xai")

WORKSPACE = Path("otx-workspace")
"""Where runs go when nothing is said."""

LATEST = ".latest"
CHECKPOINTS = ("best.ckpt", "last.ckpt")
"""What a training run leaves, the better first."""


def named_folder(work_dir: str | Path | None) -> Place | None:
    """Return the folder of results that a user names, ``~`` expanded; ``None`` where none is named.

    Raises:
        ConfigError: the name is empty, which would mean the current folder, or a URL that is not supported.
    """
    if work_dir is None:
        return None
    if not str(work_dir).strip():
        raise ConfigError("--work_dir is empty; expected a folder. Write '.' for the current one, or leave it out.")
    return place_of(work_dir)


def folder_here(work_dir: Place | None, verb: str) -> Path | None:
    """Return the folder of a job that writes to this machine only.

    Args:
        work_dir: that is named.
        verb: what runs.

    Raises:
        ConfigError: it is in a store.
    """
    if isinstance(work_dir, Url):
        raise ConfigError(
            f"--work_dir is {str(work_dir)!r}, and `otx {verb}` writes to this machine only (`otx explain` and "
            "`otx audit` write into stores). Expected a folder; copy it into the store afterwards."
        )
    return work_dir


def new_run(work_dir: Place | None, verb: str) -> Path:
    """Create the folder ``<work_dir>/<timestamp>`` of a run, and link to it as ``<work_dir>/.latest/<verb>``.

    Args:
        work_dir: folder of runs; ``otx-workspace`` by default.
        verb: what runs.

    Raises:
        ConfigError: the folder is in a store.
        OutputError: the folder cannot be made.
    """
    base = folder_here(work_dir, verb) or WORKSPACE
    run = base / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    make(run)
    _link_latest(run, base / LATEST / verb)
    return run


def explain_run(work_dir: Place | None) -> Place:
    """Create the folder of an explain run: ``work_dir`` itself, which a second call resumes, else a new one.

    In a store there are no folders to create, and no links.
    """
    return work_dir if isinstance(work_dir, Url) else _own_folder(work_dir, "explain")


def audit_run(work_dir: Place | None) -> Place:
    """Create the work directory of an audit; see :func:`explain_run`."""
    return work_dir if isinstance(work_dir, Url) else _own_folder(work_dir, "audit")


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


def newest_checkpoint(work_dir: Place | None) -> Path:
    """Return the checkpoint of the latest training run.

    Raises:
        ConfigError: nothing was trained there.
    """
    if isinstance(work_dir, Url):
        raise ConfigError(f"No checkpoint was given, and nothing is trained in {work_dir}. Pass it as --checkpoint.")
    latest = (work_dir or WORKSPACE) / LATEST / "train"
    for name in CHECKPOINTS:
        if (latest / name).is_file():
            return (latest / name).resolve()
    raise ConfigError(
        f"No checkpoint was given, and {latest} holds none of {', '.join(CHECKPOINTS)}. Expected a model file: pass it "
        "as --checkpoint, or train one in this --work_dir first."
    )


@contextmanager
def written_to(file: Place) -> Iterator[Path]:
    """Give a path to write to; what is there at the end is put into the store, where the file is to lie in one.

    Files of the same stem that are written beside it are put first.

    Args:
        file: where the file is to lie.

    Raises:
        OutputError: it cannot be put.
    """
    if not isinstance(file, Url):
        yield file
        return
    with TemporaryDirectory(prefix="otx_xai-") as folder:
        here = Path(folder, file.name)
        yield here
        for path in sorted(Path(folder).iterdir(), key=lambda path: path == here):
            try:
                send_file(path, file.parent / path.name)
            except OSError as error:
                raise OutputError(f"{file.parent / path.name} cannot be written: {error.strerror}.") from error


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
