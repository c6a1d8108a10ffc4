"""Images and label maps in object storage: the same results as of the same files in a folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sclip_core.config.places import ObjectPath
from sclip_core.store import places
from sclip_core.store.objects.bucket import Bucket
from sclip_core.store.objects.faults import StorageError
from sclip_core.store.objects.listing import list_again

from .conftest import flags


def put(folder: Path, place: ObjectPath) -> None:
    """Copy a folder to a place."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            places.write(place / path.relative_to(folder).as_posix(), path.read_bytes())


IMAGES = [f"images/{number}.png" for number in range(3)]
LABELS = [f"labels/{number}.png" for number in range(3)]


@pytest.fixture
def there(small: Path, bucket: ObjectPath) -> ObjectPath:
    """``images/`` and ``labels/`` of the small pictures, in the bucket."""
    put(small, bucket)
    return bucket


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects of the data that are read, in order."""
    seen: list[str] = []
    fetch = Bucket.fetch

    def counted(self: Bucket, path: ObjectPath, patience: float) -> tuple[bytes, str]:
        seen.append(path.key.split("/", 1)[1])
        return fetch(self, path, patience)

    monkeypatch.setattr(Bucket, "fetch", counted)
    return seen


def given(there: ObjectPath, small: Path, artifacts: object, **others: object) -> list[str]:
    """The flags of a run over the bucket."""
    places_there = {"images": there / "images", "labels": there / "labels"}
    return flags(small, artifacts, **{**places_there, **others})


def rows_of(sclip, query: str, artifacts: object) -> str:
    code, out, err = sclip("query", query, f"--artifacts={artifacts}")
    assert code == 0, err
    return out


SCORES = "select run_id, miou, macc, aacc, num_images, num_failed, key_metrics from runs"
OF_IMAGES = "select * exclude (run_id) from image_areas order by image_id, class_id"


@pytest.mark.parametrize("of_artifacts", ["folder", "bucket"])
def test_the_same_as_in_a_folder(tmp_path, small, there, sclip, reads, of_artifacts):
    code, _, err = sclip("run", "--direct", *flags(small, tmp_path / "a"))
    assert code == 0, err
    artifacts = there / "artifacts" if of_artifacts == "bucket" else tmp_path / "b"
    words = given(there, small, artifacts)
    code, said, err = sclip("plan", *words)
    assert (code, "missing" in said) == (0, True), err
    code, _, err = sclip("run", "--direct", *words)
    assert code == 0, err
    for query in (SCORES, OF_IMAGES):
        assert rows_of(sclip, query, artifacts) == rows_of(sclip, query, tmp_path / "a")
    said = rows_of(sclip, "select images, labels from runs", artifacts)
    assert f"{there}/images" in said
    assert f"{there}/labels" in said
    code, _, err = sclip("report", f"--artifacts={artifacts}", f"--output={tmp_path / 'r'}")
    assert code == 0, err
    assert (tmp_path / "r" / "index.html").read_text().count("data:image") >= 3
    reads.clear()
    list_again(there / "images", there / "labels")
    code, _, err = sclip("run", "--direct", *words)
    assert code == 0, err
    # Before the run its data is looked at; for digests and stages nothing is read.
    assert sorted(reads) == sorted(2 * IMAGES + LABELS)


def test_one_of_two_in_a_folder(tmp_path, small, there, sclip):
    """Images there and label maps here, and the other way round, are the same data."""
    for name in ("images", "labels"):
        code, _, err = sclip("run", "--direct", *flags(small, tmp_path, **{name: there / name}))
        assert code == 0, err
    keys = rows_of(sclip, "select distinct key_metrics, miou from runs", tmp_path)
    assert len(re.findall(r"[0-9a-f]{16}", keys)) == 1, keys


def test_label_maps_by_a_pattern_among_the_images(tmp_path, small, bucket, sclip):
    for number in range(3):
        for folder, name in (("images", f"{number}.png"), ("labels", f"{number}_mask.png")):
            data = (small / folder / f"{number}.png").read_bytes()
            places.write(bucket / "all ü" / name, data)
    there = {"images": bucket / "all ü", "labels": bucket / "all ü"}
    words = flags(small, tmp_path, **there, label_pattern="{id}_mask.png")
    code, _, err = sclip("run", "--direct", *words)
    assert code == 0, err
    assert "3" in rows_of(sclip, "select num_images from runs", tmp_path)


def test_pictures_and_unscored(tmp_path, small, there, sclip):
    words = [w for w in given(there, small, tmp_path / "a") if not w.startswith("--labels")]
    code, _, err = sclip("run", "--direct", *words, f"--save-vis={tmp_path / 'v'}")
    assert code == 0, err
    assert len(list((tmp_path / "v").glob("*.png"))) == 3
    assert len(list((tmp_path / "v" / "labels").glob("*.png"))) == 3


def test_data_check(tmp_path, small, there, sclip):
    words = [f"--images={there}/images", f"--labels={there}/labels"]
    words += [f"--classes={small / 'classes.txt'}", f"--pictures={tmp_path / 'p'}"]
    places.write(there / "labels" / "9.png", (small / "labels" / "1.png").read_bytes())
    code, said, err = sclip("data", "check", *words)
    assert code == 0, err
    assert "3 images, 3 label maps" in said
    assert "no image        1: 9.png" in said
    assert len(list((tmp_path / "p").glob("*.png"))) == 3


def test_an_image_that_lacks_or_is_refused(tmp_path, small, there, sclip, monkeypatch):
    """One line each; the run goes on with the others."""
    fetch = Bucket.fetch

    def failing(self: Bucket, path: ObjectPath, patience: float) -> tuple[bytes, str]:
        if path == there / "images" / "0.png":
            raise FileNotFoundError(str(path))
        if path == there / "labels" / "1.png":
            raise StorageError(f"{path} cannot be read (permission denied); what was ...")
        return fetch(self, path, patience)

    monkeypatch.setattr(Bucket, "fetch", failing)
    code, _, err = sclip("run", "--direct", *given(there, small, tmp_path))
    assert code == 1, err
    left_out = [line for line in err.splitlines() if line.startswith("sclip: left out")]
    assert len(left_out) == 2
    assert left_out[0].endswith(f"no object at {there}/images/0.png: expected an image")
    assert f"{there}/labels/1.png cannot be read (permission denied)" in left_out[1]
    assert "an-access-key" not in err
    assert "1" in rows_of(sclip, "select num_images from runs", tmp_path)


def test_storage_that_does_not_answer(tmp_path, small, there, sclip, monkeypatch):
    """It is no image's fault: the run ends, with what it has."""

    def failing(self: Bucket, path: ObjectPath, patience: float) -> tuple[bytes, str]:
        raise StorageError(f"{path} cannot be read (connection refused)", may_pass=True)

    monkeypatch.setattr(Bucket, "fetch", failing)
    monkeypatch.setattr(Bucket, "answers", lambda self, place: False)
    code, _, err = sclip("run", "--direct", *given(there, small, tmp_path))
    assert code == 2
    assert err.splitlines()[-1].startswith(f"sclip: {there}/")
    assert "connection refused" in err
    assert "left out" not in err


def test_an_image_that_changes_while_it_is_in_use(tmp_path, small, there, sclip, monkeypatch):
    from sclip_core.pipeline.inputs import Inputs

    read, changed = Inputs.read, []

    def changing(self: Inputs, path: object, digest: str | None) -> bytes:
        self._contents.__init__(0)  # nothing is kept
        if path == there / "images" / "1.png" and not changed:
            changed.append(path)
            places.write(path, (small / "images" / "2.png").read_bytes())
        return read(self, path, digest)

    monkeypatch.setattr(Inputs, "read", changing)
    code, _, err = sclip("run", "--direct", *given(there, small, tmp_path))
    assert code == 1
    assert f"{there}/images/1.png was changed while it was in use: run again" in err
    monkeypatch.undo()


def test_a_changed_image_is_another(tmp_path, small, there, sclip):
    for number in (0, 2):
        places.write(there / "images" / "1.png", (small / "images" / f"{number}.png").read_bytes())
        code, _, err = sclip("run", "--direct", *given(there, small, tmp_path))
        assert code == 0, err
    query = "select count(distinct key_metrics) k, count(distinct miou) s from runs"
    assert re.findall(r"\d+", rows_of(sclip, query, tmp_path))[:2] == ["1", "2"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("images", "s3://tests/nowhere", "no object is below it"),
        ("images", "s3://no-such-bucket/x", "no such bucket"),
        ("images", "{there}/labels.parquet", "is a Parquet file in object storage"),
        ("images", "ftp://host/x", "is a URL of a kind that is not supported"),
        ("labels", "{there}/instances.json", "has annotations, which are read from a folder"),
        ("labels", "{there}/yolo", "has annotations, which are read from a folder"),
        ("labels", "s3://tests/nowhere", "no object is below it"),
    ],
)
def test_refused_in_one_line(tmp_path, small, there, sclip, option, value, said):
    places.write(there / "yolo" / "0.txt", b"0 0.1 0.1 0.9 0.1 0.9 0.9")
    words = given(there, small, tmp_path, **{option: value.format(there=there)})
    code, _, err = sclip("run", "--direct", *words)
    assert (code, said in err, "Traceback" in err) == (2, True, False), err
    assert err.splitlines()[-1].startswith("sclip: ")


def test_annotations_here_of_images_there(tmp_path, small, there, sclip):
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    words = given(there, small, tmp_path / "a", labels=tmp_path / "coco.json")
    code, _, err = sclip("run", "--direct", *words)
    assert code == 2
    assert "is in object storage: pass a folder of the images, or label maps" in err
