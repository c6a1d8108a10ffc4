"""PNG label maps, read again as the dataset reads its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError
from sclip_core.datasets import Dataset, Vocabulary, read_label
from sclip_core.datasets.palettes import voc_colours
from sclip_core.exports import write_png
from sclip_core.exports.png import as_values, picture, value_table

from ..pipeline.conftest import run as run_voc
from ..pipeline.conftest import write_voc
from .conftest import blobs


def benchmark(name: str, tmp_path, **others) -> Dataset:
    words = Vocabulary.named(name)
    zero = name in ("voc20", "ade20k")
    return Dataset(name, (), words, reduce_zero_label=zero, root=tmp_path, **others)


def test_the_dataset_reads_them_as_the_label_maps(tmp_path, any_run):
    write_png(any_run, tmp_path / "maps")
    files = sorted((tmp_path / "maps").iterdir())
    assert [file.stem for file in files] == list(any_run.image_ids)
    for file, image in zip(files, any_run, strict=True):
        read = any_run.source.dataset.classes(file, file.read_bytes())
        np.testing.assert_array_equal(read, image.labels)


@pytest.mark.parametrize(
    ("name", "values", "first", "last", "free"),
    [
        ("ade20k", "dataset", 1, 150, 0),
        ("ade20k", "classes", 0, 149, 255),
        ("voc21", "dataset", 0, 20, 255),
        ("voc20", "dataset", 1, 20, 0),
        ("cityscapes", "dataset", 0, 18, 255),
        ("cityscapes", "label-ids", 7, 33, 0),
    ],
)
def test_values_of_benchmarks(tmp_path, name, values, first, last, free):
    dataset = benchmark(name, tmp_path)
    table, unlabelled = value_table(dataset, dataset.vocabulary.num_classes, values)
    assert (table[0], table[-1], unlabelled, table.dtype) == (first, last, free, np.uint8)
    labels = blobs(3)
    shown = as_values(labels, table, unlabelled)
    np.testing.assert_array_equal(shown[labels >= 0], table[labels[labels >= 0]])
    assert (shown[labels < 0] == free).all()
    if values == "dataset":
        np.testing.assert_array_equal(dataset.classes_of(shown.astype(np.int32), "map"), labels)


def test_numbers_of_your_own_list(tmp_path):
    words = replace(Vocabulary.from_classes(["cat", "dog"]), labels=(3, 700))
    table, free = value_table(Dataset("own", (), words), 2)
    assert (table.tolist(), free, table.dtype) == ([3, 700], 255, np.uint16)


def test_many_classes_have_16_bits(tmp_path):
    words = Vocabulary.from_classes([f"word {k}" for k in range(300)])
    table, free = value_table(Dataset("own", (), words), 300, "classes")
    assert (table.dtype, free) == (np.uint16, 65535)
    labels = np.array([[299, -1, 0]])
    file = tmp_path / "map.png"
    picture(as_values(labels, table, free), Dataset("own", (), words)).save(file)
    assert read_label(file).tolist() == [[299, 65535, 0]]


def test_voc_has_its_palette(tmp_path):
    finished = run_voc(tmp_path / "artifacts", write_voc(tmp_path / "VOC2012", 1))
    from sclip_core.exports import StoredRun

    run = StoredRun.open("latest", tmp_path / "artifacts")
    assert finished is not None
    write_png(run, tmp_path / "maps")
    (image,) = run
    with Image.open(tmp_path / "maps" / f"{image.image_id}.png") as shown:
        assert shown.mode == "P"
        np.testing.assert_array_equal(np.asarray(shown), image.labels)
        colour = np.asarray(shown.convert("RGB"))[0, 0].astype(int)
    assert colour @ [65536, 256, 1] == voc_colours()[image.labels[0, 0]]


def test_label_ids_are_cityscapes(dense, tmp_path):
    with pytest.raises(UserError, match=r"^label-ids are Cityscapes', and this run is on scenes"):
        write_png(dense, tmp_path / "maps", "label-ids")
    assert not (tmp_path / "maps").exists()
