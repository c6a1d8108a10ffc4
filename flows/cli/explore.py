"""``sclip explore``: a page on this machine that shows where words are in images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.garbage import search_as_usual
from flows.cli.options import (
    Config,
    Pamr,
    Preset,
    Slide,
    note,
    only_one,
    settings_file,
    settings_of,
)
from flows.parameters import flag, with_settings
from flows.signals import end_within, ending_at_once
from sclip_core.config import UserError
from sclip_core.config.settings import preset_values, read_pipeline

if TYPE_CHECKING:
    from sclip_core.config import Settings
    from sclip_core.explore.explorer import Explorer

LOOPBACK = "127.0.0.1"
END = 1.7  # seconds after a signal by which the process has ended
NO_IMAGES = "voc21"
OWN = ("images", "dataset", "data_root")  # what names images other than those of stored runs

Host = Annotated[
    str,
    Parameter(help="Address to listen on; another one than this can be reached by other machines."),
]
Port = Annotated[
    int | None,
    Parameter(
        help="Port to listen on; 0: any that is free. [8765, or the next that is free]",
        validator=Number(gte=0, lte=65535),
    ),
]
NoOpen = Annotated[bool, Parameter(help="Open no browser.", negative=())]


@with_settings(flag)
def explore(
    *,
    host: Host = LOOPBACK,
    port: Port = None,
    no_open: NoOpen = False,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    **given: Any,
) -> int:
    """Type words and see where they are: a page on stored runs, or on a folder of images.

    It prints the address of the page, and ends on Ctrl-C.
    """
    from sclip_core.config.optional import optional

    for library in ("starlette", "uvicorn"):
        optional(library, "explore")
    from sclip_core.explore.guard import Guard
    from sclip_core.explore.serving import listening, serve

    own = names_images(preset, config, given)
    if not own:  # settings are always of some images: these are replaced by those of the runs
        given = {**given, "dataset": NO_IMAGES}
    settings = only_one(settings_of(preset, config, pamr, slide, False, given))

    def ready(guard: Guard) -> None:
        search_as_usual()
        if not guard.is_local:
            note(f"whoever has the address can use the page, also from elsewhere ({guard.names})")
        print(guard.address, flush=True)
        if not no_open:
            open_browser(guard.address_once())

    with (
        listening(host, port) as listener,  # before a model is loaded: it may be taken
        ending_at_once(),
        closing(opened(settings, own)) as explorer,
    ):
        serve(explorer, host, listener, ready, lambda number: end_within(number, END))
    return 0


def names_images(preset: str | None, config: Path | None, given: Mapping[str, Any]) -> bool:
    """Whether a command names images; else those of the runs in its artifacts are shown.

    A pipeline.yaml that merely lies in the folder does not where other artifacts are given.
    """
    named = {name for name, value in given.items() if value is not None}
    if preset:
        named |= preset_values(preset).keys()
    file = config if given.get("artifacts") is not None else settings_file(config)
    if file:
        named |= read_pipeline(file).keys()
    if "," in str(given.get("dataset") or ""):
        raise UserError(f"--dataset {given['dataset']}: a page has one, so name one")
    return not named.isdisjoint(OWN)


def opened(settings: Settings, own: bool) -> Explorer:
    """What the page asks; weights are fetched now, since later somebody waits for them."""
    from sclip_core.encoder.loading import find_model
    from sclip_core.explore.explorer import Explorer

    explorer = Explorer.open(settings, own)
    if own:
        find_model(settings.model, settings.pretrained)
    for line in explorer.notes:
        note(line)
    return explorer


def open_browser(address: str) -> None:
    """Open a page in the user's browser, if there is one with windows; nothing tells if not.

    A process of its own does it: some browsers print, and some wait until they are closed.
    """
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, variables)):
        return  # a browser in the terminal would take it over
    command = [sys.executable, "-m", "webbrowser", "-t", address]
    try:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return
