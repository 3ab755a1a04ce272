"""What a run does to the process around it: its progress bar, its signals, its threads."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, current_thread, main_thread
from typing import Any

import cv2
from threadpoolctl import threadpool_limits
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


@contextmanager
def progress(total: int, done: int) -> Iterator[tqdm[Any]]:
    """Show rate and remaining time; nothing where nobody looks."""
    with ExitStack() as stack:
        watched = sys.stderr.isatty()
        if watched:
            stack.enter_context(logging_redirect_tqdm())
        yield stack.enter_context(
            tqdm(total=total, initial=done, unit="img", disable=not watched, smoothing=0.05, dynamic_ncols=True)
        )


@contextmanager
def interruptible() -> Iterator[Event]:
    """Give an event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts as ever."""
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()


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
