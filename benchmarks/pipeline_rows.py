"""Whole runs, each in a process of its own: tuning, the cache, memory, Prefect's share."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.measure import Registry, Row, megabytes, seconds
from benchmarks.processes import Probe
from benchmarks.workplace import PHOTOGRAPHS, Workplace

TUNED = 8  # images of ``tuning``
CACHED = 100
FEW, MANY = 20, 120


def tuning_rows(quick: bool) -> Iterator[Row]:
    """A whole run, then one with another number of PAMR steps."""
    with Workplace(quick) as bench:
        given = os.environ.get(PHOTOGRAPHS)
        settings, images = bench.coco(2 if quick else TUNED, Path(given) if given else None)
        if not quick:  # so that the kernels are compiled before a run is measured
            first = {"artifacts": bench.artifacts(), "num_samples": 1, "pamr_steps": 2}
            bench.run({**settings, **first}, direct=True)
        settings["artifacts"] = bench.artifacts()
        full = bench.run({**settings, "pamr_steps": 10}, direct=True)
        tuned = bench.run({**settings, "pamr_steps": 5}, direct=True)
    yield tuning_row(full, tuned, images)


def tuning_row(full: Probe, tuned: Probe, images: str) -> Row:
    """The work of all stages of both runs.

    Raises:
        RuntimeError: the second run did not reuse the words and the features of the first.
    """
    if tuned.computed["text_bank"] or tuned.computed["dense_features"]:
        raise RuntimeError(f"features or words were computed again: {tuned.computed}")
    ratio = full.stages_s() / tuned.stages_s()
    no_text = full.stages_s() - full.stages["text_bank"]
    return Row(
        name=f"tuning PAMR over cached features, coco_object, {images}",
        goal="≤ 1/10 of a full run",
        measured=f"1/{ratio:.1f}, {seconds(tuned.stages_s())}, full {seconds(full.stages_s())}, "
        f"without its words {seconds(no_text)}",
        ratio=ratio,
        met=ratio >= 10,
        detail={
            "judged": "the seconds of all stages, for a few images; with thousands, the words are "
            "encoded only once, and ratio_without_text_bank applies",
            "ratio_without_text_bank": no_text / tuned.stages_s(),
            "ratio_of_whole_processes": full.wall_s() / tuned.wall_s(),
            "full": full.detail(),
            "tuned": tuned.detail(),
        },
    )


def cached_rows(quick: bool) -> Iterator[Row]:
    """A run whose artifacts are all there, through Prefect and without it."""
    with Workplace(quick) as bench:
        settings = {**bench.demo(2 if quick else CACHED), "artifacts": bench.artifacts()}
        bench.run(settings, direct=True)
        times = 1 if quick else 3
        flow = [bench.run(settings, direct=False) for _ in range(times)]
        direct = [bench.run(settings, direct=True) for _ in range(times)]
    yield cached_row(flow, direct, int(str(settings["num_samples"])))


def cached_row(flow: Sequence[Probe], direct: Sequence[Probe], images: int) -> Row:
    """Medians of both kinds of runs.

    Raises:
        RuntimeError: one of them computed something.
    """
    if any(sum(probe.computed.values()) for probe in (*flow, *direct)):
        raise RuntimeError("a run whose artifacts are all there computed something")
    work, bare = middle(flow), middle(direct)
    whole = middle(flow, Probe.wall_s)
    return Row(
        name=f"everything cached, {images} scenes, demo CLIP",
        goal="≤ 2 s beyond imports and Prefect's start",
        measured=f"{seconds(work)}, without Prefect {seconds(bare)}, "
        f"whole command {seconds(whole)}",
        met=work <= 2,
        detail={
            "judged": "run_settings without the time from its check of the settings to the flow's "
            "first line; Prefect's work for five tasks and two tables is included",
            "flow": [probe.detail() for probe in flow],
            "direct": [probe.detail() for probe in direct],
        },
    )


def memory_rows(quick: bool) -> Iterator[Row]:
    """Runs over two numbers of images, twice each."""
    few, many = (2, 3) if quick else (FEW, MANY)
    peaks: dict[int, list[Probe]] = {few: [], many: []}
    with Workplace(quick) as bench:
        bench.demo(many)
        for _ in range(1 if quick else 2):
            for count, probes in peaks.items():
                settings = {**bench.demo(count), "artifacts": bench.artifacts()}
                probes.append(bench.run(settings, direct=True))
    yield memory_row(peaks)


def memory_row(probes: dict[int, list[Probe]]) -> Row:
    """The lower peak for each number of images.

    Raises:
        RuntimeError: a run did not compute all of its images.
    """
    (few, less), (many, more) = (
        (count, min(probe.peak_mb for probe in runs)) for count, runs in probes.items()
    )
    if any(p.computed["refine"] != count for count, runs in probes.items() for p in runs):
        raise RuntimeError("not every image was computed")
    imports = min(probe.imports_mb for runs in probes.values() for probe in runs)
    return Row(
        name=f"peak memory of a run of {many} scenes against {few}, demo CLIP, PAMR 10 steps",
        goal="within 5 %",
        measured=f"{megabytes(more)}, {few}: {megabytes(less)}, {more / less - 1:+.1%}",
        ratio=more / less,
        floor=f"{megabytes(imports)} (imports)",
        met=abs(more / less - 1) <= 0.05,
        detail={str(count): [p.detail() for p in runs] for count, runs in probes.items()},
    )


def prefect_rows(quick: bool) -> Iterator[Row]:
    """The same run through Prefect and without it, in turns."""
    flow: list[Probe] = []
    direct: list[Probe] = []
    with Workplace(quick) as bench:
        settings = bench.demo(2 if quick else MANY)
        for _ in range(1 if quick else 3):
            for probes, bare in ((direct, True), (flow, False)):
                settings["artifacts"] = bench.artifacts()
                probes.append(bench.run(settings, bare, warm=True))
    yield prefect_row(flow, direct, int(str(settings["num_samples"])))


def prefect_row(flow: Sequence[Probe], direct: Sequence[Probe], images: int) -> Row:
    """Medians of all work; the work outside the stages, which varies less, is in the detail."""
    share = middle(flow) / middle(direct) - 1
    outside, bare_outside = (middle(probes, Probe.outside_s) for probes in (flow, direct))
    ended, bare_ended = (middle(probes, Probe.ended_s) for probes in (flow, direct))
    return Row(
        name=f"Prefect's share of a run of {images} scenes, demo CLIP, PAMR 10 steps",
        goal="≤ 3 % beyond its start",
        measured=f"{share:+.1%}, {seconds(middle(flow))}, "
        f"without Prefect {seconds(middle(direct))}",
        ratio=1 + share,
        met=share <= 0.03,
        detail={
            "judged": "run_settings without the time from its check of the settings to the flow's "
            "first line, kernels loaded before; the end of Prefect's server is in after_run_s",
            "share_with_the_end_of_both_processes": ended / bare_ended - 1,
            "outside_stages_s": {"flow": outside, "direct": bare_outside},
            "share_by_outside_stages": (outside - bare_outside) / middle(direct),
            "flow": [probe.detail() for probe in flow],
            "direct": [probe.detail() for probe in direct],
        },
    )


def middle(probes: Sequence[Probe], value: Callable[[Probe], float] = Probe.work_s) -> float:
    """The median over runs of a value in seconds."""
    return statistics.median(value(probe) for probe in probes)


ROWS: Registry = {
    "tuning": tuning_rows,
    "cached": cached_rows,
    "memory": memory_rows,
    "prefect_share": prefect_rows,
}
