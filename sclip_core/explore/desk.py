"""One heavy computation at a time: a worker thread, and a short queue before it.

A page sends its next input while the answer to the last one is still being computed. So every
computation has a *slot*, and a newer one of the same slot cancels the older. *Patient* ones, which
go through many images, let waiting ones run between two images.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

MOST_WAITING = 32  # computations in the queue
BETWEEN = 0.04  # seconds between two lines of progress


class Cancelled(Exception):
    """A newer input came, or the client left: nobody waits for the answer."""


class Busy(Exception):
    """The queue is full."""


@dataclass(frozen=True)
class Answer:
    """What a computation gives."""

    about: dict[str, Any]
    """What can be said in JSON."""
    blob: bytes = b""
    """A payload that is sent as it is."""


class Task:
    """What a heavy computation is given: whether to go on, and whom to tell how far it is.

    One that was made without arguments goes on, and tells nobody.
    """

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], None] | None = None,
        let_others: Callable[[], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            tell: called with each line of progress.
            let_others: runs the computations that wait and are not patient.
        """
        self._tell = tell
        self._let_others = let_others
        self._cancelled = threading.Event()
        self._told = float("-inf")

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Say that nobody waits for the answer."""
        self._cancelled.set()

    def check(self) -> None:
        """Between two steps: see whether to go on.

        Raises:
            Cancelled: nobody waits for the answer.
        """
        if self.cancelled:
            raise Cancelled

    def progress(self, done: int, total: int, what: str, **more: Any) -> None:
        """Say how far the computation is; of lines in quick succession most are left out.

        Args:
            done: steps that are done; the line of the last one is always sent, as is the first.
            total: steps in all.
            what: what a step is, in words for the reader.
            more: further values of the line.

        Raises:
            Cancelled: nobody waits for the answer.
        """
        self.check()
        now = time.monotonic()
        if self._tell and (done >= total or now - self._told >= BETWEEN):
            self._told = now
            self._tell({"done": done, "total": total, "what": what, **more})

    def give_way(self) -> None:
        """Between two images of a patient computation: let the waiting ones run first.

        Raises:
            Cancelled: nobody waits for the answer.
        """
        if self._let_others:
            self._let_others()
        self.check()


Work = Callable[[Task], Answer]
Event = dict[str, Any] | Answer | BaseException


@dataclass(eq=False)
class _Job:
    """A computation that waits or runs."""

    work: Work
    slot: str
    patient: bool
    put: Callable[[Event], None]
    task: Task = field(default_factory=Task)


class Running(AsyncIterator[dict[str, Any] | Answer]):
    """The lines of progress of one computation, and at last its answer.

    Raises, as it is read: ``Cancelled``, or whatever the computation raised.
    """

    def __init__(self, events: asyncio.Queue[Event], leave: Callable[[], None]) -> None:
        """Read events; ``leave`` says that nobody does any more."""
        self._events = events
        self._done = False
        self.leave = leave

    async def __anext__(self) -> dict[str, Any] | Answer:
        """The next line of progress, or the answer."""
        if self._done:
            raise StopAsyncIteration
        event = await self._events.get()
        self._done = not isinstance(event, dict)
        if isinstance(event, BaseException):
            raise event
        return event


class Desk:
    """One worker thread for heavy computations, and its queue."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        """Start the thread.

        Args:
            most: computations that may wait.
        """
        self._most = most
        self._urgent: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()
        self._of_slot: dict[str, _Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: a computation that does not look at its task must not hold the process's end.
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many computations wait."""
        return len(self._urgent) + len(self._patient)

    def run(self, work: Work, slot: str, patient: bool = False) -> Running:
        """Queue a computation; to be called within a running event loop.

        Args:
            work: called in the worker thread.
            slot: a computation that waits or runs in the same slot is cancelled.
            patient: it gives way to others; see ``Task.give_way``.

        Returns:
            What to read; call its ``leave()`` when you read no further.

        Raises:
            Busy: too many wait already.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def put(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody reads
                loop.call_soon_threadsafe(events.put_nowait, event)

        job = _Job(work, slot, patient, put)
        job.task = Task(put, self._serve_urgent if patient else None)
        with self._changed:
            self._drop(self._of_slot.get(slot))
            if self._closed or self.waiting >= self._most:
                raise Busy
            (self._patient if patient else self._urgent).append(job)
            self._of_slot[slot] = job
            self._changed.notify()
        return Running(events, lambda: self._leave(job))

    def close(self, seconds: float = 1.0) -> bool:
        """Cancel everything and wait for the thread; whether it has ended in that time."""
        with self._changed:
            self._closed = True
            for job in list(self._of_slot.values()):
                self._drop(job)
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _leave(self, job: _Job) -> None:
        with self._changed:
            self._drop(job)

    def _drop(self, job: _Job | None) -> None:
        """Cancel a computation that may wait or run; with the lock held."""
        if job is None:
            return
        job.task.cancel()
        self._forget(job)
        queue = self._patient if job.patient else self._urgent
        if job in queue:
            queue.remove(job)
            job.put(Cancelled())

    def _forget(self, job: _Job) -> None:
        """Free its slot unless a newer one has it; with the lock held."""
        if self._of_slot.get(job.slot) is job:
            del self._of_slot[job.slot]

    def _serve(self) -> None:
        """The worker thread."""
        while True:
            with self._changed:
                while not (self._urgent or self._patient or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                job = (self._urgent or self._patient).popleft()
            self._do(job)
            del job  # with its images, while the thread waits

    def _serve_urgent(self) -> None:
        """Within a patient computation: do those that wait and are not patient."""
        while True:
            with self._changed:
                if self._closed or not self._urgent:
                    return
                job = self._urgent.popleft()
            self._do(job)

    def _do(self, job: _Job) -> None:
        """Do one computation; whatever it raises is an event, and the thread lives on."""
        event: Event
        try:
            job.task.check()
            event = job.work(job.task)
            job.task.check()
        except BaseException as error:
            event = error
        with self._changed:
            self._forget(job)
        job.put(event)
