"""What a stage would do, and why: the difference from what was computed before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sclip_core.progress import Status
from sclip_core.store.artifact import identity_in

if TYPE_CHECKING:
    from sclip_core.pipeline.stage import Stage


def status_of(stage: Stage) -> Status:
    """What executing a stage would do, and why."""
    wanted = stage.wanted()
    missing = len(stage.missing(wanted))
    done = len(wanted) - missing
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
    if path.is_dir():
        return f"these settings are new for these {stage.unit}"
    identity = _flat(stage.artifact.identity.as_dict())
    differences: list[list[str]] = []
    for manifest in sorted(path.parent.glob("*/manifest.json")):
        try:
            other = _flat(identity_in(manifest).as_dict())
        except (OSError, ValueError):
            continue
        changed = (key for key in identity if other.get(key) != identity[key])
        differences.append([_change(key, other.get(key), identity[key]) for key in changed])
    if not differences:
        return "nothing computed yet"
    fewest = min(differences, key=len)
    return "changed: " + ", ".join(fewest)


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and upstream keys side by side."""
    flat = {"version": identity.get("version"), "weights": identity.get("weights_sha256")}
    upstream = {f"another {stage}": key for stage, key in identity.get("upstream", {}).items()}
    return {**flat, **identity.get("settings", {}), **upstream}


def _change(name: str, before: Any, now: Any) -> str:
    """``pamr_steps 10 -> 5``; what is long, or a key, by name alone."""
    text = f"{name} {before} -> {now}"
    return name if len(text) > 60 or name.startswith("another ") else text
