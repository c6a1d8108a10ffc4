"""``sclip data list | download | prepare | check``: the data of benchmarks, and one's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from flows.cli.console import PLAIN, TITLE, console, right, whole
from flows.cli.data_own import OF_CHECK, check_own_data
from flows.cli.targets import check_target, save
from flows.parameters import flag, with_settings
from sclip_core.acquire.trees import DEFAULT_ROOT, set_folders
from sclip_core.config import UserError, printable, tables
from sclip_core.config.protocol import benchmark_name
from sclip_core.datasets.record import OTHER_DEFINITION

if TYPE_CHECKING:
    from sclip_core.acquire.check import Checked
    from sclip_core.acquire.prepare import Prepared

Root = Annotated[
    Path,
    Parameter(
        name=("--root", "--data-root"), help="Folder of all datasets, or that of one dataset."
    ),
]
Source = Annotated[
    str | None,
    Parameter(
        name="--source",
        help="Annotations to use. COCO-Object: stuff (as for the published numbers) or instances; "
        "Cityscapes: labelIds, or the polygons that they were drawn from.",
    ),
]
Force = Annotated[bool, Parameter(help="Replace files that differ.", negative=())]
Json = Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())]
FAULTS_SHOWN = 20
CLASSES_A_LINE = 3  # of the table of pixels

app = App(name="data", help="The benchmarks' data: list, download, prepare, check.")


@app.command(name="list")
def list_(*, root: Root = DEFAULT_ROOT, json_: Json = False) -> int:
    """The eight benchmarks: what each needs, its licence, and whether it is ready."""
    from sclip_core.acquire.sources import benchmarks
    from sclip_core.acquire.status import status

    if os.path.exists(root) and not os.path.isdir(root):
        raise UserError(f"--root {root} is a file: expected a folder, which need not exist yet")
    rows = []
    for name, source in benchmarks().items():
        row = tables()["benchmarks"][name]
        found = status(name, root)
        rows.append(
            {
                "name": name,
                "set": source.title,
                "images": row["num_images"],
                "archives": [f"{a.name} ({a.size})" for a in source.archives],
                "disk": source.disk,
                "licence": source.licence,
                "home": source.home,
                "state": found.state,
                "what": found.what,
            }
        )
    if json_:
        print(json.dumps(rows, indent=2))
        return 0
    columns = (whole("name"), right("images"), "download", right("on disk"), "licence", "state")
    table = Table(*columns, title=printable(f"below {root}"), **TITLE)
    for each in rows:
        files = "\n".join(each["archives"])
        shown = (each["name"], f"{each['images']:,}", files, each["disk"], each["licence"])
        table.add_row(*shown, each["what"])
    console().print(table)
    return 0


@app.command
def download(
    name: str, *, root: Root = DEFAULT_ROOT, source: Source = None, force: Force = False
) -> int:
    """Download a dataset and unpack its validation split; say what to download by hand."""
    from sclip_core.acquire.obtain import obtain
    from sclip_core.acquire.raw import CONVERSIONS
    from sclip_core.acquire.sources import source_of

    name = benchmark_name(name)
    wanted = source_of(name)
    print(f"{wanted.title}: {wanted.licence}; {wanted.home}")
    with Bars(sizes=True) as bars:
        done = obtain(name, root, source, force, bars, bars.say)
    if done.by_hand:
        for line in done.by_hand:
            print(f"sclip: {line}", file=sys.stderr)
        return 2
    if done.fetched:
        files = " ".join(map(str, done.fetched))
        print(f"no longer needed, may be removed: {files}")
    step = "prepare" if wanted.layout in CONVERSIONS else "check"
    option = f" --source {source}" if source and step == "prepare" else ""
    print(f"next: sclip data {step} {name} --root {root}{option}")
    return 0


@app.command
def prepare(
    name: str, *, root: Root = DEFAULT_ROOT, source: Source = None, force: Force = False
) -> int:
    """Convert a dataset's raw annotations to the label maps that are evaluated."""
    from sclip_core.acquire.prepare import prepare as convert

    name = benchmark_name(name)
    with Bars() as bars:
        done = convert(name, root, source, force, progress=bars)
    if done is None:
        print(f"{name}: its label maps are used as published, nothing to convert")
    else:
        counts = f"{done.written:,} maps written, {done.there:,} existed already"
        print(f"{name}, from {done.source}: {counts}")
        _refuse_unprepared(name, done)
    print(f"next: sclip data check {name} --root {root}")
    return 0


@app.command
@with_settings(flag, OF_CHECK)
def check(
    name: str | None = None,
    *,
    root: Root = DEFAULT_ROOT,
    panel: Annotated[
        Path | None,
        Parameter(
            name=("--panel", "-o"),
            help="Picture to write of a few pairs: PNG, JPEG or WebP. [NAME-check.png]",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        Parameter(help="Folder for pictures of a few pairs of your own set. [DATASET-check]"),
    ] = None,
    json_: Json = False,
    **given: Any,
) -> int:
    """Read every image and label map: counts, sizes, label ids; report faults by file.

    Of a benchmark by its name, or of a set of your own: --images DIR --labels DIR --classes FILE.
    """
    given = {setting: value for setting, value in given.items() if value is not None}
    if name is None or given:
        return _check_own(name, given, pictures, json_)
    from sclip_core.acquire.check import check as examine
    from sclip_core.acquire.look import look

    name = benchmark_name(name)
    picture = panel or Path(f"{name}-check.png")
    check_target(picture, taken=set_folders(name, root))
    with Bars() as bars:
        found = examine(name, root, progress=bars)
    if json_:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print_checked(found)
    drawn = look(found, root)
    if drawn is not None:
        save(drawn, picture)
        if not json_:
            print(f"look at {picture}")
    if not found.right:
        raise UserError(_verdict(found))
    return 0


def _check_own(
    name: str | None, given: dict[str, Any], pictures: Path | None, as_json: bool
) -> int:
    """Check a set of one's own.

    Raises:
        UserError: a run would refuse it, or it is not clear which set is meant.
    """
    if name is not None or "images" not in given:
        found = f"found {name} and other flags: " if name is not None else ""
        raise UserError(
            f"{found}expected the name of a benchmark, or --images DIR --labels DIR --classes FILE "
            "for a set of your own"
        )
    with Bars() as bars:
        return check_own_data(given, pictures, as_json, bars)


def _print_checked(found: Checked) -> None:
    """Print what was found, for a person."""
    expected = f" of {found.expected:,}" if found.expected else ""
    print(printable(f"{found.name} in {found.root}: {found.found:,}{expected} images"))
    print(f"  sound pairs     {found.sound:,}")
    print(f"  not evaluated   {found.ignored_share:.1%} of the pixels")
    if found.made_from:
        print(f"  made from       {found.made_from}{', not complete' if found.incomplete else ''}")
    if found.made_from == "instances":
        print(f"note: {OTHER_DEFINITION}")
    if found.absent:
        print(f"  never labelled  {', '.join(found.absent)}")
    total = max(int(found.pixels.sum()), 1)
    table = Table(title="evaluated pixels", **TITLE)
    for name in ("class", "pixels", "%") * CLASSES_A_LINE:
        table.add_column(name, justify="left" if name == "class" else "right")
    cells = [
        (name, f"{count:,}", f"{count / total:.2%}".rstrip("%"))
        for name, count in zip(found.class_names, found.pixels.tolist(), strict=True)
    ]
    lines = -(-len(cells) // CLASSES_A_LINE)
    for line in range(lines):
        table.add_row(*chain(*cells[line::lines]))
    console().print(table)
    for fault in found.faults[:FAULTS_SHOWN]:
        print(printable(f"{fault.file}: {fault.what}"))
    if len(found.faults) > FAULTS_SHOWN:
        print(f"and {len(found.faults) - FAULTS_SHOWN:,} more faults (--json lists all)")


def _verdict(found: Checked) -> str:
    """What is wrong, in one line."""
    reasons = list(found.causes)
    if not reasons and found.faults:
        reasons.append(f"{len(found.faults):,} faults, such as {': '.join(found.faults[0])}")
    if found.expected is not None and found.found != found.expected:
        reasons.append(
            f"{found.found:,} images where the validation split has {found.expected:,}: "
            "scores on other images cannot be compared"
        )
    if found.incomplete:
        reasons.append(found.incomplete)
    return f"{found.name} in {found.root}: {'; '.join(reasons)}"


def _as_json(found: Checked) -> dict[str, Any]:
    """What was found, as JSON values."""
    plain = {**asdict(found), "root": str(found.root), "right": found.right}
    counts = zip(found.class_names, found.pixels.tolist(), strict=True)
    return {**plain, "pixels": dict(counts), "faults": [f._asdict() for f in found.faults]}


def _refuse_unprepared(name: str, done: Prepared) -> None:
    """Raise if label maps differ from those that exist, or could not be made."""
    if done.alone:
        raise UserError(
            f"{name}: {len(done.alone):,} label maps have no raw annotation in {done.source}: "
            f"{_few(done.alone)}; they were not changed: download the raw annotations again, or "
            "remove these maps"
        )
    if done.failed:
        first = next(iter(done.failed.values()))
        raise UserError(f"{name}: {len(done.failed):,} maps could not be made, such as {first}")
    if done.differing:
        raise UserError(
            f"{name}: {len(done.differing):,} existing label maps differ: {_few(done.differing)}; "
            "they were not changed: pass --force to replace them"
        )


def _few(paths: Sequence[Path]) -> str:
    """The first three of some names; an ellipsis stands for the others."""
    return ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")


class Bars:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, sizes: bool = False) -> None:
        """Count bytes, or things."""
        counts = (DownloadColumn(), TransferSpeedColumn()) if sizes else (MofNCompleteColumn(),)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeRemainingColumn(),
            console=Console(stderr=True, **PLAIN),
            transient=True,
        )
        self._progress.disable = not self._progress.console.is_terminal
        self._task: Any = None

    def __enter__(self) -> Bars:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._progress.stop()

    def start(self, name: str, total: int | None, done: int) -> None:
        """Replace the bar by one for the next thing, or for the same from its beginning."""
        self.finish()
        self._task = self._progress.add_task(name, total=total, completed=done)

    def advance(self, count: int) -> None:
        """Move the bar by what was done."""
        self._progress.advance(self._task, count)

    def finish(self) -> None:
        """Remove the bar of what is done, or was given up."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, soft_wrap=True)
