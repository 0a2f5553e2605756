import numpy as np
import pytest


@pytest.fixture
def camelyon16(data_set):
    return data_set("camelyon16")


def test_groups_roles_and_annotations(camelyon16):
    camelyon16.make()
    nothing = camelyon16.folder / "no_tumour.geojson"
    outlines = camelyon16.folder / "training/lesion_annotations"
    found = {name: (slide.group, slide.split, slide.annotation) for name, slide in camelyon16.slides.items()}
    assert found == {
        "normal_001": ("normal", "annotated", nothing),
        "normal_002": ("normal", "annotated", nothing),
        "tumor_001": ("tumor", "annotated", outlines / "tumor_001.xml"),
        "tumor_002": ("tumor", "annotated", outlines / "tumor_002.xml"),
        "tumor_010": ("tumor", "unannotated", None),  # its annotation is incomplete
        "test_001": ("tumor", "test", camelyon16.folder / "testing/lesion_annotations/test_001.xml"),
        "test_002": ("normal", "test", nothing),
    }  # test_049 was withdrawn


def test_later_releases_are_flat(camelyon16):
    for path in [*camelyon16.folder.rglob("*.tif"), *camelyon16.folder.rglob("*.xml")]:
        if "mask" not in path.name:
            to = camelyon16.folder / {".tif": "images", ".xml": "annotations"}[path.suffix] / path.name
            to.parent.mkdir(exist_ok=True)
            path.rename(to)
    camelyon16.make()
    assert len(camelyon16.slides) == 7


def test_old_names_have_capitals(camelyon16):
    for path in camelyon16.folder.rglob("tumor_001.*"):
        path.rename(path.with_name(path.name.capitalize()))
    camelyon16.make()
    assert camelyon16.slides["tumor_001"].path.name == "Tumor_001.tif"


def test_all_that_does_not_match_is_reported_at_once(camelyon16):
    folder = camelyon16.folder
    outlines = folder / "training/lesion_annotations"
    (outlines / "tumor_001.xml").rename(outlines / "normal_001.xml")
    (outlines / "tumor_002.xml").rename(outlines / "tumour_002.xml")
    (folder / "testing/lesion_annotations/test_001.xml").unlink()
    (folder / "testing/images/test_002.tif").unlink()
    messages = camelyon16.refused()
    parts = [
        "normal_001.xml: annotates a slide without tumour",
        "test_001.tif: this slide has tumour, but its annotation test_001.xml is missing",
        "tumor_001.tif: this slide has tumour, but its annotation tumor_001.xml is missing",
        "tumor_002.tif: this slide has tumour, but its annotation tumor_002.xml is missing",
        "tumour_002.xml: belongs to none of the data set's slides",
        "has no slide test_002.tif",
        "--partial",
    ]
    assert len(messages) == len(parts)
    for message, part in zip(messages, parts, strict=True):
        assert part in message


def test_test_slides_need_the_reference(camelyon16):
    (camelyon16.folder / "testing/reference.csv").unlink()
    (message,) = camelyon16.refused()
    assert "has 0 files reference.csv" in message


def test_slides_without_tumour_are_normal_throughout(camelyon16, monkeypatch):
    camelyon16.make()
    assert (camelyon16.labels("normal_001", monkeypatch) == 0).all()


def test_what_is_cut_out_of_the_tumour_is_normal(camelyon16, monkeypatch):
    camelyon16.make()
    expected = np.zeros((256, 256), np.uint8)
    expected[32:160, 32:160] = 1
    expected[64:96, 64:96] = 0
    np.testing.assert_array_equal(camelyon16.labels("tumor_001", monkeypatch), expected)
