"""FiftyOne's folder of images and masks, and its samples where it is installed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from sclip_core import UserError
from sclip_core.exports import to_fiftyone, write_fiftyone
from sclip_core.exports.fiftyone import FIELD, mask_targets, samples


def as_classes(mask):
    return np.asarray(mask).astype(int) - 1


def test_the_masks_are_the_label_maps(tmp_path, any_run):
    write_fiftyone(any_run, tmp_path / "run")
    paths = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert sorted(paths) == list(any_run.image_ids)
    for image in any_run:
        assert paths[image.image_id] == str(image.file.resolve())
        with Image.open(tmp_path / "run" / "labels" / f"{image.image_id}.png") as mask:
            np.testing.assert_array_equal(as_classes(mask), image.labels)
    targets = json.loads((tmp_path / "run" / "mask_targets.json").read_text("utf-8"))
    assert targets == {str(k + 1): name for k, name in enumerate(any_run.class_names)}


def test_with_the_images(tmp_path, dense):
    write_fiftyone(dense, tmp_path / "run", with_images=True)
    assert not (tmp_path / "run" / "data.json").exists()
    for image in dense:
        copy = tmp_path / "run" / "data" / image.name
        assert copy.read_bytes() == image.file.read_bytes()


def test_without_the_library(dense, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(UserError, match=r"^fiftyone is not installed: pip install fiftyone;"):
        to_fiftyone(dense)


@pytest.mark.parametrize("with_images", [False, True])
def test_its_importer_reads_the_folder(tmp_path, gappy, with_images):
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    write_fiftyone(gappy, tmp_path / "run", with_images)
    importer = importers.ImageSegmentationDirectoryImporter(
        str(tmp_path / "run"), "data/" if with_images else "data.json", load_masks=True
    )
    with importer:
        found = {path: label.mask for path, _, label in importer}
    assert len(found) == len(gappy)
    for image in gappy:
        path = tmp_path / "run" / "data" / image.name if with_images else image.file.resolve()
        np.testing.assert_array_equal(as_classes(found[str(path)]), image.labels)


def test_its_samples(gappy):
    fiftyone = pytest.importorskip("fiftyone")
    for sample, image in zip(samples(gappy), gappy, strict=True):
        assert isinstance(sample, fiftyone.Sample)
        assert sample.filepath == str(image.file.resolve())
        np.testing.assert_array_equal(as_classes(sample[FIELD].mask), image.labels)
    assert mask_targets(gappy)[1] == gappy.class_names[0]
