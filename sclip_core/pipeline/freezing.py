"""Freezing a run: what decided its result, as one file that another machine can run.

The id of a run is a hash of its settings, words, weights, images and ground truth. A file is
written only after the data that is here has given the same id.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sclip_core.config import ROLES, STAGES, Settings, UserError, resolve, tables
from sclip_core.config.frozen import (
    DIGITS,
    FORMAT,
    PLACES,
    SECTION,
    UNREAD,
    FrozenImage,
    digest_of,
)
from sclip_core.config.places import Place
from sclip_core.config.protocol import is_benchmark
from sclip_core.datasets import Dataset, Vocabulary
from sclip_core.datasets.word_files import words_sha256
from sclip_core.encoder import zoo
from sclip_core.encoder.hub import PREFIX
from sclip_core.encoder.loading import EMBEDDED
from sclip_core.pipeline.frozen import images_of
from sclip_core.pipeline.inputs import Inputs
from sclip_core.pipeline.stages.results import key_of
from sclip_core.progress import Silent
from sclip_core.results import find_run
from sclip_core.results.build import run_name
from sclip_core.results.files import ARTIFACTS, read_run, root_of
from sclip_core.results.past_run import USUALLY_IGNORED
from sclip_core.store.artifact import Identity, identity_in
from sclip_core.store.files import write_whole
from sclip_core.store.tables import artifact_of

WEIGHTS = {  # columns of ``runs``, by the names of the file
    "clip": "weights_sha256",
    "second": "proxy_sha256",
    "sam": "sam_encoder_sha256",
    "masks": "sam_sha256",
}
SCORES = ("miou", "macc", "aacc")
MOST_INSIDE = 10_000  # images; the list of more is a file of its own
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
LISTED = re.compile(rf"([0-9a-f]{{{DIGITS}}}|{UNREAD}) ([0-9a-z]+|{UNREAD}) .")  # an image's line
HEAD = """\
# The run {run_id}, as `sclip freeze` wrote it down. To run it again and compare:
#   sclip run --config {name} {flags}
"""


class FrozenRun(NamedTuple):
    """A frozen run that is not yet a file."""

    run_id: str
    settings: dict[str, Any]  # the section ``sclip``
    frozen: dict[str, Any]  # the section ``frozen``, without the list of images
    images: list[FrozenImage]
    some: bool  # whether a list named them, among others of the data

    def write(self, path: Path) -> list[Path]:
        """Write the file; that of the images too, where they are many.

        Returns:
            What was written.

        Raises:
            UserError: a file of another kind is there.
            DiskError: a file could not be written.
        """
        refuse_other(path)
        lines = "".join(f"{image.line}\n" for image in self.images)
        about: dict[str, Any] = {"count": len(self.images), "sha256": digest_of(self.images)}
        about |= {"some": True} if self.some else {}
        beside = path.with_name(f"{path.stem}.images.txt")
        large = len(self.images) > MOST_INSIDE
        images = {**about, **({"file": beside.name} if large else {"list": lines})}
        content = {"sclip": self.settings, SECTION: {**self.frozen, "images": images}}
        benchmark = is_benchmark(str(self.settings["dataset"]))
        flags = ["--data-root DIR" if benchmark else "--images DIR --labels DIR"]
        flags += [f"--{name.replace('_', '-')} FILE" for name in self.frozen["needs"]]
        text = HEAD.format(run_id=self.run_id, name=path.name, flags=" ".join(flags))
        text += yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=10**6)
        if large:
            _refuse_other_list(beside)
            write_whole(beside, lambda target: target.write_text(lines, "utf-8"))
        write_whole(path, lambda target: target.write_text(text, "utf-8"))
        return [path, beside] if large else [path]


def refuse_other(path: Path) -> None:
    """See that a frozen run replaces no settings file of a user's own.

    Raises:
        UserError: there is a file that `sclip freeze` did not write.
    """
    if os.path.lexists(path) and f"\n{SECTION}:" not in f"\n{_content(path)}":
        raise UserError(f"{path} is there and holds no frozen run: choose another name")


def _refuse_other_list(path: Path) -> None:
    """The same for the list of images beside it, whose lines begin with two digests."""
    lines = _content(path).splitlines() if os.path.lexists(path) else []
    if not all(map(LISTED.match, lines)):
        raise UserError(
            f"{path} is there and is no list of a frozen run's images: choose another name for "
            "the frozen run"
        )


def _content(path: Path) -> str:
    """What is in a file; nothing where that is no text or cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return "-"


class _Line(dict[str, Any]):
    """Values that are written in one line."""


class _Plain(yaml.SafeDumper):
    """A class in one line, texts of several lines as blocks, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write each value where it stands."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _in_line(dumper: yaml.SafeDumper, values: _Line) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", values.items(), flow_style=True)


_Plain.add_representer(str, _text)
_Plain.add_representer(_Line, _in_line)


def freeze(
    run: str = "latest", artifacts: Place | str = ARTIFACTS, **places: Place | str | None
) -> FrozenRun:
    """What decided the result of a run, to be written down.

    Args:
        run: as ``find_run`` takes it.
        artifacts: the folder of all artifacts.
        **places: where the data is now, if it has moved: ``data_root``, ``images``, ``labels``,
            ``classes``, ``images_list``, ``palette``.

    Raises:
        UserError: no such run, one of label maps that were given, or one of an older version that
            lacks something; its data is not there any more, or is not what it was.
    """
    root = root_of(artifacts)
    run_id = find_run(run, root)
    row = read_run(root, run_id)[0]
    _refuse(row)
    settings = settings_of(row, root, places)
    inputs = Inputs(settings, Silent(), keep=True)
    _check_words(row, root, inputs.dataset)
    images = images_of(inputs)
    key = _checked_key(row, root, inputs, images)
    words = inputs.dataset.vocabulary
    built_in = row.get("classes") is None and words == _built_in(row)
    frozen = {
        "format": FORMAT,
        "run_id": run_id,
        "created_at": row["created_at"].isoformat(timespec="seconds"),
        "num_images": row["num_images"],
        "num_failed": row.get("num_failed") or 0,
        "scores": {name: row[name] for name in SCORES if row[name] == row[name]},
        "weights": {name: row[c] for name, c in WEIGHTS.items() if row.get(c)},
        "needs": _needs(row),
        "versions": json.loads(row.get("versions") or "{}"),
        "keys": {
            **{name: row[f"key_{name}"] for name in STAGES if row.get(f"key_{name}")},
            "results": key,
        },
        "built_in_words": built_in,
        "classes": [
            _Line(name=name, words=list(of), value=value)
            for name, of, value in zip(words.class_names, words.words, words.numbers, strict=True)
        ],
        "unlabelled": dict(words.ignored),
        "distractors": list(words.distractors),
        "closed": words.closed,
    }
    return FrozenRun(run_id, _section(row), frozen, images, row.get("images_list") is not None)


def _refuse(row: Mapping[str, Any]) -> None:
    """See that there is a run to write down.

    Raises:
        UserError: its label maps were given, it has distractors, or too little was recorded.
    """
    run_id = row["run_id"]
    if row["mode"] == "predictions":
        raise UserError(
            f"{run_id} scored label maps that were given: no settings made them, so there is "
            "nothing to freeze"
        )
    if row.get("distractors"):
        raise UserError(
            f"{run_id} is of an audit, with distractors ({row['distractors']}), which no "
            "`sclip run` has: freeze the run of its own words, and repeat the audit with its --seed"
        )
    needed = ("model", "pretrained", "weights_sha256", "key_metrics", "dtype")
    lacking = [name for name in needed if not row.get(name)]
    if lacking:
        versions = json.loads(row.get("versions") or "{}")
        by = versions.get("sclip-benchmark", "an older version")
        raise UserError(
            f"{run_id} was made by {by}, which did not record {', '.join(lacking)}: run it again "
            "and freeze that"
        )


def _section(row: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``sclip``: all that the run read, without paths."""
    given = _recorded(row)
    by_name = {"palette"} if given.get("palette") == "voc" else set()
    return {name: v for name, v in given.items() if name not in PLACES or name in by_name}


def _recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a row of ``runs``, those that the run did not read left out."""
    unread = {"hybrid_rule"} if row["mode"] != "hybrid" else set()
    given = {n: row[n] for n in ROLES if row.get(n) is not None and n not in unread}
    if given.get("ignore_label") == USUALLY_IGNORED:  # nobody asked for it
        del given["ignore_label"]
    return {name: value for name, value in given.items() if ROLES[name].part != "how"}


def settings_of(
    row: Mapping[str, Any], root: Place, places: Mapping[str, Place | str | None] | None = None
) -> Settings:
    """The settings of a run, of its row in ``runs``.

    Args:
        row: of a run.
        root: the folder of all artifacts.
        places: where the data is now, by the names of settings.

    Raises:
        UserError: a value that this version does not know.
    """
    given = {**_recorded(row), **{n: v for n, v in (places or {}).items() if v is not None}}
    if row.get("images") is None:
        given.pop("vocabulary", None)
    return resolve(**given, artifacts=root)


def _needs(row: Mapping[str, Any]) -> list[str]:
    """Settings of the model that were paths."""
    model, weights = str(row["model"]), str(row["pretrained"])
    named = model in zoo.list_models() or model == EMBEDDED or weights.startswith(PREFIX)
    found = [] if named else ["model"]
    return [*found, *(["pretrained"] if weights.endswith(WEIGHT_FILES) else [])]


def _built_in(row: Mapping[str, Any]) -> Vocabulary | None:
    """The words that come with the run's benchmark."""
    known = row.get("images") is None and row["dataset"] in tables()["benchmarks"]
    return Vocabulary.named(row["dataset"]) if known else None


def _check_words(row: Mapping[str, Any], root: Place, dataset: Dataset) -> None:
    """See that the words are those of the run, where its row or its artifact says so.

    Raises:
        UserError: they are others.
    """
    here = dataset.vocabulary
    digest = row.get("words_sha256")
    identity = _identity(root, "text_bank", row)
    encoded = identity.settings.get("words") if identity else None
    other = encoded is not None and list(encoded) != list(here.queries)
    if other or digest not in (None, words_sha256(here.words, here.distractors)):
        raise UserError(
            f"{row['run_id']} cannot be frozen: its words are not those of "
            f"{row.get('classes') or row['dataset']} any more; run it again, or pass --classes FILE"
        )


def _identity(root: Place, stage: str, row: Mapping[str, Any]) -> Identity | None:
    """Of an artifact of the run; None: it is not there any more."""
    try:
        return identity_in(root / stage / str(row.get(f"key_{stage}")) / "manifest.json")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checked_key(
    row: Mapping[str, Any], root: Place, inputs: Inputs, images: list[FrozenImage]
) -> str:
    """The key of the run's results, which the data that is here gives too.

    Raises:
        UserError: it does not: a file was changed, added or removed.
    """
    known = {image: f"{image.image}:{image.label}" for image in images if image.image != UNREAD}
    if row.get("num_failed"):
        identity = _identity(root, "metrics", row)
        rows = artifact_of(root, identity).rows() if identity else {}
        known = {image: row_id for image, row_id in known.items() if row_id in rows}
    items = ([image.image_id, known.get(image)] for image in images)
    key = key_of(inputs.dataset, row["key_metrics"], items)
    if run_name(inputs.dataset.name, key) == row["run_id"]:
        return key
    then = row["num_images"] + (row.get("num_failed") or 0)
    what = (
        f"there are {len(images):,} images here, and the run had {then:,}"
        if len(images) != then
        else "an image, a label map or the name of a class is not what it was"
    )
    raise UserError(
        f"{row['run_id']} cannot be frozen: {what}; pass --data-root, --images or --labels if the "
        "data has moved, or run it again"
    )
