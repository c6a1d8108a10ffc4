"""One computation at a time: order, cancelling, giving way, and the end."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from sclip_core.explore.desk import Answer, Busy, Cancelled, Desk, Task

from .loops import run

SECONDS = 10  # that anything here may take


@pytest.fixture
def desk():
    made = Desk(most=4)
    yield made
    made.close(SECONDS)


class Slow:
    """A computation that waits to be let on, and looks at its task."""

    def __init__(self, name: str = "", order: list[str] | None = None) -> None:
        self.name, self.order = name, order if order is not None else []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, task: Task) -> Answer:
        self.order.append(self.name)
        self.begun.set()
        while not self.go_on.wait(0.005):
            task.check()
        return Answer({"name": self.name})

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, SECONDS)


async def end_of(running) -> object:
    """The answer, or what is raised instead."""
    found = None
    try:
        async with asyncio.timeout(SECONDS):
            async for event in running:
                found = event
    except Exception as error:
        return error
    return found


def quick(name, order):
    def work(task):
        order.append(name)
        return Answer({"name": name})

    return work


def test_progress_and_the_answer(desk):
    def work(task):
        for step in range(3):
            task.progress(step, 3, "steps", id="s1")
            time.sleep(0.06)
        return Answer({"a": 1}, b"xyz")

    async def main():
        return [event async for event in desk.run(work, "slot")]

    *lines, answer = run(main())
    assert lines == [{"done": k, "total": 3, "what": "steps", "id": "s1"} for k in range(3)]
    assert answer == Answer({"a": 1}, b"xyz")


def test_progress_is_thinned_out_but_not_its_ends(desk):
    def work(task):
        for step in range(10_001):
            task.progress(step, 10_000, "steps")
        return Answer({})

    async def main():
        return [event async for event in desk.run(work, "slot")]

    *lines, _ = run(main())
    assert lines[0]["done"] == 0
    assert lines[-1]["done"] == 10_000
    assert len(lines) < 100


def test_one_at_a_time_in_their_order(desk):
    active, most, order = 0, 0, []

    def work(name):
        def inner(task):
            nonlocal active, most
            active += 1
            most = max(most, active)
            time.sleep(0.02)
            order.append(name)
            active -= 1
            return Answer({})

        return inner

    async def main():
        await asyncio.gather(*(end_of(desk.run(work(n), f"slot {n}")) for n in range(4)))

    run(main())
    assert order == [0, 1, 2, 3]
    assert most == 1


def test_a_newer_one_of_a_slot_cancels_the_one_that_runs(desk):
    first = Slow()

    async def main():
        running = asyncio.create_task(end_of(desk.run(first, "slot")))
        await first.has_begun()
        second = await end_of(desk.run(quick("second", []), "slot"))
        return await running, second

    cancelled, answer = run(main())
    assert isinstance(cancelled, Cancelled)
    assert answer == Answer({"name": "second"})


def test_a_newer_one_of_a_slot_replaces_the_one_that_waits(desk):
    first, order = Slow(), []

    async def main():
        running = asyncio.create_task(end_of(desk.run(first, "first")))
        await first.has_begun()
        waiting = [
            asyncio.create_task(end_of(desk.run(quick(n, order), "slot"))) for n in range(20)
        ]
        await asyncio.sleep(0)
        assert isinstance(await waiting[0], Cancelled)  # at once, while the first still runs
        first.go_on.set()
        await running
        return [await each for each in waiting]

    *others, last = run(main())
    assert all(isinstance(each, Cancelled) for each in others)
    assert last == Answer({"name": 19})
    assert order == [19]  # the others were never begun


def test_other_slots_are_left_alone(desk):
    first = Slow("first")

    async def main():
        running = asyncio.create_task(end_of(desk.run(first, "a")))
        await first.has_begun()
        other = asyncio.create_task(end_of(desk.run(quick("other", []), "b")))
        await asyncio.sleep(0.05)
        assert not other.done()
        first.go_on.set()
        return await running, await other

    assert run(main()) == (Answer({"name": "first"}), Answer({"name": "other"}))


def test_who_leaves_cancels(desk):
    first, seen = Slow(), []

    def work(task):
        try:
            return first(task)
        except Cancelled:
            seen.append("cancelled")
            raise

    async def main():
        running = desk.run(work, "slot")
        await first.has_begun()
        running.leave()
        assert await end_of(desk.run(quick("next", []), "other")) == Answer({"name": "next"})

    run(main())
    assert seen == ["cancelled"]


def test_an_answer_that_nobody_waits_for_is_not_given(desk):
    """A computation that never looks at its task still has no say once a newer input is there."""
    begun, go_on = threading.Event(), threading.Event()

    def deaf(task):
        begun.set()
        go_on.wait(SECONDS)
        return Answer({"of": "the old input"})

    async def main():
        old = asyncio.create_task(end_of(desk.run(deaf, "slot")))
        await asyncio.to_thread(begun.wait, SECONDS)
        new = asyncio.create_task(end_of(desk.run(quick("new", []), "slot")))
        await asyncio.sleep(0)
        go_on.set()
        return await old, await new

    old, new = run(main())
    assert isinstance(old, Cancelled)
    assert new == Answer({"name": "new"})


def test_patient_ones_give_way(desk):
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def search(task):
        for image in range(3):
            order.append(f"image {image}")
            begun.set()
            if image == 1:
                go_on.wait(SECONDS)
            task.give_way()
        return Answer({"name": "search"})

    async def main():
        running = asyncio.create_task(end_of(desk.run(search, "search", patient=True)))
        await asyncio.to_thread(begun.wait, SECONDS)
        later = asyncio.create_task(end_of(desk.run(quick("encode", order), "e", patient=True)))
        labels = asyncio.create_task(end_of(desk.run(quick("labels", order), "l")))
        await asyncio.sleep(0.05)
        go_on.set()
        return await asyncio.gather(running, later, labels)

    found = run(main())
    assert [each.about["name"] for each in found] == ["search", "encode", "labels"]
    assert order.index("labels") < order.index("image 2")
    assert order[-1] == "encode"  # patient ones wait for one another


def test_impatient_ones_go_first(desk):
    first, order = Slow(), []

    async def main():
        running = [asyncio.create_task(end_of(desk.run(first, "first")))]
        await first.has_begun()
        for name, patient in (("search", True), ("labels", False)):
            work = desk.run(quick(name, order), name, patient)
            running.append(asyncio.create_task(end_of(work)))
        first.go_on.set()
        await asyncio.gather(*running)

    run(main())
    assert order == ["labels", "search"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError(), SystemExit(3)])
def test_whatever_is_raised_is_told_and_the_thread_lives_on(desk, error):
    def crash(task):
        raise error

    async def main():
        with pytest.raises(type(error)) as caught:
            await anext(desk.run(crash, "slot"))
        assert caught.value is error
        return await end_of(desk.run(quick("next", []), "slot"))

    assert run(main()) == Answer({"name": "next"})


def test_a_crash_within_a_patient_one_is_not_its_own(desk):
    begun, go_on = threading.Event(), threading.Event()

    def search(task):
        begun.set()
        go_on.wait(SECONDS)
        task.give_way()
        return Answer({"name": "search"})

    def crash(task):
        raise RuntimeError("boom")

    async def main():
        running = asyncio.create_task(end_of(desk.run(search, "search", patient=True)))
        await asyncio.to_thread(begun.wait, SECONDS)
        crashed = asyncio.create_task(end_of(desk.run(crash, "labels")))
        await asyncio.sleep(0.02)
        go_on.set()
        return await running, await crashed

    answer, error = run(main())
    assert answer == Answer({"name": "search"})
    assert str(error) == "boom"


def test_the_queue_is_bounded(desk):
    first = Slow()

    async def main():
        running = asyncio.create_task(end_of(desk.run(first, "first")))
        await first.has_begun()
        waiting = [desk.run(quick(n, []), f"slot {n}") for n in range(4)]
        with pytest.raises(Busy):
            desk.run(quick("more", []), "one more")
        newer = desk.run(quick("newer", []), "slot 0")  # takes the place of its slot
        assert isinstance(await end_of(waiting[0]), Cancelled)
        first.go_on.set()
        await running
        return await end_of(newer)

    assert run(main()) == Answer({"name": "newer"})


def test_the_end_cancels_everything():
    desk, first = Desk(), Slow()

    async def main():
        running = [asyncio.create_task(end_of(desk.run(first, "first")))]
        await first.has_begun()
        running.append(asyncio.create_task(end_of(desk.run(quick("waits", []), "waits"))))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(desk.close, SECONDS)
        with pytest.raises(Busy):
            desk.run(quick("late", []), "late")
        return await asyncio.gather(*running)

    assert all(isinstance(each, Cancelled) for each in run(main()))


def test_the_end_does_not_wait_for_ever():
    desk, go_on = Desk(), threading.Event()

    def deaf(task):
        go_on.wait(SECONDS)
        return Answer({})

    async def main():
        desk.run(deaf, "slot")
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert not desk.close(0.1)
        assert time.monotonic() - began < 2

    run(main())
    go_on.set()
    assert desk.close(SECONDS)


def test_a_task_of_no_desk_goes_on():
    task = Task()
    task.check()
    task.progress(1, 2, "steps")
    task.give_way()
    task.cancel()
    with pytest.raises(Cancelled):
        task.progress(2, 2, "steps")
