"""The files of phantom slides: other projects' readers open them."""

import csv
import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.random import default_rng
from PIL import Image
from shapely.geometry import Polygon, box, shape

from stedm.config import Phantoms
from stedm.config.stages import PhantomOptions
from stedm.errors import UserError
from stedm.phantom.files import render_phantom, render_slide, write_geojson, write_pyramid
from stedm.phantom.style import sample_style
from stedm.sheet import Slide

SIZE, MPP = 512, 0.5


@pytest.mark.parametrize("shape", [(512, 512), (700, 1301)])
def test_openslide_reads_pixels_resolution_and_levels(tmp_path, shape):
    rendered, _, _ = render_slide(max(shape), MPP, sample_style(default_rng(0), wide=False), "nested", default_rng(0))
    rendered = np.ascontiguousarray(rendered[: shape[0], : shape[1]])
    write_pyramid(tmp_path / "slide.tiff", rendered, MPP)
    assert {path.name for path in tmp_path.iterdir()} == {"slide.tiff", ".stedm"}
    with openslide.OpenSlide(tmp_path / "slide.tiff") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=1e-5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP, rel=1e-5)
        assert slide.level_count >= 3
        assert slide.level_downsamples[:3] == pytest.approx((1, 2, 4), rel=0.01)
        assert slide.dimensions == shape[::-1]
        for level, image in enumerate((rendered, np.asarray(Image.fromarray(rendered).reduce(2)))):
            width, height = slide.level_dimensions[level]
            read = np.asarray(slide.read_region((0, 0), level, (width, height)).convert("RGB"))
            assert np.abs(read.astype(float) - image[:height, :width]).mean() < 5


@pytest.fixture
def rendered(tmp_path):
    """The bytes of a patient's slide and annotation."""

    def render(name="slide", patient="P04", role="test", seed=0, group="solid"):
        row = Slide(name, patient, tmp_path / f"{name}.tiff", tmp_path / f"{name}.geojson", group, split=role)
        render_phantom(PhantomOptions(phantoms=Phantoms(size=SIZE, mpp=MPP, seed=seed)), row)
        return row.path.read_bytes(), row.annotation.read_bytes()

    return render


def test_a_slide_is_a_function_of_seed_and_patient(rendered):
    image, annotation = rendered()
    assert rendered() == (image, annotation)
    assert rendered("another_name")[0] == image
    for other in (rendered(patient="P05"), rendered(seed=1)):
        assert other[0] != image
        assert other[1] != annotation


def test_annotated_patients_have_a_style_of_their_own_and_the_same_layout(rendered):
    image, annotation = rendered()
    assert rendered(role="annotated")[0] != image
    assert rendered(role="annotated")[1] == annotation


def test_a_slide_whose_annotation_has_no_name_is_refused(tmp_path):
    row = Slide("P04", "P04", tmp_path / "P04.tiff", group="solid")
    with pytest.raises(UserError, match="slide 'P04': the column annotation is empty"):
        render_phantom(PhantomOptions(phantoms=Phantoms(size=SIZE)), row)
    assert not list(tmp_path.iterdir())


def test_geojson_keeps_classes_and_holes(tmp_path):
    ring = Polygon([(10, 10), (90, 10), (90, 90), (10, 90)], [[(30, 30), (30, 60), (60, 60), (60, 30)]])
    write_geojson(tmp_path / "a.geojson", [ring], [box(0, 0, 100, 100)])
    collection = json.loads((tmp_path / "a.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert {feature["properties"]["objectType"] for feature in collection["features"]} == {"annotation"}
    read = {f["properties"]["classification"]["name"]: shape(f["geometry"]) for f in collection["features"]}
    assert set(read) == {"Tumor", "Region*"}
    assert read["Tumor"].equals(ring)
    assert read["Region*"].area == 100**2


def test_the_demo_sheet_names_29_patients_in_three_splits():
    with (Path(__file__).parents[2] / "workflow/studies/demo.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = [row["split"] for row in rows]
    assert [splits.count(name) for name in ("annotated", "unannotated", "test")] == [3, 16, 10]
    assert len({row["patient"] for row in rows}) == 29
    assert {row["group"] for row in rows} == {"solid", "nested"}
