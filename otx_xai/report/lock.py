"""One run at a time in a folder."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from otx_xai.errors import BusyError, OutputError
from otx_xai.report.files import unwritable_text
from otx_xai.storage import Place, Url

logger = logging.getLogger("otx_xai")

LOCK = ".lock"
"""File that a run holds while it writes into its folder."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems without locks say, some network drives among them."""


@contextmanager
def locked(folder: Place, wait: float = 0) -> Iterator[None]:
    """Keep other runs, of this process or another, out of a folder.

    The lock is the operating system's: it ends with the process that holds it, and the file that a killed process
    leaves behind locks nothing. On a file system without locks nobody is kept out. A folder in a store is leased, see
    :mod:`otx_xai.report.lease`.

    Args:
        folder: of the run, which exists.
        wait: seconds that another run may take to let go.

    Raises:
        BusyError: another run is writing into the folder.
        OutputError: the folder cannot be written to.
    """
    if isinstance(folder, Url):
        from otx_xai.report.lease import leased

        with leased(folder / LOCK, folder, wait):
            yield
        return
    from filelock import FileLock, Timeout  # takes longer to import than `otx --help` takes in all

    path = folder / LOCK
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout as error:
        if not path.exists():  # filelock takes a folder that takes no files for one that is being changed
            missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise OutputError(unwritable_text(path, missing)) from error
        raise BusyError(
            f"Another run is writing into {str(folder)!r}, and holds {LOCK} there. Expected one run at a time in a "
            "folder; wait until it has ended, or give another --work_dir."
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise OutputError(unwritable_text(path, error)) from error
        logger.debug("%s is not locked: %s", folder, error)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            os.unlink(path)
        lock.release()
