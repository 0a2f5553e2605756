"""The phantom slides: other people's readers open them, and what they promise of layout and style holds."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import shapely
from PIL import Image
from shapely.geometry import Polygon, box, shape
from skimage.filters import laplace

from stedm.demo import Style, draw_slide, draw_style, make_slide, rasterise, write_geojson, write_pyramid
from stedm.errors import UserError

SIZE, MPP = 512, 0.5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texture(style: Style, seed: int) -> np.ndarray:
    """Mean colour inside the tissue, and the mean sharpness of edges, of a slide in this style."""
    image, _, region = draw_slide(SIZE, MPP, style, "solid", rng(seed))
    inside = rasterise(region, SIZE)
    return np.array([*image[inside].mean(axis=0), 1000 * np.abs(laplace(image.mean(axis=2) / 255))[inside].mean()])


@pytest.mark.parametrize("shape", [(512, 512), (700, 1301)])
def test_openslide_reads_pixels_resolution_and_levels(tmp_path: Path, shape: tuple[int, int]) -> None:
    drawn, _, _ = draw_slide(max(shape), MPP, draw_style(rng(), wide=False), "nested", rng())
    drawn = np.ascontiguousarray(drawn[: shape[0], : shape[1]])
    write_pyramid(tmp_path / "slide.tiff", drawn, MPP)
    assert [path.name for path in tmp_path.iterdir()] == ["slide.tiff"]
    with openslide.OpenSlide(tmp_path / "slide.tiff") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=1e-5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP, rel=1e-5)
        assert slide.level_count >= 3
        assert slide.level_downsamples[:3] == pytest.approx((1, 2, 4), rel=0.01)
        assert slide.dimensions == shape[::-1]
        for level, image in enumerate((drawn, np.asarray(Image.fromarray(drawn).reduce(2)))):
            width, height = slide.level_dimensions[level]
            read = np.asarray(slide.read_region((0, 0), level, (width, height)).convert("RGB"))
            assert np.abs(read.astype(float) - image[:height, :width]).mean() < 5


def test_a_slide_is_a_function_of_seed_and_patient(tmp_path: Path) -> None:
    def files(name: str, seed: int, patient: str) -> tuple[bytes, bytes]:
        image, annotation = tmp_path / name / "slide.tiff", tmp_path / name / "slide.geojson"
        make_slide("slide", patient, "solid", True, SIZE, MPP, seed, image, annotation)
        return image.read_bytes(), annotation.read_bytes()

    first = files("first", 0, "P04")
    assert files("again", 0, "P04") == first
    for name, seed, patient in (("patient", 0, "P05"), ("seed", 1, "P04")):
        other = files(name, seed, patient)
        assert other[0] != first[0]
        assert other[1] != first[1]


@pytest.mark.parametrize("group", ["solid", "nested"])
def test_layout_is_valid_and_covers_its_share(group: str) -> None:
    for seed in range(3):
        image, tumour, region = draw_slide(1024, MPP, draw_style(rng(seed), wide=True), group, rng(seed))
        assert image.shape == (1024, 1024, 3)
        assert image.dtype == np.uint8
        assert image.max(axis=2).min() > 0  # nothing is black
        assert all(polygon.is_valid and box(0, 0, 1024, 1024).contains(polygon) for polygon in tumour + region)
        tissue = shapely.union_all(region)
        assert tissue.buffer(1).contains(shapely.union_all(tumour))
        assert sum(polygon.area for polygon in tumour) == pytest.approx(shapely.union_all(tumour).area)  # no overlap
        assert 0.25 < shapely.union_all(tumour).area / tissue.area < 0.45
        assert 0.6 < tissue.area / 1024**2 < 0.8


def test_nested_tumours_have_more_and_smaller_nests_than_solid_ones() -> None:
    style = draw_style(rng(), wide=False)
    solid, nested = (draw_slide(1024, MPP, style, group, rng(1))[1] for group in ("solid", "nested"))
    assert len(nested) > len(solid)
    assert np.median([polygon.area for polygon in nested]) < np.median([polygon.area for polygon in solid])


def test_style_does_not_touch_the_layout() -> None:
    layouts = [draw_slide(SIZE, MPP, draw_style(rng(s), wide=True), "nested", rng(7))[1:] for s in range(3)]
    assert layouts[0] == layouts[1] == layouts[2]


def test_annotated_patients_vary_less_than_the_others_in_colour_and_texture() -> None:
    narrow, wide = (np.std([texture(draw_style(rng(s), w), 5) for s in range(8)], axis=0) for w in (False, True))
    assert (wide > 2 * narrow).all()


def test_tumour_has_denser_nuclei_in_every_style() -> None:
    """Nuclei are what absorbs red light: haematoxylin does, eosin hardly."""
    for seed in range(6):
        style = replace(draw_style(rng(seed), wide=True), cytoplasm_haematoxylin=0.1, stroma_haematoxylin=0.1)
        image, tumour, region = draw_slide(SIZE, MPP, style, "solid", rng(seed))
        nests, tissue = rasterise(tumour, SIZE), rasterise(region, SIZE)
        assert image[nests, 0].mean() < image[tissue & ~nests, 0].mean() - 10


def test_outside_the_tissue_is_bright_and_inside_is_stained() -> None:
    image, _, region = draw_slide(SIZE, MPP, draw_style(rng(3), wide=True), "solid", rng(3))
    region = [polygon.buffer(4) for polygon in region]
    outside = ~rasterise(region, SIZE)
    assert image[outside].mean() > 225
    assert (image[rasterise([polygon.buffer(-8) for polygon in region], SIZE)].min(axis=1) < 215).mean() > 0.9


def test_geojson_keeps_classes_and_holes(tmp_path: Path) -> None:
    ring = Polygon([(10, 10), (90, 10), (90, 90), (10, 90)], [[(30, 30), (30, 60), (60, 60), (60, 30)]])
    write_geojson(tmp_path / "a.geojson", [ring], [box(0, 0, 100, 100)])
    collection = json.loads((tmp_path / "a.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert {feature["properties"]["objectType"] for feature in collection["features"]} == {"annotation"}
    read = {f["properties"]["classification"]["name"]: shape(f["geometry"]) for f in collection["features"]}
    assert set(read) == {"Tumor", "Region*"}
    assert read["Tumor"].equals(ring)
    assert read["Region*"].area == 100**2


def test_unknown_groups_and_tiny_slides_are_refused() -> None:
    style = draw_style(rng(), wide=False)
    with pytest.raises(UserError, match="solid, nested"):
        draw_slide(SIZE, MPP, style, "other", rng())
    with pytest.raises(UserError, match="120 µm"):
        draw_slide(64, MPP, style, "solid", rng())


def test_the_demo_sheet_names_29_patients_in_three_splits() -> None:
    with (Path(__file__).parents[1] / "workflow/studies/demo.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = [row["split"] for row in rows]
    assert [splits.count(name) for name in ("annotated", "unannotated", "test")] == [3, 16, 10]
    assert len({row["patient"] for row in rows}) == 29
    assert {row["group"] for row in rows} == {"solid", "nested"}
