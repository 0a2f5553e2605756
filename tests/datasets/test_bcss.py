import numpy as np
import pytest


@pytest.fixture
def bcss(data_set):
    return data_set("bcss")


def test_patients_resolution_and_test_institutions(bcss):
    bcss.make()
    found = {slide.patient: (slide.mpp, slide.split) for slide in bcss.slides.values()}
    train = dict.fromkeys(("TCGA-A1-A0SK", "TCGA-A2-A04P", "TCGA-AR-A1AQ"), (0.25, "annotated"))
    assert found == train | {"TCGA-OL-A5D6": (0.25, "test")}


def test_the_folder_may_be_as_the_authors_script_writes_it(bcss):
    (bcss.folder / "rgbs_colorNormalized").rename(bcss.folder / "images")
    bcss.make()
    assert len(bcss.slides) == 4


def test_outside_of_the_region_and_excluded_is_not_annotated(bcss, monkeypatch):
    bcss.make()
    labels = bcss.labels(next(iter(bcss.slides)), monkeypatch)
    np.testing.assert_array_equal(labels, np.repeat(np.uint8([255, 1, 2, 255]), 64)[None].repeat(256, 0))


def test_all_that_does_not_match_is_reported_at_once(bcss):
    images, masks = bcss.folder / "rgbs_colorNormalized", bcss.folder / "masks"
    first, second, third, _ = sorted(images.glob("*.png"))
    first.unlink()
    (masks / second.name).unlink()
    third.rename(images / "region.png")
    messages = bcss.refused()
    parts = [
        f"{second}: has no mask",
        "region.png: the name must give patient and resolution",
        f"{masks / first.name}: has no image",
        f"{masks / third.name}: has no image",
        "--partial",
    ]
    assert len(messages) == len(parts)
    for message, part in zip(messages, parts, strict=True):
        assert part in message
