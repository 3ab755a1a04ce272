"""What a run does to the process around it: its progress bar, its signals, its threads."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import cv2
from threadpoolctl import threadpool_limits
from tqdm import tqdm

logger = logging.getLogger("otx_xai")


@contextmanager
def progress(total: int, done: int) -> Iterator[tqdm[Any]]:
    """Show rate and remaining time; nothing where nobody looks."""
    with ExitStack() as stack:
        watched = sys.stderr.isatty()
        if watched:
            from tqdm.contrib.logging import logging_redirect_tqdm  # loads asyncio

            stack.enter_context(logging_redirect_tqdm())
        yield stack.enter_context(
            tqdm(total=total, initial=done, unit="img", disable=not watched, smoothing=0.05, dynamic_ncols=True)
        )


@contextmanager
def interruptible(notice: str) -> Iterator[Event]:
    """Give an event that the first Ctrl-C (or SIGTERM) sets; a second one raises :class:`KeyboardInterrupt`.

    Outside of the main thread signals are left alone, and nothing ever sets the event. A signal that the process
    ignores stays ignored: shells start jobs in the background (``otx explain … &`` in a script, ``nohup``) deaf to a
    Ctrl-C that is meant for others. SIGTERM ends such a run as it ends any other.

    Args:
        notice: is logged at the first signal: what ends now, and what a second signal does.
    """
    stop, woken = Event(), Event()
    if current_thread() is not main_thread():
        yield stop
        return
    handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        woken.set()
        # By default SIGTERM would end the process on the spot, whatever it is writing
        for number, handler in before.items():
            signal.signal(number, signal.default_int_handler if handler is signal.SIG_DFL else handler)

    # A thread logs: the handler may have interrupted the very code that writes the log
    teller = Thread(target=_tell, args=(notice, woken, stop), name="otx_xai_notice", daemon=True)
    teller.start()
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        woken.set()
        teller.join()


def _tell(notice: str, woken: Event, stop: Event) -> None:
    """Log the notice when woken, unless it is only the end of the run."""
    woken.wait()
    if stop.is_set():
        logger.warning("%s", notice)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV, and the BLAS below it and numpy, from threads of their own inside each of ours.

    OpenBLAS's threads wait for work by spinning: idle, they took a fifth of a run's processor time.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)
