import cv2
import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box, mapping

from stedm.config import Tissue
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import open_slide
from stedm.slides.tissue import TissueMask, tissue_mask

PINK = (220, 120, 180)


@pytest.fixture
def found(tmp_path, tiff):
    """Tissue of an image that is 1 µm/px unless said otherwise."""

    def find(image, mpp=1.0, **options):
        with open_slide(Slide("s", "p", tiff(tmp_path / "a.tif", image, mpp))) as opened:
            return tissue_mask(opened, Tissue(**options))

    return find


def glass(size=1024):
    return np.full((size, size, 3), 245, np.uint8)


def test_a_disc_is_found_to_the_pixel_of_the_mask(found):
    image = glass()
    cv2.circle(image, (512, 512), 300, PINK, -1)
    tissue = found(image)
    assert tissue.downsample == 2
    assert tissue.mask.shape == (512, 512)
    assert tissue.mask.sum() * 4 == pytest.approx(np.pi * 300**2, rel=0.01)


def test_specks_and_holes_are_cleaned_by_their_area(found):
    image = glass()
    cv2.rectangle(image, (100, 100), (899, 899), PINK, -1)
    image[200:240, 200:240] = 245  # 1,600 µm²: filled
    image[400:600, 400:600] = 245  # 40,000 µm²: stays
    image[950:970, 950:970] = PINK  # 400 µm²: a speck
    tissue = found(image, min_area=20_000, min_hole=20_000)
    assert tissue.mask[110, 110]
    assert not tissue.mask[250, 250]
    assert not tissue.mask[480, 480]
    assert tissue.mask.sum() * 4 == pytest.approx(800**2 - 200**2, rel=0.01)
    assert found(image, min_area=100, min_hole=100).mask[480, 480]
    assert not found(image, min_area=100, min_hole=100).mask[110, 110]


def test_bare_glass_has_no_tissue(found):
    noise = np.random.default_rng(0).normal(0, 2, (1024, 1024, 1))
    image = np.clip(glass() - (0, 2, 3) + noise, 0, 255).astype(np.uint8)
    assert not found(image).mask.any()


def test_pale_tissue_beside_dark_is_found(found):
    image = glass()
    image[200:500, 200:800] = (120, 40, 110)
    image[500:800, 200:800] = (235, 200, 222)  # saturation 0.15, far below Otsu's threshold
    tissue = found(image)
    assert tissue.mask.sum() * 4 == pytest.approx(600 * 600, rel=0.02)
    assert found(image, max_saturation=1.0).mask.sum() * 4 == pytest.approx(600 * 300, rel=0.02)


def test_an_image_full_of_tissue_is_all_tissue(found):
    image = np.full((512, 512, 3), (225, 150, 200), np.uint8)
    for x, y in np.random.default_rng(0).integers(0, 512, (150, 2)):
        cv2.circle(image, (int(x), int(y)), 8, (80, 20, 110), -1)
    assert found(image, mpp=0.25).mask.all()
    assert found(image, mpp=None).mask.all()


def test_black_gaps_are_no_tissue(found):
    image = glass()
    image[:300] = np.random.default_rng(0).integers(0, 12, (300, 1024, 3))
    image[500:900, 200:800] = PINK
    tissue = found(image)
    assert not tissue.mask[:140].any()
    assert tissue.mask[350, 256]


def test_a_given_threshold_is_taken(found):
    image = glass()
    image[200:800, 200:800] = (200, 160, 180)  # saturation 0.2
    assert found(image, saturation=0.19).mask.any()
    assert not found(image, saturation=0.21).mask.any()


@pytest.fixture
def brought(tmp_path, tiff):
    """Tissue of a slide of 1,000 × 600 px, 1 µm/px, by a mask made elsewhere."""
    path = tiff(tmp_path / "a.tif", np.full((600, 1000, 3), 245, np.uint8), 1.0)

    def find(mask):
        with open_slide(Slide("s", "p", path)) as opened:
            return tissue_mask(opened, Tissue(mpp=2.0), mask)

    return find


@pytest.mark.parametrize(
    ("size", "values"),
    [((1000, 600), (0, 255)), ((125, 75), (0, 1)), ((333, 200), (0, 7)), ((500, 300), (0, 65535))],
)
def test_masks_of_any_size_are_taken(brought, tmp_path, size, values):
    width, height = size
    mask = np.full((height, width), values[0], np.uint16 if values[1] > 255 else np.uint8)
    mask[: height // 2, width // 4 :] = values[1]
    for path in (tmp_path / "m.png", tmp_path / "m.tif"):
        Image.fromarray(mask).save(path)
        tissue = brought(path)
        assert tissue.mask.shape == (307, 512)
        corners = np.array([[0, 0], [250, 0], [200, 250], [600, 400]])
        np.testing.assert_allclose(tissue.fractions(corners, 100), [0, 1, 0.25, 0], atol=0.03)


def test_a_geojson_of_tissue_with_a_hole_is_taken(brought, tmp_path, geojson):
    outline = box(100, 100, 500, 500).difference(box(200, 200, 300, 300))
    tissue = brought(geojson(tmp_path / "m.geojson", ("Whatever", mapping(outline))))
    corners = np.array([[0, 0], [100, 100], [200, 200], [450, 450]])
    np.testing.assert_allclose(tissue.fractions(corners, 100), [0, 1, 0, 0.25], atol=0.03)


def test_a_mask_of_another_shape_or_place_is_refused(brought, tmp_path, geojson):
    Image.new("L", (100, 63)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png: the mask is 100 × 63 px, the slide 1000 × 600.*same sides"):
        brought(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.geojson: wrong coordinates"):
        brought(geojson(tmp_path / "m.geojson", ("Tissue", (0, 0, 3000, 3000))))


def test_shares_of_squares_are_exact():
    mask = np.zeros((10, 10), bool)
    mask[:, 5:] = True
    tissue = TissueMask(mask, 8.0, 0.1)  # tissue from x = 40 on, the slide ends at 80
    corners = np.array([[0, 0], [40, 40], [30, 0], [37, 3], [70, 0], [100, 100]])
    np.testing.assert_allclose(tissue.fractions(corners, 20), [0, 1, 0.5, 0.85, 0.5, 0], atol=1e-6)


def test_without_a_mask_everything_is_tissue(tmp_path, tiff):
    with open_slide(Slide("s", "p", tiff(tmp_path / "a.tif", glass(128)))) as opened:
        tissue = tissue_mask(opened, None)
    np.testing.assert_allclose(tissue.fractions(np.array([[0, 0], [64, 64]]), 64), 1, atol=1e-6)


def test_a_small_image_of_tissue_is_no_speck(found):
    image = np.full((512, 512, 3), PINK, np.uint8)  # 16,384 µm², less than the smallest piece on a slide
    image[:200, :200] = 245
    assert found(image, mpp=0.25).mask.mean() == pytest.approx(1 - (200 / 512) ** 2, rel=0.01)
