"""The Prefect server of a command: the user's own, or one that lives as long as the process.

Ours listens on 127.0.0.1 and has its database below the artifacts, so that neither a proxy nor a
database of another Prefect nor a home folder that cannot be written stands in its way.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sclip_core.config.errors import UserError

DEFAULTS = {  # for a run in this process; what is set already stays
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # we report progress and faults ourselves
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",  # profiles of Prefect 2 leave it out
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_PROXY = ("NO_PROXY", "no_proxy")
OF_PREFECT = ("prefect", "httpx", "httpcore", "websockets", "sqlalchemy", "anyio", "h11")
DIRECT = "or run the same stages without Prefect: --direct"
FOLDER = "prefect"  # below the artifacts
MADE = "made"  # a file beside a database that a server has made
TRIES = 3  # ports, of which another process may take one before the server does
LONGEST = 200  # characters of a reason
# python -m uvicorn, but that it seldom searches for garbage, of which its imports make none
UVICORN = "import gc; gc.set_threshold(100_000, 50, 50); from uvicorn.main import main; main()"
STOPPING = 5  # seconds that a server may take to end


def prepare(artifacts: Path) -> None:
    """Set what Prefect reads of the environment when it is imported.

    Args:
        artifacts: of the run.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not _has_home():  # and so no profile
        os.environ["PREFECT_HOME"] = str(artifacts.absolute() / FOLDER)
    exempt_loopback(os.environ)
    # FastAPI silences this of the server's own code, for a moment and not for other threads' sake.
    warnings.filterwarnings("ignore", "The 'alias' attribute with value", UserWarning)
    warnings.filterwarnings("ignore", "Failed to create the Prefect home", UserWarning)


def check_settings() -> None:
    """Import Prefect, which reads its settings.

    Raises:
        UserError: it is not installed, or its profiles or variables are not valid.
    """
    try:
        from prefect.settings import get_current_settings

        get_current_settings()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "prefect":
            raise
        raise UserError(
            f"Prefect is not installed: pip install 'sclip-benchmark[prefect]', {DIRECT}"
        ) from None
    except Exception as error:  # of a TOML file, of a validator of Prefect's
        reason = " ".join(str(error).partition("For further information")[0].split())[:LONGEST]
        raise UserError(
            f"Prefect's settings cannot be read ({reason}): mend its profiles.toml, prefect.toml "
            f"or PREFECT_ variables, {DIRECT}"
        ) from None


def _has_home() -> bool:
    """Whether Prefect's home is a folder that can be read."""
    try:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    except RuntimeError:  # a user without a home, as in some containers
        return False
    return os.path.isdir(home) and os.access(home, os.R_OK | os.X_OK)


def exempt_loopback(environment: MutableMapping[str, str]) -> None:
    """Let no proxy be asked for this machine's own addresses; other hosts stay as they are."""
    named = [environment[name] for name in NO_PROXY if environment.get(name)]
    hosts = [host.strip() for hosts in named for host in hosts.split(",") if host.strip()]
    if "*" not in hosts:
        for name in NO_PROXY:
            environment[name] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))


@contextmanager
def served(artifacts: Path) -> Iterator[None]:
    """See that the block has a server, and turn faults of Prefect's into one line.

    Args:
        artifacts: of the run; the database of a server of ours lies below it.

    Raises:
        UserError: the server cannot be started or reached, with its own reason.
    """
    from prefect import settings

    url = settings.PREFECT_API_URL.value()
    try:
        if url:
            yield
            return
        with settings.temporary_settings(_ours(artifacts)):
            url_of_ours = _start(
                _home(artifacts), settings.PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS
            )
            # as if it were the user's: looking for one of its own, Prefect would import its server
            with settings.temporary_settings({settings.PREFECT_API_URL: url_of_ours}):
                yield
    except Exception as error:
        reason = fault_of_prefect(error)
        if reason is None:
            raise
        where = f"the server of PREFECT_API_URL, {url}," if url else "Prefect's own server"
        of_profile = "leave it out of Prefect's profile"
        unset = "unset PREFECT_API_URL" if "PREFECT_API_URL" in os.environ else of_profile
        advice = f"start it, {unset}" if url else "run again"
        raise UserError(f"{where} failed ({reason}): {advice}, {DIRECT}") from error


def fault_of_prefect(error: BaseException) -> str | None:
    """The reason of an error that Prefect or its server is the cause of; None: another error."""
    package = type(error).__module__.partition(".")[0]
    unreached = isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")
    if package in OF_PREFECT or unreached:
        return shortened(str(error)) or type(error).__name__
    return None


def shortened(text: str) -> str:
    """The first line of a message, cut where it is long."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:LONGEST]


def _home(artifacts: Path) -> Path:
    """Where our server keeps its database: one for each version, for none reads a later one's."""
    from importlib.metadata import version

    return artifacts.absolute() / FOLDER / version("prefect")


def _ours(artifacts: Path) -> dict[Any, Any]:
    """Prefect's settings where the server is ours.

    Nobody watches a server that lives as long as the run: it needs no heartbeats, for whose thread
    the flow's end would wait, up to a second.
    """
    from prefect import settings

    return {
        settings.PREFECT_HOME: _home(artifacts),
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }


class Server:
    """A process of Prefect's server, which ends with this process."""

    current: Server | None = None

    def __init__(self) -> None:
        """Start the process; it takes seconds until it answers."""
        self.port = _free_port()
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = _process(self.port, self._said)
        self._owner = os.getpid()
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def reason(self) -> str:
        """What it said last."""
        self._said.seek(0)
        return last_words(self._said.read())

    def stop(self) -> None:
        """End the process, unless this one is a fork of the one that began it."""
        if os.getpid() != self._owner or not self.runs:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()


def begin(artifacts: Path) -> None:
    """Start our server, if the run needs one, and do not wait for it: much is imported meanwhile.

    It is started where an earlier one has made its database alone: a mistake in the command's
    input is then found before anything is written. What is wrong with Prefect is said later.

    Args:
        artifacts: of the run.
    """
    prepare(artifacts)
    with suppress(UserError, OSError):
        check_settings()
        from prefect import settings

        home = _home(artifacts)
        if settings.PREFECT_API_URL.value() or not (home / MADE).is_file():
            return
        with settings.temporary_settings(_ours(artifacts)):
            if Server.current is None and _is_ours(home):
                Server.current = Server()


def _start(home: Path, patience: Any) -> str:
    """Start our server, unless it has been started already; gives its URL once it answers.

    Raises:
        UserError: it ended or did not answer in time.
    """
    from sclip_core.store.files import writable_folder

    _reachable_by_clients()
    begun = Server.current
    if begun and _answers(begun, patience.value()):
        return begun.url
    writable_folder(home)
    with _one_at_a_time(home):
        for attempt in range(TRIES):
            server = Server()
            if _answers(server, patience.value()):
                Server.current = server
                if _is_ours(home):
                    (home / MADE).touch()
                return server.url
            code = server.process.poll()
            server.stop()
            reason = server.reason()
            if "address already in use" not in reason or attempt == TRIES - 1:
                break
    ended = (
        f"it ended with {code}" if code is not None else f"no answer in {patience.value():.0f} s"
    )
    raise UserError(f"Prefect's own server does not start ({reason or ended}): {_advice(home)}")


def _is_ours(home: Path) -> bool:
    """Whether the database of a server lies in its home, and not where a setting says."""
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    return str(home) in str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _advice(home: Path) -> str:
    if not _is_ours(home):
        return f"see PREFECT_SERVER_DATABASE_CONNECTION_URL, {DIRECT}"
    return f"delete its database in {home}, {DIRECT}"


def _process(port: int, said: IO[str]) -> subprocess.Popen[bytes]:
    """Prefect's server as Prefect starts it, but that its messages go to a file of ours."""
    import prefect
    from prefect.settings import get_current_settings

    own = get_current_settings().to_environment_variables(exclude_unset=True)
    serve = "--factory prefect.server.api.server:create_app --log-level error --lifespan on"
    place = ["--app-dir", str(Path(prefect.__file__).parents[1]), "--host", "127.0.0.1"]
    return subprocess.Popen(
        [sys.executable, "-c", UVICORN, *serve.split(), *place, "--port", str(port)],
        env={
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",  # it has no use for them
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            **own,
        },
        stderr=said,
        stdout=said,
    )


def _answers(server: Server, patience: float) -> bool:
    """Whether a server that is starting answers; False: it ended, or it takes too long."""
    import httpx

    end = time.monotonic() + patience
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < end:
            if not server.runs:
                return False
            with suppress(httpx.HTTPError):
                if client.get(f"{server.url}/health").status_code == 200:
                    return True
            time.sleep(0.05)
    return False


def _reachable_by_clients() -> None:
    """Turn off proxies that no client can be made for: of a kind unknown here, or misspelt.

    A client is made for them whatever it is to reach, so loopback's being exempt is not enough.
    """
    import httpx

    try:
        httpx.Client().close()
    except Exception:  # no library for SOCKS, no such scheme, no such port
        for name in NO_PROXY:
            os.environ[name] = "*"


def last_words(text: str) -> str:
    """What a Python process said last that is neither indented nor empty, cut where it is long."""
    lines = [line for line in text.splitlines() if line[:1].strip()]
    named = [line for line in lines if ": " in line and "Application startup failed" not in line]
    return (named or lines or [""])[-1].strip()[:LONGEST]


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Hold the lock of a home: of two servers that make its database at once, one would fail."""
    import fcntl

    with (home / "starting.lock").open("w") as lock:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
