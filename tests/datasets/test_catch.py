import numpy as np
import pytest


@pytest.fixture
def catch(data_set):
    return data_set("catch")


def test_patients_subtypes_and_the_authors_split(catch):
    assert catch.make().endswith("7 slides of 6 patients (4 annotated, 2 test, 1 validation)\n")
    slides = catch.slides
    assert {name: (slide.patient, slide.group, slide.split) for name, slide in slides.items()} == {
        "MCT_01_1": ("MCT_01", "MCT", "annotated"),
        "MCT_02_1": ("MCT_02", "MCT", "annotated"),
        "MCT_02_2": ("MCT_02", "MCT", "annotated"),
        "PNST_01_1": ("PNST_01", "PNST", "annotated"),
        "PNST_02_1": ("PNST_02", "PNST", "validation"),
        "MCT_03_1": ("MCT_03", "MCT", "test"),
        "PNST_03_1": ("PNST_03", "PNST", "test"),
    }
    assert {slide.annotation for slide in slides.values()} == {catch.folder / "CATCH.json"}


def test_slides_may_lie_in_subfolders(catch):
    (catch.folder / "images").mkdir()
    (catch.folder / "MCT_01_1.svs").rename(catch.folder / "images/MCT_01_1.svs")
    catch.make()
    assert catch.slides["MCT_01_1"].path == catch.folder / "images/MCT_01_1.svs"
    assert "\nMCT_01_1,MCT_01,images/MCT_01_1.svs,CATCH.json," in catch.out.read_text()


def test_slides_not_downloaded_are_refused_or_left_out(catch):
    for name in ("MCT_01_1", "PNST_03_1"):
        (catch.folder / f"{name}.svs").unlink()
    first, second, remedy = catch.refused()
    assert "has no slide MCT_01_1.svs" in first and "has no slide PNST_03_1.svs" in second and "--partial" in remedy
    catch.make("--partial")
    assert len(catch.slides) == 5


def test_all_that_does_not_match_is_reported_at_once(catch):
    (catch.folder / "MCT_01_1.svs").rename(catch.folder / "MCT_99_1.svs")
    table, coco = catch.folder / "datasets.csv", catch.folder / "CATCH.json"
    table.write_text(table.read_text().replace("PNST_01_1.svs;train", "PNST_01_1.svs;training"))
    coco.write_text(coco.read_text().replace("PNST_03_1.svs", "PNST_04_1.svs"))
    messages = catch.refused("--partial")
    parts = [
        "datasets.csv, PNST_01_1.svs: Dataset 'training' is not one of train, val, test",
        "CATCH.json: has no image 'PNST_03_1.svs'",
        "CATCH.json: 'PNST_04_1.svs' is not in",
        "MCT_99_1.svs: is not in",
    ]
    assert len(messages) == len(parts)
    for message, part in zip(messages, parts, strict=True):
        assert part in message


@pytest.mark.parametrize(("name", "content"), [("datasets.csv", "Slide,Dataset\n1,2\n"), ("CATCH.json", "{")])
def test_unreadable_lists_are_refused(catch, name, content):
    (catch.folder / name).write_text(content)
    (message,) = catch.refused()
    assert f"{name}: cannot be read" in message
    (catch.folder / name).unlink()
    (message,) = catch.refused()
    assert f"{name}: cannot be read" in message


def test_the_tumour_lies_on_the_dermis_around_it(catch, monkeypatch):
    catch.make()
    expected = np.zeros((256, 256), np.uint8)
    expected[64:192, 64:192] = 1
    for slide in ("MCT_02_2", "PNST_03_1"):
        np.testing.assert_array_equal(catch.labels(slide, monkeypatch), expected)
