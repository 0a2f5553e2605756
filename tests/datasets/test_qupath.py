import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stedm.datasets.qupath import image_file


@pytest.fixture
def qupath(data_set):
    made = data_set("qupath", "moved/project")
    made.out = made.folder.parent / "slides.csv"
    return made


def change(qupath, number, **values):
    """Change an entry of the project's file."""
    path = qupath.folder / "project.qpproj"
    project = json.loads(path.read_text())
    project["images"][number - 1] |= values
    path.write_text(json.dumps(project))


def test_images_are_found_where_the_project_was_moved_to(qupath):
    qupath.make()
    assert {name: (slide.patient, slide.split) for name, slide in qupath.slides.items()} == {
        "case_1": ("P1", "annotated"),
        "case_2": ("P2", "annotated"),
        "case_3": ("P3", "test"),
        "case_4": ("P4", "test"),
        "case_5": ("P5", "unannotated"),
    }
    assert [name for name, slide in qupath.slides.items() if slide.annotation is None] == ["case_5"]
    assert {slide.mpp for slide in qupath.slides.values()} == {0.25}
    assert qupath.slides["case_2"].path == qupath.folder.parent / "images/case 2.svs"


def test_without_metadata_each_image_is_a_patient(qupath):
    builder = {"builderType": "uri", "uri": "file:/old%20place/images/case%201.svs"}
    pixels = {"metadata": {"pixelCalibration": {"pixelWidth": {"value": 1.0, "unit": "px"}}}}
    change(qupath, 1, metadata=None, serverBuilder=builder | pixels)
    qupath.make()
    slide = qupath.slides["case_1"]
    assert (slide.patient, slide.split, slide.mpp) == ("case_1", "", None)


def test_where_a_project_looks_for_an_image(tmp_path):
    (tmp_path / "project/copies").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    original, beside, copy = (tmp_path / name for name in ("a b.svs", "images/a b.svs", "project/copies/a b.svs"))
    for path in (original, beside, copy):
        path.touch()
    project = tmp_path / "project"
    assert image_file(original.as_uri(), "", project) == original
    old = "file:/C:/Users/me/project/project.qpproj"
    assert image_file("file:/C:/Users/me/images/a%20b.svs", old, project) == beside
    assert image_file("file:///elsewhere/a%20b.svs", old, project) == copy
    shutil.copy(copy, project / "a b.svs")
    assert image_file("file:///elsewhere/a%20b.svs", old, project) is None  # two of its name


def test_all_that_does_not_match_is_reported_at_once(qupath):
    annotations = qupath.folder / "annotations"
    (annotations / "case 1.svs.geojson").rename(annotations / "cas 1.svs.geojson")
    shutil.copy(annotations / "case 2.geojson", annotations / "case 2.svs.geojson")
    (qupath.folder.parent / "images/case 3.svs").unlink()
    change(qupath, 4, serverBuilder={"builderType": "rotated", "builder": {"uri": "file:/x.svs"}})
    change(qupath, 5, metadata={"split": "tests"})
    change(qupath, 2, serverBuilder={"builderType": "uri", "uri": "file:/x.vsi", "args": ["--series", "2"]})
    messages = qupath.refused()
    parts = [
        "case 2.geojson: annotates 'case 2.svs', as does",
        "image 'case 2.svs': is not a file but 'series 2 of a file' in QuPath",
        "image 'case 4.svs': is not a file but 'rotated' in QuPath",
        "image 'case 5.svs': split 'tests' is not one of",
        "cas 1.svs.geojson: the project has no image 'cas 1.svs'",
        "image 'case 3.svs': there is no file file:/old place/images/case 3.svs",
        "--partial",
    ]
    assert len(messages) == len(parts)
    for message, part in zip(messages, parts, strict=True):
        assert part in message


def test_two_images_of_one_name_are_distinguished_by_their_extension(qupath):
    shutil.copy(qupath.folder.parent / "images/case 1.svs", qupath.folder.parent / "images/case 2.tif")
    uri = "file:/old%20place/images/case%202.tif"
    change(qupath, 1, imageName="case 2.tif", serverBuilder={"builderType": "uri", "uri": uri})
    annotations = qupath.folder / "annotations"
    (annotations / "case 1.svs.geojson").rename(annotations / "case 2.tif.geojson")
    (annotations / "case 2.geojson").rename(annotations / "case 2.svs.geojson")
    qupath.make()
    assert {name: slide.annotation.name for name, slide in qupath.slides.items() if "case_2" in name} == {
        "case_2.tif": "case 2.tif.geojson",
        "case_2.svs": "case 2.svs.geojson",
    }


@pytest.mark.parametrize("content", ["{", '{"images": [{}]}', "[]"])
def test_what_is_not_a_project_is_refused(qupath, content):
    (qupath.folder / "project.qpproj").write_text(content)
    (message,) = qupath.refused()
    assert "project.qpproj: is not a project of QuPath 0.2 or later" in message


def test_a_folder_without_a_project_is_refused(qupath):
    (qupath.folder / "project.qpproj").unlink()
    (message,) = qupath.refused()
    assert "has 0 files *.qpproj" in message


def test_regions_and_classes_as_exported(qupath, monkeypatch):
    qupath.make()
    shutil.copytree(qupath.folder.parent, Path(qupath.folder.parents[1]) / "qupath")
    expected = np.full((256, 256), 255, np.uint8)
    expected[:192, :192] = 0
    expected[32:96, 32:96] = 1
    qupath.out = qupath.folder.parents[1] / "qupath/slides.csv"
    for slide in ("case_1", "case_2"):
        np.testing.assert_array_equal(qupath.labels(slide, monkeypatch), expected)
