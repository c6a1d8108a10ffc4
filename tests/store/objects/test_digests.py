"""Digests of objects are remembered by URL, size and ETag, and shared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sclip_core.config import ImageError
from sclip_core.config.places import ObjectPath
from sclip_core.store import places
from sclip_core.store.digests import Digests
from sclip_core.store.objects import digests as module
from sclip_core.store.objects.bucket import Bucket
from sclip_core.store.objects.contents import Contents
from sclip_core.store.objects.digests import DataDigests, ObjectDigests
from sclip_core.store.objects.listing import list_again, names_below

NAMES = ["0.png", "a b.png", "a+b.png", "d/ü.png", "p%20q.png"]


def put(place: ObjectPath, name: str, data: bytes) -> ObjectPath:
    places.write(place / name, data)
    return place / name


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def paths(bucket: ObjectPath) -> list[ObjectPath]:
    return [put(bucket / "images", name, name.encode()) for name in NAMES]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[ObjectPath]:
    """The objects that are read."""
    seen: list[ObjectPath] = []
    fetch = Bucket.fetch

    def counted(self: Bucket, path: ObjectPath, patience: float) -> tuple[bytes, str]:
        seen.append(path)
        return fetch(self, path, patience)

    monkeypatch.setattr(Bucket, "fetch", counted)
    return seen


@pytest.mark.parametrize("shared", [True, False])
def test_read_once(tmp_path, bucket, paths, reads, shared):
    artifacts = bucket / "artifacts" if shared else tmp_path
    expected = {path: sha(name.encode()) for path, name in zip(paths, NAMES, strict=True)}
    assert ObjectDigests(artifacts, keep=True).of_many(paths) == expected
    assert sorted(reads) == sorted(paths)
    reads.clear()
    assert ObjectDigests(artifacts, keep=True).of_many(paths) == expected
    assert reads == []


def test_not_kept(tmp_path, paths, reads):
    for _ in range(2):
        digests = ObjectDigests(tmp_path, keep=False)
        for _ in range(2):
            digests.of_many(paths)
    assert len(reads) == 2 * len(paths)
    assert not any(tmp_path.iterdir())


def test_a_changed_object_is_read_again(tmp_path, bucket, paths, reads):
    """Of the same size, and at whatever time: its ETag is another."""
    digests = ObjectDigests(tmp_path, keep=True)
    digests.of_many(paths)
    reads.clear()
    put(bucket / "images", NAMES[0], b"0.PNG")
    assert digests.of_many(paths)[paths[0]] == sha(b"0.PNG")
    assert reads == [paths[0]]


def test_as_it_was_listed(bucket, paths, reads):
    """A listing is asked once; what is put later is seen when it is listed anew."""
    assert names_below(bucket / "images") == sorted(NAMES)
    put(bucket / "images", "new.png", b"new")
    assert names_below(bucket / "images") == sorted(NAMES)
    list_again(bucket / "images")
    assert names_below(bucket / "images") == sorted([*NAMES, "new.png"])


def test_what_others_have_digested(bucket, paths, reads, monkeypatch):
    """Of two who begin at once, each reads what the other has not read yet."""
    monkeypatch.setattr(module, "PART", 1)
    one = ObjectDigests(bucket / "artifacts", keep=True)
    other = ObjectDigests(bucket / "artifacts", keep=True)
    digest, begun = ObjectDigests._digest, []

    def meanwhile(self: ObjectDigests, entry):
        if not begun:
            begun.append(entry)
            other.of_many(paths)
        return digest(self, entry)

    monkeypatch.setattr(ObjectDigests, "_digest", meanwhile)
    found = one.of_many(paths)
    assert found == {path: sha(name.encode()) for path, name in zip(paths, NAMES, strict=True)}
    assert len(reads) == len(paths) + 1  # only what both were at


def test_forgotten(tmp_path, paths, reads):
    ObjectDigests(tmp_path, keep=True).of_many(paths)
    ObjectDigests(tmp_path, keep=True).forget(paths[1])
    reads.clear()
    ObjectDigests(tmp_path, keep=True).of_many(paths)
    assert reads == [paths[1]]


def test_a_damaged_memory_is_none(tmp_path, paths, reads):
    ObjectDigests(tmp_path, keep=True).of_many(paths)
    (table,) = (tmp_path / "digests").iterdir()
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 1
    table.write_bytes(data)
    found = ObjectDigests(tmp_path, keep=True).of_many(paths)
    assert found == {path: sha(name.encode()) for path, name in zip(paths, NAMES, strict=True)}


def test_files_and_objects(tmp_path, bucket, paths):
    """In order, each by its kind; what is not there is an error of its own."""
    (tmp_path / "x.png").write_bytes(b"here")
    files = Digests(tmp_path / "digests.jsonl")
    digests = DataDigests(files, ObjectDigests(tmp_path, keep=True))
    mixed = [paths[0], tmp_path / "x.png", bucket / "images" / "none.png", str(paths[1])]
    first, here, missing, second = digests.of_many(mixed)
    assert (first, here, second) == (sha(b"0.png"), sha(b"here"), sha(b"a b.png"))
    assert isinstance(missing, ImageError)
    assert str(missing) == f"no object at {bucket}/images/none.png: expected an image"
    with pytest.raises(ImageError, match="no object at"):
        digests.of(bucket / "images" / "none.png")


def test_contents_are_bounded():
    kept = Contents(most=10)
    for name, data in (("a", b"1234"), ("b", b"5678")):
        kept.keep(name, data)
    assert kept.get("a") == b"1234"
    kept.keep("c", b"90123")  # "b" was not used for longest
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"1234", None, b"90123")
    kept.keep("d", bytes(11))
    assert kept.get("d") is None


def test_local_memory_is_of_whole_files(tmp_path, paths):
    """Each process adds a file of its own; none is changed."""
    ObjectDigests(tmp_path, keep=True).of_many(paths[:2])
    before = {path: path.read_bytes() for path in Path(tmp_path / "digests").iterdir()}
    ObjectDigests(tmp_path, keep=True).of_many(paths)
    after = {path: path.read_bytes() for path in Path(tmp_path / "digests").iterdir()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
