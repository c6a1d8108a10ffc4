"""Very many files: samples that take little memory, and headers of some of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from sclip_core.config import resolve
from sclip_core.datasets import Sample, survey
from sclip_core.datasets.label_names import matched
from sclip_core.datasets.samples import files_of, find_samples
from sclip_core.pipeline.run import Run

from ..pipeline.test_results import Notes


def test_a_sample_is_its_files() -> None:
    one = Sample("a/b", Path("images/a/b.png"), None)
    assert tuple(one) == ("a/b", Path("images/a/b.png"), None)
    assert one == Sample("a/b", "images/a/b.png", None)
    assert one != Sample("a/b", Path("images/a/b.png"), Path("labels/a/b.png"))
    assert one.files == (Path("images/a/b.png"),)
    assert len({one, Sample("a/b", "images/a/b.png", None)}) == 1


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_files_are_those_that_a_plain_search_finds(tmp_path, monkeypatch):
    """Also below ``.``, whose files have no folder before them."""
    names = ["b.png", "a-b.png", "a.png", "a/c.png", "a/d.JPG", "e.bmp", "f.png"]
    touched(tmp_path / "images", *names, ".hidden.png", "note.txt")
    touched(
        tmp_path / "labels", "b.png", "a-b.tif", "a/c.png", "a/d.bmp", "e.png", "f.png", "a.png"
    )
    monkeypatch.chdir(tmp_path / "images")
    for images in (tmp_path / "images", Path()):
        found = find_samples(images, tmp_path / "labels").samples
        ids = sorted({name.rpartition(".")[0] for name in names})
        assert [sample.image_id for sample in found] == ids
        for sample in found:
            assert sample.image in {images / name for name in names}
            assert sample.label.parent / sample.label.stem == tmp_path / "labels" / sample.image_id
    touched(tmp_path / "images", "f.heic")
    assert files_of(tmp_path / "images", (".heic", ".png"))["f"].name == "f.png"


def test_names_of_other_unicode_forms_beside_plain_ones():
    composed, apart = "caf\u00e9", "cafe\u0301"
    found = matched(
        ["a", composed], [("a.png", "a", ".png"), (f"{apart}.png", apart, ".png")], None
    )
    assert found.files == {"a": "a.png", composed: f"{apart}.png"}


def test_memory_of_samples(tmp_path):
    folder = "/data/photographs of a long name/" + "x" * 40
    tracemalloc.start()
    kept = [
        Sample(f"{k:07d}", f"{folder}/{k:07d}.png", f"{folder}/labels/{k:07d}.png")
        for k in range(2000)
    ]
    taken = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    assert taken < 500  # bytes; 1,400 as paths


@pytest.mark.parametrize("most", [3, 8])
def test_headers_of_some_of_very_many(tmp_path, monkeypatch, most):
    import cv2
    import numpy as np

    for k in range(8):
        (tmp_path / "images").mkdir(exist_ok=True)
        picture = np.full((4, 4, 4), k, np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{k}.png"), picture)
    monkeypatch.setattr(survey, "MOST_HEADERS", most)
    notes = Notes()
    settings = resolve(
        preset="demo",
        images=tmp_path / "images",
        vocabulary="scenes",
        save_vis=tmp_path / "out",
        artifacts=tmp_path / "artifacts",
    )
    assert len(Run(settings, notes).inputs.dataset) == 8
    seen = 8 if most == 8 else 3  # every third
    assert [line for line in notes.lines if line.startswith(f"{seen} images have an alpha")]
    said = [line for line in notes.lines if "headers of 3 of 8 images were looked at" in line]
    assert len(said) == (most == 3)
