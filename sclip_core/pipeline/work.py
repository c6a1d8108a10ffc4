"""What a worker executes, as plain data: a few hundred bytes that any process can take.

The process that runs a command has its runs open already. Any other one opens them from the
settings when the first piece of work comes, and keeps them until that of another command comes.
What it then has to tell, it tells as plain data too.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from sclip_core.config import Settings, UserError
from sclip_core.config.paths import is_url
from sclip_core.config.plugins import load_plugins, plugin_paths
from sclip_core.config.roles import plain_types
from sclip_core.progress import Outcome, Silent

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.store.leases import Lease, NoLease

LOOK = 0.5  # seconds between looks whether the command still wants its work
# Settings that are a path or the name of something.
NAMES_OR_PATHS = ("model", "pretrained", "proxy_model", "proxy_weights", "sam_encoder", "sam_model")


@dataclass(frozen=True)
class Work:
    """A stage of one of a command's runs, or a shard of it."""

    command: str
    """Id of the command, made anew each time one begins."""
    settings: str
    """The settings of all its runs: JSON of what they have in common, and of what each has."""
    run: int
    """Which of the runs, from 0."""
    stage: str
    """Name of the stage, and its part: ``trunk:h4``."""
    shard: int = 0
    shards: int = 1
    folder: str = "."
    """Where the command was started, which its relative paths begin at."""
    owner: str = ""
    """Name of the command's lease: another process ends its work when that has ended."""
    away: bool = False
    """Whether it is for a process of the command's runner."""

    def of_shard(self, shard: int, shards: int) -> Work:
        """One of so many parts of the stage's rows."""
        return replace(self, shard=shard, shards=shards)


@dataclass(frozen=True)
class Report:
    """What became of a piece of work."""

    outcome: Outcome
    elsewhere: bool = False
    """Whether another process did it; what follows is only then of interest."""
    failures: tuple[dict[str, str], ...] = ()
    """Of each run of the command: the images that cannot be used, and why."""
    files: dict[str, str] = field(default_factory=dict)
    """The same of files that no run of it can use."""
    faults: tuple[str, ...] = ()
    """What is left out of the ground truth of images that are scored."""
    notes: tuple[str, ...] = ()
    """What the user should know."""
    failed: tuple[str, ...] = ()
    """Rows of the stage that cannot be computed."""
    made: tuple[tuple[int, str, int, float], ...] = ()
    """Rows that the pass made for other stages: run, stage, how many, seconds."""

    @property
    def state(self) -> str:
        """``cached`` where nothing had to be computed, else ``computed``."""
        return self.outcome.state


@dataclass
class _Opened:
    """The runs of a command that this process has open."""

    pipelines: Sequence[Pipeline]
    own: bool
    """Whether the command runs in this process."""
    active: int = 0
    """Pieces of work that are being executed."""
    told: _Notes = field(default_factory=lambda: _Notes())


class _Notes(Silent):
    """Keeps what the user should know, for the report."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


def packed(settings: Sequence[Settings]) -> str:
    """The settings of several runs as short JSON; ``unpacked`` is the inverse."""
    values = [one.model_dump(mode="json", exclude_unset=True) for one in settings]
    first = values[0]
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in values)}
    own = [{k: v for k, v in one.items() if k not in common} for one in values]
    return json.dumps([common, own], separators=(",", ":"))


def unpacked(text: str, folder: str = ".") -> list[Settings]:
    """The settings that ``packed`` was given.

    Args:
        text: of ``packed``.
        folder: which relative paths begin at; where it is not the current one, they become
            absolute.
    """
    common, own = json.loads(text)
    values = [_placed({**common, **one}, folder) for one in own]
    for one in values:  # the process that took the work has not seen the user's files
        load_plugins(plugin_paths(one.get("plugins")), one)
    return [Settings.checked(one) for one in values]


def _placed(values: dict[str, Any], folder: str) -> dict[str, Any]:
    """Settings whose relative paths begin at a folder."""
    if os.path.abspath(folder) == os.getcwd():
        return values

    def placed(name: str, value: Any) -> Any:
        """The value of a setting; of a path, or of several, that it has in the folder."""
        if isinstance(value, list):
            return [placed(name, one) for one in value]
        if not isinstance(value, str) or is_url(value):
            return value
        there = os.path.join(folder, value)
        is_path = Path in plain_types(Settings.model_fields[name].annotation) or name == "artifacts"
        if name in NAMES_OR_PATHS or name == "classes":  # classes: a file, or the words themselves
            is_path = os.path.exists(there)
        return there if is_path else value

    return {name: placed(name, value) for name, value in values.items()}


_opened: dict[str, _Opened] = {}  # by the id of their command
_opening = Lock()
place: int | None = None  # number of this process among those of a runner, to choose a device by


@contextmanager
def at_hand(pipelines: Sequence[Pipeline]) -> Iterator[None]:
    """Give the stages of a command their work, and let this process find them by it."""
    command, folder = uuid.uuid4().hex, os.getcwd()
    owner = pipelines[0].run.lease.name
    # A worker may have another device, for which ``auto`` means another precision, and begin in
    # another folder, where the default artifacts would be others.
    settings = [
        each.run.settings.model_copy(
            update={"dtype": each.run.models.dtype, "artifacts": each.run.settings.artifacts}
        )
        for each in pipelines
    ]
    text = packed(settings)
    for number, pipeline in enumerate(pipelines):
        for stage in pipeline:
            stage.work = Work(command, text, number, stage.label, folder=folder, owner=owner)
    _opened[command] = _Opened(pipelines, own=True)
    try:
        yield
    finally:
        del _opened[command]


def opened_here(work: Work) -> Sequence[Pipeline] | None:
    """The pipelines of the command whose work it is, if that runs in this process."""
    opened = _opened.get(work.command)
    return opened.pipelines if opened and opened.own else None


def busy() -> bool:
    """Whether this process executes a piece of work."""
    return any(each.active for each in _opened.values())


def stop_all() -> None:
    """Let what this process computes for commands of others end after the batch that it is at."""
    for each in list(_opened.values()):
        if not each.own:
            each.pipelines[0].run.stop.set()


def run_shard(work: Work) -> Report:
    """Execute a piece of work in this process.

    Raises:
        UserError: what the stage raises; in a process that has to open the runs, also settings,
            a dataset or a model that are not there.
    """
    try:
        with _in_use(work) as opened:
            stage: Any = opened.pipelines[work.run].stage(work.stage)
            if opened.own:
                return Report(stage.execute(work.shard, work.shards))
            run = stage.run
            with _while_wanted(run.lease, work.owner, run.stop):
                outcome = stage.execute(work.shard, work.shards, _place())
            return _report(opened, stage, outcome)
    except Exception as error:
        if work.command in _opened and _opened[work.command].own:
            raise
        raise _portable(error) from None


def _portable(error: Exception) -> Exception:
    """An error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = UserError if isinstance(error, UserError) else RuntimeError
        return kind(str(error) if kind is UserError else f"{type(error).__name__}: {error}")
    return error


def _place() -> int | None:
    """The number of this process among those of a runner; None: unknown."""
    if place is None and "distributed.worker" in sys.modules:
        from distributed import get_worker

        try:
            name = str(get_worker().name)
        except ValueError:  # not in a task of Dask's
            return None
        return int(name) if name.isdigit() else None
    return place


def _report(opened: _Opened, stage: Any, outcome: Outcome) -> Report:
    """What the process of the command has to know of a stage that this one executed."""
    made = []
    for number, pipeline in enumerate(opened.pipelines):
        for other in pipeline:
            rows = getattr(other, "made", None)  # results have none
            if other is not stage and rows:
                made.append((number, other.label, len(rows), sum(rows.values())))
                rows.clear()  # from now on the command counts them
    files = stage.run.inputs.journal
    notes = tuple(dict.fromkeys(opened.told.lines))
    opened.told.lines.clear()
    return Report(
        outcome,
        elsewhere=True,
        failures=tuple(dict(each.run.journal.failures.maps[0]) for each in opened.pipelines),
        files=dict(files.failures),
        faults=tuple(files.faults),
        notes=notes,
        failed=tuple(sorted(getattr(stage, "failed", ()))),  # results have none
        made=tuple(made),
    )


@contextmanager
def _in_use(work: Work) -> Iterator[_Opened]:
    """The runs of a piece of work, opened if need be; those of older commands are given up."""
    with _opening:
        opened = _opened.get(work.command)
        if opened is None:
            _give_up_older()
            opened = _opened[work.command] = _open(work)
        if not opened.own and not opened.active:
            _use(opened)
        opened.active += 1
    try:
        yield opened
    finally:
        with _opening:
            opened.active -= 1
            if not opened.own and not opened.active:  # the command has a lease of its own
                opened.pipelines[0].run.lease.close()


def _open(work: Work) -> _Opened:
    """Open the runs of a command of another process."""
    from sclip_core.pipeline.pipeline import Pipeline
    from sclip_core.pipeline.run import Run

    told = _Notes()
    runs = Run.several(unpacked(work.settings, work.folder), told)
    opened = _Opened(Pipeline.of_several(runs), own=False, told=told)
    _use(opened)
    told.lines.clear()  # the command has said so itself
    return opened


def _use(opened: _Opened) -> None:
    """Protect what the runs use while they do."""
    from sclip_core.pipeline.pipeline import mark_in_use

    mark_in_use(opened.pipelines)
    opened.pipelines[0].run.stop.clear()


def _give_up_older() -> None:
    """Forget the runs of other commands: their models take memory."""
    idle = [name for name, each in _opened.items() if not each.own and not each.active]
    for name in idle:
        _opened.pop(name).pipelines[0].run.lease.close()


@contextmanager
def _while_wanted(lease: Lease | NoLease, owner: str, stop: Event) -> Iterator[None]:
    """Stop what is computed when the command has ended: done, stopped or killed."""
    done = Event()

    def watch() -> None:
        while not done.wait(LOOK):
            if not lease.lives(owner):
                stop.set()
                return

    if owner:
        Thread(target=watch, daemon=True, name="sclip-watch").start()
    try:
        yield
    finally:
        done.set()
