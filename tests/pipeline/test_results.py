"""The tables of a run: written again where they are damaged, and never of fewer images unsaid."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.datasets import Vocabulary
from sclip_core.pipeline.pipeline import Pipeline, run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.progress import Silent
from sclip_core.results.files import TABLES, VERSION_KEY, check_run, read_table, run_ids
from sclip_core.results.settings import differing_settings
from sclip_core.store import keys

from ..conftest import TINY
from ..flows.conftest import write_own
from .conftest import run


class Notes(Silent):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def opened(artifacts: Path, voc: Path, notes: Notes | None = None, **settings: object) -> Run:
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, **settings}
    return Run(resolve(**given), notes)


def all_tables(root: Path) -> dict[str, list[object]]:
    """Rows of all tables but for when a run was made, and how long its stages took."""
    changing = ("created_at", "seconds_", "state_")
    return {
        table: [
            {k: v for k, v in row.items() if not k.startswith(changing)}
            for row in read_table(root, table).to_pylist()
        ]
        for table in TABLES
    }


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGE = {
    "torn": torn,
    "flipped": lambda path: path.write_bytes(path.read_bytes().replace(b"sclip_s", b"sclip_t")),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("table", TABLES)
def test_damaged_tables_are_written_again(artifacts, voc, table, damage):
    before, (run_id,) = all_tables(artifacts), run_ids(artifacts)
    path = artifacts / "results" / table / f"{run_id}.parquet"
    DAMAGE[damage](path)
    notes = Notes()
    run = opened(artifacts, voc, notes)
    plan = Pipeline.of(run).results.status()
    assert plan.state == "missing"
    listed = (table, damage) != ("runs", "gone")  # a run without a row is not there at all
    assert plan.reason.startswith(f"{path} ") == listed
    assert plan.reason.endswith(": written again") == listed
    finished = run_pipeline(run)
    assert finished.outcomes["results"].computed == 1
    assert finished.outcomes["metrics"].computed == 0
    said = [line for line in notes.lines if "written again" in line]
    assert [line.startswith(f"{path} ") for line in said] == [True] * listed
    check_run(artifacts, run_id)
    assert all_tables(artifacts) == before


def test_tables_that_are_whole_are_left_alone(artifacts, voc):
    files = {path: path.stat().st_mtime_ns for path in artifacts.glob("results/*/*.parquet")}
    notes = Notes()
    run = opened(artifacts, voc, notes)
    assert Pipeline.of(run).results.status().state == "complete"
    assert run_pipeline(run).outcomes["results"].cached == 1
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert not [line for line in notes.lines if "again" in line]


def test_tables_without_digests_are_whole(artifacts, voc):
    """As version 0.1.0 wrote them."""
    for path in artifacts.glob("results/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({VERSION_KEY: "2"}), path, compression="zstd")
        assert b"sclip_sha256" not in path.read_bytes()
    assert run_pipeline(opened(artifacts, voc)).outcomes["results"].cached == 1


def test_forced_tables_are_planned(artifacts, voc):
    status = Pipeline.of(opened(artifacts, voc, force=["results"])).results.status()
    assert (status.state, status.reason) == ("missing", "asked for by --force")


def test_tables_of_a_later_version_are_not_replaced_unasked(artifacts, voc):
    (run_id,) = run_ids(artifacts)
    path = artifacts / "results" / "class_iou" / f"{run_id}.parquet"
    later = pq.read_table(path).replace_schema_metadata({VERSION_KEY: "3"})
    pq.write_table(later, path)
    written = path.read_bytes()
    assert "update it" in Pipeline.of(opened(artifacts, voc)).results.status().reason
    with pytest.raises(UserError, match=r"schema version 3, .* update it"):
        run_pipeline(opened(artifacts, voc))
    assert path.read_bytes() == written
    run_pipeline(opened(artifacts, voc, force=["results"]))
    check_run(artifacts, run_id)


def lost(pipeline: Pipeline, count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the metrics of some images vanish; gives the ids of these."""
    metrics = pipeline.metrics
    rows = dict(list(metrics.rows().items())[count:])
    monkeypatch.setattr(metrics, "rows", lambda: rows)
    return [sample.image_id for sample in pipeline.run.inputs.samples[:count]]


@pytest.mark.parametrize("at_once", [1, 3, 4096])
def test_the_key_is_that_of_all_images_in_one_list(artifacts, voc, monkeypatch, at_once):
    """Which it was before a million of them were hashed a part at a time."""
    monkeypatch.setattr(keys, "AT_ONCE", at_once)
    results = Pipeline.of(opened(artifacts, voc)).results
    (run_id,) = run_ids(artifacts)
    dataset, inputs = results.run.inputs.dataset, results.run.inputs
    files = zip(inputs.image_digests, inputs.label_digests, strict=True)
    images = {s.image_id: ":".join(f) for s, f in zip(inputs.samples, files, strict=True)}
    left_out = dataset.samples[1].image_id
    for failed in ([], [left_out]):
        inputs.journal.failures.update(dict.fromkeys(failed, "damaged"))
        identity = {
            "stage": "results",
            "version": 1,
            "dataset": "voc21",
            "class_names": list(dataset.vocabulary.class_names),
            "metrics": results.metrics.key,
            "images": [[i, None if i in failed else row_id] for i, row_id in images.items()],
        }
        results.__dict__.pop("key", None)
        assert results.key == keys.artifact_key(identity)
        assert (results.run_id == run_id) == (not failed)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_images_that_vanish_stop_the_stage(tmp_path, voc, monkeypatch, count):
    run = opened(tmp_path, voc)
    pipeline = Pipeline.of(run)
    for stage in list(pipeline)[:-1]:
        stage.execute()
    ids = lost(pipeline, count, monkeypatch)
    says = f"{count} of 4 images have neither metrics nor an error.* {ids[0]} is .*run again"
    with pytest.raises(UserError, match=says):
        pipeline.results.execute()
    assert run_ids(tmp_path) == []
    assert not (tmp_path / "results").exists()


def test_images_that_vanish_stop_the_stage_where_a_run_is_there(artifacts, voc, monkeypatch):
    pipeline = Pipeline.of(opened(artifacts, voc))
    assert pipeline.results.execute().cached == 1
    (first,) = lost(pipeline, 1, monkeypatch)
    with pytest.raises(UserError, match=f"1 of 4 images .*{first}"):
        pipeline.results.execute()


def test_rows_that_are_found_damaged_on_reading_stop_the_stage(tmp_path, voc, monkeypatch):
    pipeline = Pipeline.of(opened(tmp_path, voc))
    for stage in list(pipeline)[:-1]:
        stage.execute()
    whole = pipeline.metrics.tally()
    fewer = whole._replace(ids=whole.ids[1:])
    monkeypatch.setattr(pipeline.metrics, "tally", lambda: fewer)
    with pytest.raises(UserError, match=f"1 of 4 images .*{whole.ids[0]}"):
        pipeline.results.execute()
    assert run_ids(tmp_path) == []


def test_images_that_are_known_to_have_failed_are_left_out(tmp_path, voc, monkeypatch):
    run = opened(tmp_path, voc)
    pipeline = Pipeline.of(run)
    for stage in list(pipeline)[:-1]:
        stage.execute()
    (first,) = lost(pipeline, 1, monkeypatch)
    run.journal.failures[first] = f"{first} is damaged"
    pipeline.results.execute()
    (row,) = pipeline.results.read()
    assert (row["num_images"], row["num_failed"]) == (3, 1)


def test_the_key_names_each_image_with_its_own_row(tmp_path):
    """Also where a file before it cannot be read."""
    own = write_own(tmp_path / "own", 3)
    first = sorted((own / "images").iterdir())[0]
    first.unlink()
    first.symlink_to(tmp_path / "nowhere")
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    run = Run(resolve(**paths, **TINY, artifacts=tmp_path / "artifacts"))
    run_pipeline(run)
    results = Pipeline.of(run).results
    metrics, samples = results.metrics, run.inputs.dataset.samples
    row_of = {s.image_id: i for s, i in zip(run.inputs.samples, metrics.row_ids, strict=True)}
    images = [[s.image_id, row_of.get(s.image_id)] for s in samples]
    assert [row is None for _, row in images] == [True, False, False]
    identity = {
        "stage": results.name,
        "version": results.version,
        "dataset": run.inputs.dataset.name,
        "class_names": run.inputs.dataset.vocabulary.class_names,
        "metrics": metrics.key,
        "images": images,
    }
    assert results.key == keys.artifact_key(identity)


def test_the_words_of_a_run_are_told_in_its_row(tmp_path, voc, finished_once):
    own = Vocabulary.named("voc21")
    other = tmp_path / "words.txt"
    other.write_text("\n".join("; ".join(words) for words in own.words))
    found = run(tmp_path / "artifacts", voc, classes=other).row
    assert found["words_separator"] == "; "
    assert finished_once[1].row["words_separator"] == ", "
    by_hand = json.dumps([list(words) for words in own.words], separators=(",", ":"))
    for row in (found, finished_once[1].row):
        assert row["words_sha256"] == hashlib.sha256(by_hand.encode()).hexdigest()
        assert row["distractors"] is None
    assert found["run_id"] == finished_once[1].run_id  # the words are the same


def test_other_words_under_the_same_name_are_a_difference():
    rows = [{"run_id": n, "dataset": "d", "classes": "a.txt", "words_sha256": n} for n in "12"]
    assert differing_settings([{"mode": "dense"} | row for row in rows]) == ["words_sha256"]
    rows[1]["classes"] = "b.txt"
    assert differing_settings([{"mode": "dense"} | row for row in rows]) == ["classes"]
