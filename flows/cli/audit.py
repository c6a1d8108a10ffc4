"""``sclip audit``: one run under other words, and what the words changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from flows.cli.console import (
    STANDS_OUT,
    ConsoleReporter,
    console,
    report_left_out,
    right,
    score,
    whole,
)
from flows.cli.options import (
    Config,
    Direct,
    Pamr,
    Preset,
    Slide,
    UseSam,
    only_one,
    settings_of,
)
from flows.parameters import flag, with_settings
from sclip_core.config import STAGE_SPECS, Settings, printable
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.progress import Outcome

if TYPE_CHECKING:
    from sclip_core.pipeline.audit import Audited
    from sclip_core.results.audits import Moved

SETTINGS = [name for name in Settings.model_fields if name != "vocabulary"]
MOST_MOVED = 5  # classes that are named
MOST_WORDS = 4  # of a class that are shown
Row = dict[str, Any]


class AuditReporter(ConsoleReporter):
    """Bars; a line for each network that saw images."""

    def finish(self, outcome: Outcome) -> None:
        """Close the bar."""
        is_encoder = STAGE_SPECS[outcome.stage].cost == "encode" and outcome.stage != "text_bank"
        if outcome.state == "computed" and is_encoder:
            super().finish(outcome)
        else:
            self.close()

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """Open a bar; no line for what takes a moment and comes with every list."""
        if STAGE_SPECS[stage].cost != "cheap" and stage != "text_bank":
            super().start(stage, total, done, unit)

    def advance(self, stage: str, rows: int) -> None:
        """More rows are stored."""
        if STAGE_SPECS[stage].cost != "cheap" and stage != "text_bank":
            super().advance(stage, rows)


@with_settings(flag, SETTINGS)
def audit(
    *,
    vocabulary: Annotated[
        list[str] | None,
        Parameter(
            help="NAME=FILE: a list of your own, of the same classes; may be there several times.",
            negative=(),
        ),
    ] = None,
    draws: Annotated[
        int | None,
        Parameter(
            help="Lists of one random synonym of each class. [3, if there are synonyms]",
            validator=Number(gte=0, lte=1000),
        ),
    ] = None,
    distractors: Annotated[
        int,
        Parameter(
            help="Words of other benchmarks beside the classes, under both readings.",
            validator=Number(gte=0),
        ),
    ] = 0,
    seed: Annotated[
        int, Parameter(help="Seed of draws and distractors.", validator=Number(gte=0))
    ] = 0,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print the same as JSON.", negative=())
    ] = False,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    direct: Direct = False,
    **given: Any,
) -> int:
    """Score one run under other words: own, plain, drawn synonyms, all, yours, distractors."""
    from flows.cli.running import run_opened
    from sclip_core.datasets.other_words import named_files
    from sclip_core.pipeline.audit import Asked
    from sclip_core.pipeline.audit import audit as audited

    asked = Asked(named_files(vocabulary or ()), draws, distractors, seed)
    settings = only_one(settings_of(preset, config, pamr, slide, use_sam, given))
    reporter = AuditReporter()
    try:
        found = audited(settings, asked, reporter, lambda runs: run_opened(runs, direct))
    finally:
        reporter.close()
    if as_json:
        sys.stdout.write(json_text(found))
    else:
        _print(found)
    return report_left_out(
        (line for each in found.finished for line in each.failures.values()),
        (line for each in found.finished for line in each.faults),
    )


def _print(found: Audited) -> None:
    table = audit_table(found)
    out = console(table)
    out.print(table)
    for line in verdict(found):
        out.print(line, soft_wrap=True)


def audit_table(found: Audited) -> Table:
    """A line a list."""
    rows = found.rows
    title = f"{printable(rows[0]['dataset'])}, {number_of(rows[0]['num_images'], 'image')}, "
    title += number_of(len(rows), "list")
    numbers = map(right, ("classes", "words", "mIoU", "[95 %]"))
    last = ("worst class", right("IoU"), whole("run"))
    table = Table("list", *numbers, "from own  [95 %]", *last, title=title, title_justify="left")
    for row in rows:
        table.add_row(
            printable(row["list"]),
            str(row["num_classes"]),
            f"{row['num_words']:,}",
            score(row["miou"]),
            "-" if row["low"] is None else f"[{row['low']:.2f}, {row['high']:.2f}]",
            _difference(row),
            printable(row["worst_class"] or "-"),
            score(row["worst_iou"]),
            printable(row["run_id"]),
        )
    return table


def is_sure(row: Row) -> bool:
    """Whether a difference is more than the choice of images explains."""
    low, high = row["difference_low"], row["difference_high"]
    return low is not None and (low > 0 or high < 0)


def _difference(row: Row) -> Text:
    """The difference from the own list, with its interval and a star where that excludes 0."""
    if row["difference"] is None:
        return Text("same run" if row["position"] and row["miou"] is not None else "-")
    text = f"{row['difference']:+6.2f}"
    if row["difference_low"] is not None:
        text += f"  [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"
    return Text(f"{text} *" if is_sure(row) else text, STANDS_OUT if is_sure(row) else "")


def verdict(found: Audited) -> Iterator[str]:
    """The worst case, the spread, and the words that did it, in lines."""
    from sclip_core.results.comparison import few_images, groups_note

    rows, worst = found.rows, found.worst
    count = rows[0]["num_images"]
    yield (
        f"worst case: {printable(worst['list'])}, mIoU {score(worst['miou'])}; spread over "
        f"{number_of(len(rows), 'list')}: {score(found.spread)}"
    )
    if worst["run_id"] != rows[0]["run_id"]:
        yield f"the classes that {printable(worst['list'])} moved most:"
        yield from (_moved_line(each, worst) for each in found.moved()[:MOST_MOVED])
    if any(map(is_sure, rows)):
        yield "* the 95 % interval excludes 0: more than the choice of images explains"
    if few_said := few_images(count) or groups_note(count):
        yield few_said
    files = [row["file"] for row in rows if row["file"]]
    if files:
        yield printable(f"words: {files[0].rpartition('/')[0]}; table: {found.path}")


def _moved_line(each: Moved, worst: Row) -> str:
    """``  sky: 90.12 -> 45.10, -45.02 (sky, clouds -> sky)``."""
    words = few(list(each.own_words), MOST_WORDS)
    if each.words != each.own_words:
        words += f" -> {few(list(each.words), MOST_WORDS)}"
    elif worst["distractors"] != "[]":
        words += f", beside {worst['num_words'] - _own_words(worst)} distractors"
    return printable(
        f"  {each.class_name}: {score(each.own_iou)} -> {score(each.iou)}, "
        f"{each.difference:+.2f} ({words})"
    )


def _own_words(row: Row) -> int:
    return sum(map(len, json.loads(row["words"])))


def json_text(found: Audited) -> str:
    """The table and what is said below it, as one JSON object."""
    from flows.cli.output import plain

    texts = ("words", "distractors")
    rows = [{**row, **{name: json.loads(row[name]) for name in texts}} for row in found.rows]
    content = {
        "audit_id": rows[0]["audit_id"],
        "dataset": rows[0]["dataset"],
        "num_images": rows[0]["num_images"],
        "seed": rows[0]["seed"],
        "lists": [{name: row[name] for name in row if name not in SHARED} for row in rows],
        "worst": found.worst["list"],
        "spread": found.spread,
        "moved": [{**vars(each), "difference": each.difference} for each in found.moved()],
        "table": str(found.path),
    }
    return json.dumps(plain(content), ensure_ascii=False, indent=1) + "\n"


SHARED = ("audit_id", "dataset", "num_images", "seed", "created_at", "position")
