"""What a stage would do, and why: the difference from what was computed before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sclip_core.config.own_code import file_of
from sclip_core.progress import Status
from sclip_core.store import places
from sclip_core.store.artifact import identity_in
from sclip_core.store.ledger_rows import there

if TYPE_CHECKING:
    from sclip_core.pipeline.stage import Stage


def status_of(stage: Stage) -> Status:
    """What executing a stage would do, and why."""
    wanted = stage.wanted()
    if stage.forced:
        done = len(wanted) - len(stage.missing(wanted))
    else:
        done = int(there(stage.rows(), wanted).sum())
    missing = len(wanted) - done
    state: Literal["complete", "partial", "missing"] = "partial"
    if missing == 0:
        state, reason = "complete", f"all {len(wanted)} {stage.unit} are there"
    elif stage.forced:
        state, reason = "missing", "asked for by --force, or reads a stage that is"
    elif done:
        reason = f"{missing} of {len(wanted)} {stage.unit} are not there yet"
    else:
        state, reason = "missing", _difference(stage)
    if stage.part:
        reason = f"{stage.part}: {reason}"
    path = str(stage.artifact.path)
    return Status(stage.name, stage.key, state, reason, path, done, len(wanted))


def _difference(stage: Stage) -> str:
    """What sets a stage's artifact apart from the most similar one of the stage."""
    path = stage.artifact.path
    if places.is_there(path):
        return f"these settings are new for these {stage.unit}"
    identity = _flat(stage.artifact.identity.as_dict())
    files = _code_files(stage)
    differences: list[dict[str, str]] = []
    for manifest in (each / "manifest.json" for each in places.children(path.parent)):
        try:
            other = _flat(identity_in(manifest).as_dict())
        except (OSError, ValueError):
            continue
        changed = [
            key
            for key in identity
            if other.get(key) != identity[key] and not (key in files and key not in other)
        ]
        differences.append(
            {key: _change(key, other.get(key), identity[key], files) for key in changed}
        )
    if not differences:
        return "nothing computed yet"
    # Of those that are as similar one where only a user's code is another.
    fewest = min(differences, key=lambda found: (len(found), not found.keys() <= files.keys()))
    return "changed: " + ", ".join(dict.fromkeys(fewest.values()))


def _code_files(stage: Stage) -> dict[str, str]:
    """The names of users' files, by the settings of a stage that are digests of their code."""
    source = getattr(stage.run.models.source, "masks", None)
    of_masks = file_of(source.function) if source is not None else None
    files = stage.run.chosen.code_files()
    return {**files, "source_code": Path(of_masks).name} if of_masks else files


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and upstream keys side by side."""
    flat = {"version": identity.get("version"), "weights": identity.get("weights_sha256")}
    upstream = {f"another {stage}": key for stage, key in identity.get("upstream", {}).items()}
    settings = dict(identity.get("settings", {}))
    steps = [[step] if isinstance(step, str) else step for step in settings.get("after", ())]
    if steps:  # of a user's own: name, code, parameters
        settings["after"] = [[step[0], *step[2:]] for step in steps]
        settings |= {f"{step[0]}_code": step[1] for step in steps if len(step) > 1}
    return {**flat, **settings, **upstream}


def _change(name: str, before: Any, now: Any, files: Mapping[str, str]) -> str:
    """``pamr_steps 10 -> 5``; what is long, or a key, by name alone; code by its file."""
    if name in files:
        return files[name]
    text = f"{name} {before} -> {now}"
    return name if len(text) > 60 or name.startswith("another ") else text
