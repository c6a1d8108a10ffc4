"""Label maps of rarer forms, and lists of classes that do not fit them: said before a score."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sclip_core.pipeline import preflight

from ..conftest import TINY
from .test_label_maps import (
    CLASSES,
    COLOURS,
    NAMES,
    classes_of,
    opened,
    own,  # noqa: F401
    refused,
    write,
)


def in_alpha(classes: np.ndarray, colour: int = 0) -> np.ndarray:
    """(H, W, 4) of one colour; the box is what is opaque."""
    pixels = np.full((*classes.shape, 4), colour, np.uint8)
    pixels[..., 3] = np.where(classes == 2, 255, 0)
    return pixels


@pytest.mark.parametrize("colour", [0, 255])
def test_masks_in_alpha_are_no_empty_masks(own, colour):  # noqa: F811
    """Read by their colours, all pixels would be the background, and its score 100."""
    labels = write(own / "labels", lambda classes: in_alpha(classes, colour))
    assert "hold the values 0, 255" in refused(own, labels, classes=Path("background; box"))
    dataset, notes = opened(own, labels, classes=Path("background; box"), label_values=(0, 255))
    assert any("have one colour and the mask in their alpha channel" in line for line in notes)
    for number, sample in enumerate(dataset.samples):
        np.testing.assert_array_equal(
            dataset.classes(sample.label, sample.label.read_bytes()), classes_of(number) == 2
        )


def test_arrays_are_label_maps(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        np.save(own / f"labels/{name}.npy", classes_of(number).astype(np.int64))
    dataset, notes = opened(own, own / "labels")
    for number, sample in enumerate(dataset.samples):
        np.testing.assert_array_equal(
            dataset.classes(sample.label, sample.label.read_bytes()), classes_of(number)
        )
    assert not [line for line in notes if "label maps" in line]


def test_other_files_in_their_place_are_counted(own):  # noqa: F811
    (own / "labels").mkdir()
    for name in NAMES:
        (own / f"labels/{name}.mat").write_bytes(b"MATLAB")
    assert "holds no label map: expected .png" in refused(own, own / "labels")
    assert refused(own, own / "labels").endswith("there are 3 .mat")


def test_minus_one_is_not_taken_for_a_wrong_order(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        values = classes_of(number).astype(np.int32)
        values[0] = -1
        np.save(own / f"labels/{name}.npy", values)
    message = refused(own, own / "labels")
    assert "--ignore-label 255,-1" in message
    assert "--label-values" not in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": Path("background; sky; grass; box")}, "never labelled.*a line too many"),
        (
            {"reduce_zero_label": True},
            "'box', while 0, which --reduce-zero-label leaves out, has [0-9.]+% of",
        ),
        ({"ignore_label": (0,)}, "'sky': its value, 0, is in --ignore-label 0$"),
    ],
)
def test_a_list_that_is_off_by_one_is_said(own, given, words):  # noqa: F811
    _, notes = opened(own, write(own / "labels", np.array), **given)
    assert any(re.search(words, line) for line in notes), notes


def test_a_score_of_one_class_alone_is_called_that(own):  # noqa: F811
    labels = write(own / "labels", lambda classes: np.uint8(classes == 2))
    given = {"classes": Path("background; box"), "ignore_label": (0,)}
    _, notes = opened(own, labels, **given)
    assert any("all pixels that are evaluated are 'box'" in line for line in notes)
    labels = write(own / "empty", lambda classes: classes * 0)
    _, notes = opened(own, labels)
    assert any(f"are '{CLASSES[0]}': the score is of that class alone" in line for line in notes)


def test_masks_of_two_codes(own):  # noqa: F811
    """As 255 is not evaluated unasked, half of the boxes would not count."""
    labels = write(own / "labels", lambda classes: np.uint8(classes == 2))
    odd = np.asarray(Image.open(labels / "p1.png")) * np.uint8(255)
    Image.fromarray(odd).save(labels / "p1.png")
    given = {"classes": Path("background; box")}
    message = refused(own, labels, **given)
    assert "2 label maps hold 0 and 1, 1 hold 0 and 255, and none all three" in message
    opened(own, labels, **given, ignore_label=(255,))
    odd[odd == 255] = 1
    odd[0] = 255  # a border of what is not labelled
    Image.fromarray(odd).save(labels / "p1.png")
    opened(own, labels, **given)


def in_palette(path: Path, classes: np.ndarray, order: list[int]) -> None:
    """Indices by an order of the classes' colours, as an editor may number them in each file."""
    image = Image.fromarray(np.argsort(order).astype(np.uint8)[classes])
    image.putpalette([channel for index in order for channel in COLOURS[index]])
    image.save(path)


def test_palettes_that_disagree(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        in_palette(own / f"labels/{name}.png", classes_of(number), [0, 1, 2])
    opened(own, own / "labels")
    in_palette(own / "labels/p1.png", classes_of(1), [2, 0, 1])
    message = refused(own, own / "labels")
    assert re.search("the colour 128,0,0 is index 1 in .*p0.png and index 2 in .*p1.png", message)
    assert "pass --palette FILE" in message
    colours = own / "colours.txt"
    lines = zip(CLASSES, COLOURS, strict=True)
    colours.write_text("".join(f"{name}:{','.join(map(str, rgb))}\n" for name, rgb in lines))
    dataset, _ = opened(own, own / "labels", palette=colours)
    label = dataset.samples[1].label
    np.testing.assert_array_equal(dataset.classes(label, label.read_bytes()), classes_of(1))


def test_a_colour_twice_in_one_palette_is_no_disagreement(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        image = Image.fromarray(classes_of(number) * (number % 2))
        image.putpalette([0] * 9)
        image.save(own / f"labels/{name}.png")
    opened(own, own / "labels")


def test_one_mask_a_page_is_refused_and_overviews_are_not(own):  # noqa: F811
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        pages = [Image.fromarray(np.uint8(classes_of(number) == k)) for k in range(3)]
        pages[0].save(own / f"labels/{name}.tif", save_all=True, append_images=pages[1:])
    assert "p0.tif holds 3 pages or frames: expected one label map" in refused(own, own / "labels")
    for number, name in enumerate(NAMES):
        whole = classes_of(number)
        overview = Image.fromarray(whole[::2, ::2].copy())
        Image.fromarray(whole).save(
            own / f"labels/{name}.tif", save_all=True, append_images=[overview]
        )
    opened(own, own / "labels")


def test_pointers_of_git_lfs(own):  # noqa: F811
    labels = write(own / "labels", np.array)
    for name in NAMES:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
        (labels / f"{name}.png").write_text(pointer)
    assert "is a pointer of Git LFS, not the file itself: run `git lfs pull`" in refused(
        own, labels
    )


def test_names_of_cityscapes(own):  # noqa: F811
    """Images end in ``_leftImg8bit``; five files beside one another belong to each."""
    (own / "labels").mkdir()
    for number, name in enumerate(NAMES):
        stem = f"aachen_{name}"
        (own / f"images/{name}.jpg").rename(own / f"images/{stem}_leftImg8bit.jpg")
        for kind in ("color", "instanceIds", "labelIds", "labelTrainIds"):
            Image.fromarray(classes_of(number)).save(own / f"labels/{stem}_gtFine_{kind}.png")
    message = refused(own, own / "labels")
    assert message.endswith("--label-pattern '{id}_gtFine_labelIds.png'")
    pattern = "{id}_gtFine_labelTrainIds.png"
    dataset, _ = opened(own, own / "labels", label_pattern=pattern)
    names = [sample.label.name for sample in dataset.samples]
    assert names == [f"aachen_{name}_gtFine_labelTrainIds.png" for name in NAMES]


def test_one_smoothed_map_among_values_that_were_given(own):  # noqa: F811
    labels = write(own / "labels", lambda classes: np.uint8(classes == 2) * np.uint8(255))
    ramp = np.linspace(0, 255, 24 * 32).astype(np.uint8).reshape(24, 32)
    Image.fromarray(ramp).save(labels / "p1.png")
    given = {"classes": Path("background; box"), "label_values": (0, 255)}
    _, notes = opened(own, labels, **given)
    assert any("p1.png" in line and "smoothed" in line for line in notes), notes


def test_a_rare_last_class_is_looked_for_before_its_absence_is_refused(own):  # noqa: F811
    """Of 43 maps with 6 % of 255 between objects, one has the last class."""

    def bordered(classes: np.ndarray) -> np.ndarray:
        return np.where(np.arange(classes.size).reshape(classes.shape) % 16, classes == 1, 255)

    labels = write(own / "labels", lambda c: bordered(c).astype(np.uint8))
    for number in range(40):
        Image.new("RGB", (32, 24)).save(own / f"images/more{number:02}.png")
        classes = bordered(classes_of(0)).astype(np.uint8)
        classes[:2, :2] = 2 if number == 38 else 0
        Image.fromarray(classes).save(labels / f"more{number:02}.png")
    dataset, notes = opened(own, labels)
    assert len(dataset) == 43
    assert not [line for line in notes if "never labelled" in line]
    (labels / "more38.png").write_bytes((labels / "more37.png").read_bytes())
    assert "so that 'box' has no pixel" in refused(own, labels)


def test_of_masks_that_are_refused_anyway_not_all_are_read(own, monkeypatch):  # noqa: F811
    """Masks of 0 and 255: a set of many thousands is refused after some of them."""
    monkeypatch.setattr(preflight, "FURTHER", 4)
    labels = write(own / "labels", lambda c: ((c == 2) * 255).astype(np.uint8))
    for number in range(60):
        Image.new("RGB", (32, 24)).save(own / f"images/more{number:02}.png")
        Image.new("L", (32, 24), 255 * (number % 2)).save(labels / f"more{number:02}.png")
    read: set[Path] = set()
    look = preflight._looked_at
    monkeypatch.setattr(
        preflight,
        "_looked_at",
        lambda d, sample, *rest: (read.add(sample), look(d, sample, *rest))[1],
    )
    (own / "classes.txt").write_text("rest\nbox")
    assert "if 255 is 'box'" in refused(own, labels)
    assert len(read) == 16 + 4


def test_a_thin_border_hides_no_class(own):  # noqa: F811
    """2 % of 255 between objects, and none of the last class in a few maps: an ordinary set."""

    def bordered(classes: np.ndarray) -> np.ndarray:
        border = np.arange(classes.size).reshape(classes.shape) % 50 == 0
        return np.where(border, 255, classes == 1).astype(np.uint8)

    dataset, notes = opened(own, write(own / "labels", bordered))
    assert len(dataset) == len(NAMES)
    assert "'box', while 255, which is not evaluated, has 2.1% of the pixels" in notes[-1]


def test_colours_are_turned_as_values_are(own):  # noqa: F811
    tag = Image.Exif()
    tag[0x0112] = 3
    (own / "list.txt").write_text(
        "\n".join(f"{n}:{','.join(map(str, c))}" for n, c in zip(CLASSES, COLOURS, strict=True))
    )
    upside_down = write(
        own / "labels",
        lambda classes: np.array(COLOURS, np.uint8)[classes[::-1, ::-1]],
        exif=tag,
    )
    dataset, _ = opened(own, upside_down, palette=own / "list.txt")
    for number, sample in enumerate(dataset.samples):
        data = sample.label.read_bytes()
        np.testing.assert_array_equal(dataset.classes(sample.label, data), classes_of(number))


def test_another_list_of_colours_is_another_score(own, sclip, tmp_path):  # noqa: F811
    """The second run finds everything computed but what the list decides."""
    labels = write(own / "labels", lambda classes: np.array(COLOURS, np.uint8)[classes])
    given = [f"--{key}={value}" for key, value in TINY.items()]
    given += [f"--images={own}/images", f"--labels={labels}", "--classes=sky; grass; box"]
    for colours in (COLOURS, COLOURS[::-1]):
        pairs = zip(CLASSES, colours, strict=True)
        lines = [f"{name}:{','.join(map(str, colour))}" for name, colour in pairs]
        (own / "list.txt").write_text("\n".join(lines))
        more = [f"--palette={own}/list.txt", f"--artifacts={tmp_path}/a"]
        code, _, err = sclip("run", "--direct", *given, *more)
        assert code == 0, err
    first, second = pq.read_table(tmp_path / "a/results/runs").to_pylist()
    assert first["miou"] != second["miou"]


def test_a_turn_of_images_with_yolo_files_is_said(own):  # noqa: F811
    """In fractions of an image of any size, so that none tells on which one they were drawn."""
    tag = Image.Exif()
    tag[0x0112] = 6
    (own / "labels").mkdir()
    (own / "labels/classes.txt").write_text("\n".join(CLASSES))
    for name in NAMES:
        Image.new("RGB", (32, 24)).save(own / f"images/{name}.jpg", exif=tag)
        (own / f"labels/{name}.txt").write_text("0 0 0 1 0 1 1 0 1\n")
    _, notes = opened(own, own / "labels")
    assert [line for line in notes if "EXIF turns 3 images (3 by 90° clockwise)" in line]


def test_zero_is_left_out_of_values_that_begin_at_1(own):  # noqa: F811
    labels = write(own / "labels", lambda classes: (classes + 1) * (np.arange(32) > 1))
    classes = Path("1: sky; 2: grass; 3: box")
    assert "a value without a class: 0" in refused(own, labels, classes=classes)
    dataset, _ = opened(own, labels, classes=classes, reduce_zero_label=True)
    for number, sample in enumerate(dataset.samples):
        found = dataset.classes(sample.label, sample.label.read_bytes())
        assert (found[:, :2] == -1).all()
        np.testing.assert_array_equal(found[:, 2:], classes_of(number)[:, 2:])


def test_what_is_empty_counts_by_the_background_of_each_run(own, sclip, tmp_path):  # noqa: F811
    """The same words, and so the same predictions, with and without a background."""
    labels = write(own / "labels", lambda classes: classes)
    (labels / f"{NAMES[0]}.png").unlink()
    given = [f"--{key}={value}" for key, value in TINY.items()]
    given += [f"--images={own}/images", f"--labels={labels}", "--missing-labels=empty"]
    for first in ("background: sky", "sky"):
        (own / "classes.txt").write_text(f"{first}\ngrass\nbox")
        more = [f"--classes={own}/classes.txt", f"--artifacts={tmp_path}/a"]
        code, _, err = sclip("run", "--direct", *given, *more)
        assert code == 0, err
    first, second = pq.read_table(tmp_path / "a/results/runs").to_pylist()
    assert first["aacc"] != second["aacc"]
