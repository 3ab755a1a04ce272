"""What a run does to the process around it."""

from __future__ import annotations

import signal
import time

import pytest

from otx_xai.process import interruptible


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("ctrl_c")
def test_the_first_signal_is_told_at_once_and_the_second_interrupts(
    second: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptible("told") as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        until = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < until:
            time.sleep(0.001)
        assert caplog.messages == ["told"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
    assert caplog.messages == ["told"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_nothing_is_told_without_a_signal(caplog: pytest.LogCaptureFixture) -> None:
    with interruptible("told"):
        pass
    assert caplog.messages == []


def test_a_handler_of_somebody_else_gets_the_second_signal() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with interruptible("told"):
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_at_the_start_stays_ignored(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible("told") as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.is_set()
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert caplog.messages == ["told"]
