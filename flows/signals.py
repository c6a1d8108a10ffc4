"""Ctrl-C and SIGTERM, which both stop the ``sclip`` command cleanly; standard library only."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOPPED = "stopped; what was computed is kept"
NUMBERS = (signal.SIGINT, signal.SIGTERM)
AT_ONCE = 2.0  # seconds within which signals count as one: `timeout` and shells send two
RETRY = 0.05  # seconds until a signal that came at a bad time is sent again
PATIENCE = 1.5  # seconds that an import may take after a signal
IMPORTING = "<frozen importlib._bootstrap>"


class Stopped(KeyboardInterrupt):
    """Raised in the main thread when the command is told to stop."""

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(number)
        self.number = number


class Watch:
    """What a signal does during one call of the command.

    Before the command has been imported, and once it is done, there is nothing to keep: the
    process ends at once. In between ``Stopped`` is raised, and the stages store their rows as it
    passes through them. It is not raised while a module is being imported: libraries may catch it
    there, and a half-imported one fails later. If an import takes long, the process ends, which
    the store survives.
    """

    current: Watch | None = None

    def __init__(self, frame: FrameType, own_process: bool) -> None:
        """Prepare; ``with`` starts it.

        Args:
            frame: of the function that runs the command.
            own_process: whether the process ends with the command; it is then watched to its end.
        """
        self._base = frame
        self._own_process = own_process
        self._working = False
        self._number: int = signal.SIGINT  # the first, which is the cause
        self._raised: float | None = None  # when
        self._held_back: float | None = None  # since when
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self._code: int | None = None  # of the process, once the command is done

    def __enter__(self) -> Watch:
        """Handle the signals that are neither ignored nor handled by anyone else."""
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self.handle)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
            Watch.current = self
            if self._own_process:  # registered first, it is called last
                first = not atexit._ncallbacks()
                atexit.register(self._leave if first else self._ignore)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers if the process goes on after the command."""
        self._working = False
        if self._own_process or Watch.current is not self:
            return
        Watch.current = None
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ignore(self) -> None:
        """Ignore signals, so that none changes the exit code while the interpreter shuts down."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def done(self, code: int) -> int:
        """Take note of the exit code of the command, and return it."""
        self._code = code
        return code

    def _leave(self) -> None:
        """End the process when all others who asked for it have cleaned up.

        What is left to Python is to free a million objects of PyTorch's and others', one by one,
        which takes one or two seconds and keeps nothing.
        """
        self._ignore()
        if self._code is None:  # an error that Python has to show
            return
        with suppress(OSError, ValueError):  # which Python then says itself
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(self._code)

    def work(self) -> None:
        """Note that from now on there may be something to keep."""
        self._working = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop the command; end the process if there is nothing to keep.

        Raises:
            Stopped: there may be something to keep.
        """
        now = time.monotonic()
        if self._raised is not None and now - self._raised < AT_ONCE:
            return
        if not self._working:
            _end(number, told=self._raised is not None)
        if self._imports(frame):
            self._held_back = self._held_back or now
            if now - self._held_back > PATIENCE:
                _end(number, told=self._raised is not None)
            _later(number)
            return
        if self._raised is None:
            self._number = number
        self._raised = now
        if self._own_process:
            warnings.simplefilter("ignore")  # libraries warn about what was interrupted
        raise Stopped(number)

    def exit_code(self, stop: BaseException) -> int:
        """The exit code of a process that a signal stopped, as shells have it: 128 + its number.

        Args:
            stop: what was caught: Prefect may turn ``Stopped`` into a plain ``KeyboardInterrupt``.
        """
        unseen = self._raised is None and not isinstance(stop, KeyboardInterrupt)
        return 128 + (signal.SIGTERM if unseen else self._number)

    @property
    def own_process(self) -> bool:
        """Whether the process ends with the command."""
        return self._own_process

    @property
    def takes(self) -> tuple[int, ...]:
        """The signals that are handled."""
        return tuple(self._before)

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether the main thread is importing a module."""
        while frame and frame is not self._base:
            if frame.f_code.co_filename == IMPORTING:
                return True
            frame = frame.f_back
        return False

    def _unraisable(self, what: Any) -> None:
        """Send the signal again if ``Stopped`` was raised in a destructor, which swallows it."""
        if not isinstance(what.exc_value, Stopped):
            self._hook(what)
            return
        self._raised = None
        _later(what.exc_value.number)


@contextmanager
def taken_back() -> Iterator[None]:
    """Handle the signals again where a library has installed its own handlers.

    Prefect's handler raises at every SIGTERM, even while rows are being stored after the first. If
    something is raised its handlers are not put back: Prefect restores the original ones itself.
    """
    watch = Watch.current
    before: dict[int, Any] = {}
    if watch and threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, watch.handle) for number in watch.takes}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """The signal that stops what is within ends the process, whatever its threads still do.

    For a command whose threads have nothing to keep: nothing interrupts a kernel, and a large
    interpreter takes seconds to shut down.
    """
    try:
        yield
    except Stopped as stop:
        if Watch.current is None or not Watch.current.own_process:
            raise
        _end(stop.number, told=False)


def end_within(number: int, seconds: float) -> None:
    """See that the process has ended by then, as if by a signal that nothing handles."""
    if Watch.current is not None and Watch.current.own_process:
        timer = threading.Timer(seconds, _end, (number, False))
        timer.daemon = True
        timer.start()


def _later(number: int) -> None:
    """Send the signal again to the main thread, and thereby wake it."""
    main = threading.main_thread().ident or 0
    timer = threading.Timer(RETRY, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()


def _end(number: int, told: bool) -> None:
    """End the process at once, without running destructors or handlers."""
    if not told:
        with suppress(OSError):
            os.write(2, f"sclip: {STOPPED}\n".encode())
    os._exit(128 + number)
