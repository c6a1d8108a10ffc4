"""One file of the results: what it has to hold, and reading it so that no damage passes unseen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa

from sclip_core.config import UserError, printable
from sclip_core.results.sealed import DamagedError, unseal

SCHEMA_VERSION = 2  # 2: the table confusion; in 1 there is none
VERSION_KEY = b"sclip_schema_version"  # in the metadata of every file
TABLES = ("image_areas", "confusion", "class_iou", "runs")  # in the order of writing
SINCE = {"confusion": 2}  # tables that files of an older version lack
NEEDED = {  # columns without which a file is none of ours
    "image_areas": {"run_id", "image_id", "class_id", "intersect", "prediction", "label"},
    "confusion": {"run_id", "label_id", "label_name", "prediction_id", "prediction_name", "pixels"},
    "class_iou": {"run_id", "class_id", "class_name", "label", "iou"},
    "runs": {"run_id", "created_at", "dataset", "mode", "num_images", "miou", "macc", "aacc"},
}
TEXTS = {"run_id", "dataset", "versions"}
EMPTY = {  # a table without any file, as one that only later versions write
    "confusion": pa.schema(
        {
            "run_id": pa.string(),
            "label_id": pa.int32(),
            "label_name": pa.string(),
            "prediction_id": pa.int32(),
            "prediction_name": pa.string(),
            "pixels": pa.int64(),
        }
    )
}
AGAIN = "the same `sclip run` writes it again"
ADVICE = f"move it away; {AGAIN}"


class ResultsWarning(UserWarning):
    """A file of results that was left out, in one line: which, why, and what to do."""


class ResultsError(UserError):
    """A file of results that cannot be read."""

    def __init__(self, what: str, advice: str = "", later: bool = False) -> None:
        """Take what was found, what to do, and whether a later version wrote the file."""
        super().__init__(f"{what}: {advice}" if advice else what)
        self.what, self.advice, self.later = printable(what), printable(advice), later

    @property
    def warning(self) -> ResultsWarning:
        """What is said where the other runs are read all the same."""
        return ResultsWarning(f"{self.what}; left out: {self.advice}")


def path_of(root: Path, table: str, run_id: str) -> Path:
    """The file of a run in a table."""
    return root / "results" / table / f"{run_id}.parquet"


def read_file(path: Path, name: str) -> pa.Table:
    """A table that ``write_run`` wrote, of whatever version up to ours.

    Args:
        path: of the file.
        name: of the table, of ``TABLES``.

    Raises:
        ResultsError: it is not there, damaged, not ours, or of a later version.
    """
    _, table = open_file(path)
    missing = sorted(NEEDED[name] - set(table.column_names))
    if missing:
        raise ResultsError(f"{path} has no column {', '.join(missing)}", ADVICE)
    if name == "runs":
        _check_values(path, table)
    others = set(table["run_id"].unique().to_pylist()) - {path.stem}
    if others or (name == "runs" and len(table) != 1):
        raise ResultsError(f"{path} does not hold the run that its name says", ADVICE)
    return table


def _check_values(path: Path, table: pa.Table) -> None:
    """See that the values of a run can be used: without a digest they may be damaged unseen.

    Raises:
        ResultsError: dates that there are not, versions that are no JSON, names that are no text.
    """
    try:
        for row in table.to_pylist():
            texts = [value for name, value in row.items() if name in TEXTS or name[:4] == "key_"]
            if not all(value is None or isinstance(value, str) for value in texts):
                raise ValueError("numbers where names belong")
            if not isinstance(json.loads(row.get("versions") or "{}"), dict):
                raise ValueError("its versions are no object")
    except RecursionError:
        raise ResultsError(f"{path} cannot be read (nested too deep)", ADVICE) from None
    except (ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        raise ResultsError(f"{path} cannot be read ({error})", ADVICE) from None


def open_file(path: Path) -> tuple[int, pa.Table]:
    """The version of a file's schema, and its table without metadata.

    Raises:
        ResultsError: it is not there, damaged, no table of results, or of a later version.
    """
    try:
        # not by pyarrow, which takes a path such as exp:1/results for an address
        table = unseal(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing", AGAIN) from None
    except (OSError, DamagedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResultsError(f"{path} cannot be read ({reason})", ADVICE) from None
    metadata = table.schema.metadata or {}
    if VERSION_KEY not in metadata:
        raise ResultsError(f"{path} is Parquet, but not a table of results", ADVICE)
    version = metadata[VERSION_KEY].decode(errors="backslashreplace")
    if not re.fullmatch("[0-9]{1,9}", version) or int(version) > SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version}, this sclip reads up to {SCHEMA_VERSION}",
            "update it, or move the file away",
            later=True,
        )
    return int(version), table.replace_schema_metadata()
