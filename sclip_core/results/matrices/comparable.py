"""What cannot be compared in a table of runs: other images, words, ground truth or weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sclip_core.config.errors import UserError
from sclip_core.config.grid import usual_value
from sclip_core.config.protocol import is_benchmark
from sclip_core.config.settings import Settings
from sclip_core.results.matrices.rows import CHOSEN, Grid, Row, Run
from sclip_core.results.settings import setting


class Classes(NamedTuple):
    """What a run was scored for."""

    names: tuple[str, ...]
    labelled: tuple[int, ...]  # pixels of each class in the ground truth


class Note(NamedTuple):
    """Why a cell cannot be compared."""

    sentence: str
    of_column: bool  # with the other cells of its column; else with the other cells of its row


# Settings that say which images and which truth, as they are called in a sentence.
OF_IMAGES = {"split": "split", "images_list": "list of images"}
OF_TRUTH = ("ignore_label", "reduce_zero_label", "label_values", "missing_labels", "ground_truth")
OF_READING = ("exif", "pixel_range", "distractors")
NETWORKS = {  # names and digests of weights: of CLIP, the second network, SAM
    "model": ("model", "pretrained", "weights_sha256"),
    "second network": ("proxy_model", "proxy_sha256"),
    "SAM": ("sam_encoder", "sam_encoder_sha256", "sam_model", "sam_sha256"),
    "templates": ("templates",),
}
OF_NETWORKS = {name for names in NETWORKS.values() for name in names} | {"proxy_weights", "dtype"}


def notes_of(grid: Grid, classes_of: Callable[[Run], Classes]) -> dict[tuple[Row, str], list[Note]]:
    """The notes of each cell that has some: against most runs of its column, and of its row.

    Args:
        grid: the runs.
        classes_of: the classes of a run.
    """
    found: dict[tuple[Row, str], list[Note]] = {}
    for dataset in grid.datasets:
        for row, sentence in _of_column(grid, dataset, classes_of):
            found.setdefault((row, dataset), []).append(Note(sentence, True))
    for row in grid.rows:
        for dataset, sentence in _of_row(grid, row):
            found.setdefault((row, dataset), []).append(Note(sentence, False))
    return found


def _of_column(
    grid: Grid, dataset: str, classes_of: Callable[[Run], Classes]
) -> Iterator[tuple[Row, str]]:
    """A sentence for each run of a dataset that was measured on something else than the others."""
    rows = [row for row in grid.rows if (row, dataset) in grid.runs]
    runs = {row: grid.runs[row, dataset] for row in rows}
    digested = all(run.get("words_sha256") for run in runs.values())  # older runs have none
    facts = {row: _facts(grid, run, classes_of(run), digested) for row, run in runs.items()}
    usual = _most_common(facts)
    if usual is None:
        return
    label = grid.label(usual)
    for row in rows:
        own, theirs = facts[row], facts[usual]
        said = [
            _said(name, own, theirs) for name in own if own[name] != theirs[name] and _told(name)
        ]
        if own != theirs and not said:
            said = ["another ground truth, or other images"]
        if said:
            yield row, f"{dataset}: {'; '.join(said)}; not as {label}"


def _told(name: str) -> bool:
    """Whether a fact is said as it is; pixels are not."""
    return name != "labelled"


def _facts(grid: Grid, run: Run, classes: Classes, digested: bool) -> dict[str, Any]:
    """What a run was measured on; what tells rows apart by choice is left out."""
    names = (*OF_IMAGES, *OF_TRUTH, *OF_READING)
    plain = {name: setting(dict(run), name) for name in names}
    named = (run.get("vocabulary"), run.get("classes"))
    facts = {
        "num_images": run["num_images"],
        "num_failed": run.get("num_failed") or 0,
        "classes": classes.names,
        "words": run["words_sha256"] if digested else named,
        **plain,
        "labelled": classes.labelled,
    }
    chosen = {*grid.columns, *({"words", "classes"} if "words_sha256" in grid.columns else ())}
    if chosen & {"num_images", "num_samples", "split", "images_list"}:
        chosen |= {"num_images", "num_failed", "labelled"}
    if chosen & {"classes", "vocabulary"}:
        chosen |= {"words", "classes", "labelled"}
    return {name: value for name, value in facts.items() if name not in chosen}


def _most_common(facts: Mapping[Row, dict[str, Any]]) -> Row | None:
    """The first row with what most have been measured on; of equally many, with most images."""
    counts = Counter(repr(each) for each in facts.values())
    order = sorted(
        facts, key=lambda row: (-counts[repr(facts[row])], -facts[row].get("num_images", 0))
    )
    return order[0] if order else None


def _said(name: str, own: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """One difference in words."""
    mine, other = own[name], theirs[name]
    if name == "num_images":
        return f"{mine} images, not {other}"
    if name == "num_failed":
        return f"{mine} images failed, not {other}"
    if name == "classes":
        if len(mine) != len(other):
            return f"{len(mine)} classes, not {len(other)}"
        pairs = [(a, b) for a, b in zip(mine, other, strict=True) if a != b]
        return f"class {pairs[0][0]} in place of {pairs[0][1]}"
    if name == "words":
        return "other words for the classes"
    return f"{OF_IMAGES.get(name, name)} {mine}, not {other}"


def _of_row(grid: Grid, row: Row) -> Iterator[tuple[str, str]]:
    """A sentence for each dataset on which a row has other networks, or settings of its own."""
    runs = grid.of_row(row)
    for what, names in NETWORKS.items():
        values = {d: tuple(run.get(name) for name in names) for d, run in runs.items()}
        known = [value for value in values.values() if any(value)]
        if len(set(known)) < 2 or set(names) <= set(grid.columns):
            continue
        usual = Counter(known).most_common(1)[0][0]
        where = next(d for d, value in values.items() if value == usual)
        for dataset, value in values.items():
            if value != usual and any(value):
                own, other = (_network(each) for each in (value, usual))
                yield dataset, f"{dataset}: {what} {own}, on {where} {other}"
    for name in (n for n in CHOSEN if n not in grid.columns and n not in OF_NETWORKS):
        yield from _chosen(name, runs)


def _network(value: Sequence[Any]) -> str:
    """Names of a network, and the beginning of the digest of its weights."""
    digest = {text for text in value if isinstance(text, str) and len(text) == 64}
    names = [str(text) for text in value if text and text not in digest]
    return " ".join([*names, *(f"({text[:8]})" for text in sorted(digest))])


def _chosen(name: str, runs: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    """Where a setting is neither the benchmark's own nor the same on all datasets."""
    values = {dataset: setting(dict(run), name) for dataset, run in runs.items()}
    if len(set(values.values()) - {"-"}) < 2:
        return
    for dataset, run in runs.items():
        usual = _usual(run, name)
        if values[dataset] not in ("-", usual):
            others = f"the benchmark's own is {usual}" if usual else "chosen for this dataset"
            yield dataset, f"{dataset}: {name} {values[dataset]}; {others}"


def _usual(run: Run, name: str) -> str | None:
    """A setting as the benchmark has it for the method; None: it is no benchmark."""
    if not is_benchmark(run["dataset"]):
        return None
    plain = Settings.model_construct(dataset=run["dataset"], method=run.get("method"))
    try:
        value = usual_value(plain, name)
    except UserError:  # a method of somebody's own file
        return None
    if isinstance(value, tuple | list):
        value = ",".join(map(str, value)) or None
    return setting({**run, "pamr_steps": run.get("pamr_steps") or 1, name: value}, name)
