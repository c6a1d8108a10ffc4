"""What commands have in common: their switches, and the settings of the runs that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from flows.parameters import put_switches
from sclip_core.config import (
    SEVERAL,
    Protocol,
    Settings,
    UserError,
    resolve_several,
    several_values,
)
from sclip_core.config.paths import local
from sclip_core.config.places import ObjectPath, place_of

DEFAULT_CONFIG = Path("pipeline.yaml")

Switch = bool | None
Pamr = Annotated[
    Switch,
    Parameter(
        name=("--pamr", "--use-pamr"),
        negative=("--no-pamr", "--no-use-pamr"),
        help="Refine with PAMR, 10 steps unless --pamr-steps says otherwise.",
    ),
]
Slide = Annotated[
    Switch,
    Parameter(
        name=("--slide", "--slide-inference"),
        negative=("--no-slide", "--no-slide-inference"),
        help="Windows, or the whole image at once.",
    ),
]
UseSam = Annotated[
    bool,
    Parameter(help="Fill SAM's masks with labels: --mode hybrid --proposals sam.", negative=()),
]
Direct = Annotated[bool, Parameter(help="The same stages without Prefect.", negative=())]
Shard = Annotated[
    str | None,
    Parameter(
        help="Compute one part alone, 0/8 to 7/8, and write no results: a job for each part, and "
        "then sclip run without --shard, which finds all parts. [all]"
    ),
]
Config = Annotated[Path | None, Parameter(help="Settings file. [pipeline.yaml, if it exists]")]
Preset = Annotated[
    str | None,
    Parameter(help="A benchmark, demo, vitl14-336, hybrid, hybrid-8, baseline; or several: a,b."),
]


def refuse_urls(value: object) -> None:
    """See that no path of a command is a URL.

    Args:
        value: of a parameter; a list has several.

    Raises:
        UserError: one is.
    """
    for path in value if isinstance(value, list | tuple) else [value]:
        if isinstance(path, Path):
            local(path)


def place(_: object, tokens: Sequence[Token]) -> Path | ObjectPath:
    """A folder, or a place in object storage, as typed: cyclopts calls it with the value.

    Raises:
        ValueError: a URL that cannot be used.
    """
    try:
        return place_of(tokens[0].value)
    except ValueError as error:
        raise ValueError(f"expected a folder or s3://bucket/prefix, but it {error}.") from None


def settings_file(config: Path | None) -> Path | None:
    """The settings file of a command: the one given, else pipeline.yaml where there is one."""
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)


def settings_of(
    preset: str | None,
    config: Path | None,
    pamr: Switch,
    slide: Switch,
    use_sam: bool,
    given: dict[str, Any],
) -> list[Settings]:
    """The settings of a command's runs, its switches put into them.

    Values that change no label are one run, and a line on standard error says so.
    """
    given = put_switches({"pamr_steps": pamr, "slide_crop": slide}, given, _as_typed)
    if use_sam:
        source, mode = given.get("proposals") or "sam", given.get("mode") or "hybrid"
        if source != "sam" or set(several_values("mode", mode)) == {"dense"}:
            said = f"--proposals {source}" if source != "sam" else f"--mode {mode}"
            raise UserError(f"--use-sam and {said} conflict: use only one")
        if given.get("masks") is not None:
            raise UserError("--use-sam and --masks conflict: use only one")
        given = {**given, "proposals": source}
    if given.get("images") is not None and given.get("data_root") is not None:
        raise UserError(
            "--images and --data-root conflict: --images DIR --classes FILE [--labels DIR] "
            "is for images of your own, --dataset NAME --data-root DIR for a benchmark"
        )
    file = settings_file(config)
    notes: list[str] = []
    several = resolve_several(file, preset, notes.append, **given)
    more: dict[str, Any] = {}
    if pamr and not any(settings.pamr_steps for settings in several):
        more["pamr_steps"] = 10
    if slide and not several[0].slide_crop:
        more["slide_crop"] = Protocol().slide_crop
    if more:
        notes.clear()
        several = resolve_several(file, preset, notes.append, **{**given, **more})
    for line in notes:
        note(line)
    return several


def _as_typed(name: str, value: Any) -> str:
    """A switch or a setting as it stands in a command line."""
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if name in Settings.model_fields else flag if value else f"--no-{name}"


def note(line: str) -> None:
    """Say something that the user should know before the command's work."""
    from flows.cli.console import ConsoleReporter

    ConsoleReporter().note(line)


def only_one(several: list[Settings]) -> Settings:
    """The settings of a command for one run."""
    if len(several) > 1:
        names = [n for n in SEVERAL if len({getattr(s, n) for s in several}) > 1]
        raise UserError(f"several values of {' and '.join(names)}: this command takes one of each")
    return several[0]
