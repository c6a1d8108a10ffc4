"""The list of runs: a line each, what differs between them in columns of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.cli.console import described_mode, full_width
from sclip_core.config import printable
from sclip_core.results.comparison import SCORES
from sclip_core.results.published import Beside, beside, published

Row = dict[str, Any]

# Columns of ``runs`` that are no settings; what remains may set a run apart from the others.
NO_SETTINGS = {
    "run_id", "created_at", "dataset", "mode", "weights_sha256", "sam_sha256", "num_images",
    "num_failed", "num_samples", "miou", "macc", "aacc", "versions", "vocabulary",
    "schema_version", "data_root", "images", "labels", "sam_checkpoint",
}  # fmt: skip
OF_THE_DATA = ("dataset", "num_samples")  # count where runs are compared with each other
BY_DEFAULT = {"num_samples": "all"}  # what no value means; of others ``-``
ALWAYS_READ = {*OF_THE_DATA, "classes", "ground_truth"}  # no value is a value
MOST_COLUMNS = 8  # of settings; the others are named below
PUBLISHED = ("published", "less that")  # columns, where runs are put beside the literature
STANDS_OUT, FAINT = "bold yellow", "dim"


def fitting_table(runs: Sequence[Row], against: bool, width: int) -> Table:
    """``runs_table`` with the columns that there is room for: always the run and its mIoU.

    Args:
        runs: rows of the table ``runs``.
        against: whether published figures are put beside.
        width: of the console.
    """
    table = runs_table(runs, against)
    left_out = ["when", "mAcc", "aAcc"]
    settings = reversed(differing_settings(runs)[:MOST_COLUMNS])
    more = [*settings, "dataset", "images", *reversed(PUBLISHED)]
    while full_width(table) > width:
        table = runs_table(runs, against, left_out)
        if not more:
            break
        left_out.append(more.pop(0))
    return table


def runs_table(runs: Sequence[Row], against: bool = False, left_out: Collection[str] = ()) -> Table:
    """Runs as they come, newest first.

    Args:
        runs: rows of the table ``runs``.
        against: whether published figures are put beside.
        left_out: columns that there is no room for; where there are any, mIoU comes first.
    """
    differing = differing_settings(runs)
    numbers: dict[str, list[Any]] = {
        **{name: [score(run[key]) for run in runs] for key, name in SCORES.items()},
        "images": [f"{run['num_images']:,}" for run in runs],
    }
    texts: dict[str, list[Any]] = {
        "run": [printable(run["run_id"]) for run in runs],
        "when": [f"{run['created_at']:%Y-%m-%d %H:%M}" for run in runs],
        "dataset": [setting(run, "dataset") for run in runs],
    }
    texts |= {name: _stressed(runs, name) for name in differing[:MOST_COLUMNS]}
    if len(set(texts["dataset"])) == 1:
        del texts["dataset"]
    if against:
        pairs = [_published(run) for run in runs]
        numbers |= {name: [p[i] for p in pairs] for i, name in enumerate(PUBLISHED)}
    order = ["run", *numbers, *texts] if left_out else [*texts, "images", *numbers]
    cells = {name: {**numbers, **texts}[name] for name in order if name not in left_out}
    others = [name for name in ("dataset", *differing) if name in texts or name in differing]
    caption = _caption(runs, [name for name in others if name not in cells])
    table = Table(caption=caption, caption_justify="left")
    for name in cells:
        is_number = name in numbers
        table.add_column(
            name,
            no_wrap=name != "run",
            overflow="fold" if name == "run" else "ellipsis",
            justify="right" if is_number else "left",
            min_width=max(len(str(cell)) for cell in cells[name]) if is_number else None,
        )
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


def differing_settings(runs: Iterable[Row], together: bool = False) -> list[str]:
    """Names of the settings that differ among the runs on some dataset; ``mode`` comes first.

    A setting that one of two modes does not read is no difference of its own.

    Args:
        runs: rows of the table ``runs``.
        together: they are compared with each other, whatever their datasets; what they were
            measured on comes first then.
    """
    by_dataset: dict[str, list[Row]] = {}
    for run in runs:
        by_dataset.setdefault("" if together else run["dataset"], []).append(run)
    names = dict.fromkeys(name for group in by_dataset.values() for run in group for name in run)
    settings = [
        name
        for name in names
        if name not in NO_SETTINGS and not name.startswith(("seconds_", "state_", "key_"))
    ]
    found = []
    for name in (*(OF_THE_DATA if together else ()), "mode", *settings):
        unread = set() if name in ALWAYS_READ else {"-"}
        values = [{setting(run, name) for run in group} - unread for group in by_dataset.values()]
        if any(len(each) > 1 for each in values):
            found.append(name)
    if any(map(_other_weights, by_dataset.values())):
        found.append("weights_sha256")
    return found


def _other_weights(runs: Iterable[Row]) -> bool:
    """Whether a model and its weights are called the same in two runs, and are not."""
    digests: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        names = tuple(setting(run, name) for name in ("model", "pretrained"))
        digests.setdefault(names, set()).add(setting(run, "weights_sha256"))
    return any(len(found - {"-"}) > 1 for found in digests.values())


def setting(run: Row, name: str) -> str:
    """A setting as it is shown; ``-``: the run does not read it."""
    value = described_mode(run) if name == "mode" else run.get(name)
    if name == "pamr_dilations" and not run.get("pamr_steps"):
        value = None
    if value is None:
        return BY_DEFAULT.get(name, "-")
    if name == "weights_sha256":
        return str(value)[:8]
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def score(value: float | None) -> str:
    """Percent with two digits; ``-``: undefined."""
    return "-" if value is None or value != value else f"{value:.2f}"


def against_lines(runs: Sequence[Row]) -> Iterator[str]:
    """For each run why it cannot be compared with what was published, alike ones together."""
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
    """For each dataset the literature's figures, best first, with the runs where they stand."""
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        rows = [row for row in published().to_pylist() if row["dataset"] == dataset]
        if not rows:
            continue
        table = Table(
            title=f"{printable(dataset)}: published mIoU and these runs", title_justify="left"
        )
        table.add_column("mIoU", justify="right", min_width=5, no_wrap=True)
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
            table.add_row(f"{miou:.2f}", f"> {printable(row['run_id'])}", note, style=STANDS_OUT)
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
