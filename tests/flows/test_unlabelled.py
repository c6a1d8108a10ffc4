"""``sclip run`` on images without label maps: what it says, by the flow and without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import flags

UNSCORED = "3 images, no ground truth: nothing scored"


@pytest.fixture
def given(small, tmp_path):
    """The flags of such a run."""

    def unlabelled(**others: object) -> list[str]:
        said = flags(small, tmp_path / "artifacts", **others)
        return [flag for flag in said if not flag.startswith("--labels=")]

    return unlabelled


def saved(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))


EACH = [*(f"{n}.png" for n in range(3)), *(f"labels/{n}.png" for n in range(3))]


def test_run_and_plan(given, sclip, tmp_path):
    out = tmp_path / "out"
    code, said, err = sclip("run", "--direct", *given(dataset="street", save_vis=out))
    assert code == 0, err
    assert f"street, {UNSCORED}" in said
    assert "refine" in said
    assert "mIoU" not in said
    assert "run " not in said
    assert said.splitlines()[-2:] == [f"pictures: {out}", f"label maps: {out}/labels"]
    assert saved(out) == EACH

    code, said, _ = sclip("plan", *given(), "--json")
    assert code == 0
    states = {stage["stage"]: stage["state"] for stage in json.loads(said)}
    assert states == dict.fromkeys(["text_bank", "dense_features", "refine"], "complete")
    assert sclip("results", "--artifacts", tmp_path / "artifacts")[0] == 2  # there are none


def test_several(given, sclip, tmp_path):
    out = tmp_path / "out"
    code, said, _ = sclip(
        "run", "--direct", *given(save_vis=out, attention="csa,vanilla", mode="dense,baseline",
                                  proposals="felzenszwalb")
    )  # fmt: skip
    assert code == 0
    assert UNSCORED in said
    folders = sorted(path.name for path in out.iterdir())
    assert len(folders) == 3
    assert all(folder in said and saved(out / folder) == EACH for folder in folders)
    expected = [f"pictures: {out}/FOLDER", f"label maps: {out}/FOLDER/labels"]
    assert said.splitlines()[-2:] == expected


def test_nowhere_to_save(given, sclip, tmp_path):
    for several in ({}, {"attention": "csa,vanilla"}):
        code, _, err = sclip("run", "--direct", *given(**several))
        assert code == 2
        (line,) = err.splitlines()
        assert "nothing to score without --labels, and nowhere to save" in line
        assert "pass --save-vis DIR (or --labels DIR)" in line


def test_a_bad_image(small, given, sclip, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in (small / "images").iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "1.png").write_bytes(b"none")
    code, said, err = sclip("run", "--direct", *given(images=images, save_vis=tmp_path / "out"))
    assert code == 1
    assert "2 images, no ground truth" in said
    assert f"sclip: left out: {images}/1.png" in err.splitlines()[-1]
    assert saved(tmp_path / "out") == ["0.png", "2.png", "labels/0.png", "labels/2.png"]


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("several", [{}, {"attention": "csa,vanilla"}])
def test_the_flow(given, sclip, tmp_path, monkeypatch, several):
    from flows import benchmark

    published = {}
    monkeypatch.setattr(
        benchmark,
        "create_markdown_artifact",
        lambda key, markdown: published.update({key: markdown}),
    )
    monkeypatch.setattr(benchmark, "create_table_artifact", None)
    out = tmp_path / "out"
    code, said, err = sclip("run", *given(dataset="street", save_vis=out, **several))
    assert code == 0, err
    assert f"street, {UNSCORED}" in said
    (summary,) = published.items()
    assert summary[0] == "sclip-summary-street"
    assert UNSCORED in summary[1]
    assert str(out) in summary[1]
    assert "None" not in summary[1]
    assert "](data:image/webp;base64," in summary[1]
    assert len(saved(out)) == (12 if several else 6)


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_what_cannot_be_shown_takes_nothing_from_the_run(given, sclip, tmp_path, monkeypatch):
    from flows import benchmark

    def broken(**_):
        raise RuntimeError("Prefect has no room")

    monkeypatch.setattr(benchmark, "create_markdown_artifact", broken)
    out = tmp_path / "out"
    out.mkdir()
    (out / "-1.png").write_bytes(b"of someone else, and no picture")
    code, said, err = sclip("run", *given(dataset="street", save_vis=out))
    assert code == 0, err
    assert f"street, {UNSCORED}" in said
    assert "0.png" in saved(out)
