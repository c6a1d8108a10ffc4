"""Files of a store that anybody may have written: used, or passed over; never a traceback."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sclip_core.config import UserError
from sclip_core.maintenance.check import artifacts_in, check_store
from sclip_core.maintenance.collect import referred_to
from sclip_core.results.past_run import LabelMaps
from sclip_core.store.artifact import Artifact, Identity, is_intact, manifest_text
from sclip_core.store.digests import Digests
from sclip_core.store.leases import Lease
from sclip_core.store.ledger import Ledger, Row

from .test_annotations import VALUES, altered, torn

SMALL = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IDENTITY = Identity("refine", 1, {"a": 1}, {"dense_features": "ab"}, None)
BATCH = {
    "segment": "0000",
    "seconds": 1.5,
    "rows": [{"id": "ab", "start": 0, "stop": 2, "crc": 5, "meta": {"size": [6, 8]}}],
    "chunk": 4,
}
STRUCK = {"struck": [["ab", "0000", 0, 2]]}
DEEP = "[" * 900 + "]" * 900


@given(
    lines=st.lists(
        altered(BATCH).map(json.dumps).map(str.encode)
        | altered(STRUCK).map(json.dumps).map(str.encode)
        | torn(json.dumps(BATCH))
        | st.binary(max_size=30),
        max_size=4,
    )
)
@SMALL
def test_any_ledger(tmp_path, lines):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    ledger = Ledger(path)
    for row in ledger.rows().values():
        assert 0 <= row.start <= row.stop
        assert os.fsencode(path.parent / row.segment)
        assert "\0" not in row.segment
    odd = ledger.odd_lines()
    assert ledger.seconds() >= 0
    assert ledger.repair() == odd
    assert not Ledger(path).odd_lines()
    ledger.append("0001", [Row("new", 0, 1, 7)], 0.5)
    assert Ledger(path).rows()["new"].segment == "0001"


@pytest.mark.parametrize(
    ("key", "value"),
    [("seconds", 10**400), ("segment", "a\0b"), ("segment", "\ud800"), ("segment", "a" * 300)],
)
def test_lines_of_a_ledger_that_no_file_fits(tmp_path, key, value):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({**BATCH, key: value}) + "\n")
    assert Ledger(path).rows() == {}
    assert list(Ledger(path).odd_lines().values()) == [f"odd {key}"]


@given(
    data=altered(json.loads(manifest_text({"key": IDENTITY.key, **IDENTITY.as_dict()})))
    .map(json.dumps)
    .map(str.encode)
    | torn(manifest_text({"key": IDENTITY.key, **IDENTITY.as_dict(), "provenance": {}}))
    | st.binary(max_size=40)
)
@SMALL
def test_any_manifest(tmp_path, data):
    read_manifest(tmp_path, data)


@pytest.mark.parametrize("name", [*Identity.__dataclass_fields__, "provenance", "check"])
@pytest.mark.parametrize("value", ['{"a": [1, "../../x"]}', "5", "null", '"../../x"', DEEP, "1e9"])
def test_manifests_with_another_value(tmp_path, name, value):
    content = {"key": IDENTITY.key, **IDENTITY.as_dict(), "provenance": {}, name: 0}
    texts = (
        f"{json.dumps(key)}: {value if key == name else json.dumps(content[key])}"
        for key in content
    )
    read_manifest(tmp_path, f"{{{', '.join(texts)}}}".encode())


def read_manifest(root: Path, data: bytes) -> None:
    """All that looks at manifests; one that is damaged is written again, or refused in a line."""
    artifact = Artifact(root, IDENTITY)
    artifact.path.mkdir(parents=True, exist_ok=True)
    manifest = artifact.path / "manifest.json"
    manifest.write_bytes(data)
    assert is_intact(data) in (True, False)
    found = Artifact.at(artifact.path)
    assert found.path == artifact.path
    assert found.rows is not None
    with suppress(UserError):
        found.check()
    list(artifacts_in(root))
    assert referred_to(root) == set()
    with suppress(UserError):
        LabelMaps(root, {"run_id": "x", "mode": "dense", "key_refine": IDENTITY.key})
    with suppress(UserError):
        list(check_store(root))
    with suppress(UserError):
        artifact.create({})
        assert artifact.rows() == {}
    assert {path.name for path in root.iterdir()} <= {"refine", ".leases", "results"}


@given(
    lines=st.lists(VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=30), max_size=4),
    number=st.integers(0, 6),
    value=VALUES,
)
@SMALL
def test_any_digests(tmp_path, lines, number, value):
    file, memory = tmp_path / "a.jpg", tmp_path / "digests.jsonl"
    file.write_bytes(b"a")
    os.utime(file, (1, 1))
    right = Digests(memory, keep=False).of(file)
    path, *rest = os.path.abspath(file), 1, 10**9, 5, 7, "0" * 64, "0" * 16
    entry = [path, *rest]
    entry[number] = value
    memory.write_bytes(b"\n".join([*lines, json.dumps(entry).encode(), DEEP.encode()]))
    assert Digests(memory).of(file) == right
    assert Digests(memory).of(file) == right


LEASE = {"artifact": "refine/ab", "claim": ["1", "2"], "release": ["1"], "use": ["refine/ab"]}


@given(
    lines=st.lists(
        altered(LEASE).map(json.dumps).map(str.encode)
        | torn(json.dumps(LEASE))
        | st.just(DEEP.encode()),
        max_size=3,
    ),
    name=st.sampled_from(["other-12-ab", "x", "-", "a-b-c", "é", "other"]),
)
@SMALL
def test_any_lease(tmp_path, lines, name):
    """Of another host, or whatever the name says."""
    folder = tmp_path / ".leases"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    own = {"artifact": "refine/ab", "claim": ["theirs"], "use": ["refine/cd"]}
    content = b"\n".join([*lines, json.dumps(own).encode()]) + b"\n"
    (folder / f"{name}.jsonl").write_bytes(content)
    lease = Lease(tmp_path)
    try:
        lease.use([tmp_path / "refine" / "ab"])
        assert lease.claim(tmp_path / "refine" / "ab", iter(["theirs", "mine"]), 2) == ["mine"]
        assert lease.taken(tmp_path / "refine" / "ab")["theirs"].startswith("process")
        assert "refine/cd" in lease.in_use()
    finally:
        lease.close()


@pytest.mark.parametrize("name", ["../../victim", "/victim", "refine/..", "a/b/../../../victim"])
def test_a_lease_names_no_folder_elsewhere(tmp_path, name):
    """Who cleans up after a process that was killed does not follow it out of the store."""
    from sclip_core.store.files import TEMPORARY, host

    root = tmp_path / "store"
    (root / ".leases").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    kept = tmp_path / "victim" / f"{TEMPORARY}{host()}-999999-x"
    kept.touch()
    left = root / ".leases" / f"{host()}-999999-ab.jsonl"
    left.write_text(json.dumps({"artifact": name, "claim": ["1"], "use": [name]}) + "\n")
    lease = Lease(root)
    lease.claim(root / "refine" / "ab", ["1"], 1)
    lease.close()
    assert not left.exists()
    assert kept.exists()
