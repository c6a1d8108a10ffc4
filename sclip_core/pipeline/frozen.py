"""A run against a frozen one: what differs before it, and whether it became the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sclip_core.config import ROLES, STAGES, Settings, UserError, resolve
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.frozen import (
    PLACES,
    UNREAD,
    Frozen,
    FrozenImage,
    differing_images,
    digest_of,
    read_frozen,
)
from sclip_core.datasets import Vocabulary
from sclip_core.provenance import versions

if TYPE_CHECKING:
    from sclip_core.pipeline.inputs import Inputs
    from sclip_core.pipeline.pipeline import Finished
    from sclip_core.pipeline.run import Run

GO_ON = "add --allow-changes to run it all the same"
GIVEN = (*PLACES, "model", "pretrained")  # which digests know, whatever their paths are
NETWORKS = {  # names of the file: in words, and the flag that gives other weights
    "clip": ("weights", "--pretrained"),
    "second": ("weights of the second network", "--proxy-weights"),
    "sam": ("weights of SAM's encoder", "--sam-checkpoint"),
    "masks": ("weights of SAM", "--sam-checkpoint"),
}


def images_of(inputs: Inputs) -> list[FrozenImage]:
    """The images of a dataset, in order, with whole digests; ``-``: it could not be read."""
    digests = iter(zip(inputs.image_digests, inputs.label_digests, strict=True))
    found = []
    for sample, is_read in zip(inputs.dataset.samples, inputs.is_read(), strict=True):
        image, label = next(digests) if is_read else (UNREAD, UNREAD)
        found.append(FrozenImage(sample.image_id, image, label))
    return found


def compare_before(run: Run) -> list[str]:
    """What a user should know of a run that is to be a frozen one, before it computes anything.

    Args:
        run: whose settings name the file; another one is compared with nothing.

    Returns:
        Notes, a line each: versions that differ, and with ``allow_changes`` whatever else does.

    Raises:
        UserError: settings, words, weights, images or ground truth are not those of the file.
    """
    path = run.settings.frozen
    if path is None:
        return []
    frozen = read_frozen(path)
    refuse_missing_paths(run.settings, frozen, path)
    notes = list(_of_versions(frozen, path))
    for line in _differences(run, frozen, path):
        if not run.settings.allow_changes:
            raise UserError(f"not the run of {path.name}: {line}; {GO_ON}")
        notes.append(f"not the run of {path.name}: {line}")
    return notes


def refuse_missing_paths(settings: Settings, frozen: Frozen, path: Path) -> None:
    """See that files that the frozen run was given are given to this one.

    Raises:
        UserError: one is not.
    """
    section = _alone(settings, path)
    lacking = [n for n in frozen.needs if getattr(settings, n) == getattr(section, n)]
    if lacking:
        flags = " ".join(f"--{name} FILE" for name in lacking)
        files = ", ".join(str(getattr(section, name)) for name in lacking)
        raise UserError(f"{path.name} names files and holds none ({files}): pass {flags}")


def _alone(settings: Settings, path: Path) -> Settings:
    """What the file says by itself, with the paths of a run."""
    names = ("data_root", "images", "labels", "masks")
    places = {name: getattr(settings, name) for name in names}
    return resolve(path, **places, artifacts=settings.artifacts)


def _differences(run: Run, frozen: Frozen, path: Path) -> Iterator[str]:
    """What differs, the cheapest to find out first."""
    yield from _of_settings(run.settings, frozen, path)
    yield from _of_words(run.inputs.dataset.vocabulary, frozen, path)
    yield from _of_weights(run, frozen, path)
    yield from _of_images(frozen, frozen.listed(path), images_of(run.inputs))


def _of_settings(settings: Settings, frozen: Frozen, path: Path) -> Iterator[str]:
    alone = _alone(settings, path)
    for name, role in ROLES.items():
        there, here = getattr(alone, name), getattr(settings, name)
        known = name in PLACES or (name in GIVEN and Path(str(here)).exists())
        if role.part != "how" and not known and there != here:
            yield f"{name} is {_shown(there)} there, {_shown(here)} here"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _of_words(here: Vocabulary, frozen: Frozen, path: Path) -> Iterator[str]:
    there = frozen.classes
    if len(there) != here.num_classes:
        yield f"it has {number_of(len(there), 'class')}, and there are {here.num_classes} here"
        return
    advice = f"pass --classes {path}" if frozen.built_in_words else "leave --classes out"
    for index, (one, name) in enumerate(zip(there, here.class_names, strict=True)):
        if (one.name, one.words) != (name, here.words[index]):
            words = "', '".join((", ".join(one.words), ", ".join(here.words[index])))
            yield f"words of class {index} ({one.name}) differ, '{words}': {advice}"
            return
    if tuple(one.value for one in there) != here.numbers:
        yield "the classes have other values in the label maps"
    if (frozen.distractors, frozen.closed) != (here.distractors, here.closed):
        yield f"its distractors, or how they are read, are not those here: {advice}"


def _of_weights(run: Run, frozen: Frozen, path: Path) -> Iterator[str]:
    models, settings = run.models, run.settings
    method = run.chosen.method if settings.mode != "baseline" else None
    here = {"clip": models.weights_sha256}
    if method and method.second_taps:
        here["second"] = models.second_sha256(settings)
    if method and method.reads_sam:
        here["sam"] = models.sam_trunk_sha256(settings)
    if "proposals" in settings.stages and (masks := models.masks_sha256):
        here["masks"] = masks
    for name, sha256 in here.items():
        there = frozen.weights.get(name)
        if there is not None and there != sha256:
            words, flag = NETWORKS[name]
            yield f"{words}: sha256 {there[:16]} in {path.name}, {sha256[:16]} here ({flag})"


def _of_images(
    frozen: Frozen, there: Sequence[FrozenImage], here: Sequence[FrozenImage]
) -> Iterator[str]:
    names, found = [one.image_id for one in there], [one.image_id for one in here]
    if names != found:
        lacking, more = dict.fromkeys(names), dict.fromkeys(found)
        for name in names:
            more.pop(name, None)
        for name in found:
            lacking.pop(name, None)
        what = [f"{len(lacking):,} missing here, {few(list(lacking))}"] if lacking else []
        what += [f"{len(more):,} more here, {few(list(more))}"] if more else []
        said = "; ".join(what) or "in another order here"
        yield f"of its {number_of(len(names), 'image')}: {said}"
        return
    differing = list(differing_images(there, here))
    for kind, noun in (("image", "images"), ("ground truth", "label maps")):
        ids = [image_id for of, image_id in differing if of == kind]
        if ids:
            verb = "differs" if len(ids) == 1 else "differ"
            yield f"{len(ids):,} of {len(names):,} {noun} {verb}, {ids[0]} is the first"
    if not differing and digest_of(here) != frozen.images.sha256:
        yield "the list of images in it was edited"


def _of_versions(frozen: Frozen, path: Path) -> Iterator[str]:
    """Versions that differ, in a line."""
    here = versions()
    differing = [
        f"{name} {there} there, {here.get(name, 'none')} here"
        for name, there in frozen.versions.items()
        if here.get(name) != there
    ]
    if differing:
        yield f"{path.name} is of other versions: {'; '.join(differing)}"


def compare_after(finished: Finished) -> list[str]:
    """Whether a run became the frozen one, in a line; none where there is nothing to compare."""
    path, row = finished.settings.frozen, finished.row
    if path is None or not finished.run_id:
        return []
    frozen = read_frozen(path)
    scores = {name: row[name] for name in frozen.scores}
    apart = [name for name, value in frozen.scores.items() if scores[name] != value]
    names = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}
    if finished.run_id == frozen.run_id:
        if not apart:
            equal = ", mIoU equal to the last digit" if "miou" in frozen.scores else ""
            return [f"same run as frozen: {frozen.run_id}{equal}"]
        told = "; ".join(
            f"{names[n]} {scores[n]!r} here, {frozen.scores[n]!r} there" for n in apart
        )
        return [
            f"same keys as frozen: {frozen.run_id}, but {told}: another processor or other "
            "versions round otherwise"
        ]
    here = {name: outcome.key for name, outcome in finished.outcomes.items()}
    first = next((name for name in STAGES if here.get(name) != frozen.keys.get(name)), None)
    why = f"the key of {first} is the first that differs" if first else "no key differs"
    there = frozen.scores.get("miou", float("nan"))
    return [
        f"not the run of {path.name}, {frozen.run_id}: {why}; mIoU {row['miou']:.2f} here, "
        f"{there:.2f} there"
    ]
