"""Masks of the user's own: id maps in a folder, found by the images' names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from sclip_core import SCLIP, ImageError, UserError, read_image
from sclip_core.config import resolve
from sclip_core.masks import mask_source
from sclip_core.masks.id_maps import id_map_file, read_id_map
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..pictures import scene
from .conftest import computed

WORDS = ["sky", "grass, lawn", "road"]
SIZE = (64, 80)


def blocks(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """An id map of 16-pixel squares, with ids that are not 0, 1, 2, ..."""
    few = np.random.default_rng(seed).integers(3, 9, (size[0] // 16, size[1] // 16), np.uint8)
    return np.kron(few * 7, np.ones((16, 16), np.uint8))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``images/`` with three pictures, one in a subfolder; label maps, ``classes.txt``, maps."""
    for number, name in enumerate(("a", "b", "sub/c")):
        picture, labels = scene(number)
        for folder in ("images", "labels", "maps"):
            (tmp_path / folder / "sub").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), picture[150:214, 100:180])
        cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), labels[150:214, 100:180] % 3)
        Image.fromarray(blocks(number)).save(tmp_path / "maps" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("\n".join(WORDS))
    return tmp_path


def opened(own: Path, **others: Any) -> Run:
    """A run over the images with their maps."""
    paths = {name: own / name for name in ("images", "labels")}
    given = {**paths, "classes": own / "classes.txt", "masks": own / "maps", **others}
    usual = {"artifacts": own / "artifacts", **TINY, "prob_thd": 0}
    return Run(resolve(**{**usual, **given}))


def run(own: Path, **others: Any) -> Finished:
    return run_pipeline(opened(own, **others))


def nothing_computed(own: Path) -> bool:
    return not list((own / "artifacts").glob("*/*/ledger.jsonl"))


def proposals_of(own: Path) -> dict[str, Any]:
    """The id maps that the proposals of the images make, by the images' names."""
    stages = Pipeline.of(opened(own))
    images, rows = stages.run.inputs.images, stages.proposals.rows()
    return {
        sample.image_id: stages.proposals.read(rows[digest]).id_map(in_order=True)
        for digest, sample in images.items()
        if digest in rows
    }


def test_each_id_but_the_lowest_is_a_mask(own):
    run(own)
    found = proposals_of(own)
    assert set(found) == {"a", "b", "sub/c"}
    for number, name in enumerate(found):
        expected = np.unique(blocks(number), return_inverse=True)[1].reshape(SIZE)
        assert np.array_equal(found[name], expected)


@pytest.mark.parametrize("rule", ["vote", "pool", "crop"])
def test_masks_are_filled_as_by_the_library(own, tiny: SCLIP, rule):
    finished = run(own, hybrid_rule=rule, labels=None, save_vis=own / "out")
    assert finished.settings.mode == "hybrid"
    for number, name in enumerate(("a", "b", "sub/c")):
        found = np.array(Image.open(own / "out" / "labels" / f"{name}.png"))
        image = read_image(own / "images" / f"{name}.png")
        expected = tiny.segment(image, classes=WORDS, masks=blocks(number), rule=rule, prob_thd=0)
        masked = blocks(number) != blocks(number).min()
        assert np.array_equal(found[masked], expected.labels[masked])
        assert (found == expected.labels).mean() > 0.999  # features are kept in fp16


def test_the_same_maps_are_read_once_and_other_maps_are_other_masks(own):
    first = run(own)
    assert computed(first)["proposals"] == 3
    assert computed(run(own)) == {}
    Image.fromarray(blocks(7)).save(own / "maps" / "b.png")
    changed = run(own)
    assert set(computed(changed)) == {"proposals", "hybrid", "metrics", "results"}
    assert changed.run_id != first.run_id
    Image.fromarray(blocks(1)).save(own / "maps" / "b.png")
    assert computed(run(own)) == {}


def test_the_folder_has_no_say(own):
    first = run(own)
    shutil.move(own / "maps", own / "elsewhere")
    again = run(own, masks=own / "elsewhere")
    assert computed(again) == {}
    assert again.run_id == first.run_id


def test_npy_and_palettes_and_16_bits(own):
    run(own)
    np.save(own / "maps" / "a.npy", blocks(0).astype(np.int64) * 10**9)
    (own / "maps" / "a.png").unlink()
    Image.fromarray(blocks(1).astype(np.uint16) * 200).save(own / "maps" / "b.png")
    coloured = Image.fromarray(blocks(2), "P")
    coloured.putpalette([7, 8, 9] * 256)  # the indices count, not the colours
    coloured.save(own / "maps" / "sub" / "c.png")
    before = proposals_of(own)
    assert before == {}  # another artifact
    run(own)
    for number, found in enumerate(proposals_of(own).values()):
        ids = np.unique(blocks(number), return_inverse=True)[1].reshape(SIZE)
        assert np.array_equal(found, ids)


def test_the_row_of_a_run_has_the_folder(own):
    path = run(own).path
    assert path
    (row,) = pq.read_table(path).to_pylist()
    assert (row["masks"], row["proposals"], row["mode"]) == (str(own / "maps"), "files", "hybrid")
    (dense,) = pq.read_table(run(own, masks=None).path).to_pylist()
    assert (dense["masks"], dense["proposals"], dense["mode"]) == (None, None, "dense")


BAD = {
    "missing": (lambda path: path.unlink(), "has no b.png or b.npy"),
    "of another size": (
        lambda path: Image.fromarray(blocks(0, (48, 80))).save(path),
        "b.png has 48×80 pixels, its image has 64×80",
    ),
    "coloured": (
        lambda path: Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path),
        r"b.png is no id map: expected one channel of integers, found uint8 of shape \(64, 80, 3\)",
    ),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:60]), "b.png cannot be read"),
    "no picture": (lambda path: path.write_text("id map"), "b.png cannot be read as an id map"),
    "twice": (lambda path: np.save(path.with_suffix(".npy"), blocks(1)), "has both b.png or b.npy"),
    "of floats": (
        lambda path: (path.unlink(), np.save(path.with_suffix(".npy"), np.zeros(SIZE))),
        "b.npy is no id map: .*float64",
    ),
    "pickled": (
        lambda path: (path.unlink(), np.save(path.with_suffix(".npy"), np.array([{}]))),
        "b.npy cannot be read as an id map",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "has no b.png or b.npy"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_image_without_a_map_that_can_be_used_is_left_out(own, kind):
    spoil, said = BAD[kind]
    spoil(own / "maps" / "b.png")
    finished = run(own)
    assert list(finished.failures) == ["b"]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(finished.failures["b"])
    assert "\n" not in finished.failures["b"]
    assert finished.num_images == 2
    with pytest.raises(UserError, match=rf"(?s){said}.*--strict"):
        run(own, strict=True, artifacts=own / "others")


def test_a_map_that_comes_later_completes_the_run(own):
    shutil.move(own / "maps" / "b.png", own / "b.png")
    assert run(own).num_images == 2
    shutil.move(own / "b.png", own / "maps" / "b.png")
    finished = run(own)
    assert (finished.num_images, finished.failures) == (3, {})


def test_copies_of_an_image_need_one_map(own):
    for folder in ("images", "labels", "maps"):
        shutil.copy(own / folder / "a.png", own / folder / "copy.png")
    assert run(own).num_images == 4
    Image.fromarray(blocks(5)).save(own / "maps" / "copy.png")
    finished = run(own)
    assert sorted(finished.failures) == ["a", "copy"]
    assert "are of copies of one image" in finished.failures["a"]
    (own / "maps" / "copy.png").unlink()
    assert run(own).num_images == 4  # one map is enough


def test_a_map_that_changes_while_it_is_in_use(own):
    stages = Pipeline.of(opened(own))
    assert stages.proposals.key
    Image.fromarray(blocks(9)).save(own / "maps" / "a.png")
    stages.proposals.execute()
    assert "a.png was changed while it was in use" in stages.run.journal.failures["a"]
    assert len(stages.proposals.rows()) == 2


def test_shards_and_force(own):
    stages = Pipeline.of(opened(own))
    for shard in range(2):
        stages.proposals.execute(shard, 2)
    assert len(stages.proposals.rows()) == 3
    assert "proposals" in computed(run(own, force=("proposals",)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"masks": "no/such"}, "--masks no/such is no folder"),
        ({"masks": "images/a.png"}, "a.png is no folder"),
        ({"masks": "empty"}, "id map for none of the images: .* such as a.png or a.npy"),
        ({"masks": None, "proposals": "files"}, "--proposals files needs .*: add --masks DIR"),
        ({"proposals": "slic"}, "--masks .*maps and --proposals slic conflict: use only one"),
    ],
)
def test_what_is_wrong_with_the_folder_is_said_first(own, monkeypatch, given, said):
    monkeypatch.chdir(own)
    (own / "empty").mkdir()
    (own / "empty" / "z.png").write_bytes(b"")
    with pytest.raises(UserError, match=said) as caught:
        run(own, **given)
    assert "\n" not in str(caught.value)
    assert nothing_computed(own)


def test_a_file_of_settings_and_flags(tmp_path):
    file = tmp_path / "pipeline.yaml"
    own = {"images": "i", "classes": "c"}
    file.write_text("sclip:\n  proposals: slic\n  mode: hybrid\n")
    both = resolve(file, masks="maps", **own)
    assert (both.proposals, both.masks, both.mode) == ("files", Path("maps"), "hybrid")
    file.write_text("sclip:\n  masks: maps\n  mode: hybrid\n")
    assert resolve(file, **own).proposals == "files"
    other = resolve(file, proposals="slic", **own)
    assert (other.proposals, other.masks) == ("slic", None)
    assert resolve(masks="maps", mode="dense", **own).mode == "dense"
    assert resolve(masks="maps", mode="baseline", **own).stages[1] == "proposals"


def test_pixels_do_not_say_which_file_is_theirs():
    with pytest.raises(UserError, match="pass it as masks="):
        mask_source("files")


def test_names_may_have_folders_in_them(own):
    path = id_map_file(own / "maps", "sub/c")
    assert np.array_equal(read_id_map(path, SIZE), blocks(2))
    with pytest.raises(ImageError, match=r"has no c\.png or c\.npy"):
        id_map_file(own / "maps", "c")
