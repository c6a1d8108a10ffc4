"""The threads that run kernels: all calls are made, errors are raised, signals break nothing."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from sclip_core.segmentation.backends.numba_jit import _Threads


class Stop(BaseException):
    """What a handler of signals raises."""


def test_all_calls_are_made_and_the_first_error_is_raised():
    threads, made = _Threads(2), []

    def fail() -> None:
        made.append("failed")
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        threads.make([fail, *(lambda k=k: made.append(k) for k in range(20))])
    assert sorted(map(str, made)) == sorted(["failed", *map(str, range(20))])
    threads.make([lambda: made.append("again")])
    assert made[-1] == "again"


def test_calls_are_made_at_once():
    meeting = threading.Barrier(2)
    _Threads(2).make([lambda: meeting.wait(20) and None] * 2)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of the system")
def test_signals_that_raise_while_calls_are_asked_for_break_nothing():
    """An executor's semaphore is broken by one in some hundred such signals."""

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    threads = _Threads(2)
    try:
        for number in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4 + 1e-6 * number)
                while True:
                    threads.make([int, int])
            except Stop:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    made = []
    threads.make([lambda: made.append(1)] * 4)
    assert made == [1] * 4
    threads._end()
    time.sleep(0.05)
    assert not any(thread.is_alive() for thread in threads._threads)
