"""Label maps as people bring them: read as they are meant and said, or refused with the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sclip_core.config import UserError, resolve
from sclip_core.datasets import Dataset
from sclip_core.pipeline.inputs import Inputs
from sclip_core.progress import Silent

from ..conftest import TINY

CLASSES = ("sky", "grass", "box")
COLOURS = ((128, 128, 128), (128, 0, 0), (192, 192, 128))
NAMES = ("p0", "p1", "p2")


class Said(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


def classes_of(number: int) -> np.ndarray:
    """Sky over grass with a box on both, which is the smallest: (24, 32)."""
    classes = np.zeros((24, 32), np.uint8)
    classes[12 + number :] = 1
    classes[8:16, 4 + number : 12] = 2
    return classes


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Images and the classes."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (32, 24), (90, 120, 40)).save(tmp_path / f"images/{name}.jpg")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


def write(
    folder: Path, form: Callable[[np.ndarray], np.ndarray], name: str = "{}.png", **options: object
) -> Path:
    """Label maps made of the classes, named as said."""
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(NAMES):
        Image.fromarray(form(classes_of(number))).save(folder / name.format(image), **options)
    return folder


def opened(own: Path, labels: Path, **given: object) -> tuple[Dataset, list[str]]:
    """The dataset as a run opens it, and what the run says of it first."""
    files = {"images": own / "images", "labels": labels, "classes": own / "classes.txt"}
    said = Said()
    settings = resolve(**{**files, "artifacts": own / "artifacts", **given})
    return Inputs(settings, said, keep=False).dataset, said.notes


def refused(own: Path, labels: Path, **given: object) -> str:
    with pytest.raises(UserError) as error:
        opened(own, labels, **given)
    assert "\n" not in str(error.value)
    return str(error.value)


def right(dataset: Dataset) -> bool:
    """Whether the label maps are read as the classes that they were made of."""
    return all(
        np.array_equal(dataset.classes(sample.label, sample.label.read_bytes()), classes_of(number))
        for number, sample in enumerate(dataset.samples)
        if sample.label is not None
    )


# --- values


def binary(classes: np.ndarray) -> np.ndarray:
    return ((classes == 2) * 255).astype(np.uint8)


def test_masks_of_0_and_255_have_no_score_unasked(own, sclip, tmp_path):
    """They would score 100, since all that is left is one class."""
    (own / "classes.txt").write_text("background, sky, grass\nbox, crate\n")
    labels = write(own / "labels", binary)
    given = [f"--{key}={value}" for key, value in TINY.items()]
    given += [f"--images={own}/images", f"--labels={labels}", f"--classes={own}/classes.txt"]
    command = ["run", "--direct", *given, f"--artifacts={tmp_path}/a"]
    code, out, err = sclip(*command)
    assert (code, out) == (2, "")
    assert err.startswith("sclip: the label maps hold the values 0, 255, and 255 (")
    assert "all that is left to score is 'background'" in err
    assert "pass --label-values 0,255 if 255 is 'box', or --ignore-label 255" in err
    assert not (tmp_path / "a" / "dense_features").exists()

    assert sclip(*command, "--label-values=0,255")[0] == 0
    (by_value,) = pq.read_table(tmp_path / "a/results/runs").to_pylist()
    assert by_value["label_values"] == "0,255"
    ones = write(own / "ones", lambda c: (c == 2).astype(np.uint8))
    command[command.index(f"--labels={labels}")] = f"--labels={ones}"
    assert sclip(*command)[0] == 0
    rows = pq.read_table(tmp_path / "a/results/runs").to_pylist()
    assert len(rows) == 2
    assert rows[0]["miou"] == rows[1]["miou"] != 100
    assert sclip("results", "--artifacts", str(tmp_path / "a"))[0] == 0


def test_a_rare_255_is_found_among_many_maps_of_0(own):
    """As in sets of cracks or polyps: few of the label maps that are looked at first have any."""
    (own / "classes.txt").write_text("rest\nbox")
    labels = write(own / "labels", lambda c: c * 0)
    for number in range(40):
        Image.new("RGB", (32, 24)).save(own / f"images/more{number:02}.png")
        mask = Image.new("L", (32, 24))
        mask.putpixel((3, 3), 255 if number == 38 else 0)
        mask.save(labels / f"more{number:02}.png")
    assert "pass --label-values 0,255 if 255 is 'box'" in refused(own, labels)


def test_they_may_be_ignored_where_that_is_asked_for(own):
    (own / "classes.txt").write_text("background\nbox\n")
    dataset, notes = opened(own, write(own / "labels", binary), ignore_label=[255])
    assert dataset.ignore_label == (255,)
    assert "never labelled in the label maps: 'box'" in notes[0]


def values(*of: int, kind: type = np.uint8) -> Callable[[np.ndarray], np.ndarray]:
    """Label maps that have these values for the three classes."""
    return lambda classes: np.array(of, kind)[classes]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (values(0, 1, 255), "so that 'box' has no pixel: pass --label-values 0,1,255 if 255 is"),
        (values(0, 0, 255), "all that is left to score is 'sky'"),
        (values(1, 255, 255), "all that is left to score is 'grass'"),
        (values(0, 128, 255), "pass --label-values 0,128,255"),
        (values(0, 255, 65535, kind=np.uint16), "pass --label-values 0,255,65535"),
        (values(1, 2, 3), "1 is the first class, pass --reduce-zero-label"),
        (values(7, 1007, 2007, kind=np.uint16), "1000 x class + instance"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(own, form, words):
    assert words in refused(own, write(own / "labels", form))


def test_a_single_class_and_a_mask_of_255(own):
    (own / "classes.txt").write_text("box")
    said = refused(own, write(own / "labels", binary))
    assert "two classes in --classes, the first for 0, and --label-values 0,255" in said


def test_values_of_the_classes_are_read(own):
    dataset, notes = opened(
        own, write(own / "labels", values(0, 128, 255)), label_values="0,128,255"
    )
    assert right(dataset)
    assert notes == []
    assert "has 2 values and there are 3 classes" in refused(
        own, own / "labels", label_values="0,255"
    )
    assert "conflict" in refused(
        own, own / "labels", label_values="0,128,255", reduce_zero_label=True
    )
    assert "255 is in --ignore-label and in --label-values" in refused(
        own, own / "labels", label_values="0,128,255", ignore_label="255"
    )


def test_a_class_that_is_never_labelled_is_named(own):
    _, notes = opened(own, write(own / "labels", values(1, 2, 2)))
    (line,) = notes
    assert line == (
        "never labelled in the label maps: 'sky'; if their values begin at 1, pass "
        "--reduce-zero-label"
    )


def test_one_bit_has_two_classes(own):
    (own / "classes.txt").write_text("rest\nbox")
    dataset, notes = opened(own, write(own / "labels", lambda c: c == 2))
    assert notes == []
    found = dataset.classes(dataset.samples[0].label, (own / "labels/p0.png").read_bytes())
    np.testing.assert_array_equal(found, classes_of(0) == 2)


# --- colours


def coloured(classes: np.ndarray) -> np.ndarray:
    return np.array(COLOURS, np.uint8)[classes]


LISTS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:128,128,128::\ngrass:128,0,0::\n"
    "box:192,192,128:lid,side:open\nvoid:0,0,0::\n",
    "class_dict.csv": "name,r,g,b\nsky,128,128,128\nGrass,128,0,0\nbox,192,192,128\nVoid,0,0,0\n",
    "other.csv": "id,class,red,green,blue\n0,sky,128,128,128\n1,grass,128,0,0\n2,box,192,192,128\n",
    "label_colors.txt": "128 128 128\tsky\n128 0 0\t\tgrass\n192 192 128\tbox\n0 0 0 Void\n",
    "plain.txt": "128 128 128\n128 0 0\n192 192 128\n",
    "numbered.txt": "0 128 128 128\n1 128 0 0\n2 192 192 128\n",
    "hex.txt": "sky #808080\ngrass #800000\nbox #C0C080\n",
    "list.json": json.dumps(
        [{"name": n, "color": c} for n, c in zip(CLASSES, COLOURS, strict=True)]
    ),
    "meta.json": json.dumps(
        {
            "classes": [
                {"title": n, "color": "#{:02x}{:02x}{:02x}".format(*c)}
                for n, c in zip(CLASSES, COLOURS, strict=True)
            ]
        }
    ),
    "names.json": json.dumps(dict(zip(CLASSES, COLOURS, strict=True))),
}


@pytest.mark.parametrize("name", LISTS)
def test_colours_become_classes_by_a_list(own, name):
    (own / name).write_text(LISTS[name])
    dataset, notes = opened(own, write(own / "labels", coloured), palette=own / name)
    assert right(dataset)
    assert notes == []


@pytest.mark.parametrize("name", [n for n in LISTS if n not in ("plain.txt", "numbered.txt")])
def test_a_list_that_names_the_classes_is_their_file_too(own, name):
    (own / name).write_text(LISTS[name])
    dataset, _ = opened(own, write(own / "labels", coloured), palette=own / name, classes=None)
    assert [each.lower() for each in dataset.vocabulary.class_names] == list(CLASSES)
    assert right(dataset)


def test_a_list_goes_by_names_not_by_order(own):
    (own / "list.txt").write_text("box:192,192,128\ngrass:128,0,0\nsky:128,128,128\n")
    dataset, _ = opened(own, write(own / "labels", coloured), palette=own / "list.txt")
    assert right(dataset)


def test_voc_colours(own):
    """Of the indices 0, 1 and 2, as VOC's development kit makes them."""
    labels = write(own / "labels", lambda c: np.uint8([(0, 0, 0), (128, 0, 0), (0, 128, 0)])[c])
    assert "if they are PASCAL VOC's, with the classes in its order, --palette voc" in refused(
        own, labels
    )
    dataset, _ = opened(own, labels, palette="voc")
    assert right(dataset)


def test_a_palette_png_may_go_by_its_colours(own):
    def indexed(classes: np.ndarray) -> np.ndarray:
        return np.asarray(classes[::1])

    folder = own / "labels"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        image = Image.fromarray(2 - indexed(classes_of(number)))  # indices in another order
        image.putpalette([channel for colour in COLOURS[::-1] for channel in colour])
        image.save(folder / f"{name}.png")
    (own / "list.txt").write_text(LISTS["labelmap.txt"])
    assert right(opened(own, folder, palette=own / "list.txt")[0])


def test_colours_without_a_list(own):
    labels = write(own / "labels", coloured)
    said = refused(own, labels)
    assert "its 3 colours, (128,0,0), (128,128,128), (192,192,128), may stand for" in said
    assert "voc" not in said
    assert "pass --palette FILE with a line 'name:r,g,b' for each" in said
    (own / "labelmap.txt").write_text(LISTS["labelmap.txt"])
    assert f"--palette {own}/labelmap.txt" in refused(own, labels)


def test_colours_that_a_list_lacks_are_counted_and_refused(own):
    (own / "list.txt").write_text("sky:128,128,128\ngrass:128,0,0\n")
    said = refused(own, write(own / "labels", coloured), palette=own / "list.txt", classes=None)
    boxes = int((classes_of(0) == 2).sum())
    assert (
        f"{boxes} pixels have a colour that {own}/list.txt lacks: 192,192,128 ({boxes} px)" in said
    )


def test_smoothed_edges_are_called_that(own):
    def smooth(classes: np.ndarray) -> np.ndarray:
        small = Image.fromarray(coloured(classes)).resize((15, 11))
        return np.asarray(small.resize((32, 24), Image.Resampling.BILINEAR))

    (own / "list.txt").write_text(LISTS["labelmap.txt"])
    said = refused(own, write(own / "labels", smooth), palette=own / "list.txt")
    assert "edges smoothed by a resize, anti-aliasing or JPEG" in said


def test_class_ids_with_a_list_of_colours(own):
    (own / "list.txt").write_text(LISTS["labelmap.txt"])
    said = refused(own, write(own / "labels", lambda c: c), palette=own / "list.txt")
    assert "leave --palette out" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no colour"),
        ("sky\ngrass\n", "lists no colour"),
        ("sky:128,128,128\ngrass\n", "line 2: no colour in 'grass'"),
        ("sky:1,2,3\ngrass:1,2,3\nbox:4,5,6", "gives 1,2,3 to both 'sky' and 'grass'"),
        ("sky:1,2,3\ngrass:7,8,9\nbox:4,5,6\ncar:1,1,1", "has colours of car, which --classes"),
        ("sky:1,2,3\ngrass:7,8,9", "has no colour of box"),
        ("1,2,3\n4,5,6\n", "lists 2 colours without names, and there are 3 classes"),
        ("sky:300,2,3", "lists no colour"),
    ],
)
def test_lists_that_cannot_be_used(own, text, words):
    (own / "list.txt").write_text(text)
    assert words in refused(own, write(own / "labels", coloured), palette=own / "list.txt")


def test_grey_in_three_channels_is_read_and_said(own):
    dataset, notes = opened(own, write(own / "labels", lambda c: np.repeat(c[..., None], 3, 2)))
    assert right(dataset)
    assert notes == ["3 of the label maps have several channels, all equal; read as grey"]


def test_label_maps_in_a_folder_of_their_own_are_found(own):
    (own / "labels").mkdir()
    write(own / "labels" / "png", lambda c: c)
    dataset, (line,) = opened(own, own / "labels")
    assert right(dataset)
    assert line.endswith("(--label-pattern 'png/{id}.png')")


def test_jpeg_label_maps(own):
    said = refused(own, write(own / "labels", coloured, "{}.jpg"))
    assert "p0.jpg is no label map, as its format changes values: export it as PNG" in said


# --- names


@pytest.mark.parametrize("name", ["{}_mask.png", "{}_gt.png", "{}.jpg.png", "mask_{}.tif"])
def test_names_that_are_the_same_for_all_are_found_and_said(own, name):
    dataset, notes = opened(own, write(own / "labels", lambda c: c, name))
    assert right(dataset)
    assert len(dataset) == 3
    (line,) = notes
    assert line.endswith(f"(--label-pattern '{name.format('{id}')}')")


def test_names_that_leave_a_choice_are_refused(own):
    labels = write(own / "labels", lambda c: c, "{}_mask.png")
    write(labels, coloured, "{}_color.png")
    said = refused(own, labels)
    assert "the label map of p0 may be p0_mask.png, p0_color.png: say which, --label-patt" in said
    for pattern in ("{id}_mask.png", "{id}_mask"):
        dataset, notes = opened(own, labels, label_pattern=pattern)
        assert right(dataset)
        assert notes == []
    assert "expected {id} in it" in refused(own, labels, label_pattern="_mask.png")


def test_names_that_differ_on_both_sides(own):
    """``10_sat.jpg`` and ``10_mask.png``, also in one folder, where masks are no images."""
    for number, name in enumerate(NAMES):
        (own / f"images/{name}.jpg").rename(own / f"images/1{number}_sat.jpg")
    labels = own / "labels"
    labels.mkdir()
    for number in range(3):
        Image.fromarray(classes_of(number)).save(labels / f"1{number}_mask.png")
    assert right(opened(own, labels)[0])
    for path in labels.iterdir():
        path.rename(own / "images" / path.name)
    said = refused(own, own / "images")
    assert "if they lie among the images, say how they are named: --label-pattern" in said
    dataset, _ = opened(own, own / "images", label_pattern="{id}_mask.png")
    assert right(dataset)
    assert len(dataset) == 3


# --- images without a label map


def test_images_without_a_label_map(own, sclip):
    labels = write(own / "labels", lambda c: c)
    (labels / "p1.png").unlink()
    said = refused(own, labels)
    assert "1 of 3 images has no label map: p1;" in said
    assert "--missing-labels skip to leave these images out, or empty" in said

    dataset, (line,) = opened(own, labels, missing_labels="skip")
    assert [sample.image_id for sample in dataset.samples] == ["p0", "p2"]
    assert line.endswith("left out as --missing-labels skip says: p1")

    dataset, (line,) = opened(own, labels, missing_labels="empty")
    assert len(dataset) == 3
    assert "not evaluated, since the first class is not the background" in line
    assert (dataset.empty((4, 5)) == -1).all()
    (own / "classes.txt").write_text("background\ngrass\nbox")
    dataset, (line,) = opened(own, labels, missing_labels="empty")
    assert "1 of 3 images has no label map, taken for all 'background'," in line
    assert (dataset.empty((4, 5)) == 0).all()


def test_an_empty_image_scores_as_one_whose_label_map_is_all_background(own, sclip, tmp_path):
    (own / "classes.txt").write_text("background\ngrass\nbox")
    labels = write(own / "labels", lambda c: c)
    Image.new("L", (32, 24)).save(labels / "p1.png")
    given = [f"--{key}={value}" for key, value in TINY.items()]
    given += [f"--images={own}/images", f"--labels={labels}", f"--classes={own}/classes.txt"]
    command = ["run", "--direct", *given, f"--artifacts={tmp_path}/a", f"--save-vis={tmp_path}/v"]
    assert sclip(*command)[0] == 0
    (labels / "p1.png").unlink()
    assert sclip(*command, "--missing-labels=empty")[0] == 0
    scores = pq.read_table(tmp_path / "a/results/runs").to_pylist()
    assert len(scores) == 2
    assert scores[0]["miou"] == scores[1]["miou"]
    assert (tmp_path / "v/p1.png").is_file()
    assert sclip("report", "--artifacts", str(tmp_path / "a"), "-o", f"{tmp_path}/r.html")[0] == 0


def test_these_settings_are_not_for_benchmarks(sclip, tmp_path):
    code, _, err = sclip(
        "plan", "--dataset=voc21", f"--data-root={tmp_path}", "--missing-labels=skip"
    )
    assert code == 2
    assert "--missing-labels is for label maps of your own" in err
