"""Where the time of a run goes: what each thread does, moment by moment, and who waits for whom.

A few functions of the pipeline note when they begin and end. Phases nest, and an inner one
interrupts the outer, so that the seconds of a thread's phases add up. A note costs about a
microsecond, and there are some hundred of an image.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple
from unittest.mock import patch

ENCODE = "encode"
READERS, WRITERS = "wait for readers", "wait for writers"
WAITS = (READERS, WRITERS)
LEFT = "left over"  # of the main thread, which no phase names

PHASES = {  # functions by module and name, of a class also its name
    "open the dataset": (
        "sclip_core.pipeline.inputs:opened",
        "sclip_core.pipeline.inputs:look_at",
        "sclip_core.pipeline.inputs:survey",
    ),
    "digests": ("sclip_core.store.digests:Digests.in_column",),
    "load the model": ("sclip_core.pipeline.models:Models.clip",),
    "load the kernels": ("sclip_core.pipeline.stages.refine:compile_for",),
    "words": ("sclip_core.pipeline.stages.text_bank:TextBankStage.execute",),
    "read": ("sclip_core.pipeline.inputs:Inputs.read",),
    "decode": ("sclip_core.pipeline.inputs:decode_image",),
    "resize": ("sclip_core.encoder.clip:resize",),
    "cut windows": ("sclip_core.encoder.clip:normalise", "sclip_core.encoder.clip:cut_windows"),
    ENCODE: (
        "sclip_core.encoder.dense:DenseEncoder.taps",
        "sclip_core.encoder.dense:DenseEncoder.features_from",
    ),
    "store": (
        "sclip_core.store.segments:Writer.commit",
        "sclip_core.store.parts:PartTable.commit",
    ),
    "sync to the disk": ("os:fsync",),
    "read back": (
        "sclip_core.pipeline.stages.dense_features:DenseFeaturesStage.read",
        "sclip_core.pipeline.stages.label_maps:LabelMapStage.read",
    ),
    "stitch and decide": ("sclip_core.segmentation.refiner:Refiner.labels_at",),
    "refine": (
        "sclip_core.segmentation.refiner:pamr",
        "sclip_core.segmentation.backends.numba_decision:_accumulate_refined",
        "sclip_core.segmentation.backends.numba_pamr:WeightedImage.of",
    ),
    "ground truth": ("sclip_core.pipeline.inputs:Inputs.ground_truth",),
    "metrics": ("sclip_core.pipeline.stages.metrics:image_confusion",),
    "results": ("sclip_core.pipeline.stages.results:ResultsStage.execute",),
    WRITERS: ("sclip_core.pipeline.rows:Batch._written",),
}
ONCE = ("open the dataset", "digests", "load the model", "load the kernels", "words", "results")
"""What a run does once, however many images it has."""


class Segment(NamedTuple):
    """A time in which a thread was in one phase and in none within it."""

    thread: int  # 0: the main one
    phase: str
    begin: float  # of the monotonic clock
    end: float
    cpu: float  # seconds that the thread ran


class Clock:
    """Notes what each thread does."""

    def __init__(self) -> None:
        """No thread does anything yet."""
        self.segments: list[Segment] = []
        self._own = threading.local()
        self._main = threading.main_thread()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """The thread is in a phase until the block ends."""
        self._change()
        self._own.phases.append(phase)
        try:
            yield
        finally:
            self._change()
            self._own.phases.pop()

    def _change(self) -> None:
        """End the segment that the thread is in, if it is in one, and begin the next."""
        own, now, cpu = self._own, time.perf_counter(), time.thread_time()
        if not hasattr(own, "phases"):
            own.phases = []
            here = threading.current_thread()
            own.thread = 0 if here is self._main else here.native_id or here.ident
        elif own.phases:
            self.segments.append(Segment(own.thread, own.phases[-1], own.begun, now, cpu - own.cpu))
        own.begun, own.cpu = now, cpu

    def noted(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which notes that it is called."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.during(phase):
                return function(*args, **kwargs)

        return call

    def waited(self, prefetch: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """``rows.prefetch``, which notes how long its next item is waited for."""

        def call(load: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
            ahead, end = prefetch(load, items, workers), object()
            while True:
                with self.during(READERS):
                    item = next(ahead, end)
                if item is end:
                    return
                yield item

        return call


@contextmanager
def watched() -> Iterator[Clock]:
    """Note the phases of everything that runs in the block."""
    clock = Clock()
    with ExitStack() as patches:
        for phase, functions in PHASES.items():
            for name in functions:
                owner, attribute = found(name)
                noted: Any = clock.noted(phase, getattr(owner, attribute))
                if isinstance(vars(owner).get(attribute), classmethod):  # bound already
                    noted = staticmethod(noted)
                patches.enter_context(patch.object(owner, attribute, noted))
        owner, attribute = found("sclip_core.pipeline.stage:prefetch")
        waited = clock.waited(getattr(owner, attribute))
        patches.enter_context(patch.object(owner, attribute, waited))
        yield clock


def found(name: str) -> tuple[Any, str]:
    """The module or class of a function, and the function's name in it."""
    module, _, attribute = name.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, last = attribute.split(".")
    for each in classes:
        owner = getattr(owner, each)
    return owner, last


class Took(NamedTuple):
    """What a phase took, in seconds."""

    threads: float  # of all threads that were in it
    main: float  # of the main thread: the run is longer by them
    awaited: float  # in other threads, while the main one waited for a reader or a writer
    cpu: float  # that the threads ran

    @property
    def beside(self) -> float:
        """Of other threads, while the main one did something itself."""
        return self.threads - self.main - self.awaited

    @property
    def beside_cpu(self) -> float:
        """Of these, as many as the thread ran, by its share of all its seconds."""
        return self.beside * self.cpu / self.threads if self.threads else 0.0


def by_phase(segments: Iterable[Segment]) -> dict[str, Took]:
    """What each phase took; where several threads were awaited at once, each gets its share."""
    segments = sorted(segments, key=lambda one: one.begin)
    waits = [one for one in segments if one.thread == 0 and one.phase in WAITS]
    threads: dict[str, float] = defaultdict(float)
    main: dict[str, float] = defaultdict(float)
    cpu: dict[str, float] = defaultdict(float)
    awaited: dict[str, float] = defaultdict(float)
    for one in segments:
        threads[one.phase] += one.end - one.begin
        cpu[one.phase] += one.cpu
        if one.thread == 0:
            main[one.phase] += one.end - one.begin
    others = [one for one in segments if one.thread != 0]
    for wait in waits:
        there = [one for one in others if one.begin < wait.end and one.end > wait.begin]
        for phase, share in _shares(wait, there):
            awaited[phase] += share
    return {
        phase: Took(threads[phase], main[phase], awaited[phase], cpu[phase]) for phase in threads
    }


def _shares(wait: Segment, others: list[Segment]) -> Iterator[tuple[str, float]]:
    """What other threads did during a wait: moments in which several did something are shared."""
    edges = {wait.begin, wait.end}
    edges |= {edge for one in others for edge in (one.begin, one.end)}
    moments = sorted(edge for edge in edges if wait.begin <= edge <= wait.end)
    for begin, end in pairwise(moments):
        active = [one for one in others if one.begin <= begin and one.end >= end]
        for one in active:
            yield one.phase, (end - begin) / len(active)
