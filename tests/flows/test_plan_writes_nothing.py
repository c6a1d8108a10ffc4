"""``sclip plan`` looks at what there is: no folder, no file, no line of it is another after it."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import flags, write_own
from .test_ground_truth import class_maps, coco

Tree = dict[str, tuple[int, int, int, bytes]]


def tree(root: Path) -> Tree:
    """Everything below a folder: times, inode and, of files, the bytes."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        times = status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        found[str(path.relative_to(root))] = (*times, content)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images of one's own; temporary files have a folder beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    write_own(tmp_path / "here" / "own", 2)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "here"


@pytest.fixture
def plan(here: Path, sclip: Callable[..., tuple[int, str, str]]):
    """Plan, see that nothing was written, give the stages."""

    def command(settings: list[str]) -> list[dict[str, str]]:
        before = tree(here)
        code, said, err = sclip("plan", *settings, "--json")
        assert code == 0, err
        assert tree(here) == before
        gc.collect()  # the run that was looked at
        assert not os.listdir(here.parent / "temporary")
        stages: list[dict[str, str]] = json.loads(said)
        return stages

    return command


def keys(stages: list[dict[str, str]]) -> dict[str, str]:
    """Without that of the results, which is of the rows that were scored."""
    return {stage["stage"]: stage["key"] for stage in stages if stage["stage"] != "results"}


def states(stages: list[dict[str, str]]) -> set[str]:
    return {stage["state"] for stage in stages}


def test_before_and_after_a_run(plan, sclip):
    settings = flags(Path("own"), Path("a"), save_vis="vis")
    first = plan(settings)
    assert states(first) == {"missing"}
    assert sclip("run", "--direct", *settings)[0] == 0
    again = plan(settings)
    assert states(again) == {"complete"}
    assert keys(again) == keys(first)
    for path in ("own/images", "own/labels"):
        shutil.copytree(path, f"{path}2")  # digests that are not remembered
    plan([*flags(Path("own"), Path("a"), images="own/images2", labels="own/labels2")])


def test_several_runs(plan):
    plan(flags(Path("own"), Path("a"), pamr_steps="0,1", mode="dense,hybrid", proposals="slic"))


def test_annotations(plan, sclip):
    """Their label maps decide keys, so they are drawn: where nobody sees them."""
    labels = coco(class_maps(Path("own")), Path("coco.json"))
    settings = flags(Path("own"), Path("a"), labels=labels)
    first = plan(settings)
    assert sclip("run", "--direct", *settings)[0] == 0
    again = plan(settings)
    assert states(again) == {"complete"}
    assert keys(again) == keys(first)


def test_annotations_that_were_drawn_in_part(plan, sclip):
    labels = coco(class_maps(Path("own")), Path("coco.json"))
    settings = flags(Path("own"), Path("a"), labels=labels)
    first = plan(settings)
    assert sclip("run", "--direct", *settings)[0] == 0
    (drawn,) = Path("a/ground_truth").iterdir()
    (drawn / "0.png").unlink()
    again = plan(settings)
    assert states(again) == {"complete"}
    assert keys(again) == keys(first)
    assert not (drawn / "0.png").exists()


def test_annotations_that_do_not_fit(here, sclip):
    """The folder that was to be drawn in goes with the error."""
    maps = {f"other-{name}": classes for name, classes in class_maps(Path("own")).items()}
    labels = coco(maps, Path("coco.json"))
    before = tree(here)
    code, _, err = sclip("plan", *flags(Path("own"), Path("a"), labels=labels))
    assert (code, "has none of the images" in err) == (2, True)
    assert tree(here) == before
    assert not os.listdir(here.parent / "temporary")


def test_an_image_that_was_exchanged_is_drawn_anew(here, sclip):
    """Of the same size and time, as ``cp -p`` leaves it."""
    labels = coco(class_maps(Path("own")), Path("coco.json"))
    settings = flags(Path("own"), Path("a"), labels=labels)
    assert sclip("run", "--direct", *settings)[0] == 0
    (drawn,) = Path("a/ground_truth").iterdir()
    before, image = tree(drawn), Path("own/images/0.png")
    times, content = image.stat(), image.read_bytes()
    image.write_bytes(content[:-1] + content[-1:])
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sclip("run", "--direct", *settings)[0] == 0
    after = tree(drawn)
    assert {name for name in after if after[name] != before[name]} == {
        ".",
        "0.png",
        "complete.json",
    }
