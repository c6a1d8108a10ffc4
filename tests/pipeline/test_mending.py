"""What is damaged in the store is found, said in one line, and computed again in the same run."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.pipeline.filling import Claims
from sclip_core.pipeline.pipeline import Pipeline, run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.progress import Silent
from sclip_core.store.artifact import manifest_text

from ..conftest import TINY
from .conftest import areas, computed, run

SUPERPIXELS = {"mode": "hybrid", "proposals": "slic", "slic_segments": 9, "hybrid_rule": "crop"}


class Listening(Silent):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        if "the validation split has" not in line:
            self.notes.append(line)


def run_and_listen(artifacts: Path, data: Path, **settings: object):
    given = {"dataset": "voc21", "data_root": data, "artifacts": artifacts, **TINY, **settings}
    told = Listening()
    return run_pipeline(Run(resolve(**given), told)), told.notes


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def ledger_lines(artifacts: Path, stage: str) -> list[dict]:
    (path,) = artifacts.glob(f"{stage}/*/ledger.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def stored_bytes(artifacts: Path) -> int:
    return sum(path.stat().st_size for path in artifacts.rglob("*") if path.is_file())


def tear(path: Path) -> None:
    path.write_bytes(b"torn")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, voc, finished_once):
    """The artifacts and the id of a run with these settings over no damage; made once."""
    made = {"{}": (finished_once[0], finished_once[1].run_id)}

    def of(settings: dict[str, Any]) -> tuple[Path, str]:
        if str(settings) not in made:
            root = tmp_path_factory.mktemp("whole")
            made[str(settings)] = root, run(root, voc, **settings).run_id
        return made[str(settings)]

    return of


@pytest.mark.parametrize(
    ("stage", "pattern", "spoil", "settings"),
    [
        ("text_bank", "c/0/0", tear, {"pamr_steps": 1}),
        ("dense_features", "c/0/0", Path.unlink, {"pamr_steps": 1}),
        ("dense_features", "c/0/0", flip, {"pamr_steps": 1}),
        ("refine", "c/0", flip, {"ignore_label": (1, 255)}),
        ("metrics", "*.parquet", tear, {"force": "results"}),
        ("metrics", "*.parquet", flip, {"force": "results"}),
    ],
)
def test_damaged_rows_are_computed_again(
    artifacts, voc, whole_run, stage, pattern, spoil, settings
):
    spoil(next((artifacts / stage).rglob(pattern)))
    finished, notes = run_and_listen(artifacts, voc, **settings)
    (line,) = notes
    assert line.startswith(f"{stage}: ")
    assert "are damaged; they are computed again" in line
    assert finished.failures == {}
    root, run_id = whole_run({k: v for k, v in settings.items() if k != "force"})
    assert {r["image_id"]: r for r in areas_of(artifacts, finished.run_id)} == {
        r["image_id"]: r for r in areas_of(root, run_id)
    }
    again, notes = run_and_listen(
        artifacts, voc, **{k: v for k, v in settings.items() if k != "force"}
    )
    assert (computed(again), notes) == ({}, [])


def areas_of(artifacts: Path, run_id: str) -> list[dict]:
    return [row for row in areas(artifacts) if row["run_id"] == run_id]


def test_only_the_damaged_row_is_computed(artifacts, voc, windows):
    before = {
        row["id"]: line
        for line in ledger_lines(artifacts, "dense_features")
        for row in line["rows"]
    }
    chunk = sorted((artifacts / "dense_features").rglob("c/*/0"))[0]
    flip(chunk)
    run(artifacts, voc, pamr_steps=1)
    after = ledger_lines(artifacts, "dense_features")
    struck = [place for line in after for place in line.get("struck", ())]
    new = [row["id"] for line in after for row in line.get("rows", ())][len(before) :]
    assert [place[0] for place in struck] == new
    assert len(new) < len(before) or len(before) == 1
    assert not chunk.exists() or all(
        row["id"] not in new for line in before.values() for row in line["rows"]
    )


def test_damage_that_comes_back_is_an_error(artifacts, voc, monkeypatch):
    """A disk that returns other bytes than it was given."""
    from sclip_core.store import arrays

    read = arrays.ArrayTable.read

    def bad(self, row):
        if self.artifact.identity.stage == "dense_features":
            raise self.damaged(row)
        return read(self, row)

    monkeypatch.setattr(arrays.ArrayTable, "read", bad)
    with pytest.raises(
        UserError, match=r"none of 4 images could be used: .*--force dense_features"
    ):
        run(artifacts, voc, pamr_steps=1)


def test_masks_and_what_is_filled_from_them(tmp_path, voc):
    whole = run(tmp_path, voc, **SUPERPIXELS)
    for part in (tmp_path / "proposals").rglob("*.parquet"):
        part.write_bytes(part.read_bytes()[:40])
    for chunk in (tmp_path / "crop_features").rglob("c/*/0"):
        flip(chunk)
    finished, notes = run_and_listen(tmp_path, voc, **SUPERPIXELS, force=("hybrid",))
    assert sorted(line.partition(":")[0] for line in notes) == ["crop_features", "proposals"]
    assert finished.row["miou"] == whole.row["miou"]
    assert finished.row["num_images"] == 4


def test_label_maps_for_pictures(artifacts, voc, tmp_path):
    run(artifacts, voc, save_vis=tmp_path / "before")
    flip(next((artifacts / "refine").rglob("c/0")))
    finished, notes = run_and_listen(artifacts, voc, save_vis=tmp_path / "after")
    assert len(notes) == 1
    assert finished.failures == {}
    pictures = sorted(path.name for path in (tmp_path / "before").iterdir())
    assert len(pictures) == 4
    for name in pictures:
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_a_deleted_or_damaged_manifest_is_made_again(artifacts, voc):
    manifests = sorted(artifacts.glob("*/*/manifest.json"))
    before = [json.loads(path.read_bytes())["settings"] for path in manifests]
    manifests[0].unlink()
    flip(manifests[1])
    finished, notes = run_and_listen(artifacts, voc)
    assert computed(finished) == {}
    assert [json.loads(path.read_bytes())["settings"] for path in manifests] == before
    (line,) = notes
    assert "manifest.json" in line
    assert "is written again" in line


def test_a_manifest_of_another_artifact_is_refused(artifacts, voc):
    manifest = next(artifacts.glob("refine/*/manifest.json"))
    content = json.loads(manifest.read_text())
    content["settings"]["logit_scale"] = 1.0
    del content["check"]
    manifest.write_text(manifest_text(content))
    with pytest.raises(UserError, match="settings differ"):
        run(artifacts, voc)


def test_odd_lines_of_a_ledger_are_named_and_their_rows_computed_again(artifacts, voc):
    (path,) = artifacts.glob("refine/*/ledger.jsonl")
    before = areas(artifacts)
    flip(path)
    finished, notes = run_and_listen(artifacts, voc)
    (line,) = notes
    assert line.startswith("refine: line 1 of ")
    assert "cannot be used (its checksum is wrong)" in line
    assert computed(finished)["refine"] > 0
    assert areas(artifacts) == before
    assert run_and_listen(artifacts, voc)[1] == []  # the line is gone


def test_sizes_are_covered(artifacts, voc):
    """``meta`` was outside the checksum: a map could be read with another height and width."""
    (path,) = artifacts.glob("refine/*/ledger.jsonl")
    text = path.read_text()
    assert '"size": [200, 260]' in text
    path.write_text(text.replace('"size": [200, 260]', '"size": [260, 200]'))
    before = areas(artifacts)
    finished, notes = run_and_listen(artifacts, voc, force="results")
    assert len(notes) == 1
    assert finished.failures == {}
    assert areas(artifacts) == before


def test_force_replaces_and_does_not_double(artifacts, voc):
    before = stored_bytes(artifacts)
    results = areas(artifacts)
    for _ in range(2):
        finished = run(artifacts, voc, force="dense_features")
        assert set(computed(finished)) == {"dense_features", "refine", "metrics", "results"}
    assert stored_bytes(artifacts) < 1.1 * before + 4000  # ledgers keep their lines
    assert areas(artifacts) == results


def test_two_runs_that_force_a_stage_share_it(artifacts, voc):
    """What another run has replaced since this one began is new enough."""
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY}
    one, two = (Pipeline.of(Run(resolve(**given, force="refine"))) for _ in range(2))
    one.refine.begin()
    assert two.refine.execute().computed == 4
    outcome = one.refine.execute()
    assert (outcome.computed, outcome.cached) == (0, 4)


def test_leftovers_of_a_killed_process_go_with_the_next_run(artifacts, voc):
    from sclip_core.store.files import TEMPORARY, host

    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    (folder,) = (artifacts / "refine").iterdir()
    lease = artifacts / ".leases" / f"{host()}-{dead}-0123abcd.jsonl"
    lease.write_text(json.dumps({"use": [f"refine/{folder.name}"]}) + "\n")
    places = [folder, artifacts / "results" / "runs"]
    left = [place / f"{TEMPORARY}{host()}-{dead}-x" for place in places]
    left.append(next(folder.rglob("c/0")).with_name("1.0123.partial"))
    mine = folder / f"{TEMPORARY}{host()}-{os.getpid()}-x"
    for path in (*left, mine):
        path.write_bytes(b"half")
    run(artifacts, voc)
    assert not any(path.exists() for path in (*left, lease))
    assert mine.exists()
    assert not list((artifacts / ".leases").glob("*.jsonl"))


def test_an_image_that_is_gone_is_named_when_its_row_is_damaged(artifacts, tmp_path, voc):
    import shutil

    copy = Path(shutil.copytree(voc, tmp_path / "VOC2012"))
    flip(sorted((artifacts / "dense_features").rglob("c/*/0"))[0])
    run_ = Run(resolve(dataset="voc21", data_root=copy, artifacts=artifacts, **TINY, pamr_steps=1))
    first = run_.inputs.samples[0].image
    first.write_bytes(b"another")
    finished = run_pipeline(run_)
    ((image_id, why),) = finished.failures.items()
    assert image_id == run_.inputs.dataset.samples[0].image_id
    assert "was changed while it was in use" in why
    assert finished.num_images == 3


def test_bit_identical_features_after_mending(artifacts, voc):
    def features() -> dict[str, np.ndarray]:
        given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY}
        stage = Pipeline.of(Run(resolve(**given))).dense_features
        return {row.id: stage.table.read(row) for row in stage.rows().values()}

    before = features()
    for chunk in (artifacts / "dense_features").rglob("c/*/0"):
        flip(chunk)
    run(artifacts, voc, pamr_steps=1)
    after = features()
    assert before.keys() == after.keys()
    for row_id, values in before.items():
        np.testing.assert_array_equal(after[row_id], values)


def in_threads(shards: int):
    """Executes a stage as the flow does: all shards at once."""

    def execute(stage) -> None:
        if not getattr(stage, "shardable", False):
            stage.execute()
            return
        with ThreadPoolExecutor(shards) as pool:
            for done in [pool.submit(stage.execute, shard, shards) for shard in range(shards)]:
                done.result()

    return execute


def test_several_shards_find_the_same_damage(artifacts, voc):
    """One of them mends it, the others wait; it counts once."""
    tear(next((artifacts / "text_bank").rglob("c/0/0")))
    for chunk in (artifacts / "dense_features").rglob("c/*/0"):
        flip(chunk)
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, "pamr_steps": 1}
    told = Listening()
    finished = run_pipeline(Run(resolve(**given), told), in_threads(4))
    assert finished.failures == {}
    assert finished.num_images == 4
    assert len([line for line in told.notes if line.startswith("text_bank: ")]) == 1
    assert all("are damaged" in line for line in told.notes), told.notes


def test_shards_are_cut_from_all_images(artifacts, voc):
    """Not from those whose features are there when a shard begins: they would be cut twice."""
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, "pamr_steps": 1}
    pipeline = Pipeline.of(Run(resolve(**given)))
    features, labels = pipeline.dense_features, pipeline.refine
    features.execute()
    labels.execute(0, 2)
    features.table.strike([features.rows()[features.wanted()[0]]])
    labels.execute(1, 2)
    assert list(labels.missing(labels.wanted())) == []


@pytest.mark.parametrize("stage", ["text_bank", "dense_features"])
def test_rows_that_are_struck_meanwhile_are_computed_again(artifacts, voc, stage):
    """By another run that found them damaged, and was killed before it had mended them."""
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, "pamr_steps": 1}
    pipeline = Pipeline.of(Run(resolve(**given)))
    pipeline.text_bank.execute()
    pipeline.dense_features.execute()
    struck = getattr(pipeline, stage)
    struck.table.strike(list(struck.rows().values())[:1])
    assert pipeline.refine.execute().computed == 4
    assert pipeline.run.journal.failures == {}


def test_damage_of_rows_that_this_run_does_not_want(artifacts, voc):
    """A file holds four images' rows, a run of two finds it torn: the others are struck only."""
    for part in (artifacts / "metrics").rglob("*.parquet"):
        tear(part)
    for path in (artifacts / "results" / "runs").iterdir():
        path.unlink()
    finished, notes = run_and_listen(artifacts, voc, num_samples=2)
    assert (finished.num_images, finished.failures, len(notes)) == (2, {}, 1)
    assert run_and_listen(artifacts, voc)[0].num_images == 4


def test_a_run_of_fewer_images_has_another_id(artifacts, voc, monkeypatch):
    """A damaged row cannot be computed again just now: the score is of the others, and says so."""
    from sclip_core.config import ImageError
    from sclip_core.pipeline import inputs as module

    (whole,) = ({row["run_id"] for row in areas(artifacts)},)
    for part in (artifacts / "metrics").rglob("*.parquet"):
        tear(part)
    for path in (artifacts / "results" / "runs").iterdir():
        path.unlink()
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY}
    ready = Run(resolve(**given))
    read = module.read_bytes

    def away(path: Path) -> bytes:
        if "000002.png" in str(path):
            raise ImageError(f"{path} cannot be read (Input/output error)")
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_bytes", away)
        fewer = run_pipeline(ready)
    assert fewer.num_images == 3
    assert {fewer.run_id}.isdisjoint(whole)
    again = run(artifacts, voc)
    assert again.num_images == 4
    assert {again.run_id} == whole


def test_a_damaged_trunk_is_computed_again_where_it_is_kept(tmp_path, voc):
    run(tmp_path, voc, keep_trunk=True)
    for chunk in (tmp_path / "trunk").rglob("c/*/0"):
        flip(chunk)
    finished, notes = run_and_listen(tmp_path, voc, keep_trunk=True, attention="vanilla")
    assert finished.failures == {}
    (line,) = notes
    assert line.startswith("trunk: stored data of 4 images")
    again, notes = run_and_listen(tmp_path, voc, keep_trunk=True, attention="naclip")
    assert (set(computed(again)) & {"trunk"}, notes) == (set(), [])


def test_rows_that_were_stored_a_moment_ago_are_given_back(artifacts, voc):
    """Two runs begin with the same list: the second keeps no claim to what the first has stored."""
    given = {"dataset": "voc21", "data_root": voc, "artifacts": artifacts, **TINY, "pamr_steps": 1}
    one, two = (Pipeline.of(Run(resolve(**given))) for _ in range(2))
    ids = one.refine.wanted()
    assert one.refine.execute().computed == 4
    claims = Claims(two.refine, ids)
    assert (list(claims), claims.taken) == ([], [])
    assert one.run.lease.taken(one.refine.artifact.path) == {}


def test_names_of_folders_are_durable_before_a_row_is(tmp_path, voc, monkeypatch):
    """Whoever has made a folder: every writer fsyncs its name before the ledger names a row."""
    synced: list[Path] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    given = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path, **TINY}
    stage = Pipeline.of(Run(resolve(**given))).text_bank
    stage.artifact.create({})
    monkeypatch.setattr(os, "fsync", recorded)
    stage.execute()
    path = stage.artifact.path
    first_line = synced.index(path / "ledger.jsonl")
    segment = path / "segments/0000.zarr"
    for folder in (tmp_path, path.parent, path, path / "segments", segment, segment / "c"):
        assert folder in synced[:first_line], folder
