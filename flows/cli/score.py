"""``sclip score``: label maps that another tool made, scored as those of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from flows.cli.console import right
from flows.cli.options import Config, Preset, only_one, settings_of
from flows.parameters import flag, with_settings
from sclip_core.config import ROLES, printable
from sclip_core.results.comparison import SCORES

if TYPE_CHECKING:
    from sclip_core.pipeline.scoring import ScoredPredictions

OF_DATA = tuple(name for name, role in ROLES.items() if role.part == "data")
SHOWN = ("run_id", "dataset", "name", "num_images", "num_failed", *SCORES)  # of the row
READ = (*OF_DATA, "artifacts", "workers", "strict", "boundary", "object_sizes")


Predictions = Annotated[
    Path,
    Parameter(
        help="Folder of label maps (PNG, palette PNG, npy, TIFF, ...) named as the images, or "
        "COCO's JSON: results, annotations, panoptic."
    ),
]
Name = Annotated[str | None, Parameter(help="What made them, for tables. [name of the folder]")]
Pattern = Annotated[
    str | None,
    Parameter(help="Names of the files, where not those of the images: {id}_pred.png"),
]
Values = Annotated[
    str,
    Parameter(
        help="classes: 0 is the first class; raw: the dataset's own numbers (ADE20K 1..150, "
        "Cityscapes' ids); or the number of each class: 7,8,11."
    ),
]
Colours = Annotated[
    Path | None,
    Parameter(help="Colours of RGB predictions, as --palette. [that of the label maps]"),
]
Missing = Annotated[
    Literal["refuse", "skip", "empty"],
    Parameter(
        help="Images without a prediction: refuse; skip: score the others; empty: background, or "
        "wrong."
    ),
]


@with_settings(flag, READ)
def score(
    *,
    predictions: Predictions,
    name: Name = None,
    prediction_pattern: Pattern = None,
    prediction_values: Values = "classes",
    prediction_palette: Colours = None,
    missing_predictions: Missing = "refuse",
    preset: Preset = None,
    config: Config = None,
    json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False,
    **given: Any,
) -> int:
    """Score label maps that another tool made, into the same tables as runs."""
    from flows.cli.console import ConsoleReporter, console, report_left_out
    from flows.cli.tables import detail_lines
    from sclip_core.datasets.predictions import PredictionOptions
    from sclip_core.pipeline.scoring import score_with

    palette = prediction_palette
    if given.get("images") is None:  # a benchmark's own label maps have no colours
        palette = palette or given.get("palette")
        given = {**given, "palette": None}
    settings = only_one(settings_of(preset, config, None, None, False, given))
    options = PredictionOptions(predictions, prediction_pattern, prediction_values, palette)
    reporter = ConsoleReporter()
    try:
        found = score_with(settings, options, name, missing_predictions, reporter)
    finally:
        reporter.close()
    if json_:
        print(json.dumps(_plain(found), indent=2))
    else:
        out = console()
        out.print(printable(_headline(found)), soft_wrap=True)
        out.print(_table(found))
        for line in detail_lines(found.run_id, settings):
            out.print(printable(line), soft_wrap=True)
        out.print(printable(f"run {found.run_id}: {found.path}"), soft_wrap=True)
    return report_left_out(found.failures.values(), found.faults)


def _headline(found: ScoredPredictions) -> str:
    """What was scored: of how many images, if not of all."""
    row, of = found.row, f" of {found.of:,}" if found.skipped else ""
    return f"{row['dataset']}, {row['num_images']:,}{of} images, predictions of {row['name']}"


def _table(found: ScoredPredictions) -> Table:
    """The scores with their intervals."""
    from sclip_core.report.summary import score_intervals

    table = Table("score", right("percent"), "[95 %]")
    for name, text in score_intervals(found.run_id, found.artifacts).items():
        value, _, interval = text.partition(" ")
        table.add_row(name, value, interval or "-")
    return table


def _plain(found: ScoredPredictions) -> dict[str, Any]:
    """What ``--json`` prints."""
    row = {k: v for k, v in found.row.items() if v is not None and k in SHOWN}
    classes = [{k: each[k] for k in ("class_name", "iou", "acc")} for each in found.classes]
    more = {"path": found.path, "without_prediction": found.without, "classes": classes}
    return {**{k: None if v != v else v for k, v in row.items()}, **more}
