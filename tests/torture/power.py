"""What a run writes, recorded step by step, and what a disk may hold of it after a power cut.

The store is compared with its last state before anything is opened, renamed or removed and when
something is fsynced: what has changed is a write, by Python or by C++. Three models of a disk keep:

    ordered        everything up to the cut
    ordered-zeros  names and sizes; bytes that were not fsynced are zeros
    strict         what was fsynced: a file's bytes by its own fsync, names by that of their folder
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

Model = Literal["ordered", "ordered-zeros", "strict"]
MODELS: tuple[Model, ...] = ("ordered", "ordered-zeros", "strict")
Step = tuple[str, str, str, bytes]  # what, path, new path, content
LOOK = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}


class Recorder:
    """Records the steps of what this process does below a folder; it cannot be stopped again."""

    def __init__(self, root: Path) -> None:
        """Prepare for an empty folder."""
        self._root = os.path.abspath(root)
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.RLock()
        self._busy = threading.local()
        self.steps: list[Step] = []

    def start(self) -> None:
        """Begin to record."""
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def recorded(handle: int) -> None:
            path = os.readlink(f"/proc/self/fd/{handle}")
            with self._lock:
                fsync(handle)
                self.look()
                self._add("fsync", path)

        os.fsync = os.fdatasync = recorded  # type: ignore[assignment]

    def look(self) -> None:
        """Record what has been written since this was called last."""
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            with self._lock:
                self._look(self._root)
        finally:
            self._busy.now = False

    def _look(self, folder: str) -> None:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
            times = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
            signature = (status.st_ino, *times)
            if self._seen.get(entry.path) != signature:
                self._seen[entry.path] = signature
                content = b"" if is_folder else Path(entry.path).read_bytes()
                self._add("mkdir" if is_folder else "write", entry.path, "", content)
            if is_folder:
                self._look(entry.path)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in LOOK or getattr(self._busy, "now", False):
            return
        paths = [
            os.path.abspath(os.fsdecode(argument))
            for argument in arguments[:2]
            if isinstance(argument, str | bytes | os.PathLike)
        ]
        if not any(path.startswith(self._root) for path in paths):
            return
        with self._lock:
            self.look()
            if event == "os.rename":
                self._seen[paths[1]] = self._seen.pop(paths[0], (0, 0, 0))
                self._add("rename", paths[0], paths[1])
            elif event in ("os.remove", "os.rmdir"):
                self._seen.pop(paths[0], None)
                self._add("remove", paths[0])

    def _add(self, what: str, path: str, other: str = "", content: bytes = b"") -> None:
        path = os.path.relpath(path, self._root)
        other = os.path.relpath(other, self._root) if other else ""
        if not path.startswith(".."):
            self.steps.append((what, path, other, content))


@dataclass
class Node:
    """A file or a folder, as processes see it and as it is on the disk."""

    content: bytes | None = None  # None: a folder
    kept: bytes | None = None  # what was fsynced of the content
    entries: dict[str, Self] = field(default_factory=dict)
    kept_entries: dict[str, Self] = field(default_factory=dict)


def replayed(steps: list[Step]) -> Node:
    """The tree after these steps."""
    root = Node()
    for what, path, other, content in steps:
        folder, name = _place(root, path)
        if what == "fsync":
            node = root if path == "." else folder.entries.get(name)
            if node is not None:
                node.kept, node.kept_entries = node.content, dict(node.entries)
        elif what == "mkdir":
            folder.entries[name] = Node()
        elif what == "write":
            node = folder.entries.get(name)
            if node is None or node.content is None:
                folder.entries[name] = Node(content)
            else:
                node.content = content
        elif what == "rename" and name in folder.entries:
            target, new_name = _place(root, other)
            target.entries[new_name] = folder.entries.pop(name)
        elif what == "remove":
            folder.entries.pop(name, None)
    return root


def _place(root: Node, path: str) -> tuple[Node, str]:
    """The folder of a path, and its name there."""
    *folders, name = path.split("/")
    node = root
    for folder in folders:
        node = node.entries.setdefault(folder, Node())
    return node, name


def write_tree(node: Node, target: Path, model: Model) -> None:
    """Write what a disk of this model has kept to ``target``, which must not exist."""
    if node.content is None:
        target.mkdir(parents=True)
        entries = node.kept_entries if model == "strict" else node.entries
        for name, below in entries.items():
            write_tree(below, target / name, model)
    elif model == "ordered":
        target.write_bytes(node.content)
    elif model == "strict":
        target.write_bytes(node.kept or b"")
    else:
        target.write_bytes(_zeros(node.content, node.kept or b""))


def _zeros(content: bytes, kept: bytes) -> bytes:
    """The bytes that were fsynced; zeros for those that were written since."""
    alike = next(
        (n for n, pair in enumerate(zip(content, kept, strict=False)) if pair[0] != pair[1]),
        min(len(content), len(kept)),
    )
    return content[:alike] + bytes(len(content) - alike)
