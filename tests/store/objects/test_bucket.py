"""Single requests to a bucket, and what is said where they fail."""

from __future__ import annotations

import socket
import time

import pytest

from sclip_core.config.places import ObjectPath
from sclip_core.store import places
from sclip_core.store.objects import bucket as buckets
from sclip_core.store.objects.bucket import Bucket, bucket_of
from sclip_core.store.objects.faults import StorageError
from tests.torture.proxy import ANSWERS, Fault


@pytest.fixture
def impatient(monkeypatch):
    """A second is as long as minutes."""
    monkeypatch.setattr(buckets, "QUICK", 0.5)
    monkeypatch.setattr(buckets, "PATIENT", 1.0)
    monkeypatch.setattr(buckets, "TIMEOUTS", {0.5: "1s", 1.0: "2s"})


def refusal(work):
    with pytest.raises(StorageError) as error:
        work()
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


def test_a_name_is_given_once(bucket):
    objects = bucket_of(bucket.bucket)
    assert objects.put_new(bucket / "a", b"first")
    assert objects.put_new(bucket / "a", b"first")  # as after an answer that was lost
    assert not objects.put_new(bucket / "a", b"second")
    assert objects.read(bucket / "a") == b"first"
    assert [(each.path, each.size) for each in objects.entries(bucket)] == [(bucket / "a", 5)]
    assert objects.entry(bucket / "a").etag
    assert objects.entry(bucket / "b") is None
    with pytest.raises(FileNotFoundError):
        objects.read(bucket / "b")
    objects.delete(bucket / "a")
    objects.delete(bucket / "a")
    assert objects.entries(bucket) == []


def test_more_objects_than_a_page_of_a_listing(bucket):
    objects = bucket_of(bucket.bucket)
    names = [bucket / "many" / f"{number:04}" for number in range(1003)]
    list(buckets.side_by_side(lambda place: objects.put(place, b""), names))
    assert [each.path for each in objects.entries(bucket / "many")] == names
    assert objects.children(bucket) == [bucket / "many"]


@pytest.mark.parametrize("kind", ["slow down", "throttled", "failing", "lost", "reset", "short"])
@pytest.mark.slow
def test_every_other_request_fails(bucket, disturbed, kind):
    proxy = disturbed(Fault(kind, every=2))
    objects = bucket_of(bucket.bucket)
    data = bytes(range(256)) * 40
    for number in range(5):
        assert objects.put_new(bucket / f"{number}", data)
        assert objects.read(bucket / f"{number}") == data
        assert objects.read_range(bucket / f"{number}", 100, 300) == data[100:300]
    assert not objects.put_new(bucket / "0", b"other")
    assert len(objects.entries(bucket)) == 5
    assert proxy.faulty[kind] > 5


@pytest.mark.parametrize("kind", ["conflict", "taken"])
def test_a_put_is_refused_though_nothing_is_there(bucket, disturbed, kind):
    disturbed(Fault(kind, ("PUT",), every=2))
    objects = bucket_of(bucket.bucket)
    for number in range(4):
        assert objects.put_new(bucket / f"{number}", b"content")
    assert len(objects.entries(bucket)) == 4


def test_a_put_that_is_always_refused(bucket, disturbed):
    disturbed(Fault("taken", ("PUT",), every=1))
    said = refusal(lambda: bucket_of(bucket.bucket).put_new(bucket / "a", b"x"))
    assert "the storage says that it is there, and has no such object" in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("slow down", "(the storage has too many requests)"),
        ("throttled", "(the storage has too many requests)"),
        ("failing", "answered 500"),
        ("reset", "connection"),
    ],
)
@pytest.mark.slow
def test_what_is_said_of_a_storage_that_always_fails(bucket, disturbed, impatient, kind, words):
    disturbed(Fault(kind, every=1))
    objects = bucket_of(bucket.bucket)
    for work in (
        lambda: objects.read(bucket / "a"),
        lambda: objects.put_new(bucket / "a", b""),
        lambda: objects.entries(bucket),
        lambda: places.exists(bucket / "a"),
    ):
        said = refusal(work)
        assert words in said
        assert str(bucket) in said


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("AccessDenied", 403, "permission denied: do the credentials allow it?"),
        ("InvalidAccessKeyId", 403, "the storage does not know these credentials"),
        ("SignatureDoesNotMatch", 403, "the storage does not accept these credentials"),
    ],
)
def test_refusals_are_said_at_once(bucket, disturbed, monkeypatch, code, status, words):
    monkeypatch.setitem(ANSWERS, "denied", (status, code))
    disturbed(Fault("denied", every=1))
    objects, started = bucket_of(bucket.bucket), time.monotonic()
    for work in (
        lambda: objects.read(bucket / "a"),
        lambda: objects.put_new(bucket / "a", b""),
        lambda: objects.entries(bucket),
    ):
        said = refusal(work)
        assert f"({words})" in said
        assert "secret" not in said
        assert "an-access-key" not in said
    assert time.monotonic() - started < 3


def test_no_such_bucket(bucket):
    place, started = ObjectPath("s3://no-such-bucket/a"), time.monotonic()
    for work in (lambda: places.children(place), lambda: places.write(place / "b", b"")):
        assert "there is no such bucket: make it, or pass another" in refusal(work)
    assert time.monotonic() - started < 3


def test_nobody_listens(bucket, monkeypatch, impatient):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    said = refusal(lambda: Bucket(bucket.bucket).entries(bucket))
    assert "(no connection to http://127.0.0.1:" in said


def test_an_endpoint_without_a_scheme(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "key:secret@localhost:9000")
    said = refusal(lambda: Bucket(bucket.bucket).entries(bucket))
    assert "AWS_ENDPOINT_URL is no URL: it has to begin with http:// or https://" in said
    assert "secret" not in said


def test_a_line_break_in_credentials(bucket, monkeypatch):
    """On which the library panics, with what is no ``Exception``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key\r\n")
    said = refusal(lambda: Bucket(bucket.bucket).entries(bucket))
    assert "have a line break or a space in them" in said
    assert "an-access-key" not in said


def test_no_answer(bucket, monkeypatch, impatient):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        said = refusal(lambda: Bucket(bucket.bucket).entries(bucket))
    assert "gives no answer" in said
    assert time.monotonic() - started < 6


def test_patient_once_it_has_answered(bucket, disturbed, monkeypatch):
    monkeypatch.setattr(buckets, "QUICK", 0.2)
    monkeypatch.setattr(buckets, "TIMEOUTS", {0.2: "8s", buckets.PATIENT: "8s"})
    disturbed(Fault("reset", every=1, begin=0.3, end=2.0))
    objects = bucket_of(bucket.bucket)
    assert objects.entries(bucket) == []
    time.sleep(0.35)
    started = time.monotonic()
    objects.put_new(bucket / "a", b"x")
    assert time.monotonic() - started > 1
    assert objects.read(bucket / "a") == b"x"


class TestProbe:
    def test_kept(self, bucket):
        assert places.writable(bucket) == bucket
        assert bucket_of(bucket.bucket).entries(bucket) == []  # nothing is left of it

    def test_who_may_write_need_not_be_allowed_to_remove(self, bucket, monkeypatch):
        def refuse(self, path):
            raise StorageError(f"{path} cannot be written (permission denied)")

        monkeypatch.setattr(Bucket, "delete", refuse)
        assert places.writable(bucket) == bucket

    def test_a_store_that_overwrites(self, bucket, monkeypatch):
        objects = Bucket(bucket.bucket)
        monkeypatch.setattr(objects, "put_new", lambda path, data: objects.put(path, data) or True)
        said = refusal(lambda: objects.probe(bucket))
        assert "If-None-Match is not honoured" in said
        assert "--artifacts DIR" in said
        assert objects.entries(bucket) == []
