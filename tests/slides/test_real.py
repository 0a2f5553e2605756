"""Slides and annotations that others wrote."""

import shutil
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
import shapely
from PIL import Image

from stedm.config import Annotations, Patches, TissueClass
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import UnreadableSlide, open_slide
from stedm.slides.annotations import read_annotation
from stedm.slides.check import check_slides
from stedm.slides.patches import extract_patches
from stedm.store import PatchFile

pytestmark = pytest.mark.real_data

QUPATH_SLIDE = (100_000, 70_000)  # the size is not told; all annotations lie within


def run(tmp_path, slide, classes, patches):
    check_slides([slide], classes, Annotations(), patches, True, tmp_path / "check.csv")
    out = tmp_path / "s.h5"
    extract_patches(slide, classes, Annotations(), patches, out, tmp_path / "s.png")
    return PatchFile(out)


def test_aperio_slide_at_its_own_resolution(tmp_path, real_data, classes):
    path = real_data / "slides/cmu-1-small-region.svs"
    patches = run(tmp_path, Slide("cmu", "p", path), classes, Patches(size=256, mpp=0.5))
    assert patches.attributes["mpp"] == 0.499  # 0.5 within the tolerance: not resampled
    assert patches.attributes["reader"] == "tiles aperio"
    assert 30 <= len(patches) <= 38  # of 88; counted on the overview
    with openslide.OpenSlide(path) as slide:
        for index in (0, len(patches) - 1):
            region = slide.read_region(tuple(patches.coords[index].tolist()), 0, (256, 256)).convert("RGB")
            np.testing.assert_array_equal(patches.image(index), np.asarray(region))


def test_aperio_slide_at_half_its_resolution(tmp_path, real_data, classes):
    path = real_data / "slides/cmu-1-small-region.svs"
    patches = run(tmp_path, Slide("cmu", "p", path), classes, Patches(size=256, mpp=0.998))
    assert patches.attributes["downsample"] == pytest.approx(2)
    x, y = patches.coords[0].tolist()
    with openslide.OpenSlide(path) as slide:
        region = np.asarray(slide.read_region((x, y), 0, (512, 512)).convert("RGB")).astype(float)
    means = region.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(patches.image(0) - means).max() <= 1


def test_a_slide_without_resolution_takes_the_sheets(tmp_path, real_data, classes):
    path = real_data / "slides/tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(UserError, match="no resolution"):
        check_slides([Slide("s", "p", path)], classes, Annotations(), Patches(size=64, mpp=1), True, tmp_path / "c.csv")
    patches = run(tmp_path, Slide("s", "p", path, mpp=0.5), classes, Patches(size=256, mpp=1.0))
    assert (patches.attributes["level"], patches.attributes["mpp_source"]) == (1, "sheet")
    assert 30 <= len(patches) <= 45
    table = pd.read_csv(tmp_path / "check.csv")
    assert 0.6 < table.tissue_fraction[0] < 0.68
    assert table.objective.isna().all()


def test_broken_and_truncated_slides_are_quarantined(tmp_path, real_data, classes):
    whole = real_data / "slides/cmu-1-small-region.svs"
    content = whole.read_bytes()
    slides = [Slide("whole", "p", whole), Slide("broken", "p", real_data / "slides/broken.svs")]
    for percent in (10, 50, 90, 99):
        path = tmp_path / f"cut{percent}.svs"
        path.write_bytes(content[: len(content) * percent // 100])
        slides.append(Slide(path.stem, "p", path))
    check_slides(slides, classes, Annotations(), Patches(size=64, mpp=0.5), False, tmp_path / "check.csv")
    table = pd.read_csv(tmp_path / "check.csv", keep_default_na=False)
    assert list(table.status) == ["ok"] + 5 * ["quarantined"]
    with pytest.raises(UnreadableSlide, match=r"broken\.svs"):
        open_slide(slides[1])


def test_instance_masks_become_labels(tmp_path, real_data, classes):
    sheet = pd.read_csv(real_data / "glioma/images.csv")
    row = sheet[sheet["mask"].notna()].iloc[0]
    slide = Slide("g", "p", real_data / "glioma" / row["path"], real_data / "glioma" / row["mask"])
    patches = run(tmp_path, slide, classes, Patches(size=128, level=0))
    assert len(patches) == 16
    labels = np.asarray(Image.open(slide.annotation)) > 0
    for index, (x, y) in enumerate(patches.coords):
        np.testing.assert_array_equal(patches.labels(index), labels[y : y + 128, x : x + 128])


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
    assert "belong to no class" in annotation.notes[0]


@pytest.mark.parametrize("name", ["brush", "wand", "ellipse", "polygon", "rectangle"])
def test_shapes_drawn_in_qupath(real_data, name):
    path = real_data / f"annotations/qupath/qupath-{name}.json"
    classes = [TissueClass(name="tumour", color="#ff0000", annotations=["Unclassified"])]
    annotation = read_annotation(path, classes, Annotations(), QUPATH_SLIDE)
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
        read_annotation(path, [], Annotations(), QUPATH_SLIDE)


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
    annotation = read_annotation(path, [], Annotations(), QUPATH_SLIDE)
    assert annotation.area == 0
    assert note in annotation.notes[0]


def test_classified_cells_of_qupath(real_data):
    path = real_data / "annotations/qupath/qupath-polygon-cell-classified.json"
    classes = [TissueClass(name=name.lower(), color="#ff0000", annotations=[name]) for name in ("Cell", "Nucleus")]
    annotation = read_annotation(path, classes, Annotations(), QUPATH_SLIDE)
    assert [item.label for item in annotation.shapes] == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"'Nucleus' \(2\)"):
        read_annotation(path, classes[:1], Annotations(), QUPATH_SLIDE)


def test_unclassified_polygons_of_qupath_0_5(real_data):
    path = real_data / "annotations/qupath/qupath05.geojson"
    with pytest.raises(UserError, match=r"'Unclassified' \(3\)"):
        read_annotation(path, [], Annotations(), QUPATH_SLIDE)
    annotation = read_annotation(path, [], Annotations(ignore=["Unclassified"]), QUPATH_SLIDE)
    assert annotation.area == 0


def test_a_list_of_features_as_old_versions_wrote_it(real_data):
    path = real_data / "annotations/qupath/legacy-TCGA-EJ-5519.json"
    classes = [
        TissueClass(name="other", color="#00ff00", annotations=["Other", "Negative"]),
        TissueClass(name="tumour", color="#ff0000", annotations=["Tumor"]),
    ]
    annotation = read_annotation(path, classes, Annotations(), QUPATH_SLIDE)
    assert {item.label for item in annotation.shapes} == {0, 1}
    assert shapely.is_valid([item.polygon for item in annotation.shapes]).all()
    labels = annotation.rasterise(0, 0, 1563, 1100, 64)
    assert (labels != 255).sum() * 64**2 == pytest.approx(annotation.area, rel=0.01)
    with pytest.raises(UserError, match="wrong coordinates"):
        read_annotation(path, classes, Annotations(), (20_000, 20_000))


def test_a_copy_in_another_place_gives_the_same_patches(tmp_path, real_data, classes):
    path = Path(shutil.copy(real_data / "slides/cmu-1-small-region.svs", tmp_path / "copy ü.svs"))
    options = Patches(size=128, mpp=2.0)
    first = run(tmp_path, Slide("s", "p", path), classes, options).fingerprint
    second = run(tmp_path, Slide("s", "p", real_data / "slides/cmu-1-small-region.svs"), classes, options).fingerprint
    assert first == second
