"""Whether a server can be reached, within seconds: libraries that download try for minutes."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable

PATIENCE = 5.0  # seconds for an answer
SLACK = 1.0  # seconds more for what has no limit of its own, such as looking up a name


def fault_within(ask: Callable[[float], object], seconds: float = PATIENCE) -> str | None:
    """Why a server cannot be reached; None: it answers.

    Args:
        ask: asks it; given the seconds that it may take, and raises what is wrong.
        seconds: until it counts as out of reach, whatever it is that takes so long.
    """
    faults: list[str] = []

    def asked() -> None:
        """Keep what is raised: the thread has nobody to tell."""
        try:
            ask(seconds)
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            faults.append(said[0][:200])

    thread = threading.Thread(target=asked, name="sclip-reachable", daemon=True)
    thread.start()
    thread.join(seconds + SLACK)
    if thread.is_alive():
        return f"no answer within {seconds:.0f} s"
    return faults[0] if faults else None


def url_fault_within(url: str, seconds: float = PATIENCE) -> str | None:
    """Why a URL cannot be reached by the standard library; None: there is an answer, whichever."""

    def ask(limit: float) -> None:
        """Ask for its header; a refusal is an answer."""
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=limit).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()

    return fault_within(ask, seconds)
