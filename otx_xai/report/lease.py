"""One run at a time in a folder of an object store, as far as a store can promise it.

Stores have no locks that end with a process. So a run puts an object that says who it is and until when it counts, on
the condition that there is none, and renews it while it lives. S3, Google and stores like them check that condition
themselves; elsewhere two runs that begin in the same moment are told apart by reading the object again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from otx_xai.errors import BusyError, OutputError
from otx_xai.report.files import unwritable_text
from otx_xai.storage import Url, read_bytes
from otx_xai.storage.fetching import scratch_folder
from otx_xai.storage.json_text import parse_json
from otx_xai.storage.objects import remove_object, write_object

logger = logging.getLogger("otx_xai")

LEASE_SECONDS = 180.0
"""How long a lease counts that is not renewed; a run that was killed on another machine keeps others out so long."""
RENEWED_EVERY = 45.0
"""Seconds."""
WATCHED = 60.0
"""Seconds without renewal after which a lease is over whose time says little, as clocks may not agree."""
_ASKED_EVERY = 1.0
"""Seconds, where another run is waited for."""
_TOLD_APART = 0.5
"""Seconds after which an object that was put over a lease that had ended is read again."""


@contextmanager
def leased(lease: Url, folder: Url, wait: float = 0) -> Iterator[None]:
    """Keep other runs out of a folder of a store, and give the run a scratch folder on this machine.

    Args:
        lease: the object that says so.
        folder: in the store.
        wait: seconds that another run may take to let go.

    Raises:
        BusyError: another run is writing into the folder.
        OutputError: the lease, or the scratch folder, cannot be written.
    """
    from filelock import FileLock, Timeout

    scratch = scratch_folder(folder)
    lock = FileLock(f"{scratch}.lock", timeout=wait)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BusyError(_busy_text(folder, "on this machine")) from error
    except OSError as error:
        raise OutputError(unwritable_text(scratch, error)) from error
    try:
        with _Lease(lease, folder, wait):
            yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


class _Lease:
    """An object that is renewed until the end of the context."""

    def __init__(self, lease: Url, folder: Url, wait: float) -> None:
        self._lease = lease
        self._folder = folder
        self._wait = wait
        self._token = secrets.token_hex(8)
        self._is_over = Event()
        self._thread = Thread(target=self._renew, name="otx_xai lease", daemon=True)

    def __enter__(self) -> None:
        until = time.monotonic() + self._wait
        try:
            while not self._is_taken(until):
                time.sleep(_ASKED_EVERY)
        except OSError as error:
            raise OutputError(unwritable_text(self._lease, error)) from error
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        try:
            if self._owner().get("token") == self._token:
                remove_object(self._lease)
        except OSError as error:  # it ends by itself
            logger.warning("%s cannot be removed: %s.", self._lease, error.strerror)

    def _is_taken(self, until: float) -> bool:
        """Take the lease; return false where that may work later, before the wait is over."""
        try:
            self._take()
        except BusyError:
            if time.monotonic() >= until:
                raise
            return False
        return True

    def _take(self) -> None:
        try:
            write_object(self._lease, self._content(), only_new=True)
        except FileExistsError:
            owner = self._owner()
            if owner.get("token") == self._token:  # it was put, and the store's answer was lost
                return
            if not self._has_ended(owner):
                raise BusyError(_busy_text(self._folder, _words(owner))) from None
            write_object(self._lease, self._content())
            time.sleep(_TOLD_APART)
        if self._owner().get("token") != self._token:
            raise BusyError(_busy_text(self._folder, _words(self._owner())))

    def _has_ended(self, owner: dict[str, Any]) -> bool:
        """Whether a lease counts no more: its process, which was on this machine, is gone, or nobody renews it.

        The scratch folder is locked by now, so no other run of this user on this machine is alive; a process of the
        same number would be a later one. The clock of another machine is believed where it says what a lease can be;
        one that is over, or that counts for longer than any, may be that of a clock that is wrong, and is watched.
        """
        until = owner.get("until")
        if not isinstance(until, int | float):
            return True
        if owner.get("host") == socket.gethostname() and not _is_alive(owner.get("process")):
            return True
        if 0 <= until - time.time() <= LEASE_SECONDS + WATCHED:
            return False
        logger.info("%s is over, or of a wrong clock: waiting %.0f s for whoever renews it.", self._lease, WATCHED)
        time.sleep(WATCHED)
        return self._owner() in ({}, owner)

    def _renew(self) -> None:
        while not self._is_over.wait(RENEWED_EVERY):
            try:
                if self._owner().get("token") != self._token:
                    logger.warning("%s is another run's by now: both write into this folder.", self._lease)
                    return
                write_object(self._lease, self._content())
            except OSError as error:
                logger.warning("%s cannot be renewed: %s.", self._lease, error.strerror)

    def _owner(self) -> dict[str, Any]:
        try:
            owner = parse_json(read_bytes(self._lease))
        except (FileNotFoundError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}

    def _content(self) -> bytes:
        until = time.time() + LEASE_SECONDS
        owner = {"token": self._token, "host": socket.gethostname(), "process": os.getpid(), "until": round(until)}
        return json.dumps(owner).encode()


def _is_alive(process: Any) -> bool:
    if not isinstance(process, int) or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _words(owner: dict[str, Any]) -> str:
    left = max(0, round(float(owner.get("until") or 0) - time.time()))
    return f"on {owner.get('host', 'another machine')}, process {owner.get('process', '?')}, for {left} s at least"


def _busy_text(folder: Url, who: str) -> str:
    return (
        f"Another run is writing into {str(folder)!r} ({who}). Expected one run at a time in a folder; wait until it "
        "has ended, or give another --work_dir. If it was killed, its lease ends by itself."
    )
