"""The table ``audit``: one file an audit, one row a list of words, joined to ``runs`` by run_id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from sclip_core.config import UserError
from sclip_core.config.places import Place
from sclip_core.evaluation import scores
from sclip_core.evaluation.bootstrap import RESAMPLES, Interval, bootstrap
from sclip_core.results.by_command import files_of, read_files, read_one, write_table
from sclip_core.results.comparison import sure
from sclip_core.results.files import ARTIFACTS, root_of
from sclip_core.results.tables import class_iou, paired
from sclip_core.store.keys import artifact_key

Row = dict[str, Any]
AUDIT = "audit"  # the table, which has a file for each audit
NEEDED = ("audit_id", "list", "run_id", "miou")
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("audit_id", "list", "kind", "run_id", "dataset"), pa.string()),
        "created_at": pa.timestamp("us", "UTC"),
        **dict.fromkeys(("position", "seed", "num_images"), pa.int64()),
        **dict.fromkeys(("num_classes", "num_words"), pa.int64()),
        **dict.fromkeys(("words_sha256", "words_separator", "file"), pa.string()),
        **dict.fromkeys(("miou", "low", "high"), pa.float64()),
        **dict.fromkeys(("difference", "difference_low", "difference_high"), pa.float64()),
        "worst_class": pa.string(),
        "worst_iou": pa.float64(),
        **dict.fromkeys(("words", "distractors"), pa.string()),  # as JSON
    }
)


@dataclass(frozen=True)
class ListOfWords:
    """A list of an audit, as the table has it."""

    name: str
    kind: str  # own, plain, draw, all, vocabulary, distractors
    run_id: str
    words: tuple[tuple[str, ...], ...]  # of each class
    distractors: tuple[str, ...]
    words_sha256: str
    words_separator: str | None
    file: str | None  # that has the words; None: the dataset's own


@dataclass(frozen=True)
class Moved:
    """A class whose IoU another list changed, and the words of both."""

    class_name: str
    own_iou: float | None  # percent
    iou: float | None
    own_words: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Percentage points; NaN where one of them is undefined."""
        both = self.own_iou, self.iou
        return float("nan") if None in both else self.iou - self.own_iou  # type: ignore[operator]


def audit_id_of(dataset: str, lists: Sequence[ListOfWords], seed: int) -> str:
    """The id of an audit: of its lists, their runs and the seed, whenever it is made."""
    asked = [[each.name, each.kind, each.run_id] for each in lists]
    return f"{dataset}-audit-{artifact_key({'lists': asked, 'seed': seed})[:12]}"


def audit_table(
    dataset: str,
    lists: Sequence[ListOfWords],
    seed: int,
    artifacts: Place | str = ARTIFACTS,
    resamples: int = RESAMPLES,
) -> pa.Table:
    """A row a list: its score, and the difference from the first list with its interval.

    Args:
        dataset: its name.
        lists: the dataset's own first; several may have one run.
        seed: that the words were drawn with.
        artifacts: the folder of all artifacts.
        resamples: how often the images are drawn.

    Raises:
        UserError: a run is not there, or they cannot be compared.
    """
    runs = list(dict.fromkeys(each.run_id for each in lists))
    pairs = paired(runs, artifacts)
    drawn = bootstrap(pairs.sparse, resamples)
    audit_id, now = audit_id_of(dataset, lists, seed), datetime.now(UTC)
    rows = []
    for position, each in enumerate(lists):
        place = runs.index(each.run_id)
        of_classes = scores(pairs.sparse[place].summed()).iou
        defined = not np.isnan(of_classes).all()
        worst = int(np.nanargmin(of_classes)) if defined else None
        row = {
            **vars(each),
            "audit_id": audit_id,
            "created_at": now,
            "dataset": dataset,
            "position": position,
            "list": each.name,
            "seed": seed,
            "num_images": len(pairs),
            "num_classes": len(each.words),
            "num_words": sum(map(len, each.words)) + len(each.distractors),
            "words": json.dumps([list(words) for words in each.words], ensure_ascii=False),
            "distractors": json.dumps(list(each.distractors), ensure_ascii=False),
            **_numbers("miou", drawn.of("miou", place), len(pairs), ""),
            **(
                _numbers("difference", drawn.difference("miou", place), len(pairs), "difference_")
                if place
                else {}
            ),
            "worst_class": None if worst is None else pairs.class_names[worst],
            "worst_iou": None if worst is None else float(of_classes[worst]),
        }
        rows.append({name: row.get(name) for name in SCHEMA.names})
    return pa.Table.from_pylist(rows, SCHEMA)


def _numbers(name: str, value: Interval, images: int, prefix: str) -> dict[str, float | None]:
    """A value and its interval as columns; null where it is undefined or of too few images."""
    found = dict(zip((name, f"{prefix}low", f"{prefix}high"), sure(value, images), strict=True))
    return {name: None if np.isnan(number) else float(number) for name, number in found.items()}


def write_audit(table: pa.Table, artifacts: Place | str = ARTIFACTS) -> Place:
    """Write the table of one audit, in place of an older one of the same id.

    Returns:
        Its file.

    Raises:
        DiskError: it could not be written.
    """
    return write_table(root_of(artifacts), AUDIT, table["audit_id"][0].as_py(), table)


def audits(named: str | None = None, artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``audit``: a row for each list of each audit, the newest audit first.

    Args:
        named: the id of an audit or how it begins; None: all, without those whose files cannot be
            read (a ``ResultsWarning`` each).
        artifacts: the folder of all artifacts.

    Raises:
        UserError: no such audit, or a file that cannot be read.
    """
    files = files_of(root_of(artifacts), AUDIT)
    if named is None:
        found = read_files(files, SCHEMA, NEEDED)
    else:
        files = [path for path in files if path.stem.startswith(named)]
        if len(files) != 1:
            raise UserError(
                f"{len(files)} audits match {named}: `sclip query 'from audit'` has all"
            )
        found = read_one(files[0], NEEDED)
    return found.sort_by([("created_at", "descending"), ("position", "ascending")])


def of_other_words(artifacts: Place | str = ARTIFACTS) -> set[str]:
    """The ids of runs that stand in audits under other words than the benchmark's own alone."""
    rows = audits(artifacts=artifacts).select(["run_id", "kind"]).to_pylist()
    own = {row["run_id"] for row in rows if row["kind"] == "own"}
    return {row["run_id"] for row in rows} - own


def moved(
    own: Mapping[str, Any], other: Mapping[str, Any], artifacts: Place | str = ARTIFACTS
) -> list[Moved]:
    """The classes, those first whose IoU differs most between two lists of an audit.

    Args:
        own: the row of the first list.
        other: of another one.
        artifacts: the folder of all artifacts.
    """
    ious = [
        class_iou(row["run_id"], artifacts).sort_by("class_id").to_pylist() for row in (own, other)
    ]
    words = [json.loads(row["words"]) for row in (own, other)]
    found = [
        Moved(before["class_name"], before["iou"], after["iou"], tuple(mine), tuple(theirs))
        for before, after, mine, theirs in zip(*ious, *words, strict=True)
    ]
    return sorted(found, key=lambda each: -np.nan_to_num(abs(each.difference), nan=-1.0))


def worst_of(rows: Sequence[Row]) -> Row:
    """The list with the lowest mIoU."""
    return min(rows, key=lambda row: np.inf if row["miou"] is None else row["miou"])


def spread_of(rows: Sequence[Row]) -> float:
    """The highest mIoU of the lists minus the lowest."""
    known = [row["miou"] for row in rows if row["miou"] is not None]
    return max(known) - min(known) if known else float("nan")
