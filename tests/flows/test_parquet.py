"""Hugging Face's Parquet files as a dataset: the scores of the folders that they were made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import cli
from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.config.parquet import parquet_files
from sclip_core.datasets.drawn import opened

from ..conftest import TINY
from .conftest import flags, write_own

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ("sky", "grass", "road")


def cells(folder: Path, paths: bool = True) -> list[dict]:
    files = sorted(folder.iterdir())
    return [{"bytes": f.read_bytes(), "path": f.name if paths else None} for f in files]


def table(own: Path, image="image", label="annotation", paths=True, features=None, **more):
    """Images and label maps as ``datasets`` writes them."""
    columns = {image: pa.array(cells(own / "images", paths), IMAGE)}
    if label:
        columns[label] = pa.array(cells(own / "labels", paths), IMAGE)
    found = pa.table({**columns, **more})
    if features is not None:
        noted = json.dumps({"info": {"features": features}})
        found = found.replace_schema_metadata({"huggingface": noted})
    return found


@pytest.fixture
def own(tmp_path) -> Path:
    return write_own(tmp_path / "own", 3)


@pytest.fixture
def repository(tmp_path, own) -> Path:
    """A dataset's folder: data/validation-0000k-of-00002.parquet and id2label.json."""
    root = tmp_path / "repo"
    (root / "data").mkdir(parents=True)
    whole = table(own)
    for k, part in enumerate((whole.slice(0, 2), whole.slice(2))):
        path = root / "data" / f"validation-{k:05d}-of-00002.parquet"
        pq.write_table(part, path, row_group_size=1)
    (root / "id2label.json").write_text(json.dumps({str(k): n for k, n in enumerate(NAMES)}))
    return root


def run(images, artifacts, *more) -> int:
    given = {"images": images, "artifacts": artifacts, **TINY}
    words = [f"--{name}={value}" for name, value in given.items()]
    return cli.main(["run", "--direct", *words, *map(str, more)])


def score(artifacts: Path) -> list[dict]:
    rows = pq.read_table(artifacts / "results" / "class_iou").to_pylist()
    return [{k: v for k, v in row.items() if k != "run_id"} for row in rows]


def dataset(images, **given):
    said: list[str] = []
    found = opened(resolve(images=images, **given), said.append)
    return found, said


def refusal(images, **given) -> str:
    with pytest.raises(UserError) as error:
        dataset(images, **given)
    assert str(error.value).isprintable()
    return str(error.value)


def test_the_same_scores_as_of_folders(tmp_path, own, repository, capsys):
    assert cli.main(["run", "--direct", *flags(own, tmp_path / "a")]) == 0
    assert run(repository, tmp_path / "b") == 0
    assert score(tmp_path / "b") == score(tmp_path / "a") != []
    capsys.readouterr()
    assert run(repository, tmp_path / "b") == 0
    assert " computed " not in capsys.readouterr().err
    (row,) = pq.read_table(tmp_path / "b/results/runs").to_pylist()
    assert Path(row["images"]) == Path(row["labels"]) == repository


def test_unpacked_once_byte_for_byte(tmp_path, own, repository, monkeypatch):
    first, _ = dataset(repository, artifacts=tmp_path / "a")
    assert [s.image_id for s in first.samples] == ["0", "1", "2"]
    assert first.vocabulary.class_names == NAMES
    for sample in first.samples:
        assert sample.image.read_bytes() == (own / f"images/{sample.image_id}.png").read_bytes()
        assert sample.label.read_bytes() == (own / f"labels/{sample.image_id}.png").read_bytes()
    monkeypatch.setattr("sclip_core.datasets.parquet._rows", pytest.fail)
    again, said = dataset(repository, artifacts=tmp_path / "a")
    assert again.samples == first.samples
    assert said == []


def test_a_lost_file_is_unpacked_again(tmp_path, repository):
    first, _ = dataset(repository, artifacts=tmp_path / "a")
    first.samples[1].image.unlink()
    first.samples[2].label.write_bytes(b"cut")
    again, _ = dataset(repository, artifacts=tmp_path / "a")
    assert again.samples == first.samples
    assert again.samples[2].label.stat().st_size > 3


def test_other_content_is_another_folder(tmp_path, own, repository):
    first, _ = dataset(repository, artifacts=tmp_path / "a")
    part = repository / "data/validation-00001-of-00002.parquet"
    turned = table(own).slice(0, 1)
    pq.write_table(turned, part)
    again, _ = dataset(repository, artifacts=tmp_path / "a")
    assert again.samples[0].image.parents[1] != first.samples[0].image.parents[1]


def test_only_the_first_rows_are_read(tmp_path, repository):
    first, _ = dataset(repository, artifacts=tmp_path / "a", num_samples=1)
    assert [s.image_id for s in first.samples] == ["0"]
    assert len(list((tmp_path / "a/unpacked").rglob("*.png"))) == 2
    whole, _ = dataset(repository, artifacts=tmp_path / "a")
    assert len(whole) == 3


def test_a_plan_writes_nothing(tmp_path, repository, capsys):
    given = {"images": repository, "artifacts": tmp_path / "a", **TINY}
    words = [f"--{name}={value}" for name, value in given.items()]
    assert cli.main(["plan", *words]) == 0
    assert "metrics" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()


class TestIds:
    """A stored path, or the number of the row."""

    @pytest.mark.parametrize(
        ("paths", "ids"),
        [
            (["x"] * 3, ["000000", "000001", "000002"]),
            ([None, "a", "b"], ["000000", "000001", "000002"]),
            (["..", "a", "b"], ["000000", "000001", "000002"]),
            (["/d/a.jpg", "C:\\d\\b.jpg", "e/a.v2.jpg"], ["d/a", "d/b", "e/a.v2"]),
        ],
    )
    def test_ids_are_paths_or_numbers_where_paths_are_none(self, tmp_path, own, paths, ids):
        images = cells(own / "images")
        for cell, path in zip(images, paths, strict=True):
            cell["path"] = path
        found = table(own).set_column(0, "image", pa.array(images, IMAGE))
        pq.write_table(found, tmp_path / "x.parquet")
        got, _ = dataset(
            tmp_path / "x.parquet", classes=own / "classes.txt", artifacts=tmp_path / "a"
        )
        assert [s.image_id for s in got.samples] == ids

    def test_plain_bytes(self, tmp_path, own):
        """Columns of binary, as other tools write them."""
        columns = {
            name: pa.array([cell["bytes"] for cell in cells(own / folder)], pa.binary())
            for name, folder in (("pixel_values", "images"), ("label", "labels"))
        }
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        got, _ = dataset(
            tmp_path / "x.parquet", classes=own / "classes.txt", artifacts=tmp_path / "a"
        )
        assert len(got) == 3
        assert all(sample.label for sample in got.samples)


class TestColumns:
    """Found by their names, or named."""

    @pytest.mark.parametrize(
        ("image", "label"),
        [("image", "label"), ("pixel_values", "labels"), ("img", "semantic_mask"), ("x", "gt")],
    )
    def test_found(self, tmp_path, own, image, label):
        pq.write_table(table(own, image, label), tmp_path / "x.parquet")
        settings = resolve(images=tmp_path / "x.parquet", classes=own / "classes.txt")
        assert settings.labels == tmp_path / "x.parquet"
        assert settings.scored

    def test_without_labels_nothing_is_scored(self, tmp_path, own, capsys):
        pq.write_table(table(own, label=None), tmp_path / "x.parquet")
        given = ("--classes", own / "classes.txt", "--save-vis", tmp_path / "out")
        assert run(tmp_path / "x.parquet", tmp_path / "a", *given) == 0
        assert "no ground truth: nothing scored" in capsys.readouterr().out

    def test_several_are_not_guessed(self, tmp_path, own):
        more = {"depth": pa.array(cells(own / "labels"), IMAGE)}
        pq.write_table(table(own, **more), tmp_path / "x.parquet")
        line = refusal(tmp_path / "x.parquet", classes=own / "classes.txt")
        assert "has these columns of images: image, annotation, depth" in line
        assert "--parquet-columns image,label" in line
        given = {"classes": own / "classes.txt", "artifacts": tmp_path / "a"}
        found, _ = dataset(tmp_path / "x.parquet", parquet_columns="image,depth", **given)
        assert found.samples[0].label is not None
        alone, _ = dataset(tmp_path / "x.parquet", parquet_columns="image", **given)
        assert alone.samples[0].label is None

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ("image,annotatoin", "Did you mean 'annotation'?"),
            ("image,number", "column 'number' of"),
            ("image,annotation,image", "expected 'image' or 'image,label'"),
        ],
    )
    def test_wrong_names(self, tmp_path, own, columns, says):
        pq.write_table(table(own, number=pa.array([1, 2, 3])), tmp_path / "x.parquet")
        given = {"classes": own / "classes.txt", "artifacts": tmp_path / "a"}
        assert says in refusal(tmp_path / "x.parquet", parquet_columns=columns, **given)


class TestNames:
    """Of the classes: a file beside, the features, or --classes."""

    def write(self, own, tmp_path, features=None) -> Path:
        path = tmp_path / "x.parquet"
        pq.write_table(table(own, features=features), path)
        return path

    def test_of_the_features_of_objects(self, tmp_path, own):
        category = {"feature": {"names": list(NAMES), "_type": "ClassLabel"}, "_type": "Sequence"}
        features = {"image": {"_type": "Image"}, "categories": category}
        found, _ = dataset(self.write(own, tmp_path, features), artifacts=tmp_path / "a")
        assert found.vocabulary.class_names == NAMES

    def test_classes_of_whole_images_are_not_those_of_pixels(self, tmp_path, own):
        scene = {"names": ["beach", "street", "wood"], "_type": "ClassLabel"}
        line = refusal(self.write(own, tmp_path, {"scene_category": scene}))
        assert "column 'scene_category' names classes of whole images. Pass a" in line
        assert line.startswith("--classes is missing: ")

    def test_none_at_all(self, tmp_path, own):
        assert "put an id2label.json beside it" in refusal(self.write(own, tmp_path))

    @pytest.mark.parametrize(
        ("ids", "says"),
        [
            ({"0": "a", "2": "b"}, "has the ids 0, 2: expected 0, 1, 2"),
            ({"1": "a", "2": "b", "3": "c"}, "has no name for 0"),
            ({"a": "0"}, "cannot be read as {id: name}"),
            ([], "cannot be read as {id: name}"),
        ],
    )
    def test_ids_that_do_not_fit(self, tmp_path, own, ids, says):
        (tmp_path / "id2label.json").write_text(json.dumps(ids))
        assert says in refusal(self.write(own, tmp_path), artifacts=tmp_path / "a")

    def test_ids_from_one_and_a_name_for_ignored(self, tmp_path, own):
        names = {"1": "a", "2": "b, c", "3": "d", "255": "void"}
        (tmp_path / "ade-id2label.json").write_text(json.dumps(names))
        given = {"reduce_zero_label": True, "artifacts": tmp_path / "a"}
        found, _ = dataset(self.write(own, tmp_path), **given)
        assert found.vocabulary.words == (("a",), ("b", "c"), ("d",))


class TestFiles:
    """Which files, and what is wrong with them."""

    def test_splits_are_not_mixed(self, tmp_path, own, repository):
        data = repository / "data"
        pq.write_table(table(own), data / "train-00000-of-00001.parquet")
        line = refusal(repository, artifacts=tmp_path / "a")
        assert (
            "Parquet files of several splits, data/train, data/validation: pass one of them" in line
        )
        pattern = line.split("--images '")[1].rstrip("'")
        assert pattern == str(data / "validation*.parquet")
        found, _ = dataset(pattern, artifacts=tmp_path / "a")
        assert len(found) == 3

    def test_folders_of_splits(self, tmp_path, own):
        for split in ("train", "test"):
            (tmp_path / "r/default" / split).mkdir(parents=True)
            pq.write_table(table(own), tmp_path / "r/default" / split / "0000.parquet")
        line = refusal(tmp_path / "r")
        assert line.endswith(f"--images '{tmp_path / 'r/default/test'}'")
        assert len(parquet_files(tmp_path / "r/default/test")) == 1
        (tmp_path / "r/default/train").rename(tmp_path / "r/other")
        (tmp_path / "r/other").rename(tmp_path / "r/default/other")
        assert "splits, default/other, default/test" in refusal(tmp_path / "r")  # configurations

    def test_a_shard_that_is_missing_is_said(self, tmp_path, repository):
        one = repository / "data/validation-00000-of-00002.parquet"
        found, said = dataset(one, artifacts=tmp_path / "a")
        assert len(found) == 2
        assert "1 of 2 Parquet files of 'validation' are read" in said

    def test_a_table_on_the_images_of_a_folder(self, own):
        """metadata.parquet of an image folder is no dataset of its own."""
        pq.write_table(pa.table({"file_name": ["0.png"]}), own / "metadata.parquet")
        assert parquet_files(own) == []
        pq.write_table(pa.table({"file_name": ["0.png"]}), own / "images/metadata.parquet")
        assert parquet_files(own / "images") == []

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
            (b"PAR1", "cannot be read as Parquet"),
        ],
    )
    def test_no_parquet(self, tmp_path, content, says):
        (tmp_path / "x.parquet").write_bytes(content)
        assert says in refusal(tmp_path / "x.parquet")

    def test_saved_as_arrow(self, tmp_path):
        (tmp_path / "dataset_info.json").write_text("{}")
        assert "ds.to_parquet('x.parquet')" in refusal(tmp_path)

    def test_no_rows(self, tmp_path, own):
        pq.write_table(table(own).slice(0, 0), tmp_path / "x.parquet")
        line = refusal(tmp_path / "x.parquet", classes=own / "classes.txt", artifacts=tmp_path)
        assert "has no rows" in line

    def test_an_image_that_lacks_costs_only_itself(self, tmp_path, own, capsys):
        images = cells(own / "images")
        images[1]["bytes"] = None
        found = table(own).set_column(0, "image", pa.array(images, IMAGE))
        pq.write_table(found, tmp_path / "x.parquet")
        given = ("--classes", own / "classes.txt")
        assert run(tmp_path / "x.parquet", tmp_path / "a", *given) == 1
        said = capsys.readouterr()
        assert "1.jpg is empty (0 bytes)" in said.err + said.out
        assert len(score(tmp_path / "a")) > 0

    def test_labels_of_other_files(self, tmp_path, own):
        for name in "xy":
            pq.write_table(table(own), tmp_path / f"{name}.parquet")
        given = {"classes": own / "classes.txt", "labels": tmp_path / "y.parquet"}
        line = refusal(tmp_path / "x.parquet", **given, artifacts=tmp_path / "a")
        assert "label maps are a column beside the images" in line

    def test_labels_of_a_folder(self, tmp_path, own):
        pq.write_table(table(own, label=None), tmp_path / "x.parquet")
        given = {"classes": own / "classes.txt", "labels": own / "labels"}
        found, _ = dataset(tmp_path / "x.parquet", **given, artifacts=tmp_path / "a")
        assert found.samples[0].label == own / "labels/0.png"


def test_pixels_are_those_of_the_label_map(tmp_path, own, repository):
    found, _ = dataset(repository, artifacts=tmp_path / "a")
    values = found.classes(found.samples[0].label, found.samples[0].label.read_bytes())
    assert set(np.unique(values)) <= {0, 1, 2}


def test_predictions_of_parquet_files_are_scored(tmp_path, own, repository, sclip):
    """They have the images' names, and score as the label maps that they are copies of."""
    code, _, err = sclip(
        "score", "--predictions", own / "labels", "--images", repository,
        "--artifacts", tmp_path / "artifacts",
    )  # fmt: skip
    assert code == 0, err
    found = score(tmp_path / "artifacts")
    assert {row["iou"] for row in found} == {100}
    assert sum(row["label"] for row in found) == 3 * 48 * 64
