"""Slides that were scanned in part: annotations, masks and tissue lie where the programs that wrote them saw them."""

import json
from types import SimpleNamespace

import numpy as np
import openslide
import pytest
from PIL import Image
from scn import write_scn

from stedm.config import Annotations, CheckOptions, Patches, PatchesOptions, Tissue, TissueClass
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation
from stedm.slides.annotations.mask import mask_place
from stedm.slides.check import check_slides
from stedm.slides.open import bounds_of
from stedm.slides.patches import extract_patches
from stedm.slides.tissue import read_tissue, tissue_mask
from stedm.store import PatchFile
from stedm.tables import CHECK

AREA = (192, 128, 256, 320)  # x, y, width, height of what was scanned
CANVAS = (640, 704)
BOX = (40, 60, 140, 170)  # left, upper, right, lower in the scanned area: tumour
CLASSES = [TissueClass(name="tumour", color="#6a3d9a", annotations=["Tumor"], mask_values=["1"])]
PATCHES = Patches(size=64, mpp=0.5, tissue=None)
RED, PINK = (200, 30, 60), (230, 170, 200)


def at(corner):
    """The box from there, as slices of the canvas."""
    left, upper, right, lower = (value + corner[index % 2] for index, value in enumerate(BOX))
    return slice(upper, lower), slice(left, right)


@pytest.fixture
def scn(tmp_path):
    image = np.full((AREA[3], AREA[2], 3), PINK, np.uint8)
    image[at((0, 0))] = RED
    path = write_scn(tmp_path / "s1.scn", image, AREA[:2], CANVAS)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == CANVAS
        bounds = [int(slide.properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")]
        assert tuple(bounds) == AREA
    return path


def ring(corner):
    rows, columns = at(corner)
    left, upper, right, lower = columns.start, rows.start, columns.stop, rows.stop
    return [[left, upper], [right, upper], [right, lower], [left, lower], [left, upper]]


def feature(corner):
    properties = {"objectType": "annotation", "classification": {"name": "Tumor"}}
    geometry = {"type": "Polygon", "coordinates": [ring(corner)]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write(folder, kind, corner=(0, 0), size=CANVAS):
    """The box, counted from there, as a program writes it."""
    points = ring(corner)[:-1]
    if kind == "qupath":
        return text(folder / "a.geojson", json.dumps({"type": "FeatureCollection", "features": [feature(corner)]}))
    if kind == "legacy qupath":
        return text(folder / "a.json", json.dumps([feature(corner)]))
    if kind == "coco":
        flat = [value for point in points for value in point]
        shape = {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [flat]}
        images = [{"id": 7, "file_name": "s1.scn", "width": size[0], "height": size[1]}]
        categories = [{"id": 1, "name": "Tumor"}]
        return text(folder / "a.json", json.dumps({"images": images, "annotations": [shape], "categories": categories}))
    if kind == "asap":
        corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(points))
        body = (
            f'<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{corners}</Coordinates></Annotation>'
        )
        return text(folder / "a.xml", f"<ASAP_Annotations><Annotations>{body}</Annotations></ASAP_Annotations>")
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points)
    region = f'<Region Id="1" Type="0"><Vertices>{corners}</Vertices></Region>'
    body = f'<Annotation Id="1" Name="Tumor"><Regions>{region}</Regions></Annotation>'
    return text(folder / "a.xml", f"<Annotations>{body}</Annotations>")


def text(path, content):
    path.write_text(content)
    return path


def expected():
    labels = np.full(CANVAS[::-1], 255, np.uint8)
    labels[at(AREA[:2])] = 0
    return labels


def read(annotation, origin="auto", bounds=AREA):
    found = read_annotation(annotation, CLASSES, Annotations(origin=origin), CANVAS, "s1.scn", bounds=bounds)
    return found.rasterise(0, 0, *CANVAS, 1.0), found


@pytest.mark.parametrize("kind", ["qupath", "legacy qupath", "asap", "aperio", "coco"])
def test_each_format_counts_from_where_its_program_does_unless_it_is_said_otherwise(tmp_path, kind):
    cropped = kind.endswith("qupath")
    np.testing.assert_array_equal(read(write(tmp_path, kind, (0, 0) if cropped else AREA[:2]))[0], expected())
    np.testing.assert_array_equal(read(write(tmp_path, kind, AREA[:2]), "canvas")[0], expected())
    np.testing.assert_array_equal(read(write(tmp_path, kind, (0, 0), AREA[2:]), "bounds")[0], expected())
    for origin in ("auto", "bounds", "canvas"):  # nothing to crop
        np.testing.assert_array_equal(read(write(tmp_path, kind, AREA[:2]), origin, None)[0], expected())


def test_coordinates_of_the_canvas_that_lie_beyond_the_scanned_area_are_refused_with_the_key(tmp_path):
    path = write(tmp_path, "qupath", (192, 230))
    with pytest.raises(UserError, match=r"the slide is 256 × 320 px.*lies at x 192, y 128 \(origin: canvas\)"):
        read(path)


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_masks_of_the_scanned_area_and_of_the_canvas_are_told_apart_by_their_size(tmp_path, shrink):
    for corner, (width, height) in (((0, 0), AREA[2:]), (AREA[:2], CANVAS)):
        values = np.zeros((height, width), np.uint8)
        values[at(corner)] = 1
        Image.fromarray(values[::shrink, ::shrink]).save(tmp_path / "mask.png")
        labels, found = read(tmp_path / "mask.png")
        assert np.abs((labels == 0) ^ (expected() == 0)).mean() <= 0.01 * (shrink > 1)
        left, upper, right, lower = found.bounds
        assert np.allclose((left, upper), (AREA[0] + BOX[0], AREA[1] + BOX[1]), atol=shrink)
        assert np.allclose((right, lower), (AREA[0] + BOX[2], AREA[1] + BOX[3]), atol=shrink)
        assert any("covers the scanned area" in note for note in found.notes) == (corner == (0, 0))


def test_a_mask_that_may_be_of_the_area_or_of_the_canvas_is_a_question(tmp_path):
    bounds = (256, 128, 512, 512)
    place = {"size": (256, 256), "dimensions": (1024, 1024), "bounds": bounds}
    with pytest.raises(UserError, match=r"may cover the canvas or the scanned area.*set `origin`"):
        mask_place(tmp_path, **place)
    assert mask_place(tmp_path, **place, origin="canvas") == ((0, 0), 4)
    assert mask_place(tmp_path, **place, origin="bounds") == ((256, 128), 2)
    assert mask_place(tmp_path, **place | {"size": (512, 512)}) == ((256, 128), 1)  # exactly the area
    with pytest.raises(UserError, match="the slide 1024 × 1024 or 512 × 512"):
        mask_place(tmp_path, **place | {"size": (300, 200)})


def test_patches_of_a_slide_with_bounds_show_what_was_annotated(tmp_path, scn):
    options = PatchesOptions(classes=CLASSES, annotations=Annotations(), patches=PATCHES)
    slide = Slide("s1", "p1", scn, write(tmp_path, "qupath"))
    extract_patches(options, slide, out=tmp_path / "s1.h5", overview=tmp_path / "s1.png")
    patches = PatchFile(tmp_path / "s1.h5")
    labelled = 0
    for index in range(len(patches)):
        red = (patches.image(index) == RED).all(2)
        np.testing.assert_array_equal(patches.labels(index) == 0, red)
        labelled += int(red.sum())
    assert labelled == 100 * 110


def test_check_notes_the_scanned_area(tmp_path, scn):
    options = CheckOptions(classes=CLASSES, annotations=Annotations(), patches=PATCHES, strict=True)
    check_slides(options, [Slide("s1", "p1", scn, write(tmp_path, "qupath"))], out=tmp_path / "check.csv")
    (row,) = CHECK.read(tmp_path / "check.csv").itertuples()
    assert row.status == "ok"
    assert "scanned area is 256 × 320 px from x 192, y 128 of a canvas of 640 × 704 px" in row.problem
    assert "annotations.origin" in row.problem


def test_tissue_made_elsewhere_follows_its_own_key(tmp_path, scn):
    cropped, whole = tmp_path / "cropped", tmp_path / "whole"
    for folder, corner in ((cropped, (0, 0)), (whole, AREA[:2])):
        folder.mkdir()
        write(folder, "qupath", corner)
    area = np.zeros(AREA[:1:-1], np.uint8)
    area[at((0, 0))] = 1
    Image.fromarray(area).save(tmp_path / "mask.png")
    for path, origin in (
        (cropped / "a.geojson", "auto"),
        (whole / "a.geojson", "canvas"),  # as TRIDENT writes contours
        (tmp_path / "mask.png", "auto"),
    ):
        found = read_tissue(path, origin, CANVAS, AREA, 200).rasterise(0, 0, *CANVAS, 1.0)
        np.testing.assert_array_equal(found == 1, expected() == 0)
        with open_slide(Slide("s1", "p1", scn)) as opened:
            tissue = tissue_mask(opened, Tissue(mpp=0.5, origin=origin), path)
        share = np.prod(np.divide((100, 110), CANVAS))
        assert tissue.share == pytest.approx(share, rel=0.05)


def test_slides_that_were_scanned_as_a_whole_have_no_bounds(tmp_path, tiff):
    path = tiff(tmp_path / "a.tif", np.zeros((128, 192, 3), np.uint8))
    with open_slide(Slide("s1", "p1", path)) as opened:
        assert (opened.bounds, opened.notes) == (None, [])
    sides = {"x": "0", "y": "0", "width": "192", "height": "128"}
    properties = {f"openslide.bounds-{name}": value for name, value in sides.items()}
    assert bounds_of(SimpleNamespace(properties=properties, dimensions=(192, 128))) is None
    assert bounds_of(SimpleNamespace(properties=properties, dimensions=(193, 128))) == (0, 0, 192, 128)
