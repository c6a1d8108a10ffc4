"""A store is verified, and what nothing refers to is removed, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from sclip_core.maintenance.check import check_store
from sclip_core.maintenance.collect import find_garbage, referred_to, remove
from sclip_core.store.arrays import ArrayTable, NewRow
from sclip_core.store.artifact import Artifact, Identity
from sclip_core.store.leases import Lease

from ..store.conftest import assert_stored, make_artifact, random_rows


@pytest.fixture
def store(tmp_path: Path, scenes_runs: Path) -> Path:
    """A copy of the artifacts of four runs over drawn scenes."""
    return Path(shutil.copytree(scenes_runs, tmp_path / "artifacts"))


def garbage(root: Path, older_than: float = 0.0) -> list:
    return list(find_garbage(root, Lease(root), older_than))


def files(root: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".lease" not in str(path) and path.suffix != ".lock"
    }


def test_a_store_that_is_whole(store):
    counted = []
    assert list(check_store(store, counted.append)) == []
    ledgers = [line for path in store.glob("*/*/ledger.jsonl") for line in path.open()]
    assert sum(counted) == sum(len(json.loads(line)["rows"]) for line in ledgers)
    assert garbage(store) == []


@pytest.mark.parametrize(
    "pattern",
    [
        "dense_features/*/segments/*/c/*/0", "text_bank/*/segments/*/c/*/0",
        "refine/*/segments/*/c/*",
        "metrics/*/parts/*", "results/runs/*", "results/image_areas/*", "*/*/manifest.json",
        "refine/*/ledger.jsonl",
    ],
)  # fmt: skip
def test_every_kind_of_damage_is_named(store, pattern):
    path = sorted(p for p in store.glob(pattern) if p.is_file())[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    faults = list(check_store(store))
    named = [fault for fault in faults if str(path).startswith(str(fault.path))]
    assert named
    before = files(store)
    list(check_store(store))
    assert files(store) == before  # it only looks


def test_snapshots_of_ledgers(store):
    """They are no garbage, and no reason to believe a ledger that is damaged."""
    folder = min(store.glob("metrics/*"))
    Artifact.at(folder).ledger.save_snapshot(0)
    saved, ledger = folder / "ledger.arrow", folder / "ledger.jsonl"
    assert saved.exists()
    assert list(check_store(store)) == []
    assert garbage(store) == []
    for path in (saved, ledger):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"seconds", b"sekonds"))
        assert path in [fault.path for fault in check_store(store)]
        path.write_bytes(data)


def test_what_is_missing_is_named(store):
    for path in sorted(store.glob("refine/*/segments/*/c/*"))[:1]:
        path.unlink()
    shutil.rmtree(next(store.glob("text_bank/*")))
    next(store.glob("metrics/*/manifest.json")).unlink()
    said = "\n".join(f"{fault.path} {fault.what}" for fault in check_store(store))
    assert "rows are damaged" in said
    assert "which no longer exists" in said
    assert "manifest.json is missing" in said


def test_data_without_a_row(artifact):
    root = artifact.path.parents[1]
    table = ArrayTable(artifact, "uint8", None, True)
    rows = random_rows("uint8", None, [70_000, 9])
    with table.writer() as writer:
        writer.commit(rows, 1)
        used = set(files(artifact.path))
        lost = [table.segments.chunk_path("0000", 7), table.segments.chunk_path("0003", 0)]
        for path in lost:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"of a batch that was not committed")
    (found,) = garbage(root, older_than=1)
    assert set(found.files) == set(lost)
    assert found.size == sum(map(os.path.getsize, lost))
    assert remove(found, root, Lease(root))
    assert set(files(artifact.path)) == used
    assert_stored(ArrayTable(artifact, "uint8", None, True), rows)


def test_segments_that_somebody_writes_to_are_left_alone(artifact):
    """A process of an older version has no lease, but it locks its segment."""
    root = artifact.path.parents[1]
    table = ArrayTable(artifact, "uint8", None, True)
    with table.writer() as writer:
        writer.commit(random_rows("uint8", None, [9]), 1)
        table.segments.chunk_path("0000", 7).write_bytes(b"on its way")
        assert garbage(root, older_than=1) == []
    assert len(garbage(root, older_than=1)) == 1


def test_parts_without_a_row_have_an_hour(artifact):
    """A process of an older version has no lease, and may be about to note its part."""
    root = artifact.path.parents[1]
    part = artifact.path / "parts" / "0000.parquet"
    part.parent.mkdir()
    part.write_bytes(b"of a batch that is not committed")
    now = time.time()
    for seconds, is_lost in ((0, False), (3000, False), (4000, True)):
        os.utime(part, (now - seconds, now - seconds))
        found = [path for each in garbage(root, older_than=1) for path in each.files]
        assert found == [part] * is_lost


def test_what_lines_of_a_later_version_need_is_not_known(artifact):
    root = artifact.path.parents[1]
    table = ArrayTable(artifact, "uint8", None, True)
    with table.writer() as writer:
        writer.commit(random_rows("uint8", None, [9]), 1)
    lost = table.segments.chunk_path("0000", 7)
    lost.parent.mkdir(parents=True, exist_ok=True)
    lost.write_bytes(b"of a line that this version cannot read")
    assert [each.files for each in garbage(root, older_than=1)] == [(lost,)]
    ledger = artifact.path / "ledger.jsonl"
    ledger.write_text('{"of": "a later version"}\n' + ledger.read_text())
    assert garbage(root, older_than=1) == []


def test_artifacts_that_no_run_refers_to(store):
    """All that a run was made from is kept: by its keys, and by the manifests above those."""
    referred = referred_to(store)
    assert {
        f"{path.parent.parent.name}/{path.parent.name}" for path in store.glob("*/*/manifest.json")
    } == referred
    other = Artifact(store, Identity("refine", 1, {"pamr_steps": 99}, {}))
    other.create({})
    with ArrayTable(other, "uint8", None, True).writer() as writer:
        writer.commit([NewRow("a", np.ones(9, np.uint8), {"size": [3, 3]})], 1)
    assert garbage(store, older_than=1) == []  # the run may only have been stopped
    for path in other.path.glob("*.json*"):
        os.utime(path, (1, 1))
    os.utime(other.path, (1, 1))
    (found,) = garbage(store, older_than=1)
    assert (found.path, found.files) == (other.path, ())
    kept = {path: data for path, data in files(store).items() if other.path not in path.parents}
    assert remove(found, store, Lease(store))
    assert files(store) == kept


def test_what_a_run_in_progress_uses_is_kept(tmp_path):
    artifact = make_artifact(tmp_path)
    with ArrayTable(artifact, "uint8", None, True).writer() as writer:
        writer.commit(random_rows("uint8", None, [9]), 1)
    (found,) = garbage(tmp_path)
    running = Lease(tmp_path)
    running.use([artifact.path])
    assert garbage(tmp_path) == []
    assert not remove(found, tmp_path, Lease(tmp_path))  # it began after the look
    running.close()
    assert remove(found, tmp_path, Lease(tmp_path))
    assert not artifact.path.exists()


def test_what_was_found_is_looked_at_again(tmp_path):
    """A run began after the look, wrote to what seemed unused, and ended."""
    artifact = make_artifact(tmp_path)
    first, second = (random_rows("uint8", None, [9], seed) for seed in (1, 2))
    with ArrayTable(artifact, "uint8", None, True).writer() as writer:
        writer.commit(first, 1)
    lost = ArrayTable(artifact, "uint8", None, True).segments.chunk_path("0000", 1)
    lost.write_bytes(b"of a batch that was not committed")
    (found,) = garbage(tmp_path, older_than=1)
    with ArrayTable(artifact, "uint8", None, True).writer() as writer:
        writer.commit(second, 1)
    assert lost.exists()
    remove(found, tmp_path, Lease(tmp_path))
    assert_stored(ArrayTable(artifact, "uint8", None, True), first + second)


def test_an_artifact_that_was_used_since_is_kept(tmp_path):
    artifact = make_artifact(tmp_path)
    table = ArrayTable(artifact, "uint8", None, True)
    with table.writer() as writer:
        writer.commit(random_rows("uint8", None, [9], 1), 1)
    (found,) = garbage(tmp_path)
    with table.writer() as writer:
        writer.commit(random_rows("uint8", None, [9], 2), 1)
    assert not remove(found, tmp_path, Lease(tmp_path))
    assert artifact.path.exists()


def test_thumbnails_that_no_page_uses_are_garbage(store):
    folder = store / "explore" / "thumbnails"
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "abcd.webp").write_bytes(b"RIFF")
    assert garbage(store) == []  # a page shows them now
    assert list(check_store(store)) == []
    long_ago = time.time() - 10 * 86_400
    os.utime(folder, (long_ago, long_ago))
    assert garbage(store, older_than=11) == []
    (found,) = garbage(store, older_than=7)
    assert (found.path, found.size) == (folder, 4)
    assert "10 days" in found.why
    before = {path: data for path, data in files(store).items() if folder not in path.parents}
    assert remove(found, store, Lease(store))
    assert files(store) == before
