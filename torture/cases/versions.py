"""The first version and this one on one store, in turn: keys and rows stay, nothing is remade."""

from __future__ import annotations

import subprocess
from pathlib import Path

from torture.forked import spawned
from torture.place import Place, stored_twice
from torture.spread import spread
from torture.tally import Part, difference, must_be_same, refusal

FIRST = "d196f85"  # the commit of version 0.1.0
HERE = Path(__file__).parents[2]
ORDERS = (  # which version runs which method; then this one runs all of them
    (("first", "dense"), ("new", "plain"), ("first", "vanilla")),
    (("new", "dense"), ("first", "dense"), ("first", "superpixels")),
    (("first", "trunk"), ("new", "trunk"), ("first", "plain")),
)


def versions(place: Place, long: bool) -> Part:
    """Run in turn; compare. In the short form there is nothing to do: an old run takes seconds."""
    part = Part("versions")
    if not long:
        part.notes.append("only in the long form")
        return part
    old = place.folder / "first-version"
    try:
        checkout(old)
    except (OSError, subprocess.CalledProcessError):
        part.notes.append(f"skipped: no git, or no commit {FIRST} here")
        return part
    methods = {method for order in ORDERS for _, method in order}
    wanted = {method: place.reference(method)[1] for method in sorted(methods)}

    def work(order: tuple[tuple[str, str], ...], folder: Path) -> Part:
        """Run the versions on one store in this order, then compare."""
        found, store = Part("versions"), folder / "artifacts"
        for version, method in order:
            code = old if version == "first" else None
            ended = spawned(place.words(method, store), folder / "output", code).wait()
            verdict = f"ran, {version}" if ended.code == 0 else refusal(ended)
            told = f"{ended.err}\nexit code {ended.code}"
            found.add(
                "LOST" if ended.code == 2 else verdict, f"{version} {method} of {order}", told
            )
        for method in dict.fromkeys(method for _, method in order):
            done = place.finish(method, store)
            what = f"{method} after {order}"
            found.add(must_be_same(done, wanted[method]), what, difference(done, wanted[method]))
        twice = stored_twice(store)
        if twice:
            found.add("TWICE", f"{order}", f"{twice} rows")
        return found

    for done in spread(ORDERS, work, place.folder / "versions", 1):
        part.take(done)
    return part


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
