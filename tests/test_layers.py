"""Imports run down: the layers of docs/architecture.md, derived from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom up. A package may import packages of lower layers, and of its own layer only those
# that ``BESIDE`` lists.
LAYERS = (
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
    ("sclip_core.methods", "sclip_core.given"),
    ("sclip_core.results", "sclip_core.acquire", "sclip_core.demo", "sclip_core.model"),
    ("sclip_core.pipeline",),
    (
        "sclip_core.report",
        "sclip_core.explore",
        "sclip_core.maintenance",
        "sclip_core.exports",
        "sclip_core.profiling",
    ),
    ("flows.parameters", "flows.pulling", "flows.signals", "flows.server"),
    ("flows.benchmark",),
    ("flows.shards",),
    ("flows.cli",),
)
BESIDE = {
    ("sclip_core.masks", "sclip_core.segmentation"),  # masks are filled by the same decision
    ("sclip_core.drawing", "sclip_core.evaluation"),  # its values for "ignored" and "unlabelled"
}
APART = {  # lower, and still not to be imported
    ("sclip_core.pipeline", "sclip_core.model"),
    ("sclip_core.pipeline", "sclip_core.acquire"),
    ("sclip_core.pipeline", "sclip_core.demo"),
}
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def modules() -> Iterator[tuple[str, Path]]:
    for path in [*ROOT.glob("sclip_core/**/*.py"), *ROOT.glob("flows/**/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def package_of(module: str) -> str | None:
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


def faults(package: str, other: str) -> str | None:
    """Why a package may not import another one; None: it may."""
    if LAYER_OF[other] > LAYER_OF[package]:
        return "runs up"
    if LAYER_OF[other] == LAYER_OF[package] and (package, other) not in BESIDE:
        return "runs sideways"
    return "runs to a package that it should not know" if (package, other) in APART else None


def arrows() -> Iterator[tuple[str, str, str]]:
    """Each import of another package: the module, its package and the other one."""
    for module, path in modules():
        package = package_of(module)
        for name in imported(path):
            other = package_of(name)
            if package and other != package and (other in LAYER_OF or package in LAYER_OF):
                yield module, package, str(other)


def test_every_package_has_a_layer():
    packages = {package_of(module) for module, _ in modules()} - {None}
    assert packages == set(LAYER_OF)


def test_no_import_runs_up_or_sideways():
    found = list(arrows())
    assert len(found) > 300  # there is something to see
    wrong = {
        f"{module} -> {other} {fault}"
        for module, package, other in found
        if other in LAYER_OF and (fault := faults(package, other))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("package", "other", "fault"),
    [
        ("sclip_core.store", "sclip_core.pipeline", "runs up"),
        ("sclip_core.encoder", "sclip_core.datasets", "runs sideways"),
        ("sclip_core.pipeline", "sclip_core.model", "runs to a package that it should not know"),
        ("sclip_core.masks", "sclip_core.segmentation", None),
    ],
)
def test_what_is_a_fault(package, other, fault):
    assert faults(package, other) == fault


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
