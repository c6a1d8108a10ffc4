"""Which collections there are: the images of a command, or those of the runs that are stored."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sclip_core.config import OF_MASKS, Settings, UserError
from sclip_core.config.data import OF_OWN_LABELS
from sclip_core.config.errors import few
from sclip_core.config.places import ObjectPath, Place
from sclip_core.datasets import Dataset
from sclip_core.datasets.drawn import opened
from sclip_core.encoder.loading import find_model
from sclip_core.explore.gallery import Collection, RunRow
from sclip_core.pipeline.freezing import settings_of
from sclip_core.results.files import read_runs, run_ids
from sclip_core.results.settings import is_of_tool
from sclip_core.store.digests import Digests
from sclip_core.store.files import DiskError, writable_folder

# What tells the images of two runs apart. How many of them were taken does not.
OF_IMAGES = ("dataset", "data_root", "images", "split", "images_list", "exif", "pixel_range",
             "parquet_columns")  # fmt: skip
OF_TRUTH = ("labels", "classes", "vocabulary", "ignore_label", "reduce_zero_label",
            *OF_OWN_LABELS)  # fmt: skip
OF_MODEL = ("model", "pretrained")
PATHS = ("data_root", "images", "labels", "classes", "images_list", "palette", "masks",
         "sam_checkpoint", "proxy_model", "proxy_weights", *OF_MODEL)  # fmt: skip
NO_WORDS = Path("object;")  # in place of words that nobody gave: a vocabulary is never empty
MAY_BE_NAMES = ("classes", "palette", "proxy_model", *OF_MODEL)  # and not paths
ADVICE = "pass images: `sclip explore --images DIR`"


@dataclass(frozen=True)
class Opening:
    """The collections, and what is to be said of them."""

    collections: tuple[Collection, ...]
    notes: tuple[str, ...]  # runs that were left out, and what a user should know, a line each


def open_collections(settings: Settings, own: bool) -> Opening:
    """Open the collections of a command; no image is read.

    Args:
        settings: of the command: where the artifacts are and, of its own images, all the rest.
        own: whether the command names images; else those of the runs in ``artifacts``.

    Raises:
        UserError: the images cannot be opened, or there is no run whose images are there.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows = read_runs(settings.artifacts) if run_ids(settings.artifacts) else []
    notes += [str(each.message) for each in said]
    rows = [_placed(row, settings.artifacts) for row in rows if not is_of_tool(row)]
    if own:
        return Opening((_own(settings, rows, notes),), tuple(notes))
    found = _Stored(settings, notes).all(rows) if rows else []
    if not found:
        why = f"; {notes[-1]}" if notes else ""
        raise UserError(f"no runs to explore in {settings.artifacts}{why}; {ADVICE}")
    return Opening(tuple(found), tuple(notes))


def _own(settings: Settings, rows: Sequence[RunRow], notes: list[str]) -> Collection:
    """The collection of the images that a command names, with the runs on them."""
    named = settings.classes or settings.vocabulary or settings.palette
    has_words = settings.images is None or named is not None or settings.labels is not None
    if not has_words:
        settings = settings.replace(classes=NO_WORDS)
    settings = settings.replace(mode="dense") if settings.mode != "dense" else settings
    writable = _is_writable(settings.local_artifacts)
    dataset = opened(settings, notes.append, writable)
    title = dataset.name
    if settings.images is not None and settings.dataset == "custom":
        title = settings.images.absolute().name or str(settings.images)
    ours = _data_and_model(settings.model_dump())
    runs = [row for row in rows if _data_and_model(row) == ours]
    name = slug(title)
    return Collection(name, title, settings, dataset, runs, has_words, writable)


def _data_and_model(values: Mapping[str, Any]) -> tuple[str, ...]:
    """What the runs on a command's own images have in common with it."""
    names = ("images", "data_root", "split", *OF_MODEL)
    own = values.get("images") is not None
    benchmark = None if own else str(values.get("dataset"))
    return (str(benchmark), *(str(_real(values.get(name))) for name in names))


class _Stored:
    """Makes collections of the rows of ``runs``."""

    def __init__(self, command: Settings, notes: list[str]) -> None:
        """Take the settings of the command, and where lines on what is left out go."""
        self._command, self._notes = command, notes
        self._writable = _is_writable(command.local_artifacts)
        self._digests = Digests(command.local_artifacts / "digests.jsonl", keep=self._writable)
        self._datasets: dict[tuple[str, ...], Dataset | UserError] = {}
        self._weights: dict[tuple[str, ...], UserError | None] = {}

    def all(self, rows: Sequence[RunRow]) -> list[Collection]:
        """A collection for each kind of data and model, that of the newest run first."""
        groups: dict[tuple[str, ...], list[RunRow]] = {}
        for row in rows:
            key = _values(row, (*OF_IMAGES, *OF_TRUTH, *OF_MODEL))
            groups.setdefault(key, []).append(row)
        named = _names(list(groups.values()))
        found = []
        for runs, (name, title) in zip(groups.values(), named, strict=True):
            try:
                found.append(self._of(runs, name, title))
            except UserError as error:
                which = few([row["run_id"] for row in runs])
                self._notes.append(f"{which}: left out: {error}")
        return found

    def _of(self, runs: Sequence[RunRow], name: str, title: str) -> Collection:
        """The collection of runs on the same data by the same model, newest first.

        Raises:
            UserError: data or weights are not there, or no run's settings are known here.
        """
        counts = [row.get("num_samples") for row in runs]
        most = None if None in counts else max(int(count) for count in counts if count)
        settings = self._settings(runs).replace(num_samples=most)
        weights = _values(runs[0], OF_MODEL)
        if weights not in self._weights:
            self._weights[weights] = _lacking(settings, self._digests)
        if error := self._weights[weights]:
            raise error
        data = (*_values(runs[0], (*OF_IMAGES, *OF_TRUTH)), str(most))
        if data not in self._datasets:
            self._datasets[data] = self._opened(settings)
        dataset = self._datasets[data]
        if isinstance(dataset, UserError):
            raise dataset
        return Collection(name, title, settings, dataset, runs, writable=self._writable)

    def _settings(self, runs: Sequence[RunRow]) -> Settings:
        """The settings of the newest run that this version knows: one without masks, if any.

        Raises:
            UserError: it knows none of them.
        """
        first: UserError | None = None
        how = {n: getattr(self._command, n) for n in ("device", "workers", "batch_size", "plugins")}
        for row in sorted(runs, key=lambda row: row["mode"] != "dense"):  # newest first, else
            try:
                if row["mode"] != "dense":
                    row = {**row, **dict.fromkeys(OF_MASKS), "mode": "dense"}
                return settings_of(row, self._command.artifacts).replace(**how)
            except UserError as error:
                first = first or error
        assert first is not None
        raise first

    def _opened(self, settings: Settings) -> Dataset | UserError:
        """The dataset of some runs, or why it cannot be opened."""
        try:
            return opened(settings, lambda line: None, self._writable)
        except UserError as error:
            return error


def _lacking(settings: Settings, digests: Digests) -> UserError | None:
    """Why the weights of a model cannot be used; nothing is fetched or loaded."""
    try:
        find_model(settings.model, settings.pretrained, False, digests.of)
    except UserError as error:
        return error
    return None


def _placed(row: RunRow, root: Place) -> RunRow:
    """A row whose relative paths are those of the folder that the artifacts lie in.

    So a store can be explored from another folder than that in which its runs were started.
    """
    if isinstance(root, ObjectPath):
        return row
    found = dict(row)
    for name in PATHS:
        value = row.get(name)
        if not isinstance(value, str) or os.path.isabs(value) or os.path.exists(value):
            continue
        beside = root.absolute().parent / value
        is_path = os.sep in value or name not in MAY_BE_NAMES or beside.is_file()
        if is_path and os.path.exists(beside):
            found[name] = str(beside)
    return found


def _values(row: RunRow, names: Iterable[str]) -> tuple[str, ...]:
    """What a row says, to be compared."""
    return tuple(str(row.get(name)) for name in names)


def _real(value: Any) -> Any:
    """A folder by its real path; of anything else the value."""
    if isinstance(value, str | Path) and os.path.exists(value):
        return os.path.realpath(value)
    return value


def _names(groups: Sequence[Sequence[RunRow]]) -> list[tuple[str, str]]:
    """An id and a title for each group: the data, and what tells it from the others.

    An id depends on the group alone or, where data and model are those of another group, on a
    digest of what else differs, so that an address stays good when runs are added.
    """
    rows = [runs[0] for runs in groups]
    plain = [_title(row) for row in rows]
    titles = [
        title if plain.count(title) == 1 else f"{title}, {_model(row)}"
        for title, row in zip(plain, rows, strict=True)
    ]
    ids = [slug(title) for title in titles]
    found = []
    for row, title, name in zip(rows, titles, ids, strict=True):
        if ids.count(name) > 1:
            values = _values(row, (*OF_IMAGES, *OF_TRUTH, *OF_MODEL))
            digest = hashlib.sha256("\0".join(values).encode("utf-8", "surrogateescape"))
            name = f"{name}-{digest.hexdigest()[:6]}"
        found.append((name, title))
    return found


def _title(row: RunRow) -> str:
    """The name of a run's data."""
    images = row.get("images")
    if images is not None and row["dataset"] == "custom":
        return Path(str(images).rstrip("/")).name or str(images)
    return str(row["dataset"])


def _model(row: RunRow) -> str:
    """A model and its weights, files by their names."""
    return " ".join(os.path.basename(str(row.get(name))) for name in OF_MODEL)


def slug(title: str) -> str:
    """A title as an id: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-.")[:60] or "images"


def _is_writable(folder: Path) -> bool:
    """Whether files can be kept below the artifacts; the folder is made where it can be."""
    try:
        writable_folder(folder)
    except DiskError:
        return False
    return True
