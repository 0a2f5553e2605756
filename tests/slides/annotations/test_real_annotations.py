"""Annotations that others wrote, with the programs of each format."""

import json
import re

import numpy as np
import pytest
import shapely
from PIL import Image

from stedm.config import Annotations, TissueClass
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation

pytestmark = pytest.mark.real_data

SLIDE = (100_000, 70_000)  # the size is not told; all annotations lie within


def class_of(*names, label="tumour"):
    return TissueClass(name=label, color="#ff0000", annotations=list(names))


def test_palette_masks_of_the_flowers(real_data):
    path = real_data / "flowers17/labels_256/image_0001.png"
    classes = [
        TissueClass(name="background", color="#000000", mask_values=["3"]),
        TissueClass(name="flower", color="#ff0000", mask_values=["1"]),
    ]
    annotation = read_annotation(path, classes, Annotations(), (256, 256))
    values = np.asarray(Image.open(path))
    labels = annotation.rasterise(0, 0, 256, 256, 1)
    for label, value in ((0, 3), (1, 1)):
        np.testing.assert_array_equal(labels == label, values == value)
    assert "that belong to no class" in annotation.notes[0]


@pytest.mark.parametrize("name", ["brush", "wand", "ellipse", "polygon", "rectangle"])
def test_shapes_made_in_qupath(real_data, name):
    path = real_data / f"annotations/qupath/qupath-{name}.json"
    classes = [TissueClass(name="tumour", color="#ff0000", annotations=["Unclassified"])]
    annotation = read_annotation(path, classes, Annotations(), SLIDE)
    left, upper, right, lower = annotation.bounds
    width, height = int(right - left) + 4, int(lower - upper) + 4
    labels = annotation.rasterise(left - 2, upper - 2, width, height, 1)
    assert (labels == 0).sum() == pytest.approx(annotation.area, rel=0.01)
    outline = {
        "ellipse": np.pi / 4 * (right - left) * (lower - upper),
        "rectangle": 210 * 176,
    }
    if name in outline:
        assert annotation.area == pytest.approx(outline[name], rel=0.01)
    with pytest.raises(UserError, match=r"'Unclassified' \(1\)"):
        read_annotation(path, [], Annotations(), SLIDE)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("line", "1 × LineString"),
        ("polyline", "1 × LineString"),
        ("point", "1 × Point"),
        ("multipoint", "3 × Point"),
    ],
)
def test_points_and_lines_of_qupath_are_counted(real_data, name, note):
    path = real_data / f"annotations/qupath/qupath-{name}.json"
    with pytest.raises(UserError, match=rf"nothing in it labels a pixel \({note}\)"):
        read_annotation(path, [], Annotations(), SLIDE)


def test_classified_cells_of_qupath(real_data):
    path = real_data / "annotations/qupath/qupath-polygon-cell-classified.json"
    classes = [TissueClass(name=name.lower(), color="#ff0000", annotations=[name]) for name in ("Cell", "Nucleus")]
    annotation = read_annotation(path, classes, Annotations(), SLIDE)
    assert [item.label for item in annotation.shapes] == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"'Nucleus' \(2, #b87343\)"):
        read_annotation(path, classes[:1], Annotations(), SLIDE)


def test_unclassified_polygons_of_qupath_0_5(real_data):
    path = real_data / "annotations/qupath/qupath05.geojson"
    with pytest.raises(UserError, match=r"'Unclassified' \(3\)"):
        read_annotation(path, [], Annotations(), SLIDE)
    with pytest.raises(UserError, match=r"nothing in it labels a pixel \(3 × ignored shape\)"):
        read_annotation(path, [], Annotations(ignore=["Unclassified"]), SLIDE)


def test_a_list_of_features_as_old_versions_wrote_it(real_data):
    path = real_data / "annotations/qupath/legacy-TCGA-EJ-5519.json"
    classes = [
        TissueClass(name="other", color="#00ff00", annotations=["Other", "Negative"]),
        TissueClass(name="tumour", color="#ff0000", annotations=["Tumor"]),
    ]
    annotation = read_annotation(path, classes, Annotations(), SLIDE)
    assert {item.label for item in annotation.shapes} == {0, 1}
    assert shapely.is_valid([item.polygon for item in annotation.shapes]).all()
    labels = annotation.rasterise(0, 0, 1563, 1100, 64)
    assert (labels != 255).sum() * 64**2 == pytest.approx(annotation.area, rel=0.01)
    with pytest.raises(UserError, match="wrong coordinates"):
        read_annotation(path, classes, Annotations(), (20_000, 20_000))


def test_imagescope_has_the_areas_that_it_wrote_itself(real_data):
    path = real_data / "annotations/aperio_xml/TCGA-EJ-5519-01Z-00-DX1.xml"
    written = [float(area) for area in re.findall(r' Area="([\d.]+)"', path.read_text())]
    classes = [class_of("CaP"), class_of("Layer 3", label="three"), class_of("Layer 4", label="four")]
    annotation = read_annotation(path, classes, Annotations(), SLIDE)
    areas = np.zeros(3)  # the third crosses itself: several polygons, and ImageScope counts one as negative
    np.add.at(areas, [item.label for item in annotation.shapes], [item.polygon.area for item in annotation.shapes])
    assert areas == pytest.approx(written, rel=6e-3)


def test_imagescope_and_qupath_agree_on_a_slide(real_data):
    """The QuPath file was made of the ImageScope file."""
    folder = real_data / "annotations"
    aperio = [class_of("CaP"), class_of("Layer 3", label="three"), class_of("Layer 4", label="four")]
    qupath = [class_of("Tumor"), class_of("Negative", label="three"), class_of("Other", label="four")]
    files = [
        (folder / "aperio_xml/TCGA-EJ-5519-01Z-00-DX1.xml", aperio),
        (folder / "qupath/legacy-TCGA-EJ-5519.json", qupath),
    ]
    first, second = (
        read_annotation(path, classes, Annotations(), SLIDE).rasterise(0, 0, 1600, 1100, 64) for path, classes in files
    )
    assert (first != second).mean() < 1e-4
    assert set(np.unique(first)) >= {0, 2, 255}


def test_asap_polygon_has_the_area_of_its_corners(real_data):
    path = real_data / "annotations/asap/asap-polygon.xml"
    annotation = read_annotation(path, [class_of("Unclassified")], Annotations(), SLIDE)
    x, y = np.array(re.findall(r'X="([\d.]+)" Y="([\d.]+)"', path.read_text()), float).T
    (shape,) = annotation.shapes
    assert shape.polygon.area == pytest.approx(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


@pytest.mark.parametrize(("name", "count"), [("dot", 1), ("pointset", 5)])
def test_points_of_asap_are_counted(real_data, name, count):
    with pytest.raises(UserError, match=rf"nothing in it labels a pixel \({count} × Point\)"):
        read_annotation(real_data / f"annotations/asap/asap-{name}.xml", [], Annotations(), SLIDE)


def test_nuclei_of_pannuke_are_as_large_as_the_file_says(real_data):
    """One file, run lengths of 25 images: where nuclei do not overlap, the labelled pixels are their areas."""
    path = real_data / "annotations/coco_pannuke/json_annotation_demo.json"
    data = json.loads(path.read_text())
    classes = [class_of("Neoplastic", label="neoplastic"), class_of("No-neoplastic", label="other")]
    for image in data["images"]:
        annotation = read_annotation(path, classes, Annotations(), (256, 256), image["file_name"])
        written = [entry for entry in data["annotations"] if entry["image_id"] == image["id"]]
        assert sum(item.polygon.area for item in annotation.shapes) == sum(entry["area"] for entry in written)
        labels = annotation.rasterise(0, 0, 256, 256, 1)
        assert (labels != 255).sum() == annotation.area
        for entry in written:  # half a nucleus may lie under another
            left, upper, width, height = entry["bbox"]
            inside = labels[upper : upper + height + 1, left : left + width + 1]
            assert (inside == entry["category_id"] - 1).sum() > entry["area"] / 2
