"""``--dataset a,b``: several benchmarks in one command, each with its own protocol."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.options import settings_file
from sclip_core.config import Settings, UserError, printable
from sclip_core.config.protocol import benchmark_name
from sclip_core.config.settings import load_own

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Finished


def each_dataset(given: Mapping[str, Any], config: Path | None = None) -> dict[str, dict[str, Any]]:
    """What is given for each of the benchmarks of a command, by their names.

    Below the data root each has its place as `sclip data` lays it out, or a folder of its name.

    Returns:
        One under the name as given where it is not a list of several.

    Raises:
        UserError: one of several is no benchmark, or is there twice.
    """
    named = str(given.get("dataset") or "")
    parts = [part.strip() for part in named.split(",") if part.strip()]
    if len(parts) < 2:
        return {named: dict(given)}
    if given.get("images") is not None:
        raise UserError(
            f"--dataset {named} names several benchmarks, and --images is one set: give it one "
            "name, without commas"
        )
    load_own(settings_file(config), given)  # some may be benchmarks of the user's own
    names = [benchmark_name(part) for part in parts]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice:
        raise UserError(f"--dataset {named} has {twice} twice: name each benchmark once")
    if given.get("classes") is not None:
        raise UserError(
            f"--classes and --dataset {named} conflict: each benchmark has classes of its own; "
            "run those that other words are for alone"
        )
    return {name: _of_one(name, given) for name in names}


def _of_one(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for one of several benchmarks: its folders are below those of the command."""
    own = {**given, "dataset": name}
    root, pictures = given.get("data_root"), given.get("save_vis")
    if root is not None and os.path.isdir(Path(root).expanduser() / name):
        own["data_root"] = Path(root) / name
    if pictures is not None:
        own["save_vis"] = Path(pictures) / name
    return own


def run_each(
    several: Mapping[str, list[Settings]], execute: Callable[[list[Settings]], list[Finished]]
) -> tuple[list[Finished], dict[str, str]]:
    """Run the pipelines of one benchmark after the other; one that fails costs only itself.

    Args:
        several: the settings of each benchmark's runs.
        execute: runs those of one.

    Returns:
        What remains of each run, and why a benchmark has none, by its name.
    """
    finished: list[Finished] = []
    failed: dict[str, str] = {}
    for number, (name, settings) in enumerate(several.items(), start=1):
        print(f"dataset {number} of {len(several)}: {name}", file=sys.stderr, flush=True)
        try:
            finished += execute(settings)
        except UserError as error:
            failed[name] = str(error)
            line = str(error).removeprefix(f"{name}: ")
            print(printable(f"sclip: {name}: {line}"), file=sys.stderr, flush=True)
    return finished, failed


def mean_line(finished: list[Finished]) -> str | None:
    """The mean of the benchmarks' mIoU, as papers give it; None: they have several runs each."""
    names = {each.settings.dataset for each in finished}
    if len(names) < len(finished) or len(names) < 2:
        return None
    mean = sum(each.row["miou"] for each in finished) / len(finished)
    return f"mean of {len(finished)} datasets: mIoU {mean:.2f}"
