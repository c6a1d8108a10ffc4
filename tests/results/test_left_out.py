"""One damaged file costs only its run: what is left out, and said, by everything that reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from sclip_core import UserError, results
from sclip_core.report import write_report
from sclip_core.results import ResultsWarning
from sclip_core.results.files import TABLES, VERSION_KEY, read_runs
from sclip_core.results.sql import described_tables

from ..results.test_files import flipped
from .runs import made_run

IMAGE = [(5, 6, 8), (0, 2, 0), (0, 0, 0)]
NAMES = ("own-aa11", "own-aa22", "voc21-bb33")  # newest first


@pytest.fixture
def three(tmp_path):
    for age, run_id in enumerate(NAMES):
        made_run(tmp_path, run_id, {"one": IMAGE, "two": IMAGE}, age=age)
    return tmp_path


def file_of(root: Path, table: str, run_id: str) -> Path:
    return root / "results" / table / f"{run_id}.parquet"


def of_a_later_version(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({VERSION_KEY: "3"}), path)


DAMAGE = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes(), 60, Random(0))),
    "of a later version": of_a_later_version,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_others_are_listed(three, damage):
    path = file_of(three, "runs", NAMES[0])
    DAMAGE[damage](path)
    with pytest.warns(ResultsWarning) as warned:
        assert results.runs(three)["run_id"].to_pylist() == list(NAMES[1:])
    (line,) = (str(each.message) for each in warned)
    assert line.startswith(f"{path} ")
    assert "left out: " in line
    assert "\n" not in line


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("table", TABLES)
def test_the_damaged_run_by_name(three, table, damage):
    DAMAGE[damage](file_of(three, table, NAMES[0]))
    ask = {"runs": results.find_run, "confusion": results.confusion}.get(
        table, getattr(results, table)
    )
    if table == "runs":
        with pytest.raises(UserError, match=f"runs/{NAMES[0]}"):
            write_report([NAMES[0]], three / "out", three)
        return
    with pytest.raises(UserError, match=f"{table}/{NAMES[0]}"):
        ask(NAMES[0], three)


def test_latest_is_the_newest_that_can_be_read(three):
    file_of(three, "runs", NAMES[0]).write_bytes(b"torn")
    with pytest.warns(ResultsWarning, match=NAMES[0]):
        assert results.find_run("latest", three) == NAMES[1]
    assert results.find_run("own-aa1", three) == NAMES[0]  # by name it is still known


@pytest.mark.parametrize("table", TABLES)
def test_runs_that_are_named_are_read_without_a_word(three, table):
    file_of(three, table, NAMES[0]).write_bytes(b"torn")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResultsWarning)
        assert results.compare(*NAMES[1:], artifacts=three).num_rows > 3
        page, _ = write_report(NAMES[1:], three / "out", three)
    assert page.stat().st_size > 10_000


def test_none_can_be_read(three):
    for run_id in NAMES:
        file_of(three, "runs", run_id).write_bytes(b"torn")
    for ask in (
        results.runs,
        read_runs,
        described_tables,
        lambda root: results.query("from runs", root),
    ):
        with pytest.raises(UserError, match=f"{NAMES[0]}.parquet cannot be read"):
            ask(three)
    with pytest.raises(UserError, match="cannot be read"):
        results.find_run("latest", three)


def everything(root: Path) -> list[object]:
    """What can be asked without naming a run, and of the damaged one."""
    asked = [
        lambda: results.runs(root),
        *(lambda table=table: getattr(results, table)(None, root) for table in TABLES[:3]),
        *(lambda table=table: results.query(f"from {table}", root) for table in TABLES),
        lambda: results.compare(NAMES[0], NAMES[1], artifacts=root),
        lambda: write_report([NAMES[0]], root / "out", root),
    ]
    answers = []
    for ask in asked:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResultsWarning)
            try:
                answer = ask()
            except UserError as error:
                answers.append(str(error))
                continue
        said = [str(each.message) for each in caught if each.category is ResultsWarning]
        answers.append(said[0] if said else answer)
    return answers


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.slow
def test_a_flip_changes_no_answer_unseen(three, table):
    """Whatever is asked: the answer of the whole store, or a line that names the file."""
    path = file_of(three, table, NAMES[0])
    whole, random = path.read_bytes(), Random(3)
    before = everything(three)
    for place in random.sample(range(len(whole)), 5):
        path.write_bytes(flipped(whole, place, random))
        after = everything(three)
        named = [isinstance(each, str) and str(path) in each for each in after]
        assert sum(named) >= 2
        for old, new, is_named in zip(before, after, named, strict=True):
            assert is_named or isinstance(new, tuple) or new.equals(old)
