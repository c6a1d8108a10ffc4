"""Scoring the label maps that another tool made, into the tables of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from sclip_core.config import Settings, UserError, resolve
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few, shown
from sclip_core.config.places import Place
from sclip_core.datasets.drawn import folders_of
from sclip_core.datasets.predictions import PredictionOptions, Predictions, open_predictions
from sclip_core.datasets.predictions.values import CLASSES
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stages.predictions import (
    Missing,
    PredictedBoundary,
    PredictedMetrics,
    PredictedObjectSizes,
    PredictedResults,
    Scoring,
)
from sclip_core.progress import Reporter
from sclip_core.store.places import writable

LONGEST_NAME = 100  # characters
SHIFTED = 3.0  # how often more pixels are called a neighbour of their class than their class
SHIFTS = {  # from the class in the label map to the one that was predicted
    1: "the class after their own, as of predictions that count classes from 1: if so, pass "
    "--prediction-values raw, or 1,2,3,... up to the number of classes",
    -1: "the class before their own, as of predictions without the first class, or from which 1 "
    "was taken away: if so, pass the number of each class to --prediction-values",
}


@dataclass(frozen=True)
class ScoredPredictions:
    """What remains of scoring: small enough to be handed around."""

    run_id: str
    path: str  # of its row in the table ``runs``
    row: dict[str, Any]  # that row
    classes: list[dict[str, Any]]  # its rows of ``class_iou``
    artifacts: Place
    without: list[str]  # ids of images without a prediction
    of: int  # images that the data has
    skipped: bool  # whether those without a prediction were left out
    failures: dict[str, str] = field(default_factory=dict)  # image id: why it was left out
    faults: tuple[str, ...] = ()  # what was left out of the ground truth of others


def score(
    predictions: Path | str,
    name: str | None = None,
    pattern: str | None = None,
    values: str | Sequence[int] = CLASSES,
    missing: Missing = "refuse",
    palette: Path | str | None = None,
    reporter: Reporter | None = None,
    **data: Any,
) -> ScoredPredictions:
    """Score label maps that another tool made, as a run's own are scored.

    Args:
        predictions: a folder of PNG, TIFF, BMP, GIF or NPY, a file for each image; or a file or
            folder of COCO's JSON: results, annotations or panoptic.
        name: of the tool, in tables; None: that of the folder or file.
        pattern: names of the files, with ``{id}`` for that of the image.
        values: ``classes``: they count classes from 0; ``raw``: they are the dataset's own
            (ADE20K 1..150, Cityscapes' ids); or the number of each class.
        missing: what images without a prediction are: ``refuse``; ``skip``: not scored;
            ``empty``: wrong everywhere, or background, where that is a class.
        palette: the list of colours of RGB predictions, as in ``--palette``.
        reporter: who is told about progress; None: nobody.
        **data: settings of the data as of a run: ``dataset``, ``data_root``; or ``images``,
            ``labels``, ``classes``; ``artifacts``.

    Raises:
        UserError: data or predictions that are not there or cannot be used.
    """
    listed = values if isinstance(values, str) else ",".join(map(str, values))
    colours = None if palette is None else Path(palette)
    options = PredictionOptions(Path(predictions), pattern, listed, colours)
    return score_with(resolve(**data), options, name, missing, reporter)


def score_with(
    settings: Settings,
    options: PredictionOptions,
    name: str | None = None,
    missing: Missing = "refuse",
    reporter: Reporter | None = None,
) -> ScoredPredictions:
    """Score predictions, given the settings of a run over the same data; see `score`.

    Raises:
        UserError: data or predictions that are not there or cannot be used.
    """
    _check(settings, options, name, missing)
    run = Run(settings, reporter)
    found = open_predictions(options, run.inputs.dataset, _truth(settings))
    of = len(run.inputs.dataset)
    without = _without(run, found, options, missing)
    for line in (f"predictions: {found.told}", *found.notes, *without.notes):
        run.reporter.note(line)
    named = options.path.absolute()
    scoring = Scoring(name or named.stem or str(named), options, missing, found)
    metrics = PredictedMetrics(run, scoring)
    boundary, sizes = PredictedBoundary(run, scoring), PredictedObjectSizes(run, scoring)
    results = PredictedResults(run, metrics, scoring, [boundary, sizes])
    writable(run.root)
    try:
        in_use = folders_of(run.inputs.dataset, settings.local_artifacts)
        stages = results.reads
        run.lease.use([*(stage.artifact.path for stage in stages), *in_use])
        for stage in stages:
            stage.execute()
        results.execute()
    finally:
        run.lease.close()
    suspicion = shifted(results.read("confusion"))
    if suspicion is not None:
        run.reporter.note(suspicion)
    return ScoredPredictions(
        run_id=results.run_id,
        path=results.path,
        row=results.read("runs")[0],
        classes=results.read("class_iou"),
        artifacts=run.root,
        without=without.ids,
        of=of,
        skipped=bool(without.ids) and missing == "skip",
        failures=dict(run.journal.failures),
        faults=tuple(run.journal.faults),
    )


def shifted(confusion: Iterable[Mapping[str, Any]]) -> str | None:
    """A line where most pixels are called a neighbour of their class; None: they are not.

    Args:
        confusion: rows of that table.

    >>> pairs = [(0, 1, 60), (1, 2, 30), (1, 1, 10)]
    >>> keys = ("label_id", "prediction_id", "pixels")
    >>> shifted(dict(zip(keys, pair)) for pair in pairs)[:57]
    '90.0 % of the pixels are called the class after their own'
    """
    by_shift: Counter[int | None] = Counter()
    for row in confusion:
        found = row["prediction_id"]
        by_shift[None if found is None else found - row["label_id"]] += row["pixels"]
    total = max(1, by_shift.total())
    for shift, why in SHIFTS.items():
        if 2 * by_shift[shift] > total and by_shift[shift] > SHIFTED * by_shift[0]:
            return f"{100 * by_shift[shift] / total:.1f} % of the pixels are called {why}"
    return None


@dataclass(frozen=True)
class Without:
    """Images that have no prediction, and what is said of them."""

    ids: list[str]
    notes: tuple[str, ...] = ()


def _without(run: Run, found: Predictions, options: PredictionOptions, missing: Missing) -> Without:
    """Find images without a prediction, and leave them out if they are to be skipped.

    Raises:
        UserError: there are any, and nobody said what they are.
    """
    ids = [sample.image_id for sample in run.inputs.dataset.samples]
    lacking = [i for i in ids if i not in found]
    if not lacking:
        return Without([])
    line = f"{number_of(len(lacking), 'image', 'have', len(ids))} no prediction"
    if missing == "refuse":
        raise UserError(
            f"{options.path}: {line}: {few(lacking)}; pass --missing-predictions skip to score "
            "the others alone, or empty if nothing was found on them"
        )
    if len(lacking) == len(ids):
        raise UserError(f"{options.path}: {line}: nothing can be scored")
    if missing == "skip":
        run.inputs.only(set(ids) - set(lacking))
        said = "left out, as --missing-predictions skip says"
    else:
        background = run.inputs.dataset.has_background
        said = "taken for background" if background else "wrong everywhere"
        said += ", as --missing-predictions empty says"
    return Without(lacking, (f"{line}, {said}: {few(lacking)}",))


def _truth(settings: Settings) -> Path | None:
    """Where the ground truth of a user's own images is."""
    return settings.labels if isinstance(settings.labels, Path) else None


def _check(settings: Settings, options: PredictionOptions, name: str | None, missing: str) -> None:
    """Raise if an option cannot be used, before anything is opened."""
    if not settings.scored:
        raise UserError("--labels is missing: predictions are scored against label maps")
    if options.pattern is not None and "{id}" not in options.pattern:
        raise UserError(
            f"--prediction-pattern {shown(options.pattern)}: expected {{id}} in it, for the name "
            "of the image: {id}_pred.png"
        )
    if missing not in get_args(Missing):
        raise UserError(f"missing {shown(missing)}: expected {', '.join(get_args(Missing))}")
    if name is not None and (not name.strip() or len(name) > LONGEST_NAME):
        raise UserError(f"--name {shown(name)}: expected 1 to {LONGEST_NAME} characters")
    if settings.force:
        raise UserError("--force is for runs: predictions that change are scored again")
