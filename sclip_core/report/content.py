"""The content of the page: rows of the tables of results, prepared for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sclip_core.config.places import Place
from sclip_core.datasets.grouping import benchmark_groups
from sclip_core.evaluation.bootstrap import Interval, Resampled, bootstrap, interval
from sclip_core.evaluation.measures import MEASURES, group_measures
from sclip_core.report.confusion import Confused, confused_run
from sclip_core.report.pictures import hex_colour
from sclip_core.report.words import Words, words_of
from sclip_core.results.comparison import SCORES, few_images, groups_note, sure
from sclip_core.results.derived import OF_IMAGES, OF_RUNS
from sclip_core.results.files import read_run
from sclip_core.results.measured import FEWEST, drawn_measures
from sclip_core.results.on_demand import shared_tables
from sclip_core.results.published import beside
from sclip_core.results.settings import ingredients, method_name
from sclip_core.results.tables import Paired, find_run, paired

Row = Mapping[str, Any]
METHOD = ("mode", "model", "pretrained", "method", "attention", "parameters", "pamr_steps")
TIMES = ("seconds_", "state_", "key_")
PROVENANCE = ("run_id", "created_at", "weights_sha256", "sam_sha256", "proxy_sha256",
              "sam_encoder_sha256", "ground_truth", "words_sha256", "words_separator",
              "num_images", "num_failed", "schema_version")  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """A run: its letter on the page, its row in ``runs``, its scores."""

    letter: str
    row: Row
    scores: dict[str, Interval]  # mIoU, mAcc, aAcc
    gains: dict[str, Interval]  # over the first run; empty for that one
    what: str  # the settings that differ from other runs; of a single run, its method
    ingredients: str  # the class of what it needs: CLIP alone, + DINO, ...


@dataclass(frozen=True)
class ClassLine:
    """A class: its IoU in every run."""

    name: str
    colour: str
    images: int  # that have the class
    share: float  # percent of the evaluated pixels
    ious: list[Interval]
    gains: list[Interval | None]  # over the first run; None: too few images


@dataclass(frozen=True)
class NumberLine:
    """A number beside mIoU, mAcc and aAcc (docs/metrics.md): its value in every run."""

    name: str
    values: list[Interval]
    gains: list[Interval | None]  # over the first run


@dataclass(frozen=True)
class StageLine:
    """A stage: seconds and state in every run; None where the run does not have it."""

    name: str
    seconds: list[float | None]
    states: list[str | None]


@dataclass(frozen=True)
class Setting:
    """A setting or a fact of provenance, by run."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the runs have different values."""
        return len(set(self.values)) > 1


@dataclass
class Content:
    """Everything on the page but pictures and plots."""

    pairs: Paired
    runs: list[Scored]
    classes: list[ClassLine]
    numbers: list[NumberLine]
    confused: list[Confused]
    stages: list[StageLine]
    settings: list[Setting]
    provenance: list[Setting]
    literature: list[tuple[str, list[int]]]  # a sentence, and which runs it is about
    words: Words | None  # the audit that the runs belong to
    notes: list[str] = field(default_factory=list)


def gather(names: Sequence[str], artifacts: Place) -> Content:
    """Read what a page shows of some runs over the same classes.

    Args:
        names: as ``find_run`` takes them.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such run, or runs that cannot be shown together.
    """
    pairs = paired(list(dict.fromkeys(find_run(name, artifacts) for name in names)), artifacts)
    rows = [read_run(artifacts, run_id)[0] for run_id in pairs.run_ids]
    drawn = bootstrap(pairs.sparse, by_class=True)
    confused = [
        each for place in range(len(rows)) if (each := confused_run(place, pairs, artifacts))
    ]
    settings = _settings(rows)
    content = Content(
        pairs=pairs,
        runs=[_scored(k, row, len(pairs), drawn, settings) for k, row in enumerate(rows)],
        classes=_classes(pairs, drawn),
        numbers=_numbers(pairs, rows, artifacts),
        confused=confused,
        stages=_stages(rows),
        settings=settings,
        provenance=_provenance(rows),
        literature=_literature(rows),
        words=words_of(pairs.run_ids, artifacts),
    )
    content.notes += _warnings(pairs, content.classes)
    if len(confused) < len(rows):
        content.notes.append(
            "Runs of an older version have no confusions: run them again to see them."
        )
    if pairs.left_out or pairs.other_truth:
        content.notes.append(
            f"Scores, classes and pictures are of the {len(pairs):,} images that all runs "
            f"have; left out: {pairs.left_out:,} that only some have, {pairs.other_truth:,} with "
            "a different ground truth."
        )
    return content


def _scored(
    number: int, row: Row, images: int, drawn: Resampled, settings: Sequence[Setting]
) -> Scored:
    """One run; `settings` are those of all runs."""
    of = {s: (drawn.of(s, number), drawn.difference(s, number)) for s in SCORES}
    scores = {name: sure(of[s][0], images) for s, name in SCORES.items()}
    gains = {name: sure(of[s][1], images) for s, name in SCORES.items()} if number else {}
    apart = [s for s in settings if s.differs and s.values[number] != "-"]
    own = apart or [s for s in settings if s.name in METHOD and s.values[number] != "-"]
    what = ", ".join(f"{s.name} {s.values[number]}" for s in own)
    letter = chr(ord("A") + number) if number < 26 else str(number + 1)
    return Scored(letter, row, scores, gains, what, ingredients(dict(row)))


def _warnings(pairs: Paired, classes: Sequence[ClassLine]) -> list[str]:
    """Notes where there are too few images."""
    notes = []
    if few := few_images(len(pairs)):
        notes.append(f"{few}.")
    if by_groups := groups_note(len(pairs)):
        notes.append(f"{by_groups[0].upper()}{by_groups[1:]}.")
    rare = sum(line.images < FEWEST for line in classes)
    if rare:
        notes.append(
            f"{rare} of the {len(classes)} classes are in fewer than {FEWEST} images: on other "
            "images the mIoU would be a mean over other classes."
        )
    return notes


def _literature(rows: Sequence[Row]) -> list[tuple[str, list[int]]]:
    """How each run compares with published figures; runs with the same sentence together."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found = beside(row)
        parts = found.remarks()
        if found.miou is not None:
            parts.insert(1, f"here {row['miou'] - found.miou:+.2f}")
        sentence = ", ".join(parts) or "no published figure for this method"
        places.setdefault(sentence, []).append(place)
    return list(places.items())


def _classes(pairs: Paired, drawn: Resampled) -> list[ClassLine]:
    """The classes that occur, in the order of the vocabulary."""
    runs = range(len(pairs.run_ids))
    ious, gains = [drawn.class_ious(k) for k in runs], [drawn.class_differences(k) for k in runs]
    label = pairs.sparse[0].summed().label
    found = np.any([areas.occurs() for areas in pairs.sparse], axis=0)
    present = pairs.sparse[0].images_with_label()
    return [
        ClassLine(
            name=name,
            colour=hex_colour(i),
            images=int(present[i]),
            share=100 * float(label[i]) / max(1, int(label.sum())),
            ious=[sure(ious[k][i], present[i]) for k in runs],
            gains=[gains[k][i] if k and present[i] >= FEWEST else None for k in runs],
        )
        for i, name in enumerate(pairs.class_names)
        if found[i]
    ]


def _numbers(pairs: Paired, rows: Sequence[Row], artifacts: Place) -> list[NumberLine]:
    """Numbers beside the usual scores that all runs have, and mIoU of groups of classes."""
    there = {"image_areas", *shared_tables(artifacts, pairs.run_ids)}
    measures = {n: m for n, m in MEASURES.items() if m.kind in there and n not in SCORES}
    grouped = benchmark_groups(str(rows[0]["dataset"]), pairs.class_names)
    if grouped:
        measures |= group_measures(grouped.groups, len(pairs.class_names))
    drawn, count = drawn_measures(pairs, measures, artifacts), len(pairs)
    return [
        NumberLine(
            measures[name].label,
            [sure(interval(each), count) for each in values],
            [sure(interval(v - values[0]), count) if k else None for k, v in enumerate(values)],
        )
        for name, values in drawn.items()
    ]


def _stages(rows: Sequence[Row]) -> list[StageLine]:
    """Seconds and states by stage, in the order of execution."""
    names = [k.removeprefix("seconds_") for k in _columns(rows) if k.startswith("seconds_")]
    return [
        StageLine(
            name,
            [row.get(f"seconds_{name}") for row in rows],
            [row.get(f"state_{name}") for row in rows],
        )
        for name in names
    ]


def _settings(rows: Sequence[Row]) -> list[Setting]:
    """Every setting that a run reads, those that differ first."""
    own = {*PROVENANCE, *SCORES, *OF_RUNS, *OF_IMAGES, "versions"}
    if any(row.get("method") or row.get("name") for row in rows):
        own |= {"attention", "name"}  # of the others beside it
        rows = [{**row, "method": method_name(dict(row))} for row in rows]
    rows = [{**row, "ingredients": ingredients(dict(row))} for row in rows]
    names = [k for k in _columns(rows) if k not in own and not k.startswith(TIMES)]
    return sorted(_lines(names, rows), key=lambda setting: not setting.differs)


def _provenance(rows: Sequence[Row]) -> list[Setting]:
    """What the runs were made with: weights, keys of the artifacts, versions of packages."""
    keys = [k for k in _columns(rows) if k.startswith("key_")]
    versions = [json.loads(row.get("versions") or "{}") for row in rows]
    return [*_lines([*PROVENANCE, *keys], rows), *_lines(_columns(versions), versions)]


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns that some row has, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _lines(names: Sequence[str], rows: Sequence[Row]) -> list[Setting]:
    """The values of some columns, without those that no row has."""
    found = [Setting(name, [_text(row.get(name)) for row in rows]) for name in names]
    return [setting for setting in found if set(setting.values) != {"-"}]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if hasattr(value, "strftime"):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}".strip()
    return f"{value:g}" if isinstance(value, float) else str(value)
