import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from stedm.config import Patches
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import UnreadableSlide, open_slide
from stedm.slides import open as open_module
from stedm.slides.annotations.mask import read_values


def slide(path, **values):
    return Slide("s1", "p1", path, **values)


def coloured(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def test_checkerboard_becomes_grey_at_half_the_resolution(tmp_path, tiff):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    path = tiff(tmp_path / "a.tif", np.repeat(board[:, :, None], 3, 2), mpp=0.25)
    with open_slide(slide(path), Patches(size=32, mpp=0.5)) as opened:
        assert (opened.mpp_source, opened.level) == ("slide", 0)
        assert opened.downsample == pytest.approx(2)
        region = opened.read_region(64, 64, 32, 32, opened.downsample)
    assert region.shape == (32, 32, 3)
    assert set(np.unique(region)) <= {127, 128}


def test_level_of_the_asked_resolution_is_read_as_it_is(tmp_path, tiff):
    rng = np.random.default_rng(0)
    half = rng.integers(0, 256, (127, 127, 3), dtype=np.uint8)
    path = tiff(tmp_path / "a.tif", coloured(255, 255, 9), 0.25, [half])
    with open_slide(slide(path), Patches(size=32, mpp=0.5)) as opened:
        assert opened.level == 1
        assert opened.downsample == opened.level_downsamples[1] == pytest.approx(255 / 127)
        assert opened.patch_mpp == pytest.approx(0.25 * 255 / 127)
        np.testing.assert_array_equal(opened.read_region(0, 0, 32, 32, opened.downsample), half[:32, :32])


def test_other_resolutions_come_from_the_next_finer_level(tmp_path, tiff):
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, ::4] = 200  # a quarter of the columns: mean 50
    path = tiff(tmp_path / "a.tif", coloured(256, 256, 9), 0.25, [half])
    with open_slide(slide(path), Patches(size=16, mpp=2.0)) as opened:
        assert opened.level == 1
        assert set(np.unique(opened.read_region(0, 0, 16, 16, opened.downsample))) == {50}


def test_large_regions_are_read_in_parts_with_the_same_pixels(tmp_path, tiff, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    path = tiff(tmp_path / "a.tif", image)
    monkeypatch.setattr(open_module, "BLOCK", 1000)
    with open_slide(slide(path)) as opened:
        sizes = []
        read = opened._read
        monkeypatch.setattr(opened, "_read", lambda x, y, level, w, h: sizes.append(w * h) or read(x, y, level, w, h))
        region = opened.read_region(0, 0, 65, 75, 4.0)
    assert len(sizes) > 70
    assert max(sizes) <= 1000
    np.testing.assert_array_equal(region, cv2.resize(image, (65, 75), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_beyond_the_slide_is_white(tmp_path, tiff, name):
    path = tmp_path / name
    if name == "a.tif":
        tiff(path, coloured(100, 100, 10))
    else:
        Image.fromarray(coloured(100, 100, 10)).save(path)
    with open_slide(slide(path)) as opened:
        region = opened.read_region(-10, 90, 20, 20)
        assert (opened.read_region(300, 300, 4, 4) == 255).all()
    assert (region[:10, 10:] == 10).all()
    assert (region[10:] == 255).all()
    assert (region[:, :10] == 255).all()


def test_transparent_pixels_are_white(tmp_path):
    pixels = np.full((20, 20, 4), (200, 0, 0, 255), np.uint8)
    pixels[:, 10:] = (0, 0, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(slide(tmp_path / "a.png")) as opened:
        region = opened.read_region(0, 0, 20, 20)
    assert (region[:, :10] == (200, 0, 0)).all()
    assert (region[:, 10:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_ordinary_images_of_any_kind_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (32, 24), (255, 255, 255)).convert(mode).save(path)
    with open_slide(slide(path), Patches(size=16, level=0)) as opened:
        assert opened.dimensions == (32, 24)
        assert (opened.read_region(0, 0, 32, 24) == 255).all()
        assert opened.mpp_source == "none"


def test_resolution_comes_from_the_sheet_where_the_file_has_none(tmp_path, tiff):
    path = tiff(tmp_path / "a.tif", coloured(64, 64, 9))
    patches = Patches(size=16, mpp=0.5)
    with open_slide(slide(path, mpp=0.25), patches) as opened:
        assert (opened.mpp, opened.mpp_source, opened.downsample) == (0.25, "sheet", 2.0)
    with pytest.raises(UserError, match=r"s1.*no resolution.*column \"mpp\".*patches\.level"):
        open_slide(slide(path), patches)


def test_a_given_resolution_overrules_the_files_and_a_note_names_both(tmp_path, tiff):
    wrong = tiff(tmp_path / "a.tif", coloured(64, 64, 9), mpp=0.5)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", dpi=(2400, 2400))  # of a figure
    stretched = tmp_path / "b.tif"
    tifffile.imwrite(stretched, coloured(64, 64, 9), resolution=(20_000, 40_000), resolutionunit="CENTIMETER")
    for path, said in ((wrong, "0.5"), (tmp_path / "a.png", "10.58"), (stretched, "0.5 × 0.25")):
        with open_slide(slide(path, mpp=0.3), Patches(size=16, mpp=0.6)) as opened:
            assert (opened.mpp, opened.mpp_source, opened.downsample) == (0.3, "sheet", 2.0)
            (note,) = opened.notes
            assert f"the file says {said}" in note and "0.3, which is used" in note
    with open_slide(slide(wrong, mpp=0.501)) as opened:  # the same
        assert (opened.mpp, opened.mpp_source, opened.notes) == (pytest.approx(0.5), "slide", [])


@pytest.mark.parametrize("mpp", [0.0005, 500])
def test_resolutions_that_no_microscope_has_are_not_believed(tmp_path, tiff, mpp):
    path = tiff(tmp_path / "a.tif", coloured(64, 64, 9), mpp=mpp)
    patches = Patches(size=16, mpp=0.5)
    with pytest.raises(UserError, match=rf"no resolution\. The file says {mpp} µm/px, which no microscope has"):
        open_slide(slide(path), patches)
    with open_slide(slide(path, mpp=0.5), patches) as opened:
        assert (opened.mpp, opened.notes) == (0.5, [])
    with pytest.raises(UserError, match=rf"{mpp} µm/px are given, which no microscope has \(0\.02 to 20\)"):
        open_slide(slide(path, mpp=mpp), patches)


def test_dots_per_inch_of_print_are_no_resolution(tmp_path, tiff):
    with open_slide(slide(tiff(tmp_path / "a.tif", coloured(64, 64, 9), mpp=25_400 / 72))) as opened:
        assert opened.mpp is None
    for dpi, mpp in ((72, None), (50_800, 0.5)):
        Image.new("RGB", (32, 32)).save(tmp_path / "a.png", dpi=(dpi, dpi))
        with open_slide(slide(tmp_path / "a.png")) as opened:
            assert opened.mpp == (mpp and pytest.approx(mpp, rel=1e-4))


def test_asking_for_more_than_the_slide_has_is_refused(tmp_path, tiff):
    path = tiff(tmp_path / "a.tif", coloured(64, 64, 9), mpp=0.5)
    with pytest.raises(UserError, match=r"has 0\.5 µm/px.*finer 0\.25"):
        open_slide(slide(path), Patches(size=16, mpp=0.25))
    with pytest.raises(UserError, match=r"no level 2, its levels are 0 to 0"):
        open_slide(slide(path), Patches(size=16, level=2))
    with open_slide(slide(path), Patches(size=16, mpp=0.495)) as opened:  # within the tolerance
        assert opened.downsample == 1.0


def test_pixels_that_are_not_square_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        coloured(64, 64, 9),
        tile=(64, 64),
        photometric="rgb",
        metadata=None,
        resolution=(20_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    with pytest.raises(UserError, match="not square"):
        open_slide(slide(tmp_path / "a.tif"))


def test_instance_masks_are_no_slides(tmp_path):
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 9).save(tmp_path / "a.png")
    with pytest.raises(UnreadableSlide, match=r"16 bits a channel.*annotation"):
        open_slide(slide(tmp_path / "a.png"))


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "text.svs").write_text("no slide")
    (tmp_path / "empty.tif").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    (tmp_path / "folder.svs").mkdir()
    for name in ("text.svs", "empty.tif", "cut.png", "folder.svs", "missing.svs"):
        with pytest.raises(UnreadableSlide, match=name):
            open_slide(slide(tmp_path / name))


def test_a_broken_tile_is_an_error_and_no_white_patch(tmp_path, tiff, break_tile):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    path = tiff(tmp_path / "a.tif", noise, levels=[noise[::4, ::4]])
    break_tile(path, 5)  # the second of the second row
    with open_slide(slide(path)) as opened:
        np.testing.assert_array_equal(opened.read_region(0, 0, 64, 64), noise[:64, :64])
        with pytest.raises(UnreadableSlide, match="broken at x 64, y 64, level 0"):
            opened.read_region(64, 64, 64, 64)


def test_thumbnails_keep_the_shape_of_the_slide(tmp_path, tiff):
    path = tiff(tmp_path / "a.tif", coloured(200, 400, 9))
    with open_slide(slide(path)) as opened:
        image, downsample = opened.thumbnail(100)
        assert (image.shape, downsample) == ((50, 100, 3), 4.0)
        assert opened.thumbnail(4000)[0].shape == (200, 400, 3)


def test_images_of_more_than_179_megapixels_are_no_attack(tmp_path):
    """Pillow refuses them, unless it is told not to."""
    Image.new("1", (13_400, 13_400)).save(tmp_path / "a.png")
    with open_slide(slide(tmp_path / "a.png")) as opened:
        assert opened.dimensions == (13_400, 13_400)
    assert read_values(tmp_path / "a.png", most=13_400**2).shape == (13_400, 13_400)
