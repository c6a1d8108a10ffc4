"""Rows of whole runs: what counts as work, what is judged, and that they run at all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.pipeline_rows import (
    cached_row,
    cached_rows,
    memory_row,
    memory_rows,
    prefect_row,
    prefect_rows,
    tuning_row,
    tuning_rows,
)
from benchmarks.processes import ROOT, Probe, sclip_run
from benchmarks.workplace import PHOTOGRAPHS, Workplace, random_clip
from sclip_core.config import STAGES, resolve
from sclip_core.encoder import find_model
from sclip_core.pipeline.run import Run

NOTHING = dict.fromkeys(STAGES, 0)


def probe(work: float, computed: dict[str, int] | None = None, peak_mb: float = 0.0) -> Probe:
    """A run without Prefect, all of whose work is in its stages."""
    return Probe(
        wall=(0.0, work + 5.0),
        run=(4.0, work + 4.0),
        checked=((4.1, 4.2),),
        stages={"text_bank": 0.25 * work, "refine": 0.75 * work},
        computed={**NOTHING, **(computed or {})},
        imports_mb=100.0,
        peak_mb=peak_mb,
    )


def test_start_of_prefect_is_no_work():
    """It lies between the first check and the second one, in the flow."""
    direct = probe(10.0)
    assert (direct.prefect_start_s(), direct.work_s(), direct.wall_s()) == (0.0, 10.0, 15.0)
    flow = replace(direct, checked=((4.1, 4.2), (9.2, 9.3)))
    assert flow.prefect_start_s() == pytest.approx(5.0)
    assert flow.work_s() == pytest.approx(5.0)
    assert flow.ended_s() == pytest.approx(6.0)
    assert flow.outside_s() == pytest.approx(-5.0)


def test_tuning_compares_all_stages():
    row = tuning_row(probe(20.0), probe(2.0, {"refine": 8}), "8 scenes")
    assert (row.ratio, row.met) == (10.0, True)
    assert row.detail["ratio_without_text_bank"] == 7.5
    assert not tuning_row(probe(20.0), probe(2.1), "8 scenes").met
    with pytest.raises(RuntimeError, match="computed again"):
        tuning_row(probe(20.0), probe(2.0, {"dense_features": 8}), "8 scenes")


def test_cached_judges_the_median_through_prefect():
    row = cached_row([probe(1.9), probe(9.0), probe(0.1)], [probe(0.05)], 100)
    assert row.met
    assert row.measured == "1.9 s, without Prefect 50 ms, whole command 6.9 s"
    with pytest.raises(RuntimeError, match="computed something"):
        cached_row([probe(1.0, {"results": 1})], [probe(1.0)], 100)


def test_memory_judges_the_smaller_peaks():
    few = [probe(1.0, {"refine": 20}, peak) for peak in (1000.0, 1500.0)]
    many = [probe(1.0, {"refine": 120}, peak) for peak in (1040.0, 1400.0)]
    row = memory_row({20: few, 120: many})
    assert (row.ratio, row.met, row.measured) == (1.04, True, "1040 MB, 20: 1000 MB, +4.0%")
    assert not memory_row({20: few, 120: many[1:]}).met
    with pytest.raises(RuntimeError, match="not every image"):
        memory_row({20: few, 120: few})


def test_prefect_judges_medians():
    direct = [probe(work) for work in (100.0, 101.0, 300.0)]
    row = prefect_row([probe(work) for work in (104.0, 103.0, 90.0)], direct, 120)
    assert (row.met, row.measured) == (True, "+2.0%, 103 s, without Prefect 101 s")
    assert row.detail["share_by_outside_stages"] == 0.0
    assert not prefect_row([probe(106.0)], direct, 120).met


def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 2, "", "sclip: no such dataset")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="no such dataset"):
        sclip_run(tmp_path / "probe.json", {"dataset": "x"}, direct=True)


@pytest.mark.parametrize("given", [False, True])
def test_images_of_tuning_are_a_benchmark(tmp_path, given):
    """Scenes with their labels, or photographs with none, under the protocol of coco_object."""
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((30, 40, 3), 90, np.uint8))
    with Workplace(quick=True) as place:
        settings, said = place.coco(2, tmp_path if given else None)
        run = Run(resolve(**settings))
        assert said == ("2 photographs" if given else "2 scenes 60×80")
        assert (len(run.inputs.samples), len(run.inputs.dataset.vocabulary.queries)) == (2, 113)
        assert (run.settings.logit_scale, run.settings.prob_thd) == (50, 0.1)
        truths = [run.inputs.ground_truth(sample) for sample in run.inputs.samples]
        assert [truth.any() for truth in truths] == [not given] * 2
    assert not place.folder.exists()


def test_no_photographs(tmp_path):
    with Workplace(quick=True) as place, pytest.raises(FileNotFoundError, match="jpg"):
        place.coco(2, tmp_path)


def test_random_clip_is_a_vit_b16(tmp_path, monkeypatch):
    """The real image tower; its weights are not drawn here."""
    monkeypatch.setattr("benchmarks.workplace.save_file", lambda *_: None)
    monkeypatch.setattr("benchmarks.workplace.open_clip.CLIP", lambda **_: NoWeights())
    settings = random_clip(tmp_path, quick=False)
    (tmp_path / "random.safetensors").touch()
    monkeypatch.undo()
    spec = find_model(str(settings["model"]), str(settings["pretrained"]))
    assert (spec.patch, spec.width, spec.config["vision_cfg"]["layers"]) == (16, 512, 12)
    assert spec.config["quick_gelu"]


class NoWeights:
    def state_dict(self):
        return {}


@pytest.mark.slow
def test_quick_tuning(monkeypatch):
    """Two real processes; the second finds the words and the features of the first."""
    monkeypatch.delenv(PHOTOGRAPHS, raising=False)
    (row,) = tuning_rows(quick=True)
    full, tuned = row.detail["full"], row.detail["tuned"]
    assert full["computed"] == {
        "text_bank": 81, "dense_features": 2, "refine": 2, "metrics": 2, "results": 1
    }  # fmt: skip
    assert tuned["computed"] == {**full["computed"], "text_bank": 0, "dense_features": 0}
    assert full["peak_mb"] > full["imports_mb"] > 50
    assert 0 < sum(tuned["stages_s"].values()) < tuned["work_s"] < tuned["wall_s"]


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.parametrize("rows", [cached_rows, memory_rows, prefect_rows])
def test_quick_rows(rows):
    (row,) = rows(quick=True)
    assert row.measured
    for told in row.detail.get("flow", []):
        assert told["prefect_start_s"] > 0.1
        assert 0 < told["work_s"] < told["wall_s"] - told["prefect_start_s"]


def test_a_measured_process_ends_as_the_command_does():
    """Whatever asks for a call at the end before the command does keeps Python from a quick end."""
    code = "import atexit, benchmarks.processes; print(atexit._ncallbacks())"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "0\n"
