"""``sclip explore``: the line that it prints, what it answers, how it ends."""

from __future__ import annotations

import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from flows.cli import explore as module
from sclip_core.config import UserError
from sclip_core.explore.serving import PORT, listening

from ..conftest import TINY
from .test_signals import ROOT, STOPPED, start

INT, TERM = signal.SIGINT, signal.SIGTERM
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{32,}\n")
SECONDS = 60  # until the address is there
CLEAN = 2.0  # seconds that the end may take, of the contract
FAKE = """
import sys, time
import flows.cli.explore as module
from tests.explore.fake import Fake
from flows.cli import main

class Deaf(Fake):
    "One whose labels take a minute, and look at no task."
    def labels(self, view, task):
        print("begun", file=sys.stderr, flush=True)
        time.sleep(60)

def slow():
    "Opens something, with a thread that the interpreter's end would wait for."
    import threading
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)

module.opened = lambda settings, own: {kind}()
sys.exit(main())
"""


def fake(*words: str, kind: str = "Fake") -> subprocess.Popen[str]:
    """The command in a process of its own, with a fake in place of models."""
    return subprocess.Popen(
        [sys.executable, "-c", FAKE.format(kind=kind), "explore", "--no-open", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def line_of(process: subprocess.Popen[str], stream: str = "stdout") -> str:
    """The next line that it prints."""
    source = getattr(process, stream)
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        assert selector.select(SECONDS), "nothing was printed"
    return source.readline()


def end(process: subprocess.Popen[str], number: int) -> tuple[int, str, str, float]:
    """Stop it: exit code, what else it printed, seconds."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err, time.monotonic() - began


@pytest.fixture
def process():
    """Starts the command; whatever a test leaves is ended."""
    started = []

    def begin(*words, **more):
        started.append(fake(*words, **more))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()


class TestProcess:
    @pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
    def test_one_line_then_answers_and_a_clean_end(self, process, number, code):
        started = process("--port", "0")
        address = line_of(started)
        assert ADDRESS.fullmatch(address)
        with httpx.Client() as client:
            assert client.get(address.strip()).status_code == 303
            place = address.partition("?")[0]
            assert client.get(f"{place}api/about").json()["collections"][0]["id"] == "scenes"
            wrong = client.get(f"{place}?token=wrong", cookies={"x": "y"})
            assert wrong.status_code == 403
            code_, out, err, seconds = end(started, number)  # the client is still connected
        assert (code_, out, err) == (code, "", STOPPED)
        assert seconds < CLEAN

    def test_while_it_opens(self, process):
        """Nothing is to be kept yet, so no thread of a library is waited for."""
        started = process("--port", "0", kind="slow")
        assert line_of(started, "stderr") == "begun\n"
        code, out, err, seconds = end(started, TERM)
        assert (code, out, err) == (143, "", STOPPED)
        assert seconds < CLEAN

    def test_while_a_computation_deaf_to_it_runs(self, process):
        """A kernel cannot be interrupted; the process ends all the same."""
        started = process("--port", "0", kind="Deaf")
        address = line_of(started).strip()
        found = []

        def ask():
            view = {"collection": "scenes", "image": "000001"}
            with httpx.Client(timeout=SECONDS) as client:
                client.get(address)
                try:
                    body = {"view": view, "client": "tab"}
                    place = f"{address.partition('?')[0]}api/labels"
                    found.append(client.post(place, json=body).content)
                except httpx.HTTPError as error:
                    found.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert line_of(started, "stderr") == "begun\n"
        code, out, err, seconds = end(started, TERM)
        thread.join(SECONDS)
        assert (code, out, err) == (143, "", STOPPED)
        assert seconds < CLEAN
        assert found

    def test_while_a_computation_that_looks_runs(self, process):
        started = process("--port", "0")
        address = line_of(started).strip()
        view = {"collection": "scenes", "image": "000001", "pamr_steps": 50}
        place = f"{address.partition('?')[0]}api/labels"
        with httpx.Client(timeout=SECONDS) as client:
            client.get(address)
            with client.stream("POST", place, json={"view": view, "client": "tab"}) as answer:
                parts = answer.iter_raw()
                assert b'"progress"' in next(parts)
                code, out, err, seconds = end(started, INT)
                assert b"".join(parts).endswith(b'{"kind": "cancelled"}\n')
        assert (code, out, err) == (130, "", STOPPED)
        assert seconds < CLEAN

    def test_the_next_port_where_the_usual_one_is_taken(self, process):
        with ExitStack() as stack:
            with suppress(UserError):  # somebody has it already
                stack.enter_context(listening("127.0.0.1", PORT))
            port = int(ADDRESS.fullmatch(line_of(process()))[1])
        assert PORT < port < PORT + 100

    def test_another_host_is_said(self, process):
        started = process("--port", "0", "--host", "0.0.0.0")
        assert ADDRESS.fullmatch(line_of(started))
        _, _, err, _ = end(started, TERM)
        name = socket.gethostname()
        line = f"whoever has the address can use the page, also from elsewhere ({name})"
        assert line in err


class TestPorts:
    def test_one_that_is_taken(self):
        with listening("127.0.0.1", 0) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(UserError, match=rf"^port {port} is taken on 127\.0\.0\.1: name"):
                listening("127.0.0.1", port)

    @pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "203.0.113.7", "\0"])
    def test_hosts_of_others(self, host):
        with pytest.raises(UserError, match=r"expected an address of this machine|cannot listen"):
            listening(host, 0)


class TestNothingToExplore:
    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

    def test_no_runs(self, sclip):
        code, out, err = sclip("explore", "--no-open")
        assert (code, out) == (2, "")
        assert err == (
            "sclip: no runs to explore in artifacts; pass images: `sclip explore --images DIR`\n"
        )

    @pytest.mark.parametrize(
        ("flags", "line"),
        [
            (["--images", "nowhere"], "--images nowhere does not exist: expected a folder"),
            (["--dataset", "voc21,ade20k"], "--dataset voc21,ade20k: a page has one, so name one"),
            (["--preset", "nope"], "unknown preset 'nope'"),
            (["--port", "65536"], 'Invalid value "65536" for --port'),
            (["--images", ".", "--method", "csa,naclip"], "several values of attention: this"),
        ],
    )
    def test_mistakes(self, sclip, flags, line):
        code, out, err = sclip("explore", "--no-open", *flags)
        assert (code, out) == (2, "")
        assert line in err
        assert err.count("\n") == 1

    def test_no_weights(self, sclip, small, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        flags = [f"--images={small / 'images'}", "--pretrained", "nowhere.pt"]
        code, out, err = sclip("explore", "--no-open", "--port", "0", *flags)
        assert (code, out) == (2, "")
        assert "nowhere.pt" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("preset", "file", "given", "own"),
    [
        (None, "", {}, False),
        (None, "", {"images": Path("x")}, True),
        (None, "", {"images": None, "dataset": "voc21"}, True),
        (None, "", {"data_root": Path("x")}, True),
        ("demo", "", {}, False),
        ("voc21", "", {}, True),
        (None, "sclip: {model: ViT-B-16}", {}, False),
        (None, "sclip: {images: x}", {}, True),
        (None, "sclip: {images: x}", {"artifacts": Path("y")}, False),
    ],
)
def test_what_names_images(preset, file, given, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if file:
        Path("pipeline.yaml").write_text(file)
    assert module.names_images(preset, None, given) is own
    if "artifacts" in given:  # a file that is given by name says more than one that lies there
        assert module.names_images(preset, Path("pipeline.yaml"), given)


class TestBrowser:
    @pytest.fixture
    def opened(self, monkeypatch):
        """What was started."""
        found = []
        monkeypatch.setattr(module.subprocess, "Popen", lambda command, **how: found.append(how))
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(module.sys, "platform", "linux")
        return found

    def test_none_in_a_terminal(self, opened):
        module.open_browser("http://x")
        assert not opened

    def test_one_with_windows_prints_nothing(self, opened, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":0")
        module.open_browser("http://x")
        assert opened[0]["stdout"] == opened[0]["stderr"] == subprocess.DEVNULL

    def test_failures_are_ignored(self, monkeypatch):
        def fail(*_, **__):
            raise OSError

        monkeypatch.setattr(module.subprocess, "Popen", fail)
        monkeypatch.setenv("BROWSER", "x")
        module.open_browser("http://x")

    def test_it_comes_in_once_with_another_token(self, process, tmp_path, monkeypatch):
        """Arguments of a process can be read by all users of a machine."""
        seen = tmp_path / "seen"
        browser = tmp_path / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {seen}.new; mv {seen}.new {seen}\n')
        browser.chmod(0o755)
        monkeypatch.setenv("BROWSER", f"{browser} %s")
        command = FAKE.format(kind="Fake")
        started = subprocess.Popen(
            [sys.executable, "-c", command, "explore", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            address, until = line_of(started).strip(), time.monotonic() + SECONDS
            while not seen.exists():
                assert time.monotonic() < until
                time.sleep(0.02)
            once = seen.read_text().strip()
            assert once.partition("=")[0] == address.partition("=")[0]
            assert once != address
            assert [httpx.get(once).status_code for _ in range(2)] == [303, 403]
        finally:
            started.kill()
            started.communicate()


@pytest.mark.slow
def test_own_images_for_real(small, tmp_path):
    """With the tiny CLIP and no fake: labels of a picture, and the end."""
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    where = [f"--images={small / 'images'}", f"--artifacts={tmp_path / 'artifacts'}"]
    started = start("explore", "--no-open", "--port=0", *where, *flags)
    try:
        address = line_of(started).strip()
        base = address.partition("?")[0]
        with httpx.Client(timeout=SECONDS) as client:
            client.get(address)
            collection = client.get(f"{base}api/about").json()["collections"][0]
            assert collection["images"] == 3
            asked = f"{base}api/images?collection={collection['id']}"
            image = client.get(asked).json()["images"][0]["id"]
            view = {"collection": collection["id"], "image": image, "words": "sky; grass"}
            body = {"view": view, "client": "tab"}
            answer = client.post(f"{base}api/labels", json=body).content
        *_, last = (line for line in answer.split(b"\n") if line.startswith(b'{"kind"'))
        assert last.startswith(b'{"kind": "answer"')
        code, out, err, seconds = end(started, TERM)
        assert (code, out) == (143, "")
        assert err.endswith(STOPPED)
        assert "Traceback" not in err
        assert seconds < CLEAN
    finally:
        started.kill()
        started.communicate()
