"""Calls to a storage that may be overloaded, or hang: tried again for a while, never for ever."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from otx_xai.errors import OtxXaiError

logger = logging.getLogger("otx_xai")

AnswerT = TypeVar("AnswerT")

_FINAL = (
    *(FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(NotImplementedError, OtxXaiError),
)
"""What another try would only say again."""


@dataclass(frozen=True)
class Patience:
    """How long a storage is borne with.

    Args:
        tries: of a call at most.
        timeouts: tries that may end without an answer.
        seconds: until a try has none.
        first_wait: seconds before the second try, at most; doubled with each that follows. What is waited is drawn
            evenly from 0 on, so that many who were refused together do not come back together.
        longest_wait: seconds before a try at most.
    """

    tries: int = 10
    timeouts: int = 3
    seconds: float = 60.0
    first_wait: float = 0.1
    longest_wait: float = 8.0


PATIENCE = Patience()
"""With it a storage that refuses a third of all calls fails one in 59 000."""

_BYTES_A_SECOND = 1e6
"""What a slow line carries: large objects have as much more time."""


def patiently(call: Callable[[], AnswerT], what: str, size: int = 0) -> AnswerT:
    """Make a call to a storage, again where it fails for a reason that may pass.

    Args:
        call: may be made several times, also while an earlier one hangs.
        what: is done, for the log and the error: ``reading s3://…``.
        size: bytes that are sent or fetched, where that is known.

    Returns:
        Its answer.

    Raises:
        OSError: no try succeeded; its ``strerror`` says in one line what the storage last said.
    """
    patience, timeouts = PATIENCE, 0
    for number in range(1, patience.tries + 1):
        try:
            return _within(patience.seconds + size / _BYTES_A_SECOND, call)
        except _FINAL:
            raise
        except Exception as error:
            timeouts += isinstance(error, _NoAnswerError)
            said = _first_line(error)
            if number == patience.tries or timeouts >= patience.timeouts:
                tries = "1 try" if number == 1 else f"{number} tries"
                raise OSError(errno.EIO, f"{said} (after {tries})") from error
            logger.debug("%s, try %d: %s", what, number, said)
            time.sleep(random.uniform(0, min(patience.longest_wait, patience.first_wait * 2 ** (number - 1))))
    raise AssertionError("there is at least one try")


class _NoAnswerError(TimeoutError):
    """A try had no answer in time."""


def _within(seconds: float, call: Callable[[], AnswerT]) -> AnswerT:
    """Make a call in a thread that nobody waits for when it hangs, not even the end of the process."""
    answers: SimpleQueue[tuple[AnswerT, None] | tuple[None, BaseException]] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the call was made
            answers.put((None, error))

    Thread(target=answer, name="otx_xai storage", daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except Empty:
        raise _NoAnswerError(f"the storage has not answered within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
