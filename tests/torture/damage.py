"""Ways to damage a file of a store, and a store that is restored after each of them."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

Kind = Literal["flip", "cut", "gone", "swap", "zeros"]


@dataclass(frozen=True)
class Damage:
    """One damage to one file."""

    victim: str  # path below the store
    kind: Kind
    at: int = 0  # the byte that is flipped, or where the file is cut or the zeros begin
    bits: int = 1  # the mask of the bits that are flipped, or the number of zeros
    other: str = ""  # the file with which it is exchanged

    def __str__(self) -> str:
        forms = {
            "flip": f"byte {self.at} xor {self.bits:#x}",
            "cut": f"cut after {self.at} bytes",
            "gone": "deleted",
            "swap": f"exchanged with {self.other}",
            "zeros": f"{self.bits} zeros from {self.at}",
        }
        return f"{self.victim}: {forms[self.kind]}"

    def do(self, store: Path) -> None:
        """Damage the file."""
        path = store / self.victim
        content = bytearray(path.read_bytes())
        if self.kind == "gone":
            path.unlink()
            return
        if self.kind == "swap":
            os.replace(store / self.other, path)
            path = store / self.other
        if self.kind == "flip":
            content[self.at] ^= self.bits
        elif self.kind == "cut":
            del content[self.at :]
        elif self.kind == "zeros":
            content[self.at : self.at + self.bits] = bytes(len(content[self.at :][: self.bits]))
        path.write_bytes(content)


class Mended:
    """A store that is quickly restored: only the files that were changed are written again."""

    def __init__(self, store: Path) -> None:
        """Remember the content of all files of the store, which is small."""
        self.path = store
        self._content = {path: path.read_bytes() for path in _files(store)}
        self._folders = {path for path in store.rglob("*") if path.is_dir()}
        self._seen = {path: _signature(path) for path in self._content}

    def mend(self) -> None:
        """Restore what was changed or deleted, delete what is new."""
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and path not in self._folders:
                shutil.rmtree(path)
            elif not path.is_dir() and path not in self._content:
                path.unlink()
        for path, content in self._content.items():
            if not path.exists() or _signature(path) != self._seen[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self._seen[path] = _signature(path)


def _files(store: Path) -> list[Path]:
    return [path for path in sorted(store.rglob("*")) if path.is_file()]


def _signature(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def kind_of(path: str) -> str:
    """The kind of a file by its path below a store; "" for one whose content does not matter."""
    parts = path.split("/")
    name = parts[-1]
    if name.endswith((".lock", ".partial")) or name.startswith(".") or parts[0] == "report":
        return ""
    if parts[0] == "results":
        return f"results/{parts[1]}"
    if "parts" in parts:
        return f"{parts[0]}/part"
    if "c" in parts:
        return f"{parts[0]}/chunk"
    return name if len(parts) < 2 else f"{parts[0]}/{name}"


@dataclass(frozen=True)
class Extent:
    """How many damages are done to the files of a store."""

    swept: frozenset[str]  # kinds of which every byte of one file is flipped
    victims: int  # files of each kind, at most
    flips: int  # single bits of each of them
    others: int  # cuts, and runs of zeros, of each of them


def damages(store: Path, rng: random.Random, extent: Extent) -> list[Damage]:
    """Damages to the files of a store, chosen at random and in random order."""

    def differ(one: str, two: str) -> bool:
        return (store / one).read_bytes() != (store / two).read_bytes()

    by_kind: dict[str, list[str]] = {}
    for path in _files(store):
        relative = str(path.relative_to(store))
        if kind_of(relative):
            by_kind.setdefault(kind_of(relative), []).append(relative)
    found = []
    for kind, alike in by_kind.items():
        for number, victim in enumerate(rng.sample(alike, min(len(alike), extent.victims))):
            size = (store / victim).stat().st_size
            flipped = [rng.randrange(size) for _ in range(extent.flips)]
            places = range(size) if kind in extent.swept and not number else flipped
            found += [Damage(victim, "flip", at, 1 << rng.randrange(8)) for at in places]
            found += [Damage(victim, "cut", rng.randrange(size)) for _ in range(extent.others)]
            starts = [rng.randrange(size) for _ in range(extent.others)]
            found += [Damage(victim, "zeros", at, rng.choice((16, 512, 4096))) for at in starts]
            found.append(Damage(victim, "gone"))
        pairs = [(a, b) for a, b in pairwise(alike) if differ(a, b)]
        chosen = rng.sample(pairs, min(len(pairs), extent.victims))
        found += [Damage(victim, "swap", other=other) for victim, other in chosen]
    rng.shuffle(found)  # so that all workers have equally much to do
    return found
