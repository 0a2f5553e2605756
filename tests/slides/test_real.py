"""Slides and annotations that others wrote."""

import shutil
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
from PIL import Image

from stedm.config import Annotations, CheckOptions, Patches
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import UnreadableSlide, open_slide
from stedm.slides.check import check_slides
from stedm.slides.patches import extract_patches
from stedm.store import PatchFile

pytestmark = pytest.mark.real_data


def run(tmp_path, slide, classes, patches):
    options = CheckOptions(classes=classes, annotations=Annotations(), patches=patches, strict=True)
    check_slides(options, [slide], out=tmp_path / "check.csv")
    out = tmp_path / "s.h5"
    extract_patches(options, slide, out=out, overview=tmp_path / "s.png")
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
    options = CheckOptions(classes=classes, annotations=Annotations(), patches=Patches(size=64, mpp=1), strict=True)
    with pytest.raises(UserError, match="no resolution"):
        check_slides(options, [Slide("s", "p", path)], out=tmp_path / "c.csv")
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
    options = CheckOptions(classes=classes, annotations=Annotations(), patches=Patches(size=64, mpp=0.5), strict=False)
    check_slides(options, slides, out=tmp_path / "check.csv")
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


def test_a_copy_in_another_place_gives_the_same_patches(tmp_path, real_data, classes):
    path = Path(shutil.copy(real_data / "slides/cmu-1-small-region.svs", tmp_path / "copy ü.svs"))
    options = Patches(size=128, mpp=2.0)
    first = run(tmp_path, Slide("s", "p", path), classes, options).fingerprint
    second = run(tmp_path, Slide("s", "p", real_data / "slides/cmu-1-small-region.svs"), classes, options).fingerprint
    assert first == second
