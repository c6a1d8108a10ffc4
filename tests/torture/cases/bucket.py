"""Runs on object storage that fails and is slow, and that are killed meanwhile."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sclip_core.config.places import ObjectPath
from tests.torture.place import Place
from tests.torture.proxy import Fault, as_words
from tests.torture.tally import Part, refusal

FAULTS: dict[str, tuple[Fault, ...]] = {
    "nothing": (),
    "answers to puts lost": (Fault("lost", ("PUT",), every=2),),
    "any answer lost": (Fault("lost", every=3),),
    "503 slow down": (Fault("slow down", every=3),),
    "429": (Fault("throttled", every=3),),
    "500": (Fault("failing", every=3),),
    "slow answers": (Fault("slow", every=8, seconds=2.0),),
    "short reads": (Fault("short", ("GET", "LIST"), every=2),),
    "flipped bits in reads": (Fault("flipped", ("GET",), every=5),),
    "409 to puts": (Fault("conflict", ("PUT",), every=2),),
    "412 to puts, not written": (Fault("taken", ("PUT",), every=2),),
    "away for 5 s": (Fault("reset", every=1, begin=0.5, end=5.5),),
    "all at once": (
        Fault("lost", ("PUT",), every=3),
        Fault("slow down", every=5),
        Fault("short", ("GET",), every=4),
        Fault("slow", every=11, seconds=1.0),
    ),
    "away for good": (Fault("reset", every=1),),
}
SHORT = ("answers to puts lost", "503 slow down", "short reads", "away for 5 s", "away for good")
BUCKET = "torture"
SECRET = "ein-Geheimnis"
MOST = 45.0  # seconds within which a storage that is away must be told of


@dataclass(frozen=True)
class Case:
    """A run on a storage with faults, killed or not, and another one to the end."""

    number: int
    fault: str
    killed: bool


def cases(long: bool) -> list[Case]:
    """Every fault, with runs that are killed and runs that are not."""
    if not long:
        found = [(name, n % 2 == 1) for n, name in enumerate(SHORT)]
    else:
        found = [(name, killed) for name in FAULTS for killed in (False, True, True)] * 2
    return [Case(number, *each) for number, each in enumerate(found)]


def bucket(place: Place, long: bool) -> Part:
    """Disturb runs on an S3 server, then finish and compare with a run on a folder."""
    with server() as address:
        return place.part("bucket", cases(long), partial(_disturb, place, address), 2, ("dense",))


def _disturb(place: Place, address: str, part: Part, case: Case, folder: Path) -> None:
    store = ObjectPath(f"s3://{BUCKET}/case-{case.number}")
    what = f"case {case.number}, {case.fault}{', killed' if case.killed else ''}"
    proxy = subprocess.Popen(as_words(address, FAULTS[case.fault]), stdout=subprocess.PIPE)
    assert proxy.stdout is not None
    _use(proxy.stdout.readline().decode().strip(), folder)
    try:
        child = place.start("dense", store)
        if case.killed:
            time.sleep(place.random("bucket", case).uniform(0.3, 4.0))
            child.send(signal.SIGKILL)
        ended = child.wait()
        if case.fault == "away for good":
            verdict = refusal(ended) if ended.code != 128 + signal.SIGKILL else "killed"
            late = "HUNG" if ended.seconds > MOST else verdict
            part.add(late, what, ended.output)
            _use(address, folder)
        elif case.killed and ended.code == 128 + signal.SIGKILL:
            part.add("killed", what)
        else:
            part.add("ended" if ended.code == 0 else "LOST", what, ended.output)
        if SECRET in ended.out + ended.err:
            part.add("UNCLEAR", what, "credentials were printed")
        place.judge(part, "dense", store, what, case.fault)
    finally:
        proxy.kill()
        proxy.wait()


def _use(address: str, folder: Path) -> None:
    """Let the runs of this process use a server."""
    loopback = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), SECRET)
    where = {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1"}
    os.environ.update(keys, **where, **loopback, XDG_CACHE_HOME=str(folder / "cache"))


@contextmanager
def server() -> Iterator[str]:
    """An S3 server in a process of its own, with an empty bucket."""
    code = (
        "import time; from moto.server import ThreadedMotoServer as Server;"
        "server = Server('127.0.0.1', 0, verbose=False); server.start();"
        "print(server.get_host_and_port()[1], flush=True); time.sleep(1e6)"
    )
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=quiet, stdin=quiet
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
