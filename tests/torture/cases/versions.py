"""The first version and this one on one store, in turn: keys and rows stay, nothing is remade."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from tests.torture.forked import spawned
from tests.torture.place import Place, count_twice
from tests.torture.tally import Part, refusal

FIRST = "d196f85"  # the commit of version 0.1.0
HERE = Path(__file__).parents[3]
Order = tuple[tuple[str, str], ...]  # version and method of each run
ORDERS: tuple[Order, ...] = (  # then this version runs all of the methods
    (("first", "dense"), ("new", "plain"), ("first", "vanilla")),
    (("new", "dense"), ("first", "dense"), ("first", "superpixels")),
    (("first", "trunk"), ("new", "trunk"), ("first", "plain")),
)


def versions(place: Place, long: bool) -> Part:
    """Run the versions in turn and compare; not in the short form, as an old run takes seconds."""
    if not long:
        return Part("versions", notes=["only in the long form"])
    old = place.folder / "first-version"
    try:
        checkout(old)
    except (OSError, subprocess.CalledProcessError):
        return Part("versions", notes=[f"skipped: no git, or no commit {FIRST} here"])
    methods = sorted({method for order in ORDERS for _, method in order})
    return place.part("versions", ORDERS, partial(_run, place, old), 1, methods)


def _run(place: Place, old: Path, part: Part, order: Order, folder: Path) -> None:
    store = folder / "artifacts"
    for version, method in order:
        code = old if version == "first" else None
        ended = spawned(place.words(method, store), folder / "output", code).wait()
        verdict = f"ran, {version}" if ended.code == 0 else refusal(ended)
        what = f"{version} {method} of {order}"
        part.add("LOST" if ended.code == 2 else verdict, what, ended.output)
    for method in dict.fromkeys(method for _, method in order):
        place.judge(part, method, store, f"{method} after {order}")
    count_twice(part, store, f"{order}")


def checkout(target: Path) -> None:
    """Write the first version's files to a folder.

    Raises:
        CalledProcessError: the commit is not there.
        OSError: git is not.
    """
    target.mkdir()
    command = ["git", "-C", str(HERE), "archive", FIRST]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive, check=True)
