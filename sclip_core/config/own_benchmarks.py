"""Benchmarks of a user's own: a YAML of the form of those in ``config/benchmarks``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sclip_core.config.errors import UserError, unknown
from sclip_core.config.protocol import Protocol, plain_name, tables
from sclip_core.config.yaml_file import load_yaml

KEYS = {
    *("rank", "protocol", "background", "layout", "num_images", "files", "vocabulary"),
    *("mistakes", "odd_255"),
}
FILES = {"subfolders", "images", "labels", "split"}


def add_benchmark(path: Path, data: bytes, claim: Callable[..., None]) -> None:
    """Register the benchmark that a YAML describes, under the file's name.

    Args:
        path: of the file.
        data: what is in it.
        claim: as of ``config.plugins``.

    Raises:
        UserError: it is no such file, or its name is taken.
    """
    row = _read(path, data)
    name = plain_name(path.stem)
    words = path.parent / str(row.pop("vocabulary"))
    if not words.is_file():
        raise UserError(f"plugin {path}: there is no vocabulary {words}, one class a line")
    places = dict.fromkeys(row["protocol"], f"plugin {path}")
    protocol = Protocol.checked(row["protocol"], places).model_dump(exclude_unset=True)
    layout = str(row["layout"]) if "files" not in row else f"{name} of {path.name}"
    value = {
        "reduce_zero_label": False,
        **protocol,
        "background": row.get("background", False),
        "layout": layout,
        "num_images": row.get("num_images"),
        "words": str(words),
    }

    def undo() -> None:
        _own.pop(name, None)
        if "files" in row:
            tables()["layouts"].pop(layout, None)

    built_in = tables()["benchmarks"].keys() - _own
    claim("benchmark", name, _Named(path), _benchmarks, value, built_in, undo)
    _own[name] = path
    if "files" in row:
        tables()["layouts"][layout] = {"subfolders": [], **row, "layout": layout, **row["files"]}


_own: dict[str, Path] = {}


def _benchmarks() -> dict[str, dict[str, Any]]:
    return tables()["benchmarks"]


class _Named:
    """Stands for a file where ``claim`` expects a function."""

    def __init__(self, path: Path) -> None:
        self.__module__, self.__qualname__ = "benchmark", str(path)


def _read(path: Path, data: bytes) -> dict[str, Any]:
    """The row of a file, checked."""
    try:
        row = load_yaml(data, unique=True)
    except ValueError as error:
        raise UserError(f"plugin {path} is not valid YAML: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("protocol", {}), dict):
        raise UserError(
            f"plugin {path}: expected a benchmark: the keys protocol, files and vocabulary"
        )
    for key in row:
        if key not in KEYS:
            raise unknown(f"key in plugin {path}:", key, KEYS)
    if "vocabulary" not in row:
        raise UserError(f"plugin {path}: 'vocabulary' is missing: the file of words beside it")
    layouts = tables()["layouts"]
    files = row.get("files")
    if not files and row.get("layout") not in layouts:
        raise UserError(
            f"plugin {path}: expected 'files' (subfolders, images, labels), or the 'layout' of "
            f"another benchmark: {', '.join(layouts)}"
        )
    if files and not (isinstance(files, dict) and {"images", "labels"} <= set(files) <= FILES):
        raise UserError(
            f"plugin {path}: 'files' should have images and labels, such as images/{{id}}.jpg, and "
            "may have subfolders and split"
        )
    for part in ("images", "labels"):
        if files and "{id}" not in str(files[part]):
            raise UserError(f"plugin {path}: '{part}' should have {{id}} in it: images/{{id}}.jpg")
    return {"protocol": {}, **row}
