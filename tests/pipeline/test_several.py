"""Several policies and numbers of steps in one command: each run as if it were alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sclip_core.config import Settings, UserError, resolve, resolve_several
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.segmentation import Refiner

from ..conftest import TINY
from .conftest import computed
from .conftest import run as usual_run

FEW = {"templates": "simple"}  # four prompts a word: these tests are of what is shared
THREE = ["csa", "vanilla", "naclip"]


def run(artifacts: Path, data: Path, **settings: Any) -> Finished:
    """A run over the dataset."""
    return usual_run(artifacts, data, **{**FEW, **settings})


def run_several(artifacts: Path, data: Path, **settings: Any) -> list[Finished]:
    """Runs of several settings over the dataset."""
    own = {"dataset": "voc21", "data_root": data, "artifacts": artifacts}
    given = {**own, **TINY, **FEW, **settings}
    return run_pipelines(Run.several(resolve_several(**given)))


def scores(finished: Finished) -> dict[str, Any]:
    return {k: finished.row[k] for k in ("run_id", "attention", "pamr_steps", "miou", "aacc")}


def test_three_policies_pass_the_tower_once(tmp_path, voc, windows):
    alone = [run(tmp_path / name, voc, attention=name) for name in THREE]
    once = sum(windows) // 3
    windows.clear()
    together = run_several(tmp_path / "together", voc, attention=THREE)
    assert sum(windows) == once
    assert list(map(scores, together)) == list(map(scores, alone))
    for each in together:
        assert computed(each)["dense_features"] == 4
        assert each.row["seconds_dense_features"] > 0
    assert len({each.row["miou"] for each in together}) == 3
    windows.clear()
    again = run_several(tmp_path / "together", voc, attention=THREE)
    assert [computed(each) for each in again] == [{}] * 3
    assert not windows


def test_runs_whose_windows_differ_share_no_pass(tmp_path, voc):
    """No command asks for it yet; the windows of one run are never those of another."""
    own = {"dataset": "voc21", "data_root": voc, "num_samples": 2, **TINY, **FEW}

    def settings(name: str, side: int) -> Settings:
        return resolve(**own, artifacts=tmp_path / name, short_side=side)

    runs = Run.several([settings("one", 160), settings("one", 224)])
    assert all(each.dense_features.together == () for each in Pipeline.of_several(runs))
    together = run_pipelines(runs)
    alone = [run_pipelines([Run(settings(str(side), side))])[0] for side in (160, 224)]
    assert list(map(scores, together)) == list(map(scores, alone))
    assert together[0].row["miou"] != together[1].row["miou"]


def test_what_one_policy_has_is_not_made_again(tmp_path, voc, windows):
    run(tmp_path, voc, attention="vanilla")
    run(tmp_path, voc, attention="csa", num_samples=2)
    windows.clear()
    csa, vanilla, kk = run_several(tmp_path, voc, attention="csa,vanilla,kk")
    assert computed(csa)["dense_features"] == 2
    assert "dense_features" not in computed(vanilla)
    assert computed(kk)["dense_features"] == 4
    rows = [len(stage.rows()) for stage in stages(tmp_path, voc, "csa,vanilla,kk")]
    assert rows == [4, 4, 4]


def stages(artifacts: Path, data: Path, attention: str) -> list[Any]:
    given = {"dataset": "voc21", "data_root": data, "artifacts": artifacts, **TINY}
    runs = Run.several(resolve_several(**given, attention=attention))
    return [pipeline.dense_features for pipeline in Pipeline.of_several(runs)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, ...]]]:
    """Steps, scale and thresholds that an image was decided by at once, image by image."""
    seen: list[list[tuple[float, ...]]] = []
    labels_at = Refiner.labels_at

    def counted(self: Refiner, protocols: list[Any], *rest: Any) -> Any:
        values = [(p.pamr_steps, p.logit_scale, p.prob_thd, p.area_thd) for p in protocols]
        seen.append(values)
        return labels_at(self, protocols, *rest)

    monkeypatch.setattr(Refiner, "labels_at", counted)
    return seen


def test_steps_share_a_pass(tmp_path, voc, passes):
    alone = [run(tmp_path / str(steps), voc, pamr_steps=steps) for steps in (5, 0, 3)]
    passes.clear()
    together = run_several(tmp_path / "together", voc, pamr_steps="5,0,3")
    assert [[steps for steps, *_ in values] for values in passes] == [[5, 0, 3]] * 4
    assert list(map(scores, together)) == list(map(scores, alone))
    assert [computed(each)["refine"] for each in together] == [4, 4, 4]


@pytest.mark.slow
def test_scales_and_thresholds_share_the_pass_of_their_dilations(tmp_path, voc, passes, windows):
    grid: dict[str, Any] = {
        "pamr_steps": [0, 2],
        "pamr_dilations": "8,16;1,2",
        "logit_scale": [20, 65],
        "prob_thd": [0, 0.1],
        "area_thd": [0, 0.1],
    }
    together = run_several(tmp_path / "together", voc, **grid)
    assert len(together) == 3 * 3 * 2  # the dilations of 0 steps, the scales without prob_thd
    assert [len(values) for values in passes] == [12] * 4 + [6] * 4
    once = sum(windows)
    windows.clear()
    by_point = {}
    for each in together[::2] + together[-1:]:
        values = {name: getattr(each.settings, name) for name in grid}
        alone = run(tmp_path / "alone", voc, **values)
        assert scores(alone) == scores(each)
        by_point[tuple(values.values())] = each.row["miou"]
    assert sum(windows) == once
    assert len(set(by_point.values())) > 5
    passes.clear()
    assert [computed(each) for each in run_several(tmp_path / "together", voc, **grid)] == [{}] * 18
    assert not passes


def test_a_point_that_is_missing_is_computed_alone(tmp_path, voc, passes):
    run(tmp_path, voc, pamr_steps=2, prob_thd=0.1)
    passes.clear()
    one, other = run_several(tmp_path, voc, pamr_steps=2, prob_thd="0.1,0.3")
    assert passes == [[(2, 65, 0.3, 0.1)]] * 4
    assert "refine" not in computed(one)
    assert computed(other)["refine"] == 4


def test_every_combination(tmp_path, voc, windows):
    run(tmp_path / "alone", voc)
    once = sum(windows)
    windows.clear()
    finished = run_several(tmp_path, voc, attention="csa,kk", pamr_steps=[0, 2])
    assert sum(windows) == once
    made = [computed(each).get("dense_features", 0) for each in finished]
    assert made == [4, 0, 4, 0]
    points = [(each.row["attention"], each.row["pamr_steps"]) for each in finished]
    assert points == [("csa", 0), ("csa", 2), ("kk", 0), ("kk", 2)]
    assert len({each.run_id for each in finished}) == 4


def test_the_same_policy_by_two_names_is_computed_once(tmp_path, voc, windows):
    run(tmp_path / "alone", voc)
    once = sum(windows)
    one, other = run_several(tmp_path / "two", voc, attention="csa,csa:vanilla")
    assert sum(windows) == 2 * once
    assert one.run_id == other.run_id


def test_force_computes_each_once(tmp_path, voc, windows):
    run_several(tmp_path, voc, attention=THREE)
    once = sum(windows)
    forced = run_several(tmp_path, voc, attention=THREE, force="dense_features")
    assert sum(windows) == 2 * once
    assert [computed(each)["dense_features"] for each in forced] == [4, 4, 4]


@pytest.mark.slow
def test_force_computes_each_once_for_all_steps(tmp_path, voc, windows):
    given = {"attention": "csa,kk", "pamr_steps": "0,1,2", "keep_trunk": True}
    run_several(tmp_path, voc, **given)
    once = sum(windows)
    for stage in ("dense_features", "trunk"):
        windows.clear()
        run_several(tmp_path, voc, **given, force=stage)
        assert sum(windows) == (once if stage == "trunk" else 0)  # features come from the trunk
    windows.clear()
    plain = {**given, "keep_trunk": False}
    run_several(tmp_path / "plain", voc, **plain)
    run_several(tmp_path / "plain", voc, **plain, force="dense_features")
    assert sum(windows) == 2 * once


def test_a_damaged_trunk_is_no_harm_where_the_image_is(tmp_path, voc, windows):
    run(tmp_path, voc, keep_trunk=True)
    for chunk in tmp_path.glob("trunk/*/segments/*/c/*/*"):
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    windows.clear()
    other = run(tmp_path, voc, attention="naclip")
    assert computed(other)["dense_features"] == 4
    assert windows
    assert not other.failures


def test_a_forced_trunk_has_to_be_asked_for(tmp_path, voc):
    with pytest.raises(UserError, match="--force trunk without --keep-trunk"):
        run(tmp_path, voc, force="trunk")


def test_shards(tmp_path, voc, windows):
    """As the flow does it: all shards of a stage, then the next stage."""

    def in_shards(stage: Any) -> None:
        for shard in range(3 if stage.shardable else 1):
            stage.execute(shard, 3 if stage.shardable else 1)

    given = {"dataset": "voc21", "data_root": voc, "artifacts": tmp_path / "shards", **TINY, **FEW}
    runs = Run.several(resolve_several(**given, attention=THREE))
    together = run_pipelines(runs, in_shards)
    assert [computed(each)["dense_features"] for each in together] == [4, 4, 4]
    alone = run_several(tmp_path / "alone", voc, attention=THREE)
    assert list(map(scores, together)) == list(map(scores, alone))


def test_a_kept_trunk_needs_no_tower(tmp_path, voc, windows):
    kept = run(tmp_path / "kept", voc, keep_trunk=True)
    assert computed(kept)["trunk"] == computed(kept)["dense_features"] == 4
    plain = run(tmp_path / "plain", voc)
    assert scores(plain) == scores(kept)
    windows.clear()
    other = run(tmp_path / "kept", voc, attention="naclip")  # it need not be asked for again
    assert not windows
    assert computed(other)["dense_features"] == 4
    assert scores(other) == scores(run(tmp_path / "plain", voc, attention="naclip"))
    assert windows


def test_features_are_the_same_from_a_kept_trunk(tmp_path, voc):
    run(tmp_path / "kept", voc, keep_trunk=True, num_samples=2)
    run(tmp_path / "kept", voc)  # two images from the trunk, two from their files
    run(tmp_path / "plain", voc)
    (one,), (other,) = (stages(tmp_path / name, voc, "csa") for name in ("kept", "plain"))
    assert one.key == other.key
    for digest, row in one.rows().items():
        ours, expected = (s.read(s.rows()[digest])[1] for s in (one, other))
        np.testing.assert_allclose(ours, expected, atol=1e-3)  # fp16, other batches
        assert row.meta["size"] == [200, 260]


def test_a_pass_stores_of_others_only_what_they_lack(tmp_path, voc):
    run(tmp_path, voc, attention="csa", num_samples=2)
    naclip, csa = run_several(tmp_path, voc, attention=["naclip", "csa"])
    assert computed(naclip)["dense_features"] == 4
    assert computed(csa)["dense_features"] == 2  # the other two were there


def test_pictures_of_several_runs_lie_apart(tmp_path, voc):
    finished = run_several(tmp_path, voc, attention="csa,kk", save_vis=tmp_path / "vis")
    folders = sorted(path.name for path in (tmp_path / "vis").iterdir())
    assert folders == sorted(each.run_id for each in finished)
    assert all(len(list(path.iterdir())) == 4 for path in (tmp_path / "vis").iterdir())


def test_one_policy_that_is_none_stops_before_anything_is_done(tmp_path, voc):
    with pytest.raises(UserError, match="unknown attention 'nacl'"):
        run_several(tmp_path / "artifacts", voc, attention="csa,nacl")
    assert not list(tmp_path.rglob("*.zarr"))
