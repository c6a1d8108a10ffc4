"""``sclip data download``: fetch and unpack what can be fetched, and name the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sclip_core.acquire import SILENT, Progress
from sclip_core.acquire.download import ByHand, fetch
from sclip_core.acquire.raw import checked_source
from sclip_core.acquire.sources import Archive, source_of
from sclip_core.acquire.unpack import unpack, unpacked
from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.datasets.record import image_and_label_folders
from sclip_core.store.files import written_to

DOWNLOADS = "downloads"  # below the root
MIRROR = "SCLIP_DATA_URL"  # the variable with an address that has all archives, by their names


@dataclass
class Obtained:
    """What happened to the archives of a benchmark.

    Attributes:
        there: the archives whose files were there already.
        unpacked: how many files were written, by archive.
        by_hand: a line for each archive that a person has to fetch.
        fetched: the archives in the folder for downloads, which are not needed any more.
    """

    there: list[str] = field(default_factory=list)
    unpacked: dict[str, int] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)
    fetched: list[Path] = field(default_factory=list)


def obtain(
    name: str,
    root: Path,
    source: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
    say: Callable[[str], None] = lambda line: None,
) -> Obtained:
    """Fetch and unpack the archives of a benchmark whose files are not there yet.

    Args:
        name: the benchmark, e.g. ``"voc21"``.
        root: where the sets' trees are; archives go to ``downloads`` in it.
        source: what the label maps of COCO-Object will be made from, ``"stuff"`` or
            ``"instances"``.
        force: replace files that are there with other content.
        progress: shows how far it is.
        say: called with a line at each step.

    Raises:
        UserError: a file cannot be fetched or unpacked.
        DiskError: a file cannot be written.
    """
    wanted = source_of(name)
    chosen = checked_source(name, source)
    archives = wanted.others.get(chosen or "", wanted.archives)
    root = Path(os.path.expanduser(root))
    _refuse_tree(wanted.layout, root)
    with written_to(root, "choose a --root that can be written to"):
        (root / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    done = Obtained()
    for archive in map(_mirrored, archives):
        there = not force and unpacked(archive, root)
        if there or (archive.to and _placed(archive, root, progress)):
            say(f"{archive.name}: its files are there")
            done.there.append(archive.name)
            continue
        try:
            path = _fetched(archive, root, progress)
        except ByHand as error:
            done.by_hand.append(str(error))
            continue
        if archive.to:
            _placed(archive, root, progress)
            say(f"{archive.name}: is in its place, {root / archive.to}")
            done.unpacked[archive.name] = 1
            continue
        files = unpack(archive, path, root, progress, force)
        say(f"{archive.name}: {files.written:,} files unpacked, {files.there:,} were there")
        done.unpacked[archive.name] = files.written
        done.fetched.append(path)
    return done


def _refuse_tree(layout: str, root: Path) -> None:
    """Raise if the root is the tree of a set, within which its archives would be unpacked."""
    inside = [part for part in image_and_label_folders(layout) if os.path.isdir(root / part)]
    if inside:
        raise UserError(
            f"--root {root} is the tree of a set itself, it has {inside[0]}: "
            "pass the folder above all trees"
        )


def _mirrored(archive: Archive) -> Archive:
    """The archive with its address on the mirror, if the user has named one."""
    mirror = os.environ.get(MIRROR)
    if mirror and not mirror.lower().startswith(("http://", "https://")):
        raise UserError(f"{MIRROR} is {shown(mirror)}: expected an address, https://...")
    return replace(archive, url=f"{mirror.rstrip('/')}/{archive.name}") if mirror else archive


def _placed(archive: Archive, root: Path, progress: Progress) -> bool:
    """Whether a file that is used as it is lies in its place; a fetched one is moved there."""
    assert archive.to
    target = root / archive.to
    if target.is_file() and target.name == archive.name:
        fetch(archive, target.parent, progress)  # it is there, and only checked
        return True
    lying = [folder for folder in (root / DOWNLOADS, root) if (folder / archive.name).is_file()]
    if not lying:
        return False
    path = fetch(archive, lying[0], progress)
    with written_to(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    return True


def _fetched(archive: Archive, root: Path, progress: Progress) -> Path:
    """The archive, in ``downloads`` or, if a person put it there, in the root itself."""
    if (root / archive.name).is_file() and not (root / DOWNLOADS / archive.name).exists():
        return fetch(archive, root, progress)
    return fetch(archive, root / DOWNLOADS, progress)
