"""BibTeX of what runs used: methods, networks, weights, masks and data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from sclip_core import __version__
from sclip_core.config import printable
from sclip_core.config.places import Place
from sclip_core.results.files import ARTIFACTS, read_run, root_of
from sclip_core.results.tables import find_run

ENTRY = re.compile(r"^@\w+\{([\w-]+),\n(?:  .*\n)+\}\n", re.MULTILINE)


@cache
def references() -> dict[str, str]:
    """Every entry, as BibTeX, by its key."""
    text = _file("references.bib").replace("VERSION", __version__)
    return {found[1]: found[0] for found in ENTRY.finditer(text)}


@cache
def used() -> dict[str, Any]:
    """The keys of the entries for what a run may use; see ``config/references/used.yaml``."""
    table: dict[str, Any] = yaml.safe_load(_file("used.yaml"))
    return table


def _file(name: str) -> str:
    return (resources.files("sclip_core.config") / "references" / name).read_text("utf-8")


def cite(*runs: str, artifacts: Place | str = ARTIFACTS) -> str:
    """BibTeX of what runs used, each entry once; comments name what has no entry.

    Args:
        *runs: as ``find_run`` takes them; none: the latest.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such run, or a file that cannot be read.
    """
    root = root_of(artifacts)
    rows = [read_run(root, find_run(run, root))[0] for run in runs or ("latest",)]
    return bibtex(rows)


def bibtex(rows: list[dict[str, Any]]) -> str:
    """The same, of rows of the table ``runs``."""
    found = list(dict.fromkeys(key for row in rows for key in keys_of(row)))
    lacking = dict.fromkeys(line for row in rows for line in without_entry(row))
    comments = "".join(f"% no entry for {printable(line)}: cite its authors\n" for line in lacking)
    entries = "\n".join(references()[key] for key in found)
    return f"{comments}\n{entries}" if comments else entries


def keys_of(row: Mapping[str, Any]) -> list[str]:
    """The keys of the entries that a run cites, in order, each once."""
    found = [key for _, _, keys in _parts(row) for key in keys or ()]
    always = used()["always"]
    if row["mode"] == "predictions":  # of another tool: no network of ours saw an image
        always = always[:1]
    return list(dict.fromkeys([*always, *found]))


def without_entry(row: Mapping[str, Any]) -> list[str]:
    """What a run used that no entry is known for, in words."""
    return [f"{what} {name}" for what, name, keys in _parts(row) if keys is None]


def _parts(row: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str] | None]]:
    """What a run used: its kind, its name, and the keys of its entries; None: not known."""
    table = used()
    weights = row.get("pretrained")
    if weights:
        yield "the weights", str(weights), _by_part(table["weights"], str(weights))
    method = row.get("method")
    if method:
        yield "the method", str(method), table["methods"].get(method)
    elif attention := row.get("attention"):
        policy = str(attention).partition(":")[0]
        yield "the attention", str(attention), table["attentions"].get(policy)
    refiner = row.get("refiner") or "pamr"
    if row.get("pamr_steps") or (refiner != "pamr" and row.get("mode") != "baseline"):
        yield "the refiner", refiner, table["refiners"].get(refiner)
    if second := row.get("proxy_model"):
        yield "the second network", str(second), _by_part(table["second"], str(second))
    if row.get("sam_encoder"):
        yield "masks", "sam", table["masks"]["sam"]
    if source := row.get("proposals"):
        yield "masks", str(source), table["masks"].get(source)
    if row.get("images") is None:
        yield "the benchmark", str(row["dataset"]), table["benchmarks"].get(row["dataset"])


def _by_part(table: Mapping[str, list[str]], name: str) -> list[str] | None:
    return next((keys for part, keys in table.items() if part in name), None)
