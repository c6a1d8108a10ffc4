"""``--dataset a,b``: a run of each benchmark by its own protocol, and one table."""

from __future__ import annotations

import json

import pytest

from sclip_core import results

from ..conftest import TINY
from ..pipeline.conftest import write_voc
from .conftest import flags

MODEL = [f"--{name}={value}" for name, value in TINY.items()]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two benchmarks of one layout, and one without its files."""
    root = tmp_path_factory.mktemp("root")
    write_voc(root / "VOC2012", 2)
    (root / "cityscapes").mkdir()
    return root


@pytest.fixture
def command(sclip, root, tmp_path):
    def run(word, datasets, *more):
        place = [f"--data-root={root}", f"--artifacts={tmp_path / 'artifacts'}"]
        return sclip(word, f"--dataset={datasets}", *place, *MODEL, *more)

    return run


def test_each_is_the_run_that_it_is_alone(command, tmp_path):
    code, out, _ = command("run", "voc21,voc20", "--direct")
    assert code == 0
    together = {run["dataset"]: run for run in results.runs(tmp_path / "artifacts").to_pylist()}
    assert (together["voc21"]["logit_scale"], together["voc20"]["logit_scale"]) == (65, 40)
    assert (together["voc21"]["prob_thd"], together["voc20"]["prob_thd"]) == (0.1, 0)
    mean = (together["voc21"]["miou"] + together["voc20"]["miou"]) / 2
    assert f"mean of 2 datasets: mIoU {mean:.2f}" in out
    for name, run in together.items():
        assert any(name in line and run["run_id"] in line for line in out.splitlines())
        code, alone, _ = command("run", name, "--direct")
        assert run["run_id"] in alone


def test_one_that_fails_costs_only_itself(command):
    code, out, err = command("run", "cityscapes,VOC20", "--direct")
    assert code == 2
    assert "sclip: cityscapes: expected leftImg8bit/val/, gtFine/val/ in " in err
    assert err.endswith("sclip: no result, for the reason above: cityscapes\n")
    assert "voc20, 2 images" in out


def test_all_that_fail(command):
    code, out, err = command("run", "cityscapes,ade20k", "--direct")
    assert (code, out) == (2, "")
    assert err.endswith("no result, for the reason above: cityscapes, ade20k\n")


@pytest.mark.parametrize(
    ("datasets", "more", "says"),
    [
        ("voc21,vox20", [], "unknown dataset 'vox20'. Did you mean 'voc20'?"),
        ("voc21,VOC21", [], "has voc21 twice"),
        ("voc21,voc20", ["--classes=words.txt"], "each benchmark has classes of its own"),
    ],
)
def test_a_mistake_is_said_before_any_of_them_runs(command, tmp_path, datasets, more, says):
    code, _, err = command("run", datasets, "--direct", *more)
    assert code == 2
    assert says in err
    assert not (tmp_path / "artifacts").exists()


def test_two_presets_that_are_benchmarks(sclip, root):
    code, _, err = sclip("run", "--preset=voc21,voc20", f"--data-root={root}")
    assert code == 2
    assert "for a run of each pass --dataset voc21,voc20" in err


def test_pictures_are_in_a_folder_of_each(command, tmp_path):
    pictures = tmp_path / "pictures"
    assert command("run", "voc21,voc20", "--direct", f"--save-vis={pictures}")[0] == 0
    assert sorted(path.name for path in pictures.iterdir()) == ["voc20", "voc21"]


def test_a_folder_of_its_name(sclip, tmp_path):
    for name in ("voc21", "voc20"):
        write_voc(tmp_path / name, 1)
    place = [f"--data-root={tmp_path}", f"--artifacts={tmp_path / 'artifacts'}"]
    code, out, _ = sclip("run", "--dataset=voc21,voc20", "--direct", *place, *MODEL)
    assert code == 0
    assert "2 datasets, each by its own protocol" in out


def test_a_plan_of_each(command):
    code, out, _ = command("plan", "voc21,voc20", "--json")
    assert code == 0
    planned = json.loads(out)
    assert {status["dataset"] for status in planned} == {"voc21", "voc20"}
    assert len(planned) == 10


def test_own_images_are_one_set(sclip, small, tmp_path):
    given = flags(small, tmp_path / "artifacts", dataset="a,b")
    code, _, err = sclip("run", "--direct", *given)
    assert code == 2
    assert "--dataset a,b names several benchmarks, and --images is one set" in err


def test_one_of_them_may_be_a_benchmark_of_our_own(command, tmp_path):
    (tmp_path / "mine.txt").write_text("".join(f"thing {k}\n" for k in range(21)))
    (tmp_path / "mine.yaml").write_text("layout: voc2012\nvocabulary: mine.txt\n")
    plugin = f"--plugins={tmp_path / 'mine.yaml'}"
    code, out, err = command("plan", "voc20,mine", plugin)
    assert code == 0, err
    assert "\nmine: 21 classes" in out
