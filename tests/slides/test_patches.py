import json

import cv2
import h5py
import numpy as np
import openslide
import pytest
from PIL import Image

from stedm.config import Annotations, CheckOptions, Patches, PatchesOptions
from stedm.sheet import Slide
from stedm.slides import overview as overview_module
from stedm.slides import patches as patches_module
from stedm.slides.check import check_slides
from stedm.slides.patches import extract_patches
from stedm.store import PatchFile


@pytest.fixture
def extract(tmp_path, classes):
    """Check a slide, extract its patches, and return the patch file."""

    def run(slide, spoil=None, annotations=None, strict=False, **options):
        patches, annotations = Patches(**options), annotations or Annotations()
        options = CheckOptions(classes=classes, annotations=annotations, patches=patches, strict=strict)
        check_slides(options, [slide], out=tmp_path / "check.csv")
        if spoil:
            spoil()
        out, overview = tmp_path / "out/s1.h5", tmp_path / "out/s1.png"
        options = PatchesOptions(classes=classes, annotations=annotations, patches=patches)
        count = extract_patches(options, slide, out=out, overview=overview)
        assert {item.name for item in out.parent.iterdir()} == {
            "s1.h5",
            "s1.png",
            ".stedm",
        }  # nothing half-written stays
        assert count == len(PatchFile(out))
        return PatchFile(out)

    return run


@pytest.fixture
def noise():
    """(512, 384, 3) of saturated noise: each pixel tells where it is from."""
    image = np.random.default_rng(0).integers(0, 200, (512, 384, 3), dtype=np.uint8)
    image[:, :, 0] = 255
    return image


def test_patches_are_the_slides_pixels_with_the_annotations_labels(tmp_path, tiff, geojson, extract, noise):
    path = tiff(tmp_path / "s1.tif", noise, mpp=0.5)
    annotation = geojson(tmp_path / "s1.geojson", ("Region*", (0, 0, 200, 200)), ("Tumor", (30, 40, 100, 150)))
    slide = Slide("s1", "p1", path, annotation, group="solid", split="annotated")
    patches = extract(slide, annotations=Annotations(fill="stroma"), size=64, mpp=0.5)
    truth = np.full((512, 384), 255, np.uint8)
    truth[:200, :200] = 0
    truth[40:150, 30:100] = 1
    assert len(patches) == 8 * 6
    assert patches.coords[:2].tolist() == [[0, 0], [64, 0]]
    for index, (x, y) in enumerate(patches.coords):
        np.testing.assert_array_equal(patches.image(index), noise[y : y + 64, x : x + 64])
        np.testing.assert_array_equal(patches.labels(index), truth[y : y + 64, x : x + 64])
    assert patches.class_fractions.sum(0) * 64**2 == pytest.approx([(truth == 0).sum(), (truth == 1).sum()])
    assert patches.annotated.sum() == 4 * 4
    assert patches.tissue == pytest.approx(1)


def test_coordinates_are_level_0_at_a_coarser_resolution(tmp_path, tiff, geojson, extract, noise):
    path = tiff(tmp_path / "s1.tif", noise, mpp=0.25)
    slide = Slide("s1", "p1", path, geojson(tmp_path / "a.geojson", ("Tumor", (64, 96, 192, 224))))
    patches = extract(slide, size=32, mpp=0.5, overlap=8)
    assert sorted(set(patches.coords[:, 0])) == list(range(0, 384 - 63, 48))
    assert sorted(set(patches.coords[:, 1])) == list(range(0, 512 - 63, 48))
    half = cv2.resize(noise, (192, 256), interpolation=cv2.INTER_AREA)
    truth = np.full((256, 192), 255, np.uint8)
    truth[48:112, 32:96] = 1
    for index, (x, y) in enumerate(patches.coords // 2):
        np.testing.assert_array_equal(patches.image(index), half[y : y + 32, x : x + 32])
        np.testing.assert_array_equal(patches.labels(index), truth[y : y + 32, x : x + 32])
    attributes = patches.attributes
    assert (attributes["mpp"], attributes["level0_mpp"], attributes["mpp_source"]) == (0.5, 0.25, "slide")
    assert (attributes["level"], attributes["downsample"]) == (0, 2.0)


def test_a_resolution_between_levels_keeps_its_place_to_the_last_patch(tmp_path, tiff, extract):
    ramp = np.zeros((256, 2048, 3), np.uint8)
    ramp[:, :, 0] = 255
    ramp[:, :, 1] = np.arange(2048) // 8
    patches = extract(Slide("s1", "p1", tiff(tmp_path / "s1.tif", ramp, mpp=0.499)), size=64, mpp=0.7)
    downsample = 0.7 / 0.499
    for index, (x, _) in enumerate(patches.coords):
        centres = x + (np.arange(64) + 0.5) * downsample
        assert np.abs(patches.image(index)[0, :, 1] - centres / 8 + 0.5).max() < 0.7
    assert patches.coords[:, 0].max() == round((int(2048 / downsample) // 64 - 1) * 64 * downsample)


def test_only_tissue_is_kept(tmp_path, tiff, extract, tissue_image):
    slide = Slide("s1", "p1", tiff(tmp_path / "s1.tif", tissue_image, mpp=4.0))
    patches = extract(slide, size=32, mpp=4.0, min_tissue=0.5)
    disc = cv2.circle(np.zeros((512, 512), np.float32), (256, 256), 150, 1, -1)
    shares = disc.reshape(16, 32, 16, 32).mean((1, 3))
    found = {(x // 32, y // 32): share for (x, y), share in zip(patches.coords.tolist(), patches.tissue, strict=True)}
    for (x, y), share in found.items():
        assert share == pytest.approx(shares[y, x], abs=0.08)
    clear = np.abs(shares - 0.5) > 0.08
    kept = np.array([[(x, y) in found for x in range(16)] for y in range(16)])
    np.testing.assert_array_equal(kept[clear], shares[clear] > 0.5)


def test_attributes_tell_where_a_patch_file_is_from(tmp_path, tiff, extract, noise):
    slide = Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5), group="solid", split="test")
    attributes = extract(slide, size=64, mpp=0.5).attributes
    expected = {
        "slide": "s1", "patient": "p1", "group": "solid", "split": "test", "status": "ok", "problem": "",
        "patch_size": 64, "level0_width": 384, "level0_height": 512, "reader": "openslide generic-tiff",
    }  # fmt: skip
    assert {key: attributes[key] for key in expected} == expected
    assert json.loads(attributes["options"])["patches"]["size"] == 64
    assert attributes["software"].startswith("stedm ")
    assert len(attributes["source_fingerprint"]) == 64
    assert list(attributes["class_names"]) == ["stroma", "tumour"]


def test_clam_reads_the_same_patches_from_the_coordinates(tmp_path, tiff, extract, noise):
    path = tiff(tmp_path / "s1.tif", noise, 0.25, [noise[::2, ::2]])
    extract(Slide("s1", "p1", path), size=32, mpp=0.5)
    with h5py.File(tmp_path / "out/s1.h5") as file, openslide.open_slide(path) as slide:
        level, size = int(file["coords"].attrs["patch_level"]), int(file["coords"].attrs["patch_size"])
        assert (level, size) == (1, 32)
        for corner, image in zip(file["coords"][()], file["imgs"][()], strict=True):
            region = slide.read_region(tuple(map(int, corner)), level, (size, size)).convert("RGB")
            np.testing.assert_array_equal(np.asarray(region), image)


def test_trident_finds_its_attributes(tmp_path, tiff, extract, noise):
    extract(Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5)), size=32, mpp=1.5, overlap=4)
    with h5py.File(tmp_path / "out/s1.h5") as file:
        attributes = dict(file["coords"].attrs)
    assert attributes["patch_size"] == 32
    assert attributes["patch_size_level0"] == 96
    assert attributes["level0_magnification"] == pytest.approx(20)
    assert attributes["target_magnification"] == pytest.approx(20 / 3)
    assert attributes["overlap"] == 4
    assert (attributes["level0_width"], attributes["level0_height"]) == (384, 512)
    assert attributes["name"] == "s1"
    assert {"savetodir", "save_path", "downsample", "level_dim", "downsampled_level_dim"} <= set(attributes)


def test_images_without_a_scale_are_cut_at_their_own_level(tmp_path, extract, noise):
    Image.fromarray(noise[:200, :200]).save(tmp_path / "s1.png")
    mask = np.zeros((200, 200), np.uint16)
    mask[50:60, 70:90] = 9
    Image.fromarray(mask).save(tmp_path / "m.png")
    patches = extract(Slide("s1", "p1", tmp_path / "s1.png", tmp_path / "m.png"), size=64, level=0, tissue=None)
    assert patches.coords.tolist() == [[x, y] for y in (0, 64, 128) for x in (0, 64, 128)]
    np.testing.assert_array_equal(patches.labels(1), mask[:64, 64:128] > 0)
    assert np.isnan(patches.attributes["mpp"])
    assert patches.attributes["reader"] == "pillow png"


def test_an_unannotated_slides_labels_are_255_and_take_no_space(tmp_path, tiff, extract, noise):
    patches = extract(Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5)), size=64, mpp=0.5)
    assert (patches.labels(3) == 255).all()
    assert patches.file["labels"].id.get_storage_size() == 0
    assert not patches.annotated.any()


def test_extraction_twice_gives_the_same_fingerprint(tmp_path, tiff, extract, noise):
    slide = Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5))
    first, second = (extract(slide, size=64, mpp=0.5).fingerprint for _ in range(2))
    assert first == second


def test_a_patch_on_a_broken_tile_is_left_out_and_counted(tmp_path, tiff, extract, noise, break_tile):
    path = tiff(tmp_path / "s1.tif", noise, 0.5, [noise[::4, ::4]])
    patches = extract(Slide("s1", "p1", path), spoil=lambda: break_tile(path, 14), size=64, mpp=0.5, tissue=None)
    assert len(patches) == 47
    assert patches.attributes["status"] == "incomplete"
    assert patches.attributes["problem"] == "1 of 48 patches dropped: broken tiles"
    for index, (x, y) in enumerate(patches.coords):  # OpenSlide reads again after its error
        np.testing.assert_array_equal(patches.image(index), noise[y : y + 64, x : x + 64])


def test_a_slide_that_breaks_after_the_check_is_quarantined(tmp_path, tiff, extract, noise, break_tile):
    path = tiff(tmp_path / "s1.tif", noise[:128, :128], 0.5)

    def spoil():
        for tile in range(4):
            break_tile(path, tile)

    patches = extract(Slide("s1", "p1", path), spoil=spoil, size=64, mpp=0.5, tissue=None)
    assert len(patches) == 0
    assert patches.attributes["status"] == "quarantined"
    assert "4 of 4 patches dropped: broken tiles" in patches.attributes["problem"]
    assert patches.file["imgs"].shape == (0, 64, 64, 3)
    assert Image.open(tmp_path / "out/s1.png").size[0] > 100


def test_a_slide_without_enough_tissue_says_so(tmp_path, tiff, extract, tissue_image):
    slide = Slide("s1", "p1", tiff(tmp_path / "s1.tif", tissue_image, mpp=4.0))
    patches = extract(slide, size=256, mpp=4.0, min_tissue=0.9)
    assert len(patches) == 0
    assert patches.attributes["status"] == "no tissue"
    assert "patches.min_tissue" in patches.attributes["problem"]


def test_the_overview_shows_slide_annotation_and_grid(tmp_path, tiff, geojson, extract, tissue_image):
    path = tiff(tmp_path / "s1.tif", tissue_image, mpp=4.0)
    slide = Slide("s1", "p1", path, geojson(tmp_path / "a.geojson", ("Tumor", (200, 200, 300, 300))))
    extract(slide, size=64, mpp=4.0)
    picture = np.asarray(Image.open(tmp_path / "out/s1.png").convert("RGB")).astype(int)
    assert picture.shape[0] >= 512

    def has(colour, within=12):
        return (np.abs(picture - colour).max(2) <= within).sum() > 50

    assert has((220, 120, 180))  # tissue as it is
    assert has((245, 245, 245), 2)  # glass
    assert has((0x00, 0x7A, 0x33), 40)  # its outline
    assert has((200, 50, 50), 40)  # outline of the tumour
    assert has((214, 99, 141))  # tinted inside: 0.7 × tissue + 0.3 × the class's colour


def test_patches_beside_the_annotation_take_no_space_for_labels(tmp_path, tiff, geojson, extract, noise):
    path = tiff(tmp_path / "s1.tif", noise, mpp=0.5)
    patches = extract(
        Slide("s1", "p1", path, geojson(tmp_path / "a.geojson", ("Tumor", (0, 0, 90, 30)))), size=64, mpp=0.5
    )
    assert len(patches) == 48
    assert patches.file["labels"].id.get_num_chunks() == 2


def test_a_slide_that_may_not_be_read_is_quarantined(tmp_path, tiff, extract, noise, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    texts = []
    monkeypatch.setattr(overview_module, "write", lambda image, position, text, *rest: texts.append(text))
    slide = Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5))
    patches = extract(slide, lambda: monkeypatch.setattr(patches_module, "file_fingerprint", refuse), size=64, mpp=0.5)
    assert len(patches) == 0
    assert patches.attributes["status"] == "quarantined"
    assert "Permission denied" in patches.attributes["problem"] and "s1.tif" in patches.attributes["problem"]
    assert any("quarantined" in text for text in texts)
    assert "s1" not in "".join(texts)  # which the contact sheet would show


def test_a_full_disk_is_no_fault_of_the_slide(tmp_path, tiff, extract, noise, monkeypatch):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(patches_module, "write_patches", refuse)
    with pytest.raises(OSError, match="No space left"):
        extract(Slide("s1", "p1", tiff(tmp_path / "s1.tif", noise, mpp=0.5)), size=64, mpp=0.5)
