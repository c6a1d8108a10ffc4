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
from typing import IO, TYPE_CHECKING, Any

from sclip_core.config import UserError

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

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
TRIES = 3  # ports, of which another process may take one before the server does
LONGEST = 200  # characters of a reason


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
        # Nobody watches a server that lives as long as the run: it needs no heartbeats, for whose
        # thread the flow's end would wait, up to a second.
        ours = {
            settings.PREFECT_HOME: _home(artifacts),
            settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        }
        with settings.temporary_settings(ours):
            _start(_home(artifacts), settings.PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS)
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


def _start(home: Path, patience: Any) -> None:
    """Start our server where Prefect looks for the one of this process; wait until it answers.

    Raises:
        UserError: it ended or did not answer in time.
    """
    from sclip_core.store.files import writable_folder

    _reachable_by_clients()
    loaded = sys.modules.get("prefect.server.api.server")
    if loaded and loaded.SubprocessASGIServer().running:
        return
    writable_folder(home)
    with _one_at_a_time(home):
        for attempt in range(TRIES):
            port = _free_port()
            with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
                process = _process(port, said)
                # It takes seconds to import, here as in the server, and so while that starts.
                from prefect.server.api.server import SubprocessASGIServer

                server = SubprocessASGIServer()
                server.port, server.server_process = port, process
                atexit.register(server.stop)
                if _answers(server, patience.value()):
                    server.running = True
                    return
                code = process.poll()
                server.stop()
                said.seek(0)
                reason = last_words(said.read())
            if "address already in use" not in reason or attempt == TRIES - 1:
                break
    ended = (
        f"it ended with {code}" if code is not None else f"no answer in {patience.value():.0f} s"
    )
    raise UserError(f"Prefect's own server does not start ({reason or ended}): {_advice(home)}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _advice(home: Path) -> str:
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    if str(home) not in str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()):
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
        [sys.executable, "-m", "uvicorn", *serve.split(), *place, "--port", str(port)],
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


def _answers(server: SubprocessASGIServer, patience: float) -> bool:
    """Whether a server that is starting answers; False: it ended, or it takes too long."""
    import httpx

    end = time.monotonic() + patience
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < end:
            if server.server_process is None or server.server_process.poll() is not None:
                return False
            with suppress(httpx.HTTPError):
                if client.get(f"{server.api_url}/health").status_code == 200:
                    return True
            time.sleep(0.1)
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
