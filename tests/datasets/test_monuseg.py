import shutil

import numpy as np
import pytest


@pytest.fixture
def monuseg(data_set):
    return data_set("monuseg")


def test_patients_and_the_challenges_test(monuseg):
    monuseg.make()
    found = {slide.patient: (slide.mpp, slide.split) for slide in monuseg.slides.values()}
    train = dict.fromkeys(("TCGA-18-5592", "TCGA-A7-A13E", "TCGA-A7-A13F"), (0.25, "annotated"))
    assert found == train | {"TCGA-2Z-A9J9": (0.25, "test")}


def test_what_archives_of_macos_add_is_passed_over(monuseg):
    for path in list(monuseg.folder.rglob("*.tif")):
        added = monuseg.folder / "__MACOSX" / f"._{path.name}"
        added.parent.mkdir(exist_ok=True)
        added.write_bytes(b"\0")
    monuseg.make()
    assert len(monuseg.slides) == 4


def test_all_that_does_not_match_is_reported_at_once(monuseg):
    train = monuseg.folder / "MoNuSeg 2018 Training Data"
    (train / "Tissue Images/TCGA-18-5592-01Z-00-DX1.tif").unlink()
    (train / "Annotations/TCGA-A7-A13E-01Z-00-DX1.xml").unlink()
    shutil.copytree(monuseg.folder / "MoNuSegTestData", monuseg.folder / "copy")
    messages = monuseg.refused()
    parts = [
        "TCGA-2Z-A9J9-01A-01-TS1.tif: has the same name as",
        "TCGA-2Z-A9J9-01A-01-TS1.xml: has the same name as",
        "TCGA-A7-A13E-01Z-00-DX1.tif: has no annotation",
        "TCGA-18-5592-01Z-00-DX1.xml: has no image",
        "--partial",
    ]
    assert len(messages) == len(parts)
    for message, part in zip(messages, parts, strict=True):
        assert part in message


def test_nuclei_and_the_tissue_between_them(monuseg, monkeypatch):
    monuseg.make()
    expected = np.zeros((256, 256), np.uint8)
    expected[64:96, 64:96] = 1
    np.testing.assert_array_equal(monuseg.labels("TCGA-18-5592-01Z-00-DX1", monkeypatch), expected)
