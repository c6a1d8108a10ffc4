"""Polygons with holes, filled again by rasterio and by OpenCV."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sclip_core.exports import geojson_features, write_geojson
from sclip_core.exports.polygons import geometry, rings_of

from .conftest import blobs


def filled(shapes, size):
    """The label map of geometries and classes, filled by GDAL."""
    features = pytest.importorskip("rasterio.features")
    return features.rasterize(shapes, out_shape=size, fill=-1, dtype="int32")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("components", [False, True])
def test_gdal_fills_the_same_pixels(seed, components):
    labels = blobs(seed)
    rows = geojson_features(labels, "abcd", components)
    shapes = [(row["geometry"], row["properties"]["class_id"]) for row in rows]
    np.testing.assert_array_equal(filled(shapes, labels.shape), labels)


def test_a_hole_is_a_hole():
    mask = np.ones((5, 6), np.uint8)
    mask[2, 2:4] = 0
    (outline, holes), *others = rings_of(mask)
    assert not others
    assert {tuple(corner) for corner in outline.tolist()} == {(0, 0), (6, 0), (6, 5), (0, 5)}
    (hole,) = holes
    assert {tuple(corner) for corner in hole.tolist()} == {(2, 2), (4, 2), (4, 3), (2, 3)}
    (area,) = geometry(rings_of(mask))["coordinates"]
    assert [ring[0] == ring[-1] for ring in area] == [True, True]


def test_an_island_in_a_hole_is_a_polygon():
    mask = np.ones((9, 9), np.uint8)
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1
    found = rings_of(mask)
    assert sorted(len(each.holes) for each in found) == [0, 1]
    assert sorted(cv2.contourArea(each.outline) for each in found) == [1, 81]


def test_the_file_names_images_and_classes(tmp_path, dense):
    write_geojson(dense, tmp_path / "run.geojson")
    read = json.loads((tmp_path / "run.geojson").read_text("utf-8"))
    assert read["type"] == "FeatureCollection"
    for image in dense:
        rows = [f for f in read["features"] if f["properties"]["image_id"] == image.image_id]
        assert {f["properties"]["image"] for f in rows} == {image.name}
        for row in rows:
            about = row["properties"]
            assert dense.class_names[about["class_id"]] == about["class"]
            assert about["area"] == (image.labels == about["class_id"]).sum()
        shapes = [(row["geometry"], row["properties"]["class_id"]) for row in rows]
        np.testing.assert_array_equal(filled(shapes, image.labels.shape), image.labels)
