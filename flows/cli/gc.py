"""`sclip gc`: verify a store, and remove what nothing in it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.results import DEFAULT_ARTIFACTS, Artifacts
from sclip_core.config import UserError, printable
from sclip_core.config.places import ObjectPath

if TYPE_CHECKING:
    from sclip_core.maintenance.check import Fault
    from sclip_core.maintenance.collect import Garbage

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def gc(
    *,
    check: Annotated[
        bool, Parameter(help="Verify everything that is stored.", negative=())
    ] = False,
    delete: Annotated[
        bool,
        Parameter(
            help="Remove what was found; with --check, strike damaged rows, so that the next run "
            "computes them again.",
            negative=(),
        ),
    ] = False,
    older_than: Annotated[
        float,
        Parameter(
            help="Days for which an artifact that no run refers to is kept after its last change.",
            validator=Number(gte=0),
        ),
    ] = 7,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> int:
    """Show what nothing refers to, or verify the store; nothing is removed without --delete."""
    if isinstance(artifacts, ObjectPath):
        raise UserError(
            f"{artifacts} is in object storage, where gc does not look: damaged rows are found and "
            "computed again by the run that reads them; remove artifacts by their prefix, such as "
            f"`aws s3 rm --recursive {artifacts}/STAGE/KEY`, or by a lifecycle rule of the bucket"
        )
    if not artifacts.is_dir():
        raise UserError(f"no folder {artifacts}: pass the artifacts of your runs: --artifacts DIR")
    return _check(artifacts, delete) if check else _collect(artifacts, delete, older_than)


def _check(artifacts: Path, delete: bool) -> int:
    """Verify the store; returns 1 if anything is damaged."""
    from rich.console import Console
    from rich.progress import Progress

    from flows.cli.console import console
    from sclip_core.maintenance.check import artifacts_in, check_store

    rows = sum(len(artifact.ledger.rows()) for artifact in artifacts_in(artifacts))
    faults: list[Fault] = []
    out = console()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking", total=rows)
        for fault in check_store(artifacts, lambda count: bar.advance(task, count)):
            faults.append(fault)
            out.print(printable(f"{fault.path}: {fault.what}"), soft_wrap=True)
    damaged = [fault for fault in faults if fault.rows]
    count = sum(len(fault.rows) for fault in damaged)
    out.print(f"{rows:,} rows checked: {count} damaged, {len(faults) - len(damaged)} other faults")
    if delete:
        struck = [fault for fault in damaged if fault.table is not None]
        for fault in struck:
            fault.table.strike(fault.rows)
        number = sum(len(fault.rows) for fault in struck)
        out.print(f"{number} rows struck: the next run that needs them computes them again")
    elif count:
        out.print("the next run that reads them computes them again, or strike them: --delete")
    return 1 if faults else 0


def _collect(artifacts: Path, delete: bool, older_than: float) -> int:
    """Show, or remove, what nothing refers to."""
    from rich.table import Table

    from flows.cli.console import console
    from sclip_core.maintenance.collect import find_garbage, remove
    from sclip_core.store.leases import Lease

    out, lease = console(), Lease(artifacts)
    found = sorted(find_garbage(artifacts, lease, older_than), key=lambda g: -g.size)
    if not found:
        out.print(f"nothing to remove in {artifacts}")
        return 0
    table = Table("what", "why", "files", "size", box=None)
    for garbage in found:
        files = str(len(garbage.files)) if garbage.files else "all"
        table.add_row(_relative(garbage, artifacts), garbage.why, files, _size(garbage.size))
    out.print(table)
    total = _size(sum(garbage.size for garbage in found))
    if not delete:
        out.print(f"{total} can be removed: sclip gc --delete")
        return 0
    kept = [garbage for garbage in found if not remove(garbage, artifacts, lease)]
    freed = _size(sum(garbage.size for garbage in found if garbage not in kept))
    out.print(f"{freed} removed")
    for garbage in kept:
        out.print(f"{_relative(garbage, artifacts)} is now in use and was kept")
    return 0


def _relative(garbage: Garbage, artifacts: Path) -> str:
    return str(garbage.path.relative_to(artifacts))


def _size(size: float) -> str:
    """``512 bytes``, ``2.9 KiB``."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"
