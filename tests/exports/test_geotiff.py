"""GeoTIFFs, opened by rasterio: the georeference, the labels, and segmenting in parts."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from sclip_core import SCLIP, ImageError, UserError, Vocabulary, read_image
from sclip_core.config import Protocol, resolve
from sclip_core.config.geometry import window_starts
from sclip_core.datasets.images import Reading
from sclip_core.drawing.colours import palette
from sclip_core.exports import StoredRun, segment_in_parts, write_geotiffs, write_labels
from sclip_core.exports.parts import Colours, spans
from sclip_core.pipeline.pipeline import run_pipelines
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..pictures import scene

rasterio = pytest.importorskip("rasterio")
from rasterio.transform import from_origin

WORDS = Vocabulary.from_classes(["sky", "grass, lawn", "road", "house"])
PROTOCOL = Protocol(tile=True, slide_crop=64, slide_stride=32)
PLACE = from_origin(500_000, 5_400_000, 0.5, 0.5)


@pytest.fixture(scope="module")
def model() -> SCLIP:
    return SCLIP.load(**TINY, device="cpu")


def write_raster(path, pixels, **profile):
    """An RGB GeoTIFF in UTM 33N, half a metre a pixel."""
    bands = pixels.transpose(2, 0, 1)
    usual = {"crs": "EPSG:32633", "transform": PLACE, "count": len(bands), "dtype": bands.dtype}
    given = {**usual, "height": bands.shape[1], "width": bands.shape[2], **profile}
    with rasterio.open(path, "w", driver="GTiff", **given) as raster:
        raster.write(bands)
    return path


@pytest.fixture
def photo(tmp_path):
    """An aerial photograph of 410x300 pixels."""
    pixels = np.ascontiguousarray(scene(1)[0][:300, :410, ::-1])
    return write_raster(tmp_path / "photo.tif", pixels)


def placed_as(path, image):
    """Whether a raster lies where another one does."""
    with rasterio.open(path) as one, rasterio.open(image) as other:
        assert (one.crs, one.transform, one.shape) == (other.crs, other.transform, other.shape)
        assert one.bounds == other.bounds
        assert one.count == 1
        return one.read(1)


def test_the_georeference_and_the_classes(tmp_path, photo):
    labels = np.random.default_rng(0).integers(-1, 4, (300, 410)).astype(np.int32)
    write_labels(labels, WORDS.class_names, photo, tmp_path / "labels.tif")
    values = placed_as(tmp_path / "labels.tif", photo)
    np.testing.assert_array_equal(values, np.where(labels < 0, 255, labels))
    with rasterio.open(tmp_path / "labels.tif") as raster:
        assert (raster.nodata, raster.dtypes, raster.descriptions) == (255, ("uint8",), ("class",))
        tags = raster.tags(1)
        assert [tags[f"CLASS_{k}"] for k in range(4)] == list(WORDS.class_names)
        colours = raster.colormap(1)
        assert [colours[k][:3] for k in range(4)] == [tuple(c) for c in palette(4).tolist()]
        assert raster.block_shapes == [(256, 256)]
        assert (raster.dataset_mask() == 0).sum() == (labels < 0).sum()


def test_numbers_of_your_own_and_16_bits(tmp_path, photo):
    labels = np.array([[0, 1], [1, -1]])
    (tmp_path / "plain.png").write_bytes(b"no image")
    target = tmp_path / "labels.tif"
    write_labels(labels, ["a", "b"], tmp_path / "plain.png", target, numbers=[7, 900])
    with rasterio.open(target) as raster:
        assert raster.read(1).tolist() == [[7, 900], [900, 65535]]
        assert (raster.crs, raster.nodata, raster.tags(1)["CLASS_900"]) == (None, 65535, "b")


def test_ground_control_points(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(0, 0, 5, 6), GroundControlPoint(9, 0, 5, 7)]
    points += [GroundControlPoint(0, 9, 6, 6)]
    image = write_raster(tmp_path / "photo.tif", np.zeros((9, 9, 3), np.uint8), transform=None)
    with rasterio.open(image, "r+") as raster:
        raster.gcps = (points, "EPSG:4326")
    write_labels(np.zeros((9, 9), int), ["a"], image, tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as raster:
        found, crs = raster.gcps
        rows = [[(p.row, p.col, p.x, p.y) for p in each] for each in (found, points)]
        assert rows[0] == rows[1]
        assert crs.to_epsg() == 4326


def test_of_a_stored_run(tmp_path, any_run):
    """The scenes have no georeference, and their labels are there all the same."""
    write_geotiffs(any_run, tmp_path / "maps")
    for image in any_run:
        with rasterio.open(tmp_path / "maps" / f"{image.image_id}.tif") as raster:
            np.testing.assert_array_equal(raster.read(1, masked=True).filled(255), raster.read(1))
            labels = raster.read(1).astype(int)
            assert raster.crs is None
        np.testing.assert_array_equal(np.where(labels == 255, -1, labels), image.labels)


def test_a_run_over_georeferenced_images(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels, labels = (each[100:180, 100:200] for each in scene(1))
    image = write_raster(tmp_path / "images" / "north.tif", np.ascontiguousarray(pixels))
    cv2.imwrite(str(tmp_path / "labels" / "north.png"), labels % 3)
    (tmp_path / "classes.txt").write_text("sky\ngrass\nroad")
    data = {"images": tmp_path / "images", "labels": tmp_path / "labels"}
    data |= {"classes": tmp_path / "classes.txt", "artifacts": tmp_path / "artifacts"}
    run_pipelines([Run(resolve(**data, **TINY))])
    run = StoredRun.open("latest", tmp_path / "artifacts")
    write_geotiffs(run, tmp_path / "maps")
    (stored,) = run
    values = placed_as(tmp_path / "maps" / "north.tif", image)
    np.testing.assert_array_equal(values, stored.labels)


class TestParts:
    """An image that is never in memory as a whole."""

    @pytest.mark.parametrize("steps", [0, 2])
    def test_the_labels_are_those_of_the_whole(self, tmp_path, model, photo, steps):
        protocol = PROTOCOL.replace(pamr_steps=steps)
        segment_in_parts(model, photo, tmp_path / "labels.tif", WORDS, protocol, block=128)
        values = placed_as(tmp_path / "labels.tif", photo)
        whole = model.segment(read_image(photo), WORDS, protocol).labels
        assert len(np.unique(whole)) > 2
        np.testing.assert_array_equal(values, whole)

    def test_only_a_part_is_read_at_once(self, tmp_path, model, photo, monkeypatch):
        read = []
        usual = Colours.read

        def spied(self, **how):
            read.append(usual(self, **how))
            return read[-1]

        monkeypatch.setattr(Colours, "read", spied)
        done = []
        segment_in_parts(
            model, photo, tmp_path / "labels.tif", WORDS, PROTOCOL, block=128,
            progress=lambda *how: done.append(how),
        )  # fmt: skip
        assert done == [(k, 12) for k in range(1, 13)]
        assert len(read) == 12
        assert max(max(pixels.shape[:2]) for pixels in read) <= 128 + 2 * 64

    def test_no_data_stays_no_data(self, tmp_path, model):
        pixels = np.ascontiguousarray(scene(2)[0][:100, :120])
        pixels[:40, :50] = 0
        image = write_raster(tmp_path / "photo.tif", np.maximum(pixels, pixels > 0), nodata=0)
        segment_in_parts(model, image, tmp_path / "labels.tif", WORDS, PROTOCOL, block=256)
        with rasterio.open(tmp_path / "labels.tif") as made, rasterio.open(image) as raster:
            hidden = raster.dataset_mask() == 0
            assert hidden.sum() >= 2000
            np.testing.assert_array_equal(made.read(1) == 255, hidden)

    @pytest.mark.parametrize("size", [20, 64, 65, 127, 128, 129, 300, 511])
    @pytest.mark.parametrize("steps", [0, 3])
    def test_windows_of_a_part_are_windows_of_the_whole(self, size, steps):
        protocol = PROTOCOL.replace(pamr_steps=steps, slide_crop=64, slide_stride=24)
        whole = window_starts(size, 64, 24)
        found = spans(size, protocol, 96)
        assert [each.first for each in found] == list(range(0, size, 96))
        assert [each.stop for each in found][-1] == size
        for each in found:
            low = max(each.first - 16 * steps, 0)
            high = min(each.stop + 16 * steps, size)
            own = window_starts(each.read_to - each.read_from, 64, 24)
            touching = [s for s in whole if s < high and s + 64 > low]
            assert [each.read_from + start for start in own] == touching
            assert each.read_from <= low
            assert each.read_to >= high

    def test_values_beyond_8_bits_need_a_range(self, tmp_path, model):
        pixels = np.ascontiguousarray(scene(1)[0][:80, :90, ::-1])
        deep = write_raster(tmp_path / "deep.tif", pixels.astype(np.uint16) * 10)
        plain = write_raster(tmp_path / "plain.tif", pixels)
        out = tmp_path / "labels.tif"
        with pytest.raises(ImageError, match=r"deep.tif holds uint16: which values are black"):
            segment_in_parts(model, deep, out, WORDS, PROTOCOL)
        assert not out.exists()
        segment_in_parts(model, deep, out, WORDS, PROTOCOL, Reading(pixel_range=(0, 2550)))
        segment_in_parts(model, plain, tmp_path / "same.tif", WORDS, PROTOCOL)
        np.testing.assert_array_equal(placed_as(out, deep), placed_as(tmp_path / "same.tif", plain))

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"area_thd": 0.1}, r"^area_thd 0.1 looks at the whole image"),
            ({"tile": False}, r"with --tile only"),
        ],
    )
    def test_what_needs_the_whole_is_refused(self, tmp_path, model, photo, changes, line):
        protocol = PROTOCOL.replace(**changes)
        with pytest.raises(UserError, match=line):
            segment_in_parts(model, photo, tmp_path / "labels.tif", WORDS, protocol)

    def test_a_failure_leaves_nothing(self, tmp_path, model, photo, monkeypatch):
        def broken(*given, **named):
            raise ImageError("broken")

        monkeypatch.setattr(SCLIP, "segment", broken)
        with pytest.raises(ImageError):
            segment_in_parts(model, photo, tmp_path / "labels.tif", WORDS, PROTOCOL)
        assert [path.name for path in tmp_path.iterdir()] == ["photo.tif"]


class TestCommand:
    """``sclip segment --labels-out labels.tif``."""

    @pytest.fixture
    def segment(self, photo, tmp_path):
        from flows import cli

        def command(*given):
            tiny = [f"--{name}={value}" for name, value in TINY.items()]
            out = ["-o", str(tmp_path / "out.png"), "--labels-out", str(tmp_path / "labels.tif")]
            classes = "sky; grass, lawn; road; house"
            return cli.main(["segment", str(photo), "--classes", classes, *out, *tiny, *given])

        return command

    def test_whole(self, segment, tmp_path, photo, model):
        assert segment() == 0
        expected = model.segment(read_image(photo), WORDS).labels
        np.testing.assert_array_equal(placed_as(tmp_path / "labels.tif", photo), expected)

    def test_in_parts(self, segment, tmp_path, photo, model, monkeypatch):
        monkeypatch.setattr("sclip_core.datasets.read_image", None)  # nobody reads all of it
        assert segment("--tile", "--slide-crop=64", "--slide-stride=32") == 0
        expected = model.segment(read_image(photo), WORDS, PROTOCOL).labels
        np.testing.assert_array_equal(placed_as(tmp_path / "labels.tif", photo), expected)
        assert read_image(tmp_path / "out.png").shape[1] > 400

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            (("--tile", "--heat", "sky"), "--heat needs the whole image, which --tile segments"),
            (("--tile", "--area-thd=0.1"), "area_thd 0.1 looks at the whole image"),
            (("--tile", "--use-sam"), "masks are of a whole image"),
        ],
    )
    def test_refused(self, segment, tmp_path, capsys, given, line):
        assert segment(*given) == 2
        said = capsys.readouterr().err
        assert line in said
        assert said.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.tif"]

    def test_without_the_library(self, segment, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "rasterio", None)
        assert segment() == 2
        line = "sclip: rasterio is not installed: pip install 'sclip-benchmark[geo]'\n"
        assert capsys.readouterr().err == line
