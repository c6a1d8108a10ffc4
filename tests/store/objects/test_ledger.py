"""Which rows there are: several processes, batches struck and replaced, snapshots."""

from __future__ import annotations

import itertools
import time

import pytest

from sclip_core.store.ledger import Row
from sclip_core.store.objects import batch
from sclip_core.store.objects.batch import index_in
from sclip_core.store.objects.bucket import bucket_of
from sclip_core.store.objects.ledger import FEW, ObjectLedger
from tests.torture.proxy import Fault

pytestmark = pytest.mark.usefixtures("looked_at_once")


def add(ledger, *ids, seconds=1.0):
    """Store rows, each with its own id as values."""
    ledger.append([(Row(i, 0, 0, 0, {"of": i}), i.encode()) for i in ids], seconds)


def places(ledger):
    """Every row that a process sees, with where it lies."""
    return {row_id: row.place for row_id, row in ledger.rows().items()}


@pytest.fixture
def ledgers(bucket):
    """New ledgers of one artifact, as processes have them."""
    return lambda: ObjectLedger(bucket / "refine" / "0123")


def objects_of(ledger, folder):
    place = ledger.path_of("x").parent.parent / folder
    return bucket_of(place.bucket).entries(place)


def test_two_processes(ledgers):
    first, second = ledgers(), ledgers()
    assert len(second.rows()) == 0
    add(first, "a", "b")
    add(second, "c")
    assert set(second.rows()) == {"c"}  # as it has not looked since
    for each in (first, second):
        each.refresh()
        assert set(each.rows()) == {"a", "b", "c"}
        assert each.seconds() == 2.0
    assert places(first) == places(second) == places(ledgers())
    assert first.rows().missing(["d", "a", "e"]) == ["d", "e"]


def test_a_batch_that_a_listing_shows_at_once_counts_once(ledgers, monkeypatch):
    """Another thread may list what was put before it is taken."""
    ledger, put = ledgers(), ObjectLedger._put

    def put_and_listed(self, data):
        name = put(self, data)
        self.refresh()
        return name

    monkeypatch.setattr(ObjectLedger, "_put", put_and_listed)
    add(ledger, "a", "b")
    assert (ledger.seconds(), set(ledger.rows())) == (1.0, {"a", "b"})


def test_the_later_row_replaces_the_earlier_one(ledgers):
    first, second = ledgers(), ledgers()
    add(first, "a")
    old = places(first)
    second.refresh()
    add(second, "a")
    first.refresh()
    assert places(first) == places(second) == places(ledgers()) != old


def test_a_slow_clock_makes_no_earlier_batch(ledgers, monkeypatch):
    first, second = ledgers(), ledgers()
    add(first, "a")
    old = places(first)
    second.refresh()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 10**12)
    add(second, "a")
    for each in (second, ledgers()):
        assert places(each) != old
    second.strike([second.rows()["a"]])
    assert places(second) == places(ledgers()) == {}


def test_struck_rows_stay_struck_in_any_order(ledgers):
    first = ledgers()
    add(first, "a", "b")
    bad = first.rows()["a"]
    add(first, "a")
    first.strike([bad])  # of an older batch, which another one had read
    assert places(first)["a"] != bad.place
    first.strike([first.rows()["b"]])
    wanted = places(first)
    entries = {each.path.stem: each for each in objects_of(first, "batches")}
    for order in itertools.permutations(entries):
        ledger = ledgers()
        ledger._listed = time.monotonic()
        for name in order:
            data = bucket_of(entries[name].path.bucket).read(entries[name].path)
            ledger._take(name, len(data), index_in(data))
        assert places(ledger) == wanted


def test_a_struck_row_is_stored_again(ledgers):
    first = ledgers()
    add(first, "a")
    first.strike([first.rows()["a"]])
    assert "a" not in ledgers().rows()
    add(first, "a")
    assert places(first) == places(ledgers())
    assert set(ledgers().rows()) == {"a"}
    first.strike([])  # nothing: no object
    assert len(objects_of(first, "batches")) == 3


@pytest.fixture
def snapshot_made(ledgers):
    """A ledger of many batches, one row struck, with a snapshot."""
    writer = ledgers()
    for number in range(FEW):
        add(writer, f"{number}", "shared")
    writer.strike([writer.rows()["7"]])
    writer.settle()
    return writer


def test_a_snapshot_in_place_of_many_batches(ledgers, snapshot_made, monkeypatch):
    add(snapshot_made, "after")
    snapshot_made.settle()  # one batch more is not worth another
    assert len(objects_of(snapshot_made, "index")) == 1
    read = []
    tail = ObjectLedger._tail
    monkeypatch.setattr(
        ObjectLedger, "_tail", lambda self, *args: read.append(args) or tail(self, *args)
    )
    found = ledgers()
    assert places(found) == places(snapshot_made)
    assert found.seconds() == snapshot_made.seconds() == FEW + 1
    assert len(read) == 1  # the batch after it
    assert found.rows()["shared"].meta == {"of": "shared"}
    assert "7" not in found.rows()
    place = objects_of(snapshot_made, "index")[0].path
    bucket_of(place.bucket).delete(place)
    without = ledgers()
    assert places(without) == places(snapshot_made)
    assert len(read) > FEW


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_snapshot_is_not_used(ledgers, snapshot_made, damage, caplog):
    place = objects_of(snapshot_made, "index")[0].path
    data = bucket_of(place.bucket).read(place)
    half = len(data) // 2
    worse = {"flip": data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :], "cut": data[:half]}
    bucket_of(place.bucket).put(place, worse.get(damage, b""))
    assert places(ledgers()) == places(snapshot_made)
    assert "cannot be used; the batches are read one by one" in caplog.text


def test_batches_that_were_removed(ledgers, snapshot_made):
    removed = [each.path for each in objects_of(snapshot_made, "batches")[:5]]
    for place in removed:
        bucket_of(place.bucket).delete(place)
    now = ledgers()
    assert set(now.rows()) == {"shared", *map(str, range(5, FEW))} - {"7"}
    for _ in range(5):
        add(now, "more")
    now.settle()
    assert places(ledgers()) == places(now)


def test_odd_objects_are_left_out_and_said(ledgers, caplog):
    writer = ledgers()
    add(writer, "a")
    add(writer, "b")
    objects = bucket_of(writer.path_of("x").bucket)
    first = objects_of(writer, "batches")[0].path
    data = objects.read(first)
    objects.put(first, data[:-20] + b"?" + data[-19:])
    objects.put(writer.path_of("0"), b"")
    objects.put(first.with_name("notes.txt"), b"mine")
    assert set(ledgers().rows()) == {"b"}
    assert f"{first} cannot be used" in caplog.text
    assert "its rows are computed again" in caplog.text


def test_a_long_index_is_read_whole(ledgers, monkeypatch):
    monkeypatch.setattr("sclip_core.store.objects.ledger.TAIL", 64)
    writer = ledgers()
    ids = [f"image-{number}" for number in range(500)]
    add(writer, *ids)
    assert list(ledgers().rows()) == ids
    assert batch.END.size < 64


def test_a_snapshot_that_cannot_be_written_does_no_harm(ledgers, monkeypatch, caplog):
    from sclip_core.store.objects.bucket import Bucket, StorageError

    writer = ledgers()
    for number in range(FEW):
        add(writer, f"{number}")

    def refuse(*args):
        raise StorageError("s3://tests/x cannot be written (so it is)")

    monkeypatch.setattr(Bucket, "put_new", refuse)
    writer.settle()
    assert "s3://tests/x cannot be written (so it is)" in caplog.text


def test_an_index_that_was_damaged_on_its_way_is_read_again(ledgers, disturbed, caplog):
    writer = ledgers()
    add(writer, "a")
    proxy = disturbed(Fault("flipped", ("GET",), every=2))
    assert set(ledgers().rows()) == {"a"}
    assert set(ledgers().rows()) == {"a"}
    assert proxy.faulty["flipped"] == 1
    assert caplog.text == ""


def test_a_snapshot_of_removed_batches_is_not_used(ledgers):
    """Rows exist where their batches do: one may have been removed by its prefix."""
    first = ledgers()
    for number in range(FEW + 6):
        add(first, str(number))
    first.settle()
    assert objects_of(first, "index")
    gone = first.rows()["3"]
    path = first.path_of(gone.segment)
    bucket_of(path.bucket).delete(path)
    assert set(ledgers().rows()) == {str(n) for n in range(FEW + 6)} - {"3"}
