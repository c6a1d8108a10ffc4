"""What a worker executes, as plain data: a few hundred bytes that any process can take.

The process that runs a command has its runs open already. Any other one opens them from the
settings when the first piece of work comes, and keeps them for the next.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from sclip_core.config import Settings
from sclip_core.config.plugins import load_plugins, plugin_paths
from sclip_core.progress import Outcome

if TYPE_CHECKING:
    from sclip_core.pipeline.pipeline import Pipeline


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

    def of_shard(self, shard: int, shards: int) -> Work:
        """One of so many equal parts of the stage's rows."""
        return replace(self, shard=shard, shards=shards)


def packed(settings: Sequence[Settings]) -> str:
    """The settings of several runs as short JSON; ``unpacked`` is the inverse."""
    values = [one.model_dump(mode="json", exclude_unset=True) for one in settings]
    first = values[0]
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in values)}
    own = [{k: v for k, v in one.items() if k not in common} for one in values]
    return json.dumps([common, own], separators=(",", ":"))


def unpacked(text: str) -> list[Settings]:
    """The settings that ``packed`` was given."""
    common, own = json.loads(text)
    for one in own:  # the process that took the work has not seen the user's files
        load_plugins(plugin_paths(common.get("plugins")), {**common, **one})
    return [Settings.checked({**common, **one}) for one in own]


_opened: dict[str, Sequence[Pipeline]] = {}  # by the id of their command
_opening = Lock()


@contextmanager
def at_hand(pipelines: Sequence[Pipeline]) -> Iterator[None]:
    """Give the stages of a command their work, and let this process find them by it."""
    command, settings = uuid.uuid4().hex, packed([each.run.settings for each in pipelines])
    for number, pipeline in enumerate(pipelines):
        for stage in pipeline:
            stage.work = Work(command, settings, number, stage.label)
    _opened[command] = pipelines
    try:
        yield
    finally:
        del _opened[command]


def run_shard(work: Work) -> Outcome:
    """Execute a piece of work.

    Raises:
        UserError: what the stage raises; in a process that has to open the runs, also settings,
            a dataset or a model that are not there.
    """
    stage: Any = _pipelines(work)[work.run].stage(work.stage)
    outcome: Outcome = stage.execute(work.shard, work.shards)
    return outcome


def _pipelines(work: Work) -> Sequence[Pipeline]:
    """The pipelines of a command, opened once a process."""
    from sclip_core.pipeline.pipeline import Pipeline, mark_in_use
    from sclip_core.pipeline.run import Run

    with _opening:
        if work.command not in _opened:
            runs = Run.several(unpacked(work.settings))
            pipelines = Pipeline.of_several(runs)
            mark_in_use(pipelines)  # until the process ends
            _opened[work.command] = pipelines
        return _opened[work.command]
