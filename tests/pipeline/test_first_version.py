"""A store that version 0.1.0 wrote: nothing is computed again, and it is continued rightly."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import resolve_several
from sclip_core.maintenance.check import check_store
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipelines
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from .conftest import areas, computed

STORE = Path(__file__).parents[1] / "store" / "version_0_1_0.zip"
SETTINGS = {
    "dataset": "own",
    "attention": "csa,vanilla",
    "mode": "hybrid",
    "proposals": "slic",
    "hybrid_rule": "crop",
    "keep_trunk": True,
    "pamr_steps": 1,
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store, and the images that it is of, in the current folder."""
    with zipfile.ZipFile(STORE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "artifacts"


def runs(**settings: object) -> list[Run]:
    own = Path("own")
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    return Run.several(resolve_several(**{**paths, **TINY, **SETTINGS, **settings}))


def run_all(**settings: object) -> list[Finished]:
    return run_pipelines(runs(**settings))


def files(root: Path) -> dict[str, bytes]:
    """What is in the store, but for locks, leases and the memory of digests."""
    paths = (path for path in root.glob("*/*/**/*") if path.is_file() and path.suffix != ".lock")
    return {str(path): path.read_bytes() for path in paths if ".leases" not in path.parts}


def test_nothing_is_computed_again(old):
    before = files(old)
    assert [computed(finished) for finished in run_all()] == [{}, {}]
    assert files(old) == before
    assert list(check_store(old)) == []


def test_rows_are_read_as_they_were_written(old, tmp_path):
    """Against a store of today, over the same images: every row of every stage."""
    run_all(artifacts=tmp_path / "new")
    pairs = zip(runs(), runs(artifacts=tmp_path / "new"), strict=True)
    for stages in (zip(*map(Pipeline.of, pair), strict=True) for pair in pairs):
        for then, now in stages:
            if then.name == "results":
                continue
            assert then.key == now.key
            assert then.rows().keys() == now.rows().keys()
            for row_id, row in then.rows().items():
                if then.name == "text_bank":  # products are rounded in another order now
                    vectors = [each.table.read(each.rows()[row_id]) for each in (then, now)]
                    np.testing.assert_allclose(*vectors, atol=1e-6)
                    continue
                assert row.crc == now.rows()[row_id].crc, (then.name, row_id)
                assert row.meta == now.rows()[row_id].meta
    assert areas(old) == areas(tmp_path / "new")


def test_it_is_continued(old):
    finished = run_all(pamr_steps=2)
    assert set(computed(finished[0])) == {"refine", "hybrid", "metrics", "results"}
    before = areas(old)
    for path in (old / "dense_features").rglob("c/*/0"):
        path.write_bytes(path.read_bytes()[:-1])
    for path in (old / "metrics").rglob("*.parquet"):
        path.write_bytes(b"")
    for steps in (1, 2):
        again = run_all(force="refine", pamr_steps=steps)
        assert all(each.failures == {} for each in again)
    assert areas(old) == before
    assert list(check_store(old)) == []
