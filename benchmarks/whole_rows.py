"""Whole runs by phases: what is not the encoder, and what of it the encoder waits for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Registry, Row, seconds
from benchmarks.phases import ENCODE, LEFT, ONCE, READERS, WAITS, Segment, Took, by_phase
from benchmarks.processes import Probe
from benchmarks.workplace import PHOTOGRAPHS, Workplace

GOAL = 0.05  # of the time for the images
COUNTS = {"coco_object": 16, "coco_stuff": 8}  # images: 6 and 15 windows each
STEPS = (0, 10)  # of PAMR
GRAIN = 6.0  # grey levels: JPEGs of 150 KB, as those of COCO's photographs
SMALLEST = 0.0005  # of the run: phases below it get no row
START, SET_UP, END = "start and imports", "settings, stages", "end of the process"
FIXED = (START, SET_UP, END, *ONCE)


class Whole(NamedTuple):
    """A run taken apart; seconds."""

    wall: float  # of the process
    phases: Mapping[str, Took]  # which the main thread's add up to ``wall``

    @property
    def once(self) -> float:
        """What does not grow with the number of images."""
        return sum(self.phases[name].main for name in FIXED if name in self.phases)

    @property
    def images(self) -> float:
        """The rest: what the images take."""
        return self.wall - self.once

    @property
    def encoder(self) -> float:
        """Seconds that the encoder computed, by the processor's clock."""
        return min(self.phases[ENCODE].main, self.phases[ENCODE].cpu)

    @property
    def others(self) -> float:
        """By how much all else made the images take longer.

        What the main thread did itself or waited for; and what ran beside the encoder, as far as
        it took the processor from it. Where other processes did that, it is not counted.
        """
        encode = self.phases[ENCODE]
        beside = sum(took.beside_cpu for took in self.phases.values())
        return self.images - encode.main + min(encode.main - self.encoder, beside)

    @property
    def besides(self) -> float:
        """The share of what the images take that is not the encoder."""
        return self.others / (self.others + self.encoder)


def taken_apart(probe: Probe) -> Whole:
    """The phases of a recorded run, with its start, its end, and what no phase names."""
    segments = [Segment(*one) for one in probe.segments]
    phases = by_phase(segments)
    wall, ready = probe.wall_s(), probe.ready
    own = [one for one in segments if one.thread == 0]
    first = min(one.begin for one in own if one.phase == READERS)
    before = sum(one.end - one.begin for one in own if one.begin < first)
    for name, span in (
        (START, ready - probe.wall[0]),
        (SET_UP, first - ready - before),
        (END, probe.wall[1] - probe.run[1]),
    ):
        phases[name] = Took(span, span, 0.0, span)
    left = wall - sum(took.main for took in phases.values())
    return Whole(wall, {**phases, LEFT: Took(left, left, 0.0, left)})


def whole_rows(quick: bool) -> Iterator[Row]:
    """Runs over two benchmarks' settings, without PAMR and with it; words are there already."""
    given = os.environ.get(PHOTOGRAPHS)
    with Workplace(quick) as bench:
        for benchmark, count in COUNTS.items():
            own, images = bench.coco(
                2 if quick else count, Path(given) if given else None, benchmark, GRAIN
            )
            # Words depend on no size: these features are of no use to the runs below.
            own["artifacts"] = bench.artifacts()
            first = bench.run({**own, "num_samples": 1, "short_side": 240, "pamr_steps": 2}, True)
            for steps in STEPS:
                settings = {**own, "pamr_steps": steps, "force": "dense_features"}
                probe = bench.run(settings, direct=True, phases=True)
                said = f"{benchmark}, PAMR {steps} steps" if steps else benchmark
                yield from rows_of(said, images, probe, first.stages["text_bank"])


def rows_of(said: str, images: str, probe: Probe, words: float) -> Iterator[Row]:
    """A row of the run, and one of each of its phases, the longest first.

    Args:
        said: of the run's settings.
        images: what they are.
        probe: its times.
        words: seconds that encoding the words took, in another run.
    """
    whole = taken_apart(probe)
    waits = sum(whole.phases[name].main for name in WAITS if name in whole.phases)
    yield Row(
        name=f"whole run, {said}, {images}",
        goal=f"≤ {GOAL:.0%} of what images take is not the encoder",
        measured=f"{whole.besides:.1%}: {seconds(whole.others)}, of which waits {seconds(waits)}; "
        f"encoder {seconds(whole.encoder)}; once {seconds(whole.once)}, words {seconds(words)}",
        ratio=whole.besides,
        met=whole.besides <= GOAL,
        detail={
            "judged": "others / (others + encoder); encoder: seconds of the processor; others: "
            "the main thread outside the encoder, without the process's start and end and what a "
            "run does once, and what ran beside the encoder and slowed it down",
            "wall_s": whole.wall,
            "once_s": whole.once,
            "images_s": whole.images,
            "others_s": whole.others,
            "encoder_s": whole.encoder,
            "words_s": words,
            "phases": {name: took._asdict() for name, took in whole.phases.items()},
        },
    )
    for name, took in sorted(whole.phases.items(), key=lambda item: -item[1].threads):
        if took.threads >= SMALLEST * whole.wall:
            yield phase_row(f"{said}: {name}", took, whole, name in FIXED)


def phase_row(name: str, took: Took, whole: Whole, once: bool) -> Row:
    """What a phase took, where, and what of it made the run longer."""
    said = f"{seconds(took.threads)}, {took.threads / whole.wall:.1%} of the run"
    if took.threads - took.main > 0:
        said += f"; {seconds(took.beside)} beside the main thread, which "
        said += f"waited {seconds(took.awaited)} for it"
    return Row(
        name=name,
        goal="once" if once else "",
        measured=said,
        ratio=took.main / whole.wall,
        detail={**took._asdict(), "beside": took.beside},
    )


ROWS: Registry = {"whole": whole_rows}
