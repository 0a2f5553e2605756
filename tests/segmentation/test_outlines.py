"""Polygons of a label map: the same areas, neighbours that share their borders, in QuPath's GeoJSON."""

import json

import numpy as np
import pytest
import shapely
from scipy.ndimage import gaussian_filter, label
from shapely.geometry import shape

from stedm.config import TissueClass
from stedm.segmentation.outlines import Outlines, areas, write_geojson

CLASSES = [TissueClass(name="stroma", color="#e8a0bf"), TissueClass(name="tumour", color="#6a3d9a")]


def outlined(labels, rows):
    outlines = Outlines()
    for start in range(0, len(labels), rows):
        list(outlines.watch([labels[start : start + rows]]))
    return list(outlines.polygons())


def painted(polygons, labels, size):
    """Labels of pixel centres, asked of GEOS one by one."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found = np.full(size, 255, np.uint8)
    for polygon, value in zip(polygons, labels, strict=True):
        found[shapely.contains_xy(polygon, x, y)] = value
    return found


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (24, 31)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_areas_are_exact_even_of_noise(size, count):
    labels = np.random.default_rng(count).integers(0, count, size).astype(np.uint8)
    polygons, values = areas(labels)
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    np.testing.assert_array_equal(painted(polygons, values, size), labels)
    pieces = sum(label(labels == value)[1] for value in range(count))  # scipy: pixels touch at edges
    assert len(polygons) == pieces


@pytest.mark.parametrize("rows", [64, 512])
def test_simplified_areas_leave_no_gap_and_stay_within_a_pixel(rows):
    rng = np.random.default_rng(0)
    labels = gaussian_filter(rng.normal(size=(3, 300, 200)), (0, 9, 9)).argmax(0).astype(np.uint8)
    labels[labels == 2] = 255
    found = outlined(labels, rows)
    values, polygons = zip(*found, strict=True)
    assert shapely.is_valid(np.array(polygons)).all()
    union = shapely.union_all(polygons)
    assert union.area == pytest.approx(sum(polygon.area for polygon in polygons))  # nothing twice
    assert shapely.get_num_coordinates(polygons).sum() < shapely.get_num_coordinates(areas(labels)[0]).sum() / 4
    again = painted(polygons, values, labels.shape)
    for value in (0, 1, 255):
        overlap = ((again == value) & (labels == value)).sum() / ((again == value) | (labels == value)).sum()
        assert overlap > 0.98
    exact, exact_values = areas(labels)
    for value in (0, 1):
        border = shapely.union_all(exact[exact_values == value]).boundary
        simplified = shapely.union_all([polygon for polygon, of in zip(polygons, values, strict=True) if of == value])
        assert shapely.hausdorff_distance(border, simplified.boundary) < 2


def test_areas_across_strips_are_one_polygon_with_its_holes():
    labels = np.zeros((200, 120), np.uint8)
    labels[20:180, 10:110] = 1
    labels[50:150, 40:60] = 0  # a hole over several strips
    labels[100:104, 70:74] = 255
    found = outlined(labels, 64)
    assert sorted(value for value, _ in found) == [0, 0, 1]
    tumour = next(polygon for value, polygon in found if value == 1)
    hole, small = (shapely.box(40, 50, 60, 150), shapely.box(70, 100, 74, 104))
    assert tumour.equals(shapely.box(10, 20, 110, 180) - hole - small)
    assert len(tumour.exterior.coords) == 5  # no points left where strips met


def test_nothing_predicted_has_no_polygon():
    assert outlined(np.full((100, 50), 255, np.uint8), 64) == []


def test_qupath_gets_names_colours_and_level_0_coordinates(tmp_path):
    square = shapely.box(10, 20, 30, 50) - shapely.box(15, 25, 20, 30)
    write_geojson(tmp_path / "map.geojson", [(1, square), (0, shapely.box(0, 0, 1, 1))], CLASSES, 2.004)
    data = json.loads((tmp_path / "map.geojson").read_text())
    assert data["type"] == "FeatureCollection"
    tumour, stroma = data["features"]
    assert tumour["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "tumour", "color": [0x6A, 0x3D, 0x9A]},
    }
    assert stroma["properties"]["classification"] == {"name": "stroma", "color": [0xE8, 0xA0, 0xBF]}
    polygon = shape(tumour["geometry"])
    assert polygon.bounds == (20.04, 40.08, 60.12, 100.2)
    assert len(polygon.interiors) == 1
