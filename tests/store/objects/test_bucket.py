"""Single requests to a bucket."""

from __future__ import annotations

from sclip_core.store.objects.bucket import bucket_of


def test_a_name_is_given_once(bucket):
    objects = bucket_of(bucket.bucket)
    assert objects.put_new(bucket / "a", b"first")
    assert objects.put_new(bucket / "a", b"first")  # as after an answer that was lost
    assert not objects.put_new(bucket / "a", b"second")
    assert objects.read(bucket / "a") == b"first"
    assert [(each.path, each.size) for each in objects.entries(bucket)] == [(bucket / "a", 5)]
