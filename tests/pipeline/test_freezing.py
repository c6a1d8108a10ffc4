"""A frozen run: written down, run again elsewhere, and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from sclip_core.config import UserError, resolve
from sclip_core.config.frozen import FrozenImage, digest_of, read_frozen
from sclip_core.pipeline import freezing
from sclip_core.pipeline.freezing import freeze
from sclip_core.pipeline.frozen import _of_weights, compare_after, compare_before
from sclip_core.pipeline.pipeline import Finished, run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.progress import Silent
from sclip_core.results.files import write_run

from ..conftest import TINY
from ..flows.conftest import write_own
from .conftest import run

CHEAP = {"short_side": 112, "slide_crop": 64, "slide_stride": 48}


class Notes(Silent):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def again(file: Path, artifacts: Path, **given: Any) -> Finished:
    """The run of a frozen file."""
    return run_pipeline(Run(resolve(file, artifacts=artifacts, **{**TINY, **given})))


def changed(file: Path, change: Any) -> Path:
    """The file, with another content."""
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def frozen(finished_once: tuple[Path, Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the run over the four pictures; not to be written to."""
    file = tmp_path_factory.mktemp("frozen") / "run.yaml"
    freeze("latest", finished_once[0]).write(file)
    return file


@pytest.fixture
def file(frozen: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(frozen, tmp_path / "run.yaml"))


def test_what_is_written(frozen, finished_once, voc):
    finished = finished_once[1]
    content = yaml.safe_load(frozen.read_text())
    section = content["frozen"]
    assert section["run_id"] == finished.run_id
    assert section["scores"]["miou"] == finished.row["miou"]
    assert section["keys"] == {name: each.key for name, each in finished.outcomes.items()}
    weights = hashlib.sha256(Path(TINY["pretrained"]).read_bytes()).hexdigest()
    assert section["weights"] == {"clip": weights}
    expected = []
    for path in sorted((voc / "JPEGImages").iterdir()):
        label = voc / "SegmentationClass" / f"{path.stem}.png"
        digests = [hashlib.sha256(f.read_bytes()).hexdigest() for f in (path, label)]
        expected.append(FrozenImage(path.stem, *digests))
    lines = [f"{one.image[:16]} {one.label[:16]} {one.image_id}" for one in expected]
    assert section["images"]["list"].splitlines() == lines
    assert section["images"]["sha256"] == digest_of(expected)
    assert content["sclip"]["logit_scale"] == 65
    assert str(voc) not in frozen.read_text()
    assert str(Path(TINY["model"]).parent) not in frozen.read_text()
    assert section["needs"] == ["model", "pretrained"]


@pytest.mark.parametrize(
    "settings",
    [
        {"pamr_steps": 1, "pamr_dilations": "1,2"},
        {"method": "sc-clip", "parameters": "beta=0.5", **CHEAP},
        {"mode": "hybrid", "proposals": "felzenszwalb", "felzenszwalb_scale": 300, **CHEAP},
        {"mode": "baseline", "proposals": "slic", "slic_segments": 9},
        {"num_samples": 2, "prob_thd": 0.3, "ignore_label": "255,3", **CHEAP},
        {"after": "closing", "slide_crop": 0, "short_side": 64},
        {"attention": "naclip:vanilla", "templates": "photo", **CHEAP},
    ],
    ids=lambda each: next(iter(each.values())),
)
def test_the_same_run_elsewhere(settings, voc, tmp_path):
    first = run(tmp_path / "here", voc, **{"num_samples": 3, **settings})
    file, moved = tmp_path / "run.yaml", tmp_path / "moved"
    freeze(first.run_id, tmp_path / "here").write(file)
    shutil.copytree(voc, moved)
    second = again(file, tmp_path / "there", data_root=moved)
    assert second.run_id == first.run_id
    assert [o.key for o in second.outcomes.values()] == [o.key for o in first.outcomes.values()]
    assert {o.state for o in second.outcomes.values()} == {"computed"}
    assert second.row["miou"] == first.row["miou"]
    line = f"same run as frozen: {first.run_id}, mIoU equal to the last digit"
    assert compare_after(second) == [line]
    assert compare_after(first) == []


def test_images_and_words_of_ones_own(tmp_path):
    """Words, their values in the label maps and a list of images are in the file itself."""
    own = write_own(tmp_path / "own", 4)
    (own / "classes.txt").write_text("sky, clouds\n__ignore__\nroad\n")
    (own / "some.txt").write_text("0\n3\n1\n")
    places = {"images": own / "images", "labels": own / "labels"}
    given = {**places, "classes": own / "classes.txt", "images_list": own / "some.txt", **CHEAP}
    settings = resolve(**given, **TINY, artifacts=tmp_path / "a", dataset="streets")
    first = run_pipeline(Run(settings))
    file = tmp_path / "run.yaml"
    freeze("latest", tmp_path / "a").write(file)
    for name in ("classes.txt", "some.txt"):
        (own / name).unlink()
    second = again(file, tmp_path / "b", **places)
    assert (second.run_id, second.num_images) == (first.run_id, 3)
    assert second.row["miou"] == first.row["miou"]
    assert [row["class_name"] for row in second.classes] == ["sky", "road"]
    with pytest.raises(UserError, match="no benchmark's: pass --images DIR --labels DIR"):
        resolve(file)
    with pytest.raises(UserError, match=r"words of class 1 \(road\) differ, 'road', 'lane'"):
        again(file, tmp_path / "b", **places, classes="sky, clouds; lane")


def test_words_that_were_changed_since(tmp_path):
    own = write_own(tmp_path / "own", 2)
    places = {"images": own / "images", "labels": own / "labels"}
    given = {**places, "classes": own / "classes.txt", **CHEAP, **TINY}
    run_pipeline(Run(resolve(**given, artifacts=tmp_path / "a")))
    shutil.copy(own / "classes.txt", tmp_path / "kept.txt")
    for text in ("sky\ngrass\nlane\n", "sky\ngrass, road\nx"):
        (own / "classes.txt").write_text(text)
        with pytest.raises(UserError, match=r"words are not those of .*classes.txt any more"):
            freeze("latest", tmp_path / "a")
    assert freeze("latest", tmp_path / "a", classes=tmp_path / "kept.txt").frozen["classes"]


def test_a_setting_that_conflicts(file, voc, tmp_path):
    with pytest.raises(UserError, match=r"prob_thd is 0.1 there, 0.2 here; add --allow-changes"):
        again(file, tmp_path / "a", data_root=voc, prob_thd=0.2)
    assert not (tmp_path / "a").exists()
    notes = Notes()
    given = {**TINY, "data_root": voc, "artifacts": tmp_path / "a", "num_samples": 1}
    settings = resolve(file, **given, prob_thd=0.2, allow_changes=True)
    finished = run_pipeline(Run(settings, notes))
    told = [line for line in notes.lines if line.startswith("not the run of run.yaml: ")]
    assert told[0].endswith("prob_thd is 0.1 there, 0.2 here")
    assert "of its 4 images: 3 missing here, 2026_000001, " in told[-1]
    [line] = compare_after(finished)
    assert "not the run of run.yaml" in line
    assert "the key of refine is the first that differs; mIoU" in line


def test_files_that_are_not_given(file, voc, tmp_path):
    settings = resolve(file, data_root=voc, artifacts=tmp_path / "a")
    found = "tiny_clip, tiny_clip.safetensors"
    with pytest.raises(UserError, match=rf"none \({found}\): pass --model FILE --pretrained FILE"):
        Run(settings).check()


def test_other_weights(file, voc, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(TINY["pretrained"])
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, tmp_path / "other.safetensors")
    there = hashlib.sha256(Path(TINY["pretrained"]).read_bytes()).hexdigest()[:16]
    here = hashlib.sha256((tmp_path / "other.safetensors").read_bytes()).hexdigest()[:16]
    with pytest.raises(UserError, match=f"weights: sha256 {there} in run.yaml, {here} here"):
        again(file, tmp_path / "a", data_root=voc, pretrained=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("folder", "suffix", "line"),
    [
        ("JPEGImages", "jpg", "2 of 4 images differ, 2026_000001 is the first"),
        ("SegmentationClass", "png", "2 of 4 label maps differ, 2026_000001 is the first"),
    ],
)
def test_other_files(folder, suffix, line, file, voc, tmp_path):
    data = Path(shutil.copytree(voc, tmp_path / "data"))
    for number in (3, 1):
        with (data / folder / f"2026_{number:06d}.{suffix}").open("ab") as opened:
            opened.write(b" ")
    with pytest.raises(UserError, match=line):
        again(file, tmp_path / "a", data_root=data)


def test_another_split(file, voc, tmp_path):
    data = Path(shutil.copytree(voc, tmp_path / "data"))
    (data / "ImageSets/Segmentation/val.txt").write_text("2026_000000\n2026_000003\n")
    with pytest.raises(
        UserError, match="of its 4 images: 2 missing here, 2026_000001, 2026_000002"
    ):
        again(file, tmp_path / "a", data_root=data)


def test_the_built_in_words_changed(file, voc, tmp_path):
    changed(file, lambda c: c["frozen"]["classes"][3].update(words=["bird", "wings"]))
    with pytest.raises(UserError, match=r"words of class 3 \(bird\) differ.*pass --classes"):
        again(file, tmp_path / "a", data_root=voc)
    finished = again(file, tmp_path / "a", data_root=voc, classes=file)
    assert "the key of text_bank is the first" in compare_after(finished)[0]


def test_an_edited_list(file, voc, tmp_path):
    changed(file, lambda c: c["frozen"]["images"].update(sha256="0" * 64))
    with pytest.raises(UserError, match="the list of images in it was edited"):
        again(file, tmp_path / "a", data_root=voc)


def test_other_versions_are_a_note(file, voc, tmp_path):
    changed(file, lambda c: c["frozen"]["versions"].update(torch="1.0", gone="2"))
    settings = resolve(file, data_root=voc, artifacts=tmp_path / "a", **TINY)
    [line] = compare_before(Run(settings))
    assert line.startswith("run.yaml is of other versions: gone 2 there, none here; torch 1.0 ")
    assert line.endswith(f"{torch.__version__.split('+')[0]} here")


def test_other_numbers_from_the_same_keys(file, voc, tmp_path):
    changed(file, lambda c: c["frozen"]["scores"].update(macc=12.5))
    [line] = compare_after(again(file, tmp_path / "a", data_root=voc))
    assert line.startswith("same keys as frozen: ")
    assert line.partition("but ")[2].startswith("mAcc ")
    assert "12.5 there" in line


def test_a_run_with_an_image_that_failed(voc, tmp_path):
    data = Path(shutil.copytree(voc, tmp_path / "data"))
    (data / "JPEGImages/2026_000002.jpg").write_bytes(b"no image")
    first = run(tmp_path / "a", data, **CHEAP)
    assert first.row["num_failed"] == 1
    file = freeze("latest", tmp_path / "a").write(tmp_path / "run.yaml")[0]
    second = again(file, tmp_path / "b", data_root=data)
    assert compare_after(second)[0].startswith("same run as frozen")


def test_data_that_was_changed_since(finished_once, artifacts, voc, tmp_path):
    data = Path(shutil.copytree(voc, tmp_path / "data"))
    assert freeze("latest", artifacts, data_root=data).run_id == finished_once[1].run_id
    (data / "JPEGImages/2026_000002.jpg").write_bytes(b"another")
    with pytest.raises(UserError, match=r"cannot be frozen: an image, .* is not what it was"):
        freeze("latest", artifacts, data_root=data)
    (data / "ImageSets/Segmentation/val.txt").write_text("2026_000000\n")
    with pytest.raises(UserError, match="1 images here, and the run had 4"):
        freeze("latest", artifacts, data_root=data)
    with pytest.raises(UserError, match="does not exist"):
        freeze("latest", artifacts, data_root=tmp_path / "gone")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mode": "predictions"}, "scored label maps that were given"),
        ({"weights_sha256": None}, r"by 0.0.9, which did not record weights_sha256: run it again"),
    ],
)
def test_what_cannot_be_frozen(changes, line, artifacts):
    table = pq.read_table(next((artifacts / "results/runs").iterdir()))
    row = table.to_pylist()[0] | {"versions": '{"sclip-benchmark": "0.0.9"}'} | changes
    others = {
        name: pq.read_table(next((artifacts / "results" / name).iterdir()))
        for name in ("image_areas", "confusion", "class_iou")
    }
    write_run(artifacts, row["run_id"], {**others, "runs": pa.Table.from_pylist([row])})
    with pytest.raises(UserError, match=line):
        freeze("latest", artifacts)


def test_many_images_are_beside(artifacts, voc, tmp_path, monkeypatch):
    monkeypatch.setattr(freezing, "MOST_INSIDE", 3)
    file, beside = freeze("latest", artifacts).write(tmp_path / "run.yaml")
    assert beside.name == "run.images.txt"
    assert len(read_frozen(file).listed(file)) == 4
    assert compare_before(Run(resolve(file, data_root=voc, artifacts=artifacts, **TINY))) == []
    beside.unlink()
    with pytest.raises(UserError, match=r"in run.images.txt, which is not beside it: copy both"):
        read_frozen(file).listed(file)


@pytest.mark.parametrize("name", ["a b", "ä/ö", " led", '"quoted"', "new\nline", "tab\t"])
def test_names_in_the_list(name):
    digests = [np.random.default_rng(k).bytes(32).hex() for k in (0, 1)]
    image = FrozenImage(name, *digests)
    assert "\n" not in image.line
    assert FrozenImage.of_line(image.line) == (name, digests[0][:16], digests[1][:16])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["frozen"].update(format=2), "has format 2, this sclip reads 1: update it"),
        (lambda c: c["frozen"].pop("weights"), "section frozen: weights: Field required"),
        (lambda c: c.update(frozen=3), "section frozen: Input should be"),
        (lambda c: c.update(frosen=c.pop("frozen")), "unknown key in .* 'frosen'. Did you mean 'f"),
        (lambda c: c["frozen"]["images"].update(list="a b c\n"), "expected 4 images, found 1"),
        (lambda c: c["frozen"]["images"].update(list="a\n"), "expected 4 images, found 0"),
        (
            lambda c: c["frozen"]["images"].update(list=None, file="../run.yaml"),
            "images.file is '../run.yaml': expected the name of a file beside it",
        ),
        (lambda c: c["frozen"]["classes"][1].update(value=-5), r"frozen: classes.1.value: Input"),
        (lambda c: c["frozen"]["classes"][1].update(value=1 << 16), r"frozen: classes.1.value: In"),
        (lambda c: c["frozen"]["classes"][1].update(value=0), "classes: two have the value 0;"),
        (lambda c: c["frozen"]["classes"][1].update(name=" "), r"classes.1.name: String should"),
        (lambda c: c["frozen"]["classes"][1].update(words=[]), r"classes.1.words: Tuple should"),
        (lambda c: c["frozen"].update(needs=["nosuch"]), "needs: 'nosuch' is no setting that is"),
        (lambda c: c["frozen"]["scores"].update(miou=float("nan")), r"scores.miou: Input should"),
        (lambda c: c["frozen"]["scores"].update(best=1.0), r"scores.best.\[key\]: Input should"),
    ],
)
def test_a_file_that_was_spoilt(change, line, file, voc, tmp_path):
    changed(file, change)
    with pytest.raises(UserError, match=line):
        again(file, tmp_path / "a", data_root=voc)


def test_classes_of_one_name(file):
    def twice(content):
        classes = content["frozen"]["classes"]
        classes[1]["name"] = classes[0]["name"]

    with pytest.raises(UserError, match="frozen: classes: two have the name '"):
        read_frozen(changed(file, twice))


def test_a_changed_id_and_a_missing_score(file, finished_once):
    """What is compared after the run, with files that no run gives."""
    finished = finished_once[1]
    before = finished.settings.model_copy(update={"frozen": file})
    finished = dataclasses.replace(finished, settings=before)
    changed(file, lambda c: c["frozen"]["scores"].clear())
    assert compare_after(finished) == [f"same run as frozen: {finished.run_id}"]
    changed(file, lambda c: c["frozen"].update(run_id="another"))
    assert "run.yaml, another: no key differs; mIoU " in compare_after(finished)[0]


def test_no_file_of_another_kind_is_replaced(artifacts, voc, tmp_path, monkeypatch):
    monkeypatch.setattr(freezing, "MOST_INSIDE", 3)
    found, file, beside = (
        freeze("latest", artifacts),
        tmp_path / "a.yaml",
        tmp_path / "a.images.txt",
    )
    file.write_text("sclip:\n  model: ViT-B-16\n")
    with pytest.raises(UserError, match=r"a.yaml is there and holds no frozen run"):
        found.write(file)
    file.unlink()
    beside.write_text("a list of\nimages of mine\n")
    with pytest.raises(UserError, match=r"a.images.txt is there and is no list"):
        found.write(file)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.images.txt"]
    assert beside.read_text() == "a list of\nimages of mine\n"
    beside.unlink()
    assert found.write(file) == found.write(file) == [file, beside]


def test_a_file_that_holds_no_run(tmp_path):
    (tmp_path / "pipeline.yaml").write_text("sclip:\n  model: ViT-B-16\n")
    with pytest.raises(UserError, match="holds no frozen run"):
        read_frozen(tmp_path / "pipeline.yaml")
    with pytest.raises(UserError, match=r"gone.yaml cannot be read: No such file"):
        read_frozen(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"distractors": ["sand"]},
            "its distractors, or how they are read, are not those here: pass --cl",
        ),
        ({"closed": True}, "its distractors, or how they are read"),
        ({"classes": None}, "the classes have other values in the label maps"),
    ],
)
def test_other_words_than_the_classes_names_tell(change, line, file, voc, tmp_path):
    def edit(content: Any) -> None:
        if change.get("classes", True) is None:
            content["frozen"]["classes"][3]["value"] += 100
        else:
            content["frozen"].update(change)

    changed(file, edit)
    with pytest.raises(UserError, match=line):
        again(file, tmp_path / "a", data_root=voc)


def test_the_weights_of_every_network_are_compared(file):
    own = {name: f"{k}" * 64 for k, name in enumerate(("clip", "second", "sam", "masks"), 1)}
    run: Any = SimpleNamespace(
        settings=SimpleNamespace(mode="hybrid", stages=("proposals",)),
        chosen=SimpleNamespace(method=SimpleNamespace(second_taps=(1,), reads_sam=True)),
        models=SimpleNamespace(
            weights_sha256=own["clip"],
            second_sha256=lambda settings: own["second"],
            sam_trunk_sha256=lambda settings: own["sam"],
            masks_sha256=own["masks"],
        ),
    )
    frozen = read_frozen(file)
    same = frozen.model_copy(update={"weights": own})
    assert list(_of_weights(run, same, file)) == []
    for name, words in (
        ("clip", "weights"),
        ("second", "weights of the second network"),
        ("sam", "weights of SAM's encoder"),
        ("masks", "weights of SAM"),
    ):
        other = frozen.model_copy(update={"weights": {**own, name: "f" * 64}})
        (line,) = _of_weights(run, other, file)
        assert line.startswith(f"{words}: sha256 {'f' * 16} in run.yaml, {own[name][:16]} here")
