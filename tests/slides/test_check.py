from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stedm.config import Annotations, CheckOptions, Patches, Tissue, TissueClass
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides.check import check_slides

PATCHES = Patches(size=64, mpp=4.0)


@pytest.fixture
def check(tmp_path, classes):
    def run(*slides, strict=False, patches=PATCHES):
        options = CheckOptions(classes=classes, annotations=Annotations(), patches=patches, strict=strict)
        check_slides(options, slides, out=tmp_path / "check.csv")

    return run


@pytest.fixture
def table(tmp_path):
    return lambda: pd.read_csv(tmp_path / "check.csv", keep_default_na=False).set_index("slide")


@pytest.fixture
def good(tmp_path, tiff, geojson, tissue_image):
    path = tiff(tmp_path / "good.tif", tissue_image, mpp=4.0)
    return Slide("good", "p1", path, geojson(tmp_path / "good.geojson", ("Tumor", (200, 200, 300, 300))))


@pytest.fixture
def corrupt(tmp_path, good):
    """Three slides that cannot be read: text, a TIFF cut short, a PNG cut short."""
    (tmp_path / "text.svs").write_text("no slide")
    (tmp_path / "cut.tif").write_bytes(good.path.read_bytes()[:-3000])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    return [Slide(name.replace(".", "_"), "p2", tmp_path / name) for name in ("text.svs", "cut.tif", "cut.png")]


def test_the_table_shows_what_a_slide_is(check, table, good):
    check(good)
    row = table().loc["good"]
    assert (row.patient, row.status, row.problem, row.reader) == ("p1", "ok", "", "openslide generic-tiff")
    assert (row.width, row.height, row.levels, row.mpp_source) == (512, 512, 1, "slide")
    assert row.mpp == pytest.approx(4.0)
    assert row.tissue_fraction == pytest.approx(np.pi * 150**2 / 512**2, rel=0.02)
    assert (row.annotation_format, row.annotated_area_px) == ("geojson", 10_000)
    assert row.annotated_area_mm2 == pytest.approx(10_000 * 16e-6)
    assert len(row.fingerprint) == 64


def test_masks_and_coordinates_that_do_not_fit_are_errors_all_at_once(check, table, tmp_path, good):
    (tmp_path / "brought").mkdir()
    Image.new("L", (100, 90)).save(tmp_path / "brought/good.png")
    with h5py.File(tmp_path / "brought/good.h5", "w") as file:
        file["coords"] = np.zeros((1, 2), int)
        file["coords"].attrs["patch_size_level0"] = 100
    folder = str(tmp_path / "brought")
    patches = PATCHES.model_copy(update={"tissue": Tissue(masks=folder), "coords": folder})
    with pytest.raises(UserError) as error:
        check(good, patches=patches)
    assert ["good.png: the mask is" in line or "good.h5: its patches are" in line for line in error.value.messages] == [
        True,
        True,
    ]
    assert table().status["good"] == "error"


def test_an_empty_mask_is_named(check, table, tmp_path, good):
    Image.new("L", (100, 100)).save(tmp_path / "empty.png")
    patches = PATCHES.model_copy(update={"tissue": Tissue(masks=str(tmp_path))})
    Image.new("L", (100, 100), 255).save(tmp_path / "full.png")
    (tmp_path / "good.geojson").rename(tmp_path / "a.json")  # of the same name, and no tissue mask
    check(Slide("full", "p", good.path), Slide("empty", "p", good.path), patches=patches)
    assert dict(table().status) == {"full": "ok", "empty": "no tissue"}
    assert "mask, which is empty" in table().problem["empty"]


def test_unreadable_slides_are_quarantined_and_the_study_goes_on(check, table, good, corrupt):
    check(good, *corrupt)
    found = table()
    assert list(found.status) == ["ok", "quarantined", "quarantined", "quarantined"]
    for slide in corrupt:
        assert slide.path.name in found.problem[slide.slide]
        assert "sheet" in found.problem[slide.slide]


def test_strict_stops_at_unreadable_slides_and_names_them_all(check, table, good, corrupt):
    with pytest.raises(UserError) as error:
        check(good, *corrupt, strict=True)
    assert len(error.value.messages) == 3
    assert list(table().status) == ["ok"] + 3 * ["quarantined"]


def test_a_study_without_any_slide_that_can_be_read_stops(check, corrupt):
    with pytest.raises(UserError, match="no slide can be used"):
        check(*corrupt)


def test_an_empty_slide_is_named(check, table, tmp_path, tiff, good):
    glass = tiff(tmp_path / "glass.tif", np.full((512, 512, 3), 245, np.uint8), mpp=4.0)
    empty = Slide("empty", "p1", glass, good.annotation)
    check(good, empty)
    assert table().status["empty"] == "no tissue"
    assert "lower patches.tissue.max_saturation," in table().problem["empty"]
    with pytest.raises(UserError, match=r"'empty' .*no tissue"):
        check(good, empty, strict=True)


def test_the_key_that_finds_paler_tissue_is_the_one_in_use(check, table, tmp_path, tiff, good):
    glass = tiff(tmp_path / "glass.tif", np.full((512, 512, 3), 245, np.uint8), mpp=4.0)
    patches = PATCHES.model_copy(update={"tissue": Tissue(saturation=0.2)})
    check(good, Slide("empty", "p1", glass), patches=patches)
    assert "lower patches.tissue.saturation," in table().problem["empty"]


def test_what_only_the_user_can_decide_stops_the_study_all_at_once(
    check, table, tmp_path, tiff, geojson, tissue_image, good, corrupt
):
    slides = [
        good,
        *corrupt,
        Slide("no-mpp", "p3", tiff(tmp_path / "no-mpp.tif", tissue_image)),
        Slide("unknown", "p4", good.path, geojson(tmp_path / "unknown.geojson", ("Tumour", (0, 0, 9, 9)))),
        Slide("elsewhere", "p5", good.path, geojson(tmp_path / "elsewhere.geojson", ("Tumor", (0, 0, 9e4, 9e4)))),
        Slide("format", "p6", good.path, tmp_path / "a.ndpa"),
        Slide("small", "p7", tiff(tmp_path / "small.tif", tissue_image[:300, :60], mpp=4.0)),
        Slide("coarse", "p8", tiff(tmp_path / "coarse.tif", tissue_image, mpp=8.0)),
        Slide("two", "p9", tmp_path / "no-mpp.tif", tmp_path / "unknown.geojson"),
    ]
    with pytest.raises(UserError) as error:
        check(*slides)
    text = "\n".join(error.value.messages)
    for part in (
        "'no-mpp' (", "unknown.geojson: unknown classes: 'Tumour' (1, #c80000)", "elsewhere.geojson: wrong coordinates",
        "a.ndpa: annotations are read from", "is 60 px across", "has 8 µm/px, patches.mpp asks for the finer 4",
        "'two' (",
    ):  # fmt: skip
        assert part in text
    assert len(error.value.messages) == 8
    assert list(table().status) == ["ok"] + 3 * ["quarantined"] + 7 * ["error"]


def test_notes_stand_in_the_table_and_stop_nothing(check, table, tmp_path, geojson, good):
    point = {"type": "Point", "coordinates": [3, 3]}
    annotation = geojson(tmp_path / "b.geojson", ("Tumor", point), ("Tumor", (0, 0, 9, 9)))
    check(Slide("s", "p", good.path, annotation, mpp=1.0))
    assert table().status["s"] == "ok"
    assert "the file says 4 µm/px, the sheet (or --mpp) 1, which is used" in table().problem["s"]
    assert "1 × Point" in table().problem["s"]


def test_broken_tiles_at_the_corners_are_found_and_the_rest_of_the_slide_is_used(
    check, table, tmp_path, tiff, good, tissue_image, break_tile
):
    path = tiff(tmp_path / "corner.tif", tissue_image, 4.0, [tissue_image[::4, ::4]])
    break_tile(path, 63)
    check(good, Slide("corner", "p2", path), patches=PATCHES.model_copy(update={"tissue": None}))
    assert list(table().status) == ["ok", "incomplete"]
    assert "broken at x 448, y 448" in table().problem["corner"]
    with pytest.raises(UserError, match="broken at x 448, y 448"):
        check(good, Slide("corner", "p2", path), strict=True)


def test_the_classes_of_each_slide_are_in_the_table_and_those_of_none_are_warned_of(
    check, table, tmp_path, geojson, good, caplog
):
    both = geojson(tmp_path / "both.geojson", ("Tumor", (200, 200, 300, 300)), ("stroma", (0, 0, 9, 9)))
    check(good, Slide("both", "p2", good.path, both), Slide("none", "p3", good.path))
    assert dict(table().annotated_classes) == {"good": "tumour", "both": "stroma tumour", "none": ""}
    assert "no annotated slide has the class" not in caplog.text
    assert "only the patient p2 has the class 'stroma'" in caplog.text
    check(good)
    assert "no annotated slide has the class 'stroma', so it can be neither learned nor scored" in caplog.text


def test_classes_that_no_slide_of_a_role_has_are_warned_of(check, tmp_path, geojson, good, caplog):
    stroma = geojson(tmp_path / "stroma.geojson", ("stroma", (0, 0, 99, 99)))
    slides = [replace(good, split="annotated"), Slide("t", "p2", good.path, stroma, split="test")]
    check(*slides)
    assert "no annotated slide of the split annotated has the class 'stroma', so it cannot be learned" in caplog.text
    assert "no annotated slide of the split test has the class 'tumour', so it cannot be scored" in caplog.text
    caplog.clear()
    check(*slides, Slide("u", "p3", good.path, good.annotation, split="test"))
    assert "'tumour'" not in caplog.text


def test_masks_whose_values_are_of_one_class_only_are_warned_of(check, tmp_path, good, caplog, table):
    """0 and 1 where 255 is asked for: all is one class, and of the other nothing is left."""
    Image.fromarray(np.tile(np.array([0, 1], np.uint8), (512, 256))).save(tmp_path / "mask.png")
    classes = [
        TissueClass(name=name, color="#ff0000", mask_values=[value]) for name, value in (("a", "0"), ("b", "255"))
    ]
    slide = replace(good, annotation=tmp_path / "mask.png")
    options = CheckOptions(classes=classes, annotations=Annotations(), patches=PATCHES, strict=False)
    check_slides(options, [slide], out=tmp_path / "check.csv")
    assert "values that belong to no class (1): 131,072 of its pixels (50.0%)" in table().problem["good"]
    assert "no annotated slide has the class 'b'" in caplog.text


def test_shapes_without_a_pixel_at_the_resolution_of_the_patches_are_counted(check, table, tmp_path, geojson, good):
    small = geojson(tmp_path / "small.geojson", ("Tumor", (10.9, 10.9, 11.9, 11.9)), ("stroma", (0, 0, 99, 99)))
    slide = replace(good, annotation=small)
    note = "not labelled: 1 × shape smaller than a pixel"
    check(slide)
    assert note not in table().problem["good"]
    check(slide, patches=PATCHES.model_copy(update={"mpp": 16.0}))
    assert note in table().problem["good"]
    assert table().annotated_classes["good"] == "stroma"


def test_an_annotation_of_which_nothing_is_left_is_an_error(check, table, tmp_path, geojson, good):
    annotation = geojson(tmp_path / "b.geojson", ("Tumor", {"type": "Point", "coordinates": [3, 3]}))
    with pytest.raises(UserError, match=r"b\.geojson: nothing in it labels a pixel \(1 × Point\)"):
        check(good, replace(good, slide="b", annotation=annotation))
    assert dict(table().status) == {"good": "ok", "b": "error"}


def test_a_copy_under_another_name_is_an_error_that_names_both(check, table, tmp_path, good, tiff, tissue_image):
    copy = Slide("copy", "p2", tmp_path / "copy.tif")
    copy.path.write_bytes(good.path.read_bytes())
    other = Slide("other", "p3", tiff(tmp_path / "other.tif", tissue_image[::-1], mpp=4.0))
    with pytest.raises(UserError) as refused:
        check(good, other, copy)
    (message,) = refused.value.messages
    assert f"is a copy of {good.path} (slide 'good')" in message
    assert "copy.tif" in message
    assert table()["status"].to_list() == ["ok", "ok", "error"]


def test_files_that_differ_in_the_middle_only_are_no_copies(check, table, tmp_path, tiff):
    """Their fingerprints, of the first and last MiB, are the same."""
    large = np.random.default_rng(0).integers(0, 256, (1152, 1152, 3), np.uint8)
    slides = []
    for index in range(2):
        large[576, 576] = index
        slides.append(Slide(f"s{index}", f"p{index}", tiff(tmp_path / f"s{index}.tif", large, mpp=4.0)))
    assert slides[0].path.stat().st_size == slides[1].path.stat().st_size > 3 << 20
    check(*slides)
    assert len(set(table()["fingerprint"])) == 1
    assert table()["status"].to_list() == ["ok", "ok"]


def test_areas_and_patches_are_told_for_each_class(check, table, tmp_path):
    """A mask whose left quarter is tumour, on patches of which one column of four has it."""
    Image.fromarray(np.full((256, 256, 3), (180, 60, 120), np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :64] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    check(
        Slide("a", "p", tmp_path / "a.png", tmp_path / "mask.png", mpp=2.0),
        patches=Patches(size=64, mpp=2.0, tissue=None),
    )
    row = table().loc["a"]
    assert (int(row.patches), row.tumour_patches, row.stroma_patches) == (16, 4, 12)
    assert (row.tumour_area_px, row.stroma_area_px) == (64 * 256, 192 * 256)
    assert row.tumour_area_mm2 == pytest.approx(64 * 256 * 4e-6)


def test_classes_of_one_patient_and_small_style_sets_are_warned_of(caplog, tmp_path, classes):
    Image.fromarray(np.full((64, 128, 3), (180, 60, 120), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((64, 129, 3), (180, 60, 120), np.uint8)).save(tmp_path / "b.png")
    values = np.zeros((64, 128), np.uint8)
    values[:, :20] = 1
    Image.fromarray(values).save(tmp_path / "mask.png")
    slides = [
        Slide("a", "Ann", tmp_path / "a.png", tmp_path / "mask.png"),
        Slide("b", "Ben", tmp_path / "b.png"),
    ]
    patches = Patches(size=64, level=0, tissue=None)
    options = CheckOptions(classes=classes, annotations=Annotations(), patches=patches, strict=False, style_images=4)
    check_slides(options, slides, out=tmp_path / "check.csv")
    assert "only the patient Ann has the class 'tumour'" in caplog.text
    assert "2 slides: a, b: fewer patches than a style set has images (4)" in caplog.text


def test_what_stops_a_study_is_not_logged_as_well(check, caplog, good):
    with pytest.raises(UserError):
        check(replace(good, mpp=400.0))
    assert "no microscope has" not in caplog.text
