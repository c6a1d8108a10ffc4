"""The samples of a very large set are those that the general way finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclip_core.datasets import sample_columns
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.sample_columns import Samples, ids_of, image_files, label_files
from sclip_core.datasets.samples import find_samples

NAMES = ["b/10", "b/9", "a", "c.d/x.y", "B", "b-1", "b/0.jpg", "_", "z z/10", "b0"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for number, name in enumerate(NAMES):
        write(images / f"{name}{('.jpg', '.PNG', '.jp2')[number % 3]}")
        write(labels / f"{name}{('.png', '.tif')[number % 2]}")
    return images, labels


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def both_ways(monkeypatch, images: Path, labels: Path | None, limit: int | None = None):
    """What is found as columns and in the general way; an error as its text."""
    found = []
    for many in (1, 10_000):
        monkeypatch.setattr(sample_columns, "MANY", many)
        try:
            found.append(find_samples(images, labels, limit))
        except Exception as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("limit", [None, 1, 4, 100])
def test_the_same_samples(folders, monkeypatch, limit):
    columns, general = both_ways(monkeypatch, *folders, limit)
    assert isinstance(columns.samples, Samples)
    assert list(columns.samples) == list(general.samples)
    assert columns.notes == general.notes
    (columns, general) = both_ways(monkeypatch, folders[0], None, limit)
    assert isinstance(columns.samples, Samples)
    assert list(columns.samples) == list(general.samples)


def test_more_label_maps_than_images(folders, monkeypatch):
    for name in ("0", "b/95", "zz"):
        write(folders[1] / f"{name}.png")
    columns, general = both_ways(monkeypatch, *folders)
    assert isinstance(columns.samples, Samples)
    assert list(columns.samples) == list(general.samples)


@pytest.mark.parametrize(
    "odd",
    [
        lambda images, labels: write(images / "ü.png"),
        lambda images, labels: write(images / "a.bmp"),  # there are two of this name
        lambda images, labels: write(labels / "a.npy"),
        lambda images, labels: (labels / "a.png").unlink(),
        lambda images, labels: [p.rename(p.with_name(f"m{p.name}")) for p in labels.glob("*.*")],
        lambda images, labels: [p.unlink() for p in labels.rglob("*.[pt]*")],
    ],
)
def test_odd_names_are_left_to_the_general_way(folders, monkeypatch, odd):
    odd(*folders)
    columns, general = both_ways(monkeypatch, *folders)
    if isinstance(general, str):
        assert columns == general
    else:
        assert list(columns.samples) == list(general.samples)
        assert columns.notes == general.notes


def test_a_sequence(folders, monkeypatch):
    columns, general = (found.samples for found in both_ways(monkeypatch, *folders))
    assert len(columns) == len(NAMES)
    assert columns == general
    assert [columns[k] for k in range(-10, 10)] == [general[k] for k in range(-10, 10)]
    for some in (slice(2), slice(3, 7), slice(None, None, 3), slice(None, None, -1)):
        assert columns[some] == general[some]
    with pytest.raises(IndexError):
        columns[10]
    for column in (ids_of, image_files, label_files):
        assert list(column(columns)) == list(column(general))
    assert isinstance(columns[0], Sample)
