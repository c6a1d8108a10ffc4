"""The files of ``config/benchmarks``: a benchmark is one of them, and a list of words."""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sclip_core.acquire.sources import Archive, sources
from sclip_core.config import protocol, tables
from sclip_core.datasets import Vocabulary

FOLDER = Path(str(resources.files("sclip_core.config"))) / "benchmarks"
FILES = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FOLDER.glob("*.yaml")}
KEYS = set(re.findall(r"^\| `(\w+)`", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_explained_and_every_benchmark_has_words(name):
    assert set(FILES[name]) <= KEYS
    assert Vocabulary.named(name).num_classes > 1


def test_a_layout_is_described_in_one_file():
    described = [row["layout"] for row in FILES.values() if "files" in row]
    assert len(described) == len(set(described))
    assert {row["layout"] for row in FILES.values()} == set(described)


def test_an_archive_is_described_once():
    lists = []
    for row in FILES.values():
        source = row.get("source", {})
        lists += [source.get("archives", []), *source.get("others", {}).values()]
    described = [entry["name"] for part in lists for entry in part if isinstance(entry, dict)]
    named = {entry for part in lists for entry in part if isinstance(entry, str)}
    assert len(described) == len(set(described))
    assert named <= set(described)


@pytest.mark.parametrize("layout", sources())
def test_a_source_tells_where_its_archives_are_and_whom_to_cite(layout):
    source = sources()[layout]
    assert source.title
    assert source.citation
    assert all(isinstance(a, Archive) and (a.url or a.page) for a in source.archives)
    assert all(bool(a.unpack) != bool(a.to) for a in source.archives)


def test_a_new_benchmark_is_one_file(tmp_path, monkeypatch):
    shutil.copytree(FOLDER.parent, tmp_path / "config")
    row = {"layout": "roads", "protocol": {"short_side": 512}, "num_images": 3}
    row["files"] = {"subfolders": ["roads"], "images": "i/{id}.jpg", "labels": "l/{id}.png"}
    (tmp_path / "config" / "benchmarks" / "roads.yaml").write_text(yaml.safe_dump(row))
    before = tables()
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "resources", SimpleNamespace(files=lambda _: tmp_path / "config"))
        found = tables.__wrapped__()
    assert found["benchmarks"].pop("roads")["short_side"] == 512
    assert found["layouts"].pop("roads")["images"] == "i/{id}.jpg"
    assert found == before
