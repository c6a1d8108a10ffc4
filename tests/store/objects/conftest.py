"""Artifacts in a bucket, as another process sees them, and a server that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sclip_core.config.places import ObjectPath
from sclip_core.store.artifact import Identity
from sclip_core.store.objects import bucket as buckets
from sclip_core.store.objects import ledger as ledgers
from sclip_core.store.objects.artifact import ObjectArtifact
from sclip_core.store.objects.ledger import ObjectLedger
from tests.torture.proxy import Fault, Proxy


@pytest.fixture
def disturbed(
    s3_server: str, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Proxy]]:
    """Put a proxy with faults between this process and the server."""
    started: list[Proxy] = []

    def start(*faults: Fault) -> Proxy:
        proxy = Proxy(s3_server, faults).__enter__()
        started.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        buckets.bucket_of.cache_clear()
        return proxy

    yield start
    for proxy in started:
        proxy.__exit__()


@pytest.fixture
def of_another_process(bucket: ObjectPath) -> Callable[[], ObjectArtifact]:
    """The same artifact each time, which knows only what is in the bucket."""

    def artifact(pamr_steps: int = 0) -> ObjectArtifact:
        found = ObjectArtifact(bucket, Identity("refine", 1, {"pamr_steps": pamr_steps}, {}))
        found.ledger = ObjectLedger(found.path)
        return found

    return artifact


@pytest.fixture
def looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing is taken to be true until ``refresh``."""
    monkeypatch.setattr(ledgers, "FRESH", 1e9)
