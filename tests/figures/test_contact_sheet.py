import re

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stedm.figures import contact_sheet
from stedm.figures.contact_sheet import layout, plot_contact_sheet
from stedm.sheet import Slide, write_sheet
from stedm.slides import overview
from stedm.store import write_patches

BROKEN = 3


@pytest.fixture
def study(tmp_path):
    """Makes a study of slides of one colour each; slide 3 is quarantined."""

    def make(count):
        slides = [
            Slide(f"S{number}", f"P{number // 2}", tmp_path / f"none{number}.svs", group="solid")
            for number in range(count)
        ]
        write_sheet(tmp_path / "slides.csv", slides)
        (tmp_path / "overviews").mkdir()
        for number, slide in enumerate(slides):
            status = "quarantined" if number == BROKEN else "ok"
            patches = [] if number == BROKEN else [(np.zeros((16, 16, 3), np.uint8), None, (0, 0), 1.0)]
            attributes = {"slide": slide.slide, "patient": slide.patient, "group": "solid", "status": status}
            write_patches(tmp_path / f"patches/{slide.slide}.h5", patches, 16, ["a"], attributes)
            picture = np.zeros((120, 200, 3), np.uint8)  # black title and legend around the slide
            picture[20:120, 0:100] = colour(number)
            info = PngInfo()
            info.add_text(overview.PICTURE, "0 20 100 120")
            Image.fromarray(picture).save(tmp_path / f"overviews/{slide.slide}.png", pnginfo=info)
        plot_contact_sheet(
            tmp_path / "slides.csv", tmp_path / "patches", tmp_path / "overviews", out=tmp_path / "figures/sheet.png"
        )
        return np.asarray(Image.open(tmp_path / "figures/sheet.png")), (tmp_path / "figures/sheet.pdf").read_bytes()

    return make


@pytest.fixture
def written(monkeypatch):
    """Texts that were written."""
    texts = []
    write = overview.write

    def record(image, position, text, *rest):
        texts.append(text)
        write(image, position, text, *rest)

    monkeypatch.setattr(overview, "write", record)
    return texts


def colour(number):
    return 250, 5 * number, 200


def found(page, number):
    """Middle (x, y) of the picture of a slide, and how many pixels it has."""
    y, x = np.nonzero((page == colour(number)).all(2))
    return (x.mean(), y.mean(), len(x)) if len(x) else None


def test_each_slide_is_there_once_and_the_broken_one_first(study, written):
    page, pdf = study(6)
    places = [found(page, number) for number in range(6)]
    order = sorted(range(6), key=lambda number: (round(places[number][1], -1), places[number][0]))
    assert order == [3, 0, 1, 2, 4, 5]
    assert len({round(y, -1) for _, y, _ in places}) == 2  # two rows of three
    assert (page == 0).all(2).mean() < 0.01  # titles and legends are cut off
    assert "6 slides of 3 patients, 5 patches; 5 ok, 1 quarantined" in written
    assert {"S3", "P1 · solid", "0 patches, quarantined", "1 patch"} <= set(written)
    assert re.findall(rb"/Count (\d+)", pdf)[-1] == b"1"


def test_many_slides_are_in_the_pdf_and_the_figure_says_so(study, written):
    page, pdf = study(50)
    assert re.findall(rb"/Count (\d+)", pdf)[-1] == b"3"
    assert sum(found(page, number) is not None for number in range(50)) == 24
    (note,) = [text for text in written if "all pages" in text]
    assert note.endswith("page 1 of 3 (all pages: sheet.pdf)")
    assert {f"S{number}" for number in range(50)} <= set(written)


def test_the_same_study_gives_the_same_files(study, tmp_path, monkeypatch):
    _, first = study(2)
    monkeypatch.setattr("time.time", lambda: 1e9)
    plot_contact_sheet(
        tmp_path / "slides.csv", tmp_path / "patches", tmp_path / "overviews", out=tmp_path / "again.png"
    )
    assert (tmp_path / "again.pdf").read_bytes() == first


@pytest.mark.parametrize(
    ("slides", "shape"), [(1, (1, 1)), (2, (2, 1)), (6, (3, 2)), (7, (4, 2)), (16, (6, 3)), (24, (6, 4))]
)
def test_few_slides_are_shown_large(slides, shape):
    assert layout(slides) == shape


def test_long_names_end_in_an_ellipsis():
    assert contact_sheet.shortened("TCGA-CR-7395", 12) == "TCGA-CR-7395"
    assert contact_sheet.shortened("TCGA-CR-7395", 8) == "TCGA-CR…"
