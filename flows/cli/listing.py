"""What ``sclip results`` prints: a line a run, with columns for what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from flows.cli.console import FAINT, STANDS_OUT, full_width, score
from sclip_core.config import UserError, printable
from sclip_core.config.places import Place
from sclip_core.results.comparison import SCORES
from sclip_core.results.measured import drawn_measures, measures_of, score_label
from sclip_core.results.published import beside, published
from sclip_core.results.settings import Row, differing_settings, setting
from sclip_core.results.tables import paired

MOST_COLUMNS = 8  # of settings; the others are named below the table
PUBLISHED = ("published", "less that")  # columns, where runs are put beside the literature


def score_columns(
    runs: Sequence[Row], scores: str | None, groups: str | None, artifacts: Place
) -> dict[str, list[str]]:
    """Numbers of runs by name, computed from their areas; ``-`` where a run has not what it takes.

    Args:
        runs: rows of the table ``runs``.
        scores: names of scores with commas between them; None: the usual ones.
        groups: of classes, whose mIoU has columns too.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such score, or groups that fit no run.
    """
    values: dict[str, dict[str, float]] = {}
    refused: list[UserError] = []
    for run in runs:
        try:
            pairs = paired([run["run_id"]], artifacts)
        except UserError as error:  # its tables are damaged or gone
            refused.append(error)
            continue
        try:
            grouped = measures_of((), groups, pairs.class_names)
        except UserError as error:
            refused.append(error)
            grouped = {}
        for name, measure in {**measures_of(scores or SCORES), **grouped}.items():
            column = values.setdefault(name, {})
            with suppress(UserError):  # no boundaries, or no sizes
                found = drawn_measures(pairs, {name: measure}, artifacts, resamples=0)
                column[run["run_id"]] = float(found[name][0, 0])
    if len(refused) == len(runs):
        raise refused[0]
    nan = float("nan")
    return {
        score_label(name): [score(column.get(run["run_id"], nan)) for run in runs]
        for name, column in values.items()
    }


def fitting_table(
    runs: Sequence[Row], against: bool, width: int, scores: Mapping[str, list[str]] | None = None
) -> Table:
    """Runs in the order given, with the columns that there is room for; always run and mIoU.

    Args:
        runs: rows of the table ``runs``.
        against: whether to show published figures beside them.
        width: of the console.
        scores: columns of scores; None: mIoU, mAcc, aAcc.
    """
    scores = scores or {name: [score(run[key]) for run in runs] for key, name in SCORES.items()}
    differing = differing_settings(runs)
    with_column = differing[:MOST_COLUMNS]
    columns = _columns(runs, with_column, against, scores)
    more = [*(["dataset"] if "dataset" in columns else []), *differing]
    rest = [name for name in scores if name != "mIoU"]
    dispensable = [
        "when",
        *(rest if rest == ["mAcc", "aAcc"] else ()),
        *reversed(with_column),
        "dataset",
        "images",
    ]
    dispensable += reversed(PUBLISHED)
    while True:
        caption = _caption(runs, [name for name in more if name not in columns])
        table = _table(columns, caption, {"images", *scores, *PUBLISHED})
        if full_width(table) <= width or not dispensable:
            return table
        columns.pop(dispensable.pop(0), None)


def _columns(
    runs: Sequence[Row],
    settings: Sequence[str],
    against: bool,
    scores: Mapping[str, list[str]],
) -> dict[str, list[Any]]:
    """The cells of all columns, by name."""
    columns: dict[str, list[Any]] = {
        "run": [printable(run["run_id"]) for run in runs],
        "when": [f"{run['created_at']:%Y-%m-%d %H:%M}" for run in runs],
        "dataset": [setting(run, "dataset") for run in runs],
        **{name: _stressed(runs, name) for name in settings},
        "images": [f"{run['num_images']:,}" for run in runs],
        **scores,
    }
    if len(set(columns["dataset"])) == 1:
        del columns["dataset"]
    if against:
        pairs = [_published(run) for run in runs]
        columns |= {name: [pair[i] for pair in pairs] for i, name in enumerate(PUBLISHED)}
    return columns


def _table(columns: dict[str, list[Any]], caption: str | None, numbers: Set[str]) -> Table:
    table = Table(caption=caption, caption_justify="left")
    for name in columns:
        is_run = name == "run"
        justify: Any = "right" if name in numbers else "left"
        overflow: Any = "fold" if is_run else "ellipsis"
        table.add_column(name, no_wrap=not is_run, overflow=overflow, justify=justify)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _stressed(runs: Sequence[Row], name: str) -> list[Text]:
    """The cells of a setting: the value that most runs on a dataset have is faint."""
    values = [(run["dataset"], setting(run, name)) for run in runs]
    usual: dict[str, str] = {}
    for (dataset, value), _ in Counter(values).most_common():
        usual.setdefault(dataset, value)
    return [Text(value, FAINT if value == usual[where] else STANDS_OUT) for where, value in values]


def _published(run: Row) -> tuple[str, Text]:
    """The published mIoU, and how far the run is from it."""
    found = beside(run)
    if found.miou is None:
        return "-", Text("-")
    difference = f"{run['miou'] - found.miou:+.2f}{' (!)' if found.caveats else ''}"
    return f"{found.miou:.2f}", Text(difference, FAINT if found.caveats else "")


def _caption(runs: Sequence[Row], more: Sequence[str]) -> str | None:
    """What all have in common, and settings that differ but have no column."""
    label = "method" if any(run.get("method") or run.get("name") for run in runs) else "attention"
    same = [
        f"{name} {setting(runs[0], name)}"
        for name in ("dataset", "mode", "model", "pretrained", label)
        if len({setting(run, name) for run in runs}) == 1
    ]
    lines = [f"all: {', '.join(same)}"] if same else []
    lines += [f"they differ in {', '.join(more)} too"] if more else []
    return "; ".join(lines) or None


def against_lines(runs: Sequence[Row]) -> Iterator[str]:
    """Why runs cannot be compared with what was published; those with the same reasons together."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        reasons.setdefault(beside(run).caveats, []).append(printable(run["run_id"]))
    for caveats, ids in reasons.items():
        who = ", ".join(ids) if len(ids) <= 3 else f"{', '.join(ids[:2])} and {len(ids) - 2} more"
        if caveats:
            yield printable(f"not comparable: {who}: {'; '.join(caveats)}")
        else:
            yield f"comparable: {who}"


def ladders(runs: Sequence[Row]) -> Iterator[Table]:
    """For each dataset the published figures, best first, with the runs ranked among them."""
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        rows = [row for row in published().to_pylist() if row["dataset"] == dataset]
        if not rows:
            continue
        title = f"{printable(dataset)}: published mIoU and these runs"
        miou = Column("mIoU", justify="right", min_width=5, no_wrap=True)
        table = Table(miou, "method", "source", title=title, title_justify="left")
        own = [(run["miou"], run) for run in runs if run["dataset"] == dataset]
        steps: list[tuple[float, Row]] = [(row["miou"], row) for row in rows]
        for value, row in sorted(steps + own, key=lambda step: -step[0]):
            if "source" in row:  # of the literature
                table.add_row(f"{value:g}", row["method"], Text(row["source"], FAINT))
                continue
            note = "not comparable, see above" if beside(row).caveats else "comparable"
            table.add_row(f"{value:.2f}", f"> {printable(row['run_id'])}", note, style=STANDS_OUT)
        yield table
