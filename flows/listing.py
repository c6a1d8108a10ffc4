"""The list of runs: a line each, what differs between them in columns of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.console import described_mode
from sclip_core.results.comparison import SCORES
from sclip_core.results.published import Beside, beside, published

Row = dict[str, Any]

# Columns of ``runs`` that are no settings; what remains may set a run apart from the others.
NO_SETTINGS = {
    "run_id", "created_at", "dataset", "mode", "weights_sha256", "sam_sha256", "ground_truth",
    "num_images", "num_failed", "num_samples", "miou", "macc", "aacc", "versions", "vocabulary",
    "schema_version", "data_root", "images", "labels", "classes", "sam_checkpoint",
}  # fmt: skip
MOST_COLUMNS = 8  # of settings; the others are named below
STANDS_OUT, FAINT = "bold yellow", "dim"


def runs_table(runs: Sequence[Row], against: bool = False, brief: bool = False) -> Table:
    """Runs as they come, newest first.

    Args:
        runs: rows of the table ``runs``.
        against: whether published figures are put beside.
        brief: for narrow terminals, without time, mAcc and aAcc.
    """
    differing = differing_settings(runs)
    numbers: dict[str, list[Any]] = {
        **{name: [score(run[key]) for run in runs] for key, name in SCORES.items()},
        "images": [f"{run['num_images']:,}" for run in runs],
    }
    texts: dict[str, list[Any]] = {
        "run": [run["run_id"] for run in runs],
        "when": [f"{run['created_at']:%Y-%m-%d %H:%M}" for run in runs],
        "dataset": [run["dataset"] for run in runs],
    }
    texts |= {name: _stressed(runs, name) for name in differing[:MOST_COLUMNS]}
    if len(set(texts["dataset"])) == 1:
        del texts["dataset"]
    if against:
        pairs = [_published(run) for run in runs]
        numbers |= {"published": [p[0] for p in pairs], "less that": [p[1] for p in pairs]}
    if brief:
        del texts["when"], numbers["mAcc"], numbers["aAcc"]
        order = ["run", *numbers, *texts]
    else:
        order = [*texts, "images", *numbers]
    cells = {name: {**numbers, **texts}[name] for name in order}
    table = Table(caption=_caption(runs, differing[MOST_COLUMNS:]), caption_justify="left")
    for name in cells:
        least = 5 if name in numbers else max(map(len, texts["run"])) if name == "run" else None
        justify: Any = "right" if name in numbers else "left"
        table.add_column(name, no_wrap=True, justify=justify, min_width=least)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return table


def _stressed(runs: Sequence[Row], name: str) -> list[Text]:
    """The cells of a setting: the value that most runs on a dataset have is faint."""
    usual = {}
    for dataset in {run["dataset"] for run in runs}:
        values = Counter(setting(run, name) for run in runs if run["dataset"] == dataset)
        usual[dataset] = values.most_common(1)[0][0]
    values = [setting(run, name) for run in runs]
    return [
        Text(value, FAINT if value == usual[run["dataset"]] else STANDS_OUT)
        for run, value in zip(runs, values, strict=True)
    ]


def differing_settings(runs: Iterable[Row]) -> list[str]:
    """Names of the settings that differ among the runs on some dataset; ``mode`` comes first.

    A setting that one of two modes does not read is no difference of its own.
    """
    by_dataset: dict[str, list[Row]] = {}
    for run in runs:
        by_dataset.setdefault(run["dataset"], []).append(run)
    names = dict.fromkeys(name for group in by_dataset.values() for run in group for name in run)
    settings = [
        name
        for name in names
        if name not in NO_SETTINGS and not name.startswith(("seconds_", "state_", "key_"))
    ]
    found = []
    for name in ("mode", *settings):
        values = [{setting(run, name) for run in group} - {"-"} for group in by_dataset.values()]
        if any(len(each) > 1 for each in values):
            found.append(name)
    return found


def setting(run: Row, name: str) -> str:
    """A setting as it is shown; ``-``: the run does not read it."""
    value = described_mode(run) if name == "mode" else run.get(name)
    if name == "pamr_dilations" and not run.get("pamr_steps"):
        value = None
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def score(value: float | None) -> str:
    """Percent with two digits; ``-``: undefined."""
    return "-" if value is None or value != value else f"{value:.2f}"


def against_lines(runs: Sequence[Row]) -> Iterator[str]:
    """For each run why it cannot be compared with what was published, alike ones together."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        reasons.setdefault(beside(run).caveats, []).append(run["run_id"])
    for caveats, ids in reasons.items():
        who = ", ".join(ids) if len(ids) <= 3 else f"{', '.join(ids[:2])} and {len(ids) - 2} more"
        if caveats:
            yield f"not comparable: {who}: {'; '.join(caveats)}"
        else:
            yield f"comparable: {who}"


def ladders(runs: Sequence[Row]) -> Iterator[Table]:
    """For each dataset the literature's figures, best first, with the runs where they stand."""
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        rows = [row for row in published().to_pylist() if row["dataset"] == dataset]
        if not rows:
            continue
        table = Table(title=f"{dataset}: published mIoU and these runs", title_justify="left")
        table.add_column("mIoU", justify="right")
        table.add_column("method")
        table.add_column("where it was read")
        own = [(run["miou"], run) for run in runs if run["dataset"] == dataset]
        steps: list[tuple[float, Row]] = [(row["miou"], row) for row in rows]
        for miou, row in sorted(steps + own, key=lambda step: -step[0]):
            if "method" in row:
                table.add_row(f"{miou:g}", row["method"], Text(row["source"], FAINT))
                continue
            caveats = beside(row).caveats
            note = "not comparable, see above" if caveats else "comparable"
            table.add_row(f"{miou:.2f}", f"> {row['run_id']}", note, style=STANDS_OUT)
        yield table


def _published(run: Row) -> tuple[str, Text]:
    found: Beside = beside(run)
    if found.miou is None:
        return "-", Text("-")
    style = FAINT if found.caveats else ""
    sign = f"{run['miou'] - found.miou:+.2f}{' (!)' if found.caveats else ''}"
    return f"{found.miou:.2f}", Text(sign, style)


def _caption(runs: Sequence[Row], others: Sequence[str]) -> str | None:
    """What all have in common, and settings that differ and have no column."""
    lines = []
    same = [
        f"{name} {setting(runs[0], name)}"
        for name in ("dataset", "mode", "model", "pretrained", "attention")
        if len({setting(run, name) for run in runs}) == 1
    ]
    if same:
        lines.append(f"all: {', '.join(same)}")
    if others:
        lines.append(f"they differ in {', '.join(others)} too")
    return "; ".join(lines) or None
