"""The folder of an audit: what is in it, and how it remembers an audit that has not ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from otx_xai.errors import OutputError
from otx_xai.report.files import unwritable_text, write_atomic
from otx_xai.report.staging import clear_torn

EVIDENCE, SECOND_LOOK, BASELINE = "evidence", "second_look", "baseline"
"""Folders of an audit: the pass over all images, that over wrong ones for the labelled class, that of the baseline."""

UNFINISHED = ".unfinished"
"""File that is there as long as an audit has not ended."""


def begin(folder: Path, *, resume: bool, baseline: bool) -> None:
    """Remove what earlier audits have left, but for the evidence of one that has not ended.

    Args:
        folder: of the audit, which exists.
        resume: go on with one that has not ended.
        baseline: there is another model.

    Raises:
        OutputError: the folder cannot be written to.
    """
    goes_on = resume and (folder / UNFINISHED).exists()
    for name in (EVIDENCE, SECOND_LOOK, BASELINE):
        if not goes_on or (name == BASELINE and not baseline):
            shutil.rmtree(folder / name, ignore_errors=True)
    clear_torn(folder)
    write_atomic(folder / UNFINISHED, b"")


def end(folder: Path) -> None:
    """Remember that an audit has ended: the next one begins anew.

    Raises:
        OutputError: it cannot be remembered.
    """
    mark = folder / UNFINISHED
    try:
        mark.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(unwritable_text(mark, error)) from error
