"""Prefect's own server: proxies, homes and databases that would stand in its way."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
import warnings

import httpx
import pytest

from flows import server
from sclip_core import UserError

from .conftest import flags
from .test_signals import start

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def environment(monkeypatch):
    """No proxy and no setting of Prefect's; what the code under test sets is taken back."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    with warnings.catch_warnings():
        yield monkeypatch
    os.environ.clear()
    os.environ.update(before)


class TestLoopback:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    @pytest.mark.parametrize("given", ["", "example.com", "example.com, .firm.org"])
    def test_no_proxy_is_asked_for_it(self, environment, host, given):
        environment.setenv("http_proxy", CLOSED)
        environment.setenv("no_proxy", given)
        assert not urllib.request.proxy_bypass(host)
        server.exempt_loopback(os.environ)
        assert urllib.request.proxy_bypass(host)
        assert not urllib.request.proxy_bypass("hub.org")
        assert bool(urllib.request.proxy_bypass("example.com")) == bool(given)

    def test_both_spellings_are_kept(self):
        both = {"NO_PROXY": "a.org,127.0.0.1", "no_proxy": "b.org"}
        server.exempt_loopback(both)
        assert both["NO_PROXY"] == both["no_proxy"] == "a.org,127.0.0.1,b.org,localhost,::1"

    def test_no_proxy_at_all_stays(self):
        none = {"NO_PROXY": "*"}
        server.exempt_loopback(none)
        assert none == {"NO_PROXY": "*"}

    @pytest.mark.parametrize("proxy", ["foo:bar", "ftp://127.0.0.1:9"])
    def test_proxies_that_no_client_can_use(self, environment, proxy):
        environment.setenv("all_proxy", proxy)
        with pytest.raises((ValueError, httpx.InvalidURL), match=r"proxy URL|port"):
            httpx.Client()
        server._reachable_by_clients()
        httpx.Client().close()


class TestHome:
    def test_a_file_in_the_way(self, environment, tmp_path):
        (tmp_path / "file").touch()
        environment.setenv("PREFECT_HOME", str(tmp_path / "file"))
        server.prepare(tmp_path / "artifacts")
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "artifacts" / "prefect")

    def test_a_user_without_a_home(self, environment, tmp_path):
        environment.setattr(os.path, "expanduser", lambda path: path)  # as where HOME is not set
        server.prepare(tmp_path)
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")

    def test_one_that_is_there_stays(self, environment, tmp_path):
        environment.setenv("PREFECT_HOME", str(tmp_path))
        server.prepare(tmp_path / "artifacts")
        assert os.environ["PREFECT_HOME"] == str(tmp_path)


class TestFaults:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (httpx.ConnectError("[Errno 111] refused\nmore"), "[Errno 111] refused"),
            (RuntimeError("Failed to reach API at http://h/api/"), "Failed to reach API at"),
            (httpx.ReadTimeout(""), "ReadTimeout"),
            (RuntimeError("of our own"), None),
            (UserError("a mistake"), None),
        ],
    )
    def test_of_prefect_or_not(self, error, reason):
        found = server.fault_of_prefect(error)
        assert found is None if reason is None else found.startswith(reason)

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("Traceback:\n  File\nx.CommandError: no revision\n\nERROR: done", "ERROR: done"),
            (
                "x.CommandError: no revision\nERROR:    Application startup failed. Exiting.\n",
                "x.CommandError: no revision",
            ),
            ("Killed", "Killed"),
            ("", ""),
        ],
    )
    def test_the_last_words_of_a_server(self, said, expected):
        assert server.last_words(said) == expected

    def test_a_server_that_ends(self, environment, tmp_path):
        """Its own reason, at once, and not when the time for its start is up."""
        code = "import sys; print('sqlite3.OperationalError: disk I/O error', file=sys.stderr); 1/0"

        def process(port, said):
            return subprocess.Popen([sys.executable, "-S", "-c", code], stderr=said)

        environment.setattr(server.Server, "current", None)  # without other tests' servers
        environment.setattr(server, "_process", process)
        with pytest.raises(UserError, match=r"ZeroDivisionError: .*--direct"):
            server._start(tmp_path, type("Patience", (), {"value": lambda: 60}))

    @pytest.mark.parametrize(
        ("said", "tries"), [("[Errno 98] address already in use", server.TRIES), ("no disk", 1)]
    )
    def test_another_port_where_one_was_taken(self, environment, tmp_path, said, tries):
        class Ended:
            """A process that could not have its port."""

            def poll(self):
                return 1

        started = []

        def process(port, file):
            started.append(port)
            file.write(f"ERROR: {said}\n")
            file.flush()
            return Ended()

        environment.setattr(server.Server, "current", None)
        environment.setattr(server, "_process", process)
        with pytest.raises(UserError, match=re.escape(said)):
            server._start(tmp_path, type("Patience", (), {"value": lambda: 60}))
        assert len(started) == tries

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_what_to_do_about_its_database(self, environment, tmp_path, is_ours):
        from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

        place = tmp_path if is_ours else "/other"
        url = f"sqlite+aiosqlite:///{place}/prefect.db"
        with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
            advice = server._advice(tmp_path)
        expected = f"delete its database in {tmp_path}," if is_ours else "see PREFECT_SERVER_DATA"
        assert advice.startswith(expected)

    def test_no_two_servers_start_at_once(self, tmp_path):
        with (
            server._one_at_a_time(tmp_path),
            (tmp_path / "starting.lock").open("w") as other,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (tmp_path / "starting.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @pytest.mark.parametrize("in_environment", [True, False])
    def test_where_the_url_of_a_server_is_from(self, environment, tmp_path, in_environment):
        from prefect.settings import PREFECT_API_URL, temporary_settings

        url = "http://127.0.0.1:9/api"
        if in_environment:
            environment.setenv("PREFECT_API_URL", url)
        advice = "unset PREFECT_API_URL" if in_environment else "leave it out of Prefect's profile"
        with (
            pytest.raises(UserError, match=f": start it, {advice}, or run"),
            temporary_settings({PREFECT_API_URL: url}),
            server.served(tmp_path),
        ):
            raise httpx.ConnectError("gone")

    def test_heartbeats_are_for_servers_that_stay(self, environment, tmp_path):
        from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

        environment.setattr(server, "_start", lambda *_: None)
        for url, expected in ((None, None), ("http://127.0.0.1:1/api", 180)):
            with temporary_settings({PREFECT_API_URL: url}), server.served(tmp_path):
                assert get_current_settings().flows.heartbeat_frequency == expected

    @pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/api"])
    def test_whose_server_it_is(self, environment, tmp_path, url):
        from prefect.settings import PREFECT_API_URL, temporary_settings

        environment.setattr(server, "_start", lambda *_: None)
        named = url or "Prefect's own server"
        with (
            pytest.raises(UserError, match=rf"{named}.* failed \(gone\): .*--direct"),
            temporary_settings({PREFECT_API_URL: url}),
            server.served(tmp_path),
        ):
            raise httpx.ConnectError("gone")


def run(own, tmp_path, **variables):
    """``sclip run`` with Prefect, in a process of its own: (exit code, last line of its words)."""
    process = start("run", *flags(own, tmp_path / "artifacts"), **variables)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, [*err.splitlines(), ""][-2], out


@pytest.mark.flow
@pytest.mark.slow
class TestCommand:
    def test_a_proxy_and_a_database_of_a_later_prefect(self, small, tmp_path):
        home = tmp_path / "home"
        home.mkdir()
        later(home / "prefect.db")
        proxies = {name: CLOSED for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY")}
        code, said, out = run(small, tmp_path, PREFECT_HOME=str(home), **proxies)
        assert (code, "mIoU" in out) == (0, True), said
        assert list((tmp_path / "artifacts" / "prefect").glob("*/prefect.db"))

    def test_a_home_that_cannot_be_made(self, small, tmp_path):
        (tmp_path / "file").touch()
        code, said, _ = run(small, tmp_path, PREFECT_HOME=str(tmp_path / "file"))
        assert code == 0, said

    def test_our_database_is_of_a_later_prefect(self, small, tmp_path):
        from prefect import __version__

        home = tmp_path / "artifacts" / "prefect" / __version__
        home.mkdir(parents=True)
        later(home / "prefect.db")
        code, said, _ = run(small, tmp_path)
        assert code == 2
        assert said.startswith("sclip: Prefect's own server does not start (alembic")
        assert "fffff0000fff" in said
        assert "--direct" in said


def later(path):
    """A database whose version no Prefect here knows."""
    with sqlite3.connect(path) as database:
        database.execute("create table alembic_version (version_num varchar(32) primary key)")
        database.execute("insert into alembic_version values ('fffff0000fff')")
