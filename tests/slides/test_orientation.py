"""Images that are stored turned or mirrored: slide, mask and overview are upright, or the slide is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from stedm.config import Annotations, Patches, PatchesOptions, TissueClass
from stedm.sheet import Slide
from stedm.slides import UnreadableSlide, open_slide
from stedm.slides.annotations import read_annotation
from stedm.slides.annotations.mask import read_values
from stedm.slides.patches import extract_patches
from stedm.store import PatchFile

STORED = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image.swapaxes(0, 1), 2),
    8: lambda image: np.rot90(image, -1),
}
"""How the upright image is stored, by orientation: 6 says "turn it clockwise to see it"."""
LABELS = np.zeros((96, 160), np.uint8)
LABELS[:48, :80], LABELS[:48, 80:], LABELS[4:12, 10:50] = 1, 2, 3
UPRIGHT = np.array([(60, 80, 190), (200, 60, 90), (70, 180, 90), (20, 20, 20)], np.uint8)[LABELS]
EXACT = (None, "zlib", "lzw", "packbits", "zstd", "webp", "png", "jpegxl")
CLASSES = [TissueClass(name="bar", color="#000000", mask_values=["3"])]


def stored(image, orientation):
    return np.ascontiguousarray(STORED[orientation](image))


def write(path, image, orientation, tiled=False, compression="zlib", **values):
    lossless = {"lossless": True} if compression == "webp" else None
    tifffile.imwrite(
        path,
        stored(image, orientation),
        photometric="rgb" if image.ndim == 3 else "minisblack",
        tile=(32, 32) if tiled else None,
        compression=compression,
        compressionargs=lossless,
        metadata=None,
        extratags=[(274, "H", 1, orientation, True)],
        **values,
    )
    return path


def whole(path):
    with open_slide(Slide("s1", "p1", path)) as opened:
        assert opened.dimensions == (160, 96)
        return opened.read_region(0, 0, 160, 96), opened.notes


@pytest.mark.parametrize("orientation", STORED)
def test_what_is_stored_here_is_what_pillow_turns_back(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(stored(UPRIGHT, orientation))
    image.info["exif"] = exif.tobytes()
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image)), UPRIGHT)


@pytest.mark.parametrize("tiled", [False, True], ids=["striped", "tiled"])
@pytest.mark.parametrize("orientation", STORED)
def test_tiffs_are_read_upright_whatever_their_compression(tmp_path, orientation, tiled):
    for compression in EXACT:
        image, notes = whole(write(tmp_path / "a.tif", UPRIGHT, orientation, tiled, compression))
        np.testing.assert_array_equal(image, UPRIGHT, str(compression))
        assert any(f"orientation {orientation}" in note for note in notes) == (orientation != 1)
    for compression in ("jpeg", "jpeg2000"):
        image, _ = whole(write(tmp_path / "a.tif", UPRIGHT, orientation, tiled, compression))
        assert np.abs(image.astype(int) - UPRIGHT).mean() < 6
    values = write(tmp_path / "a.tif", LABELS, orientation, tiled)
    np.testing.assert_array_equal(read_values(values, most=LABELS.size), LABELS)


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_turns_ordinary_images_and_masks_alike(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(stored(UPRIGHT, orientation)).save(
        path, exif=exif, **{"lossless": True} if ending == "webp" else {}
    )
    image, notes = whole(path)
    assert np.abs(image.astype(int) - UPRIGHT).mean() < (4 if ending == "jpg" else 1e-9)
    assert any(f"orientation {orientation}" in note for note in notes) == (orientation != 1)
    if ending == "png":
        Image.fromarray(stored(LABELS, orientation)).save(path, exif=exif)
        np.testing.assert_array_equal(read_values(path, most=LABELS.size), LABELS)


@pytest.mark.parametrize("orientation", STORED)
def test_patches_labels_and_overview_lie_on_each_other(tmp_path, orientation):
    path = write(tmp_path / "a.tif", UPRIGHT, orientation)
    mask = write(tmp_path / "mask.tif", LABELS, orientation)
    patches = Patches(size=32, level=0, tissue=None)
    out, overview = tmp_path / "a.h5", tmp_path / "a.png"
    options = PatchesOptions(classes=CLASSES, annotations=Annotations(), patches=patches)
    extract_patches(options, Slide("s1", "p1", path, mask), out=out, overview=overview)
    found = PatchFile(out)
    assert len(found) == 15
    for index, (x, y) in enumerate(found.coords.tolist()):
        place = slice(y, y + 32), slice(x, x + 32)
        np.testing.assert_array_equal(found.image(index), UPRIGHT[place])
        np.testing.assert_array_equal(found.labels(index), np.where(LABELS[place] == 3, 0, 255))
    with Image.open(overview) as picture:
        left, top, right, bottom = map(int, picture.text["Picture"].split())
        shown = picture.convert("RGB").crop((left, top, right, bottom)).resize((160, 96))
    assert np.median(np.abs(np.asarray(shown).astype(int) - UPRIGHT)) < 8


def test_a_mask_without_the_tag_is_taken_as_the_slide_is_seen(tmp_path):
    mask = write(tmp_path / "mask.tif", LABELS, 1)
    labels = read_annotation(mask, CLASSES, Annotations(), (160, 96)).rasterise(0, 0, 160, 96, 1.0)
    np.testing.assert_array_equal(labels == 0, LABELS == 3)


@pytest.mark.parametrize("value", [0, 9, 4000])
def test_what_is_no_orientation_turns_nothing(tmp_path, value):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, UPRIGHT, photometric="rgb", extratags=[(274, "H", 1, value, True)])
    np.testing.assert_array_equal(whole(path)[0], UPRIGHT)


def test_slides_too_large_to_be_turned_are_refused_with_tag_and_remedy(tmp_path):
    path = write(tmp_path / "a.tif", UPRIGHT, 6, tiled=True)
    with pytest.raises(UnreadableSlide, match=r"a\.tif.*orientation 6, tag 274.*vips autorot"):
        open_slide(Slide("s1", "p1", path), max_megapixels=0.001)


def test_a_scanners_slide_that_says_it_is_turned_is_refused(tmp_path):
    text = "Aperio Image Library v11\n160x96 (32x32) |AppMag = 20|MPP = 0.5"
    path = write(tmp_path / "a.svs", UPRIGHT, 3, tiled=True, compression="jpeg", description=text)
    with pytest.raises(UnreadableSlide, match=r"a\.svs.*orientation 3, tag 274.*turn its pixels"):
        whole(path)
