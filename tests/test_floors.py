"""Imports run down: the floors of docs/architecture.md, drawn from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A room may import rooms of lower floors, and of its own floor only what is
# listed in ``BESIDE``.
FLOORS = (
    ("sclip_core.config",),
    ("sclip_core.tensors", "sclip_core.store", "sclip_core.progress", "sclip_core.provenance"),
    (
        "sclip_core.encoder",
        "sclip_core.segmentation",
        "sclip_core.masks",
        "sclip_core.evaluation",
        "sclip_core.drawing",
        "sclip_core.datasets",
    ),
    ("sclip_core.results", "sclip_core.acquire", "sclip_core.demo", "sclip_core.model"),
    ("sclip_core.pipeline",),
    ("sclip_core.report", "sclip_core.maintenance"),
    ("flows.parameters", "flows.signals"),
    ("flows.benchmark",),
    ("flows.cli",),
)
BESIDE = {
    ("sclip_core.masks", "sclip_core.segmentation"),  # masks are filled by the same decision
    ("sclip_core.drawing", "sclip_core.evaluation"),  # its values for "ignored" and "unlabelled"
}
APART = {  # that are above, and yet do not know each other
    ("sclip_core.pipeline", "sclip_core.model"),
    ("sclip_core.pipeline", "sclip_core.acquire"),
    ("sclip_core.pipeline", "sclip_core.demo"),
}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> Iterator[tuple[str, Path]]:
    for path in [*ROOT.glob("sclip_core/**/*.py"), *ROOT.glob("flows/**/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def room_of(module: str) -> str | None:
    """``sclip_core.store`` of ``sclip_core.store.keys``; None: the top of a package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else None


def imported(path: Path) -> Iterator[str]:
    """The modules of this project that a file imports anywhere, also within functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if re.match(r"(sclip_core|flows)\.", name))


def faults(room: str, other: str) -> str | None:
    """Why a room may not import another one; None: it may."""
    if FLOOR_OF[other] > FLOOR_OF[room]:
        return "runs up"
    if FLOOR_OF[other] == FLOOR_OF[room] and (room, other) not in BESIDE:
        return "runs sideways"
    return "runs to a room that it should not know" if (room, other) in APART else None


def arrows() -> Iterator[tuple[str, str, str]]:
    """Each import of another room: the module, its room and the other one."""
    for module, path in modules():
        room = room_of(module)
        for name in imported(path):
            other = room_of(name)
            if room and other != room and (other in FLOOR_OF or room in FLOOR_OF):
                yield module, room, str(other)


def test_every_room_has_a_floor():
    rooms = {room_of(module) for module, _ in modules()} - {None}
    assert rooms == set(FLOOR_OF)


def test_no_import_runs_up_or_sideways():
    found = list(arrows())
    assert len(found) > 300  # there is something to see
    wrong = {
        f"{module} -> {other} {fault}"
        for module, room, other in found
        if other in FLOOR_OF and (fault := faults(room, other))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("room", "other", "fault"),
    [
        ("sclip_core.store", "sclip_core.pipeline", "runs up"),
        ("sclip_core.encoder", "sclip_core.datasets", "runs sideways"),
        ("sclip_core.pipeline", "sclip_core.model", "runs to a room that it should not know"),
        ("sclip_core.masks", "sclip_core.segmentation", None),
    ],
)
def test_what_is_a_fault(room, other, fault):
    assert faults(room, other) == fault


def test_the_core_knows_no_prefect():
    for module, path in modules():
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
        }
        if module.startswith("sclip_core"):
            assert names.isdisjoint({"prefect", "flows", "cyclopts"}), module


def test_sizes():
    """Files of at most 400 lines, functions of at most 60."""
    for _, path in modules():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
