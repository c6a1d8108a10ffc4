"""Datasets: the layouts of the eight benchmarks, a folder of one's own, and what is refused."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from sclip_core.config import Settings, UserError, resolve, tables
from sclip_core.datasets import (
    Dataset,
    Sample,
    Vocabulary,
    check_sizes,
    label_classes,
    open_dataset,
    read_image,
    read_label,
)
from tests.datasets.trees import TREES, write_image, write_label, write_tree

LAYOUT_OF = {
    "voc21": "voc2012",
    "voc20": "voc2012",
    "context60": "voc2010",
    "context59": "voc2010",
    "coco_object": "coco_object",
    "coco_stuff": "coco_stuff",
    "ade20k": "ade20k",
    "cityscapes": "cityscapes",
    "scenes": "scenes",
}


def opened(name: str, data_root: Path | None, **settings: object) -> Dataset:
    return open_dataset(resolve(dataset=name, data_root=data_root, **settings))


def refused(message: str, settings: Settings) -> str:
    """The one line with which the settings are refused; it matches a pattern."""
    with pytest.raises(UserError, match=message) as error:
        open_dataset(settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def files_in(root: Path, pairs: dict[str, str]) -> None:
    for image, label in pairs.items():
        write_image(root / "images" / image)
        if label:
            write_label(root / "labels" / label, np.zeros((6, 8), np.uint8))


def own(root: Path, **settings: object) -> Settings:
    (root / "classes.txt").write_text("sky\nbuilding, house\nroad")
    folders = {"images": root / "images", "labels": root / "labels"}
    return resolve(**{**folders, "classes": root / "classes.txt", **settings})


# --- benchmarks


@pytest.mark.parametrize("name", LAYOUT_OF)
@pytest.mark.parametrize("whole", ["above", "itself"])
def test_layout_of_a_benchmark(name: str, whole: str, tmp_path: Path) -> None:
    folder, _, expected = TREES[LAYOUT_OF[name]]
    root = write_tree(LAYOUT_OF[name], tmp_path, folder if whole == "above" else "")
    dataset = opened(name, root)
    base = root / folder if whole == "above" else root
    assert dataset.samples == tuple(
        Sample(image_id, base / image, base / label) for image_id, image, label in expected
    )
    assert (dataset.name, len(dataset)) == (name, len(expected))
    assert dataset.vocabulary == Vocabulary.named(name)
    assert dataset.reduce_zero_label == (name in {"voc20", "context59", "ade20k"})
    assert dataset.ignore_label == (255,)


@pytest.mark.parametrize("name", LAYOUT_OF)
def test_samples_of_a_benchmark_can_be_read(name: str, tmp_path: Path) -> None:
    dataset = opened(name, write_tree(LAYOUT_OF[name], tmp_path))
    for sample in dataset.samples:
        image, raw = read_image(sample.image), read_label(sample.label)
        check_sizes(image.shape[:2], raw.shape, sample.image_id)
        classes = label_classes(raw, dataset.vocabulary.num_classes, dataset.reduce_zero_label)
        expected = np.arange(48).reshape(6, 8) % 3 - dataset.reduce_zero_label
        np.testing.assert_array_equal(classes, expected)


def test_every_benchmark_of_the_table_is_tested() -> None:
    assert {n: row["layout"] for n, row in tables()["benchmarks"].items()} == LAYOUT_OF
    assert set(tables()["layouts"]) == set(TREES)


@pytest.mark.parametrize(
    ("layout", "subfolder"),
    [(name, folder) for name, row in tables()["layouts"].items() for folder in row["subfolders"]],
)
def test_every_subfolder_of_the_table_is_looked_in(
    layout: str, subfolder: str, tmp_path: Path
) -> None:
    name = next(name for name, its_layout in LAYOUT_OF.items() if its_layout == layout)
    dataset = opened(name, write_tree(layout, tmp_path, subfolder))
    assert dataset.samples[0].image.is_relative_to(tmp_path / subfolder)


def test_split_order_is_kept_and_unlisted_images_are_left_out(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path)
    write_image(root / "VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg")
    ids = [sample.image_id for sample in opened("voc21", root).samples]
    assert ids == ["2007_000123", "2007_000033", "2011_003271"]


def test_split_may_have_windows_lines_and_blank_ones(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path, "")
    split = root / "ImageSets/Segmentation/val.txt"
    split.write_bytes(b"\xef\xbb\xbf2007_000033 \r\n\r\n2007_000123\r\n\r\n")
    ids = [sample.image_id for sample in opened("voc21", root).samples]
    assert ids == ["2007_000033", "2007_000123"]


def test_files_that_are_not_of_the_layout_are_left_out(tmp_path: Path) -> None:
    root = write_tree("coco_stuff", tmp_path, "")
    write_image(root / "images/val2017/.ipynb_checkpoints/000000000139.jpg")
    write_image(root / "images/val2017/notes.png")
    (root / "images/val2017/._000000000139.jpg").touch()  # macOS writes these
    write_label(root / "annotations/val2017/000000000139.png", np.zeros((6, 8), np.uint8))
    ids = [sample.image_id for sample in opened("coco_stuff", root).samples]
    assert ids == ["000000000139", "000000000285"]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    write_tree("cityscapes", tmp_path / "disk", "")
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / "cityscapes" / part / "val").mkdir(parents=True)
        for city in (tmp_path / "disk" / part / "val").iterdir():
            (tmp_path / "cityscapes" / part / "val" / city.name).symlink_to(city)
    assert len(opened("cityscapes", tmp_path)) == 3


def test_first_samples(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path)
    dataset = opened("voc21", root)
    assert opened("voc21", root, num_samples=2).samples == dataset.samples[:2]
    assert dataset.head(2).samples == dataset.samples[:2]
    assert dataset.head(99) == dataset
    assert len(opened("voc21", root, num_samples=99)) == 3


def test_only_the_samples_taken_need_to_be_there(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path, "")
    (root / "JPEGImages/2011_003271.jpg").unlink()
    (root / "SegmentationClass/2007_000033.png").unlink()
    assert len(opened("voc21", root, num_samples=1)) == 1


def test_ignored_labels_come_from_the_settings(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path)
    assert opened("voc21", root, ignore_label="255,0").ignore_label == (255, 0)
    assert opened("voc21", root, reduce_zero_label=True).reduce_zero_label


def many(root: Path, count: int, **settings: object) -> Settings:
    """A folder of one's own with so many classes."""
    files_in(root, {"a.jpg": "a.png"})
    settings = {**own(root).model_dump(exclude_unset=True), **settings}
    (root / "classes.txt").write_text("\n".join(f"class {n}" for n in range(count)))
    return resolve(**settings)


@pytest.mark.parametrize(("count", "reduced"), [(256, False), (300, False), (255, True)])
def test_a_class_is_not_ignored_by_default(tmp_path: Path, count: int, reduced: bool) -> None:
    settings = many(tmp_path, count, reduce_zero_label=reduced)
    said = refused("would not be evaluated: pass another value", settings)
    assert f"the value 255 of a label map is 'class {255 - reduced}'" in said
    for value in ((65535,), (255,)):  # whoever says so may leave a class out
        assert open_dataset(settings.replace(ignore_label=value)).ignore_label == value
    open_dataset(settings.replace(labels=None))  # nothing is scored


@pytest.mark.parametrize(("count", "reduced"), [(255, False), (254, True)])
def test_255_is_ignored_where_it_is_no_class(tmp_path: Path, count: int, reduced: bool) -> None:
    opened = open_dataset(many(tmp_path, count, reduce_zero_label=reduced))
    assert opened.ignore_label == (255,)


def test_other_words_for_a_benchmark(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path)
    names = list(Vocabulary.named("voc21").class_names)
    (tmp_path / "words.txt").write_text("\n".join(["floor, wall", *names[1:]]))
    given = opened("voc21", root, classes=tmp_path / "words.txt").vocabulary
    assert given.class_names == tuple(names)
    assert given.words[0] == ("floor", "wall")
    (tmp_path / "words.txt").write_text("\n".join(names[1:]))
    refused(
        r"words\.txt has 20 classes, but voc21 has 21",
        resolve(dataset="voc21", data_root=root, classes=tmp_path / "words.txt"),
    )


# --- benchmarks, refused


def test_data_root_missing_or_not_a_folder(tmp_path: Path) -> None:
    refused("voc21: --data-root is missing.*JPEGImages/", resolve(dataset="voc21"))
    nowhere = resolve(dataset="voc21", data_root=tmp_path / "nowhere")
    refused("--data-root .*nowhere does not exist: expected a folder", nowhere)
    (tmp_path / "file").touch()
    refused("is a file: expected", resolve(dataset="voc21", data_root=tmp_path / "file"))


def test_layout_not_found_says_what_was_expected_where_and_what_is_there(tmp_path: Path) -> None:
    settings = resolve(dataset="voc21", data_root=tmp_path)
    refused("has nothing in it", settings)
    write_tree("cityscapes", tmp_path)
    assert refused("has cityscapes", settings) == (
        "voc21: expected JPEGImages/, SegmentationClass/, ImageSets/Segmentation/val.txt in "
        f"{tmp_path} or in its VOC2012 or VOCdevkit/VOC2012; {tmp_path} has cityscapes; "
        "pass the folder that holds them as --data-root"
    )


def test_part_of_the_layout_missing_says_which(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path)
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    message = refused("but not", resolve(dataset="voc21", data_root=root))
    assert (
        f"{root}/VOCdevkit/VOC2012 has JPEGImages/, SegmentationClass/ "
        "but not ImageSets/Segmentation/val.txt;"
    ) in message


@pytest.mark.parametrize("name", ["context60", "coco_object"])
def test_maps_that_are_yet_to_be_made_are_told(name: str, tmp_path: Path) -> None:
    """As after the download: the folders of maps and split come with the conversion."""
    layout = tables()["layouts"][LAYOUT_OF[name]]
    folder = layout["images"].partition("/{id}")[0]
    (tmp_path / layout["subfolders"][-1] / folder).mkdir(parents=True)
    said = refused("makes them", resolve(dataset=name, data_root=tmp_path))
    assert said.endswith(f"; `sclip data prepare {name} --root {tmp_path}` makes them")
    assert "--data-root" not in said


def test_split_naming_missing_images(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path, "")
    ids = [f"2099_{number:06}" for number in range(5)]
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(["2007_000033", *ids]))
    message = refused("5 of 6 images have no image", resolve(dataset="voc21", data_root=root))
    assert "2099_000000, 2099_000001, 2099_000002, ...; expected" in message
    assert message.endswith("JPEGImages/ID.jpg")


@pytest.mark.parametrize("name", LAYOUT_OF)
def test_image_without_label_map(name: str, tmp_path: Path) -> None:
    root = write_tree(LAYOUT_OF[name], tmp_path, "")
    _, _, samples = TREES[LAYOUT_OF[name]]
    (root / samples[0][2]).unlink()
    message = refused("has no label map", resolve(dataset=name, data_root=root))
    assert message.startswith(f"{name}: 1 of {len(samples)} images has no label map: ")
    assert samples[0][0] in message


def test_empty_lists(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path, "")
    (root / "ImageSets/Segmentation/val.txt").write_text("\n \n")
    refused(r"val\.txt lists no image", resolve(dataset="voc21", data_root=root))
    for folder in ("images/validation", "annotations/validation"):
        (tmp_path / "ade20k" / folder).mkdir(parents=True)
    settings = resolve(dataset="ade20k", data_root=tmp_path)
    refused(r"ade20k: no image images/validation/\*\.jpg below .*ade20k", settings)


def test_split_that_lists_an_image_twice_or_is_no_text(tmp_path: Path) -> None:
    root = write_tree("voc2012", tmp_path, "")
    split = root / "ImageSets/Segmentation/val.txt"
    split.write_text("2007_000033\n2007_000123\n2007_000033\n")
    refused(r"val\.txt lists 2007_000033 twice", resolve(dataset="voc21", data_root=root))
    split.write_bytes(b"\xff\xfe\xfa")
    refused("cannot read the list of images", resolve(dataset="voc21", data_root=root))


def test_unknown_dataset_gets_the_nearest_one(tmp_path: Path) -> None:
    settings = Settings(dataset="cityscape", data_root=tmp_path)
    refused(r"unknown dataset 'cityscape'.*'cityscapes'\?", settings)


# --- a folder of one's own


def test_own_folder_in_every_format(tmp_path: Path) -> None:
    pairs = {
        "a.jpg": "a.png",
        "b.JPG": "b.PNG",
        "c.jpeg": "c.tif",
        "d.png": "d.bmp",
        "e.bmp": "e.png",
        "f.tif": "f.tiff",
        "g.tiff": "g.png",
        "h.webp": "h.png",
        "sub/a.png": "sub/a.png",
        "v1.2 final.png": "v1.2 final.png",
    }
    files_in(tmp_path, pairs)
    dataset = open_dataset(own(tmp_path))
    assert {
        str(s.image.relative_to(tmp_path / "images")): str(s.label.relative_to(tmp_path / "labels"))
        for s in dataset.samples
    } == pairs
    ids = [sample.image_id for sample in dataset.samples]
    assert ids == ["a", "b", "c", "d", "e", "f", "g", "h", "sub/a", "v1.2 final"]
    assert dataset.name == "custom"
    assert dataset.vocabulary.words == (("sky",), ("building", "house"), ("road",))
    assert open_dataset(own(tmp_path, num_samples=3)).samples == dataset.samples[:3]


def test_png_label_is_preferred(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.bmp"})
    for ending in ("tif", "png", "tiff"):
        write_label(tmp_path / f"labels/a.{ending}", np.zeros((6, 8), np.uint8))
    assert open_dataset(own(tmp_path)).samples[0].label.name == "a.png"


def test_other_files_and_labels_without_image_are_left_out(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png", ".hidden.jpg": ""})
    (tmp_path / "images/notes.txt").touch()
    write_label(tmp_path / "labels/z.png", np.zeros((6, 8), np.uint8))
    assert [sample.image_id for sample in open_dataset(own(tmp_path)).samples] == ["a"]


def test_own_folder_may_take_a_name_and_a_built_in_vocabulary(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png"})
    settings = own(tmp_path, dataset="my streets").replace(classes=None, vocabulary="cityscapes")
    dataset = open_dataset(settings)
    assert dataset.name == "my streets"
    assert dataset.vocabulary == Vocabulary.named("cityscapes")


def test_two_images_of_the_same_stem(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png", "a.png": ""})
    refused(r"images holds both a\.jpg and a\.png", own(tmp_path))


def test_own_images_without_label_map(tmp_path: Path) -> None:
    files_in(tmp_path, {f"{letter}.jpg": "" for letter in "abcde"} | {"z.jpg": "z.png"})
    message = refused("5 of 6 images have no label map: a, b, c, ...;", own(tmp_path))
    expected, advice = message.split("; ")[1:]
    assert expected == f"expected {tmp_path}/labels/ID.png"
    assert advice.startswith("pass --missing-labels skip to leave these images out, or empty")


def test_own_images_need_no_label_maps(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png", "sub/b.png": ""})
    samples = open_dataset(own(tmp_path).replace(labels=None)).samples
    images = [tmp_path / "images" / name for name in ("a.jpg", "sub/b.png")]
    assert samples == (("a", images[0], None), ("sub/b", images[1], None))
    assert [sample.files for sample in samples] == [(image,) for image in images]


def test_options_that_are_missing(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png"})
    settings = own(tmp_path)
    refused("--classes is missing", settings.replace(classes=None))
    refused("--images is missing", settings.replace(images=None))
    refused("--images is missing", Settings(dataset="voc21", labels=tmp_path))
    refused("no vocabulary file at", settings.replace(classes=tmp_path / "nowhere.txt"))
    refused("--images .*nowhere does not exist", settings.replace(images=tmp_path / "nowhere"))
    refused("--labels .*is a file", settings.replace(labels=tmp_path / "classes.txt"))


def test_folder_without_images(tmp_path: Path) -> None:
    files_in(tmp_path, {"a.jpg": "a.png"})
    (tmp_path / "images/a.jpg").rename(tmp_path / "images/a.txt")
    refused(rf"no image in {re.escape(str(tmp_path))}/images: expected \.jpg", own(tmp_path))


# --- size, and real photographs


def test_five_thousand_samples_open_in_well_under_a_second(tmp_path: Path) -> None:
    for folder, ending in (("images", ".jpg"), ("annotations", "_labelTrainIds.png")):
        (tmp_path / folder / "val2017").mkdir(parents=True)
        for number in range(5000):
            (tmp_path / folder / "val2017" / f"{number:012}{ending}").touch()
    settings = resolve(dataset="coco_stuff", data_root=tmp_path)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(open_dataset(settings)) == 5000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("name", "folder", "count"),
    [("voc21", "VOCdevkit", 7), ("voc20", ".", 7), ("coco-object", "coco_object", 126)],
)
def test_shared_benchmarks(photographs: Path, name: str, folder: str, count: int) -> None:
    dataset = opened(name, photographs / folder)
    assert len(dataset) == count
    for sample in dataset.head(3).samples:
        raw = read_label(sample.label)
        check_sizes(read_image(sample.image).shape[:2], raw.shape, sample.image_id)
        label_classes(raw, dataset.vocabulary.num_classes, dataset.reduce_zero_label)


def test_shared_own_folder(photographs: Path) -> None:
    camvid = photographs / "camvid"
    settings = resolve(
        images=camvid / "images",
        labels=camvid / "labels",
        classes=camvid / "classes.txt",
        ignore_label=11,
    )
    dataset = open_dataset(settings)
    assert (len(dataset), dataset.vocabulary.num_classes, dataset.ignore_label) == (47, 11, (11,))
    label_classes(read_label(dataset.samples[0].label), 11, False, dataset.ignore_label)
