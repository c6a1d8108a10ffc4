"""Every known way in which a set can be wrong, and what is said of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sclip_core.acquire.check import Checked, check
from sclip_core.acquire.look import look
from sclip_core.acquire.prepare import prepare
from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary

from . import trees
from .trees import ADE, CITIES, CITYSCAPES, COCO, COCO_IDS, HEIGHT, MADE, SETS, VOC, WIDTH, place

REDUCED = {"voc20", "context59", "ade20k"}  # PROTOCOL, section 7


@pytest.fixture
def sound(tmp_path, of_size):
    """A prepared tree of a benchmark, as large as it is to be: its label maps."""

    def build(name: str) -> trees.Maps:
        expected = SETS[name][0](tmp_path)
        if name in MADE:
            prepare(name, tmp_path)
        of_size(name, len(expected))
        return expected

    return build


def said(found: Checked, path: Path) -> str:
    """The one fault of a file, which is the only one."""
    assert not found.right
    assert [fault.file for fault in found.faults] == [str(path)]
    return found.faults[0].what


# --- what is sound


@pytest.mark.parametrize("name", SETS)
def test_a_sound_tree_is_right_and_its_pixels_are_counted(name, sound, tmp_path):
    expected = sound(name)
    found = check(name, tmp_path)
    assert found.right
    assert (found.sound, found.found, found.faults, found.causes) == (
        len(expected),
        len(expected),
        [],
        [],
    )
    names = Vocabulary.named(name).class_names
    counts, ignored = dict.fromkeys(range(len(names)), 0), 0
    for classes in expected.values():
        for y in range(HEIGHT):
            for x in range(WIDTH):
                value = int(classes[y, x])
                if value == 255 or (name in REDUCED and value == 0):
                    ignored += 1
                else:
                    counts[value - (name in REDUCED)] += 1
    assert found.class_names == names
    assert found.pixels.tolist() == list(counts.values())
    assert found.ignored == ignored
    assert found.ignored_share == pytest.approx(ignored / (len(expected) * HEIGHT * WIDTH))
    assert found.absent == [names[k] for k, count in counts.items() if not count]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("coco_stuff", "stuff"),
        ("coco_object", "stuff"),
        ("cityscapes", "labelIds"),
        ("context60", "trainval_merged"),
        ("voc21", None),
    ],
)
def test_it_knows_what_the_maps_were_made_from(name, source, sound, tmp_path):
    sound(name)
    assert check(name, tmp_path).made_from == source


def test_the_zero_label_of_voc_is_a_class_of_voc21_and_ignored_in_voc20(sound, tmp_path):
    expected = sound("voc21")
    zeros = sum(int((classes == 0).sum()) for classes in expected.values())
    void = sum(int((classes == 255).sum()) for classes in expected.values())
    kept, reduced = check("voc21", tmp_path), check("voc20", tmp_path)
    assert (kept.pixels[0], kept.ignored) == (zeros, void)
    assert reduced.ignored == zeros + void
    assert reduced.pixels.tolist() == kept.pixels[1:].tolist()


def test_images_that_the_split_does_not_list_are_no_fault(sound, tmp_path):
    sound("voc21")
    trees.photograph(tmp_path / VOC / "JPEGImages/2009_000001.jpg")
    trees.grey(tmp_path / VOC / "SegmentationClass/2009_000002.png", np.full((3, 4), 200))
    assert check("voc21", tmp_path).right


def test_progress_is_told_of_every_pair(sound, tmp_path):
    class Told:
        def __init__(self):
            self.calls = []

        def start(self, *arguments):
            self.calls.append(arguments)

        def advance(self, count):
            self.calls.append(count)

        def finish(self):
            self.calls.append("finish")

    sound("coco_stuff")
    told = Told()
    check("coco_stuff", tmp_path, progress=told)
    assert told.calls == [("coco_stuff", 3, 0), 1, 1, 1, "finish"]


# --- files


def test_another_number_of_images_is_not_the_benchmark(sound, tmp_path, of_size):
    sound("ade20k")
    of_size("ade20k", 3)
    found = check("ade20k", tmp_path)
    assert not found.right
    assert (found.found, found.expected, found.sound, found.faults) == (2, 3, 2, [])


@pytest.mark.parametrize("name", SETS)
def test_a_missing_label_map_is_named(name, sound, tmp_path):
    image_id = sorted(sound(name))[1]
    place(name, tmp_path, image_id).unlink()
    found = check(name, tmp_path)
    assert "no file" in said(found, place(name, tmp_path, image_id))
    assert found.sound == found.found - 1
    advice = f"1 label maps are not there: run `sclip data prepare {name} --root {tmp_path}`"
    assert found.causes == ([advice] if name in MADE else [])


def test_a_label_map_without_image_is_named(sound, tmp_path):
    sound("ade20k")
    (tmp_path / ADE / "images/validation/ADE_val_00000002.jpg").unlink()
    found = check("ade20k", tmp_path)
    alone = tmp_path / ADE / "annotations/validation/ADE_val_00000002.png"
    assert said(found, alone) == "no image of this name"


def test_a_listed_image_that_is_missing_is_named(sound, tmp_path):
    sound("voc21")
    gone = tmp_path / VOC / "JPEGImages/2007_000033.jpg"
    gone.unlink()
    assert "no file" in said(check("voc21", tmp_path), gone)


def test_a_label_map_of_another_size_is_named_with_both(sound, tmp_path):
    sound("cityscapes")
    path = place("cityscapes", tmp_path, CITIES[0])
    trees.grey(path, np.zeros((HEIGHT, WIDTH + 1)))
    what = said(check("cityscapes", tmp_path), path)
    assert f"{WIDTH}x{HEIGHT}" in what
    assert f"{WIDTH + 1}x{HEIGHT}" in what


def test_an_image_that_exif_turns_away_from_its_label_map_is_told_as_that(sound, tmp_path):
    sound("coco_stuff")
    trees.photograph(tmp_path / COCO / f"images/val2017/{COCO_IDS[0]}.jpg", exif=6)
    what = said(check("coco_stuff", tmp_path), place("coco_stuff", tmp_path, COCO_IDS[0]))
    assert "EXIF rotation" in what


@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("damage", ["torn", "empty", "text"])
def test_a_damaged_file_is_named_and_the_others_are_read(which, damage, sound, tmp_path):
    sound("coco_stuff")
    path = place("coco_stuff", tmp_path, COCO_IDS[1])
    if which == "image":
        path = tmp_path / COCO / f"images/val2017/{COCO_IDS[1]}.jpg"
    data = path.read_bytes()
    path.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "text": b"no such"}[damage])
    found = check("coco_stuff", tmp_path)
    assert str(path) not in said(found, path)
    assert found.sound == 2
    assert found.pixels.sum() + found.ignored == HEIGHT * WIDTH * (3 if which == "image" else 2)


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_pipe_is_named_and_not_waited_for(which, sound, tmp_path):
    sound("ade20k")
    folder, ending = ("images", "jpg") if which == "image" else ("annotations", "png")
    path = next((tmp_path / ADE / folder / "validation").glob(f"*.{ending}"))
    path.unlink()
    os.mkfifo(path)
    assert said(check("ade20k", tmp_path), path) == "is not a file"


def test_a_coloured_label_map_is_refused(sound, tmp_path):
    sound("voc21")
    path = place("voc21", tmp_path, "2007_000033")
    with Image.open(path) as image:
        image.convert("RGB").save(path)
    assert "not single-channel" in said(check("voc21", tmp_path), path)


def test_colours_of_voc_turned_grey_are_told_as_that(sound, tmp_path):
    sound("voc21")
    path = place("voc21", tmp_path, "2007_000033")
    with Image.open(path) as image:
        image.convert("RGB").convert("L").save(path)
    found = check("voc21", tmp_path)
    assert "values without a class" in said(found, path)
    assert "take the palette PNGs" in found.causes[0]


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bits_are_read_as_they_are(mode, sound, tmp_path):
    expected = sound("ade20k")
    for name, values in expected.items():
        target = place("ade20k", tmp_path, name)
        Image.fromarray(values.astype(np.uint16)).save(target)
    assert check("ade20k", tmp_path).right
    Image.fromarray(np.full((HEIGHT, WIDTH), 40000, np.uint16)).save(target)
    assert "40000 (108 px)" in said(check("ade20k", tmp_path), target)


# --- sets that were made wrong


def renamed(sound, tmp_path: Path, name: str) -> Checked:
    """Raw stuff maps under the name of prepared ones."""
    expected = sound(name)
    for image_id in expected:
        shutil.copy(
            tmp_path / COCO / f"annotations/val2017/{image_id}.png",
            place(name, tmp_path, image_id),
        )
    return check(name, tmp_path)


@pytest.mark.parametrize("name", ["coco_stuff", "coco_object"])
def test_raw_stuff_maps_are_told_by_their_ids(name, sound, tmp_path):
    found = renamed(sound, tmp_path, name)
    assert not found.right
    assert found.sound == 0
    assert found.causes[0].endswith(f"these are raw stuff maps, run `sclip data prepare {name}`")


def test_a_fault_names_five_values_and_counts_the_others(sound, tmp_path):
    found = renamed(sound, tmp_path, "coco_stuff")
    first = trees.raw_stuff()[COCO_IDS[0]]
    stray = [v for v in range(171, 182) if (first == v).any()]
    assert len(stray) <= 5
    shown = ", ".join(f"{value} ({(first == value).sum()} px)" for value in stray)
    what = {fault.file: fault.what for fault in found.faults}
    path = place("coco_stuff", tmp_path, COCO_IDS[0])
    assert what[str(path)] == f"values without a class: {shown}; expected 0..170 or 255"

    trees.grey(path, np.arange(108).reshape(9, 12) % 11 + 171)
    what = {fault.file: fault.what for fault in check("coco_stuff", tmp_path).faults}
    assert " and 6 more values; expected" in what[str(path)]


def test_label_ids_of_cityscapes_are_told_by_their_ids(sound, tmp_path):
    for image_id in sound("cityscapes"):
        raw = tmp_path / CITYSCAPES / f"gtFine/val/{image_id}_gtFine_labelIds.png"
        shutil.copy(raw, place("cityscapes", tmp_path, image_id))
    found = check("cityscapes", tmp_path)
    assert found.causes == [
        "ids up to 33: these are Cityscapes' labelIds, run `sclip data prepare cityscapes`"
    ]


def test_maps_of_ade_that_were_reduced_already_are_suspicious_without_a_stray_value(
    sound, tmp_path
):
    for image_id, values in sound("ade20k").items():
        trees.grey(place("ade20k", tmp_path, image_id), np.where(values == 0, 255, values - 1))
    found = check("ade20k", tmp_path)
    assert found.faults == []
    assert not found.right
    assert "taken away already" in found.causes[0]


def test_coco_object_whose_unlabelled_pixels_are_left_out_is_suspicious(sound, tmp_path):
    expected = sound("coco_object")
    values = expected[COCO_IDS[0]].copy()
    values[0, 0] = 255
    trees.grey(place("coco_object", tmp_path, COCO_IDS[0]), values)
    found = check("coco_object", tmp_path)
    assert found.faults == []
    assert not found.right
    assert "run `sclip data prepare coco_object`" in found.causes[0]


@pytest.mark.parametrize("differs", [True, False])
def test_a_conversion_that_did_not_end_is_not_right(differs, sound, tmp_path):
    expected = sound("coco_stuff")
    for image_id in COCO_IDS[1:]:
        place("coco_stuff", tmp_path, image_id).unlink()
    if differs:
        trees.grey(place("coco_stuff", tmp_path, COCO_IDS[0]), expected[COCO_IDS[1]])
    else:
        (tmp_path / COCO / f"annotations/val2017/{COCO_IDS[0]}.png").write_bytes(b"")
    prepare("coco_stuff", tmp_path)
    found = check("coco_stuff", tmp_path)
    assert (found.found, found.faults, found.made_from) == (3, [], "stuff")
    assert not found.right
    again = f"sclip data prepare coco_stuff --root {tmp_path / COCO} --source stuff"
    if differs:
        assert "1 label maps are not those that are made from stuff" in found.incomplete
        assert f"`{again} --force`" in found.incomplete
        assert "prepared-coco_stuff.json" in found.incomplete
    else:
        assert (
            f"were not all made, some may be of another source: run `{again}`" in found.incomplete
        )


def test_a_root_without_the_layout_is_refused(tmp_path):
    with pytest.raises(UserError, match="coco_stuff: expected images/val2017/"):
        check("coco_stuff", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        check("coco_stuff", tmp_path / "nowhere")


# --- the picture


@pytest.mark.parametrize("name", ["voc20", "coco_object", "cityscapes"])
def test_a_picture_of_a_few_pairs(name, sound, tmp_path):
    sound(name)
    picture = look(check(name, tmp_path), tmp_path, pairs=2)
    assert picture.mode == "RGB"
    assert len(picture.getcolors(1 << 24)) > 20
    assert picture.width > 2 * 200


def test_damaged_pairs_are_left_out_of_the_picture(sound, tmp_path):
    expected = sound("coco_stuff")
    place("coco_stuff", tmp_path, COCO_IDS[0]).write_bytes(b"")
    (tmp_path / COCO / f"images/val2017/{COCO_IDS[1]}.jpg").write_bytes(b"")
    found = check("coco_stuff", tmp_path)
    assert look(found, tmp_path) is not None
    for image_id in expected:
        place("coco_stuff", tmp_path, image_id).write_bytes(b"")
    assert look(found, tmp_path) is None
