"""Statistics of colour and spectrum, and distances between them, against definitions and other libraries."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from skimage.color import rgb2lab

from stedm.evaluation.style import colour_statistics, shares_of_real_patches, spectrum_statistics, style_distances


def test_distances_are_mahalanobis_distances_within_slides():
    rng = np.random.default_rng(0)
    shape = np.array([[3.0, 1.0], [0.0, 0.5]])  # patches of one slide vary along a slanted ellipse
    slides = {"SA": rng.normal(size=(50, 2)) @ shape, "SB": rng.normal(size=(50, 2)) @ shape + (10, 10)}
    image = np.array([9.0, 4.0])
    found = style_distances(image[None], slides, {"SA": "A", "SB": "B"}, ["SA"], [("SB", "B")])
    within = np.concatenate([values - values.mean(0) for values in slides.values()])
    inverse = np.linalg.inv(within.T @ within / 100)
    expected = mahalanobis(image, slides["SB"].mean(0), inverse)
    assert found["distance_to_own_slide"][0] == pytest.approx(expected, rel=1e-4)


def test_colour_statistics_are_moments_in_cielab():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    lab = rgb2lab(image)
    np.testing.assert_allclose(colour_statistics(image)[:3], lab.mean((0, 1)))
    np.testing.assert_allclose(colour_statistics(image)[3:], lab.std((0, 1)))


def test_the_spectrum_tells_fine_from_coarse_and_not_strong_from_weak():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(64, 64))
    fine, coarse = (gaussian_filter(noise, scale, mode="wrap") for scale in (0.5, 3))

    def statistics(field, strength):
        density = 0.7 + strength * field / field.std()
        return spectrum_statistics(np.repeat((255 * np.exp(-density)).round().astype(np.uint8)[..., None], 3, 2))

    weak, strong, other = statistics(fine, 0.05), statistics(fine, 0.15), statistics(coarse, 0.15)
    assert np.linalg.norm(weak - strong) < 0.1 * np.linalg.norm(other - strong)
    assert strong[0] > other[0] and strong[-1] < other[-1]
    np.testing.assert_allclose(np.exp(strong).sum(), 1)
    np.testing.assert_allclose(spectrum_statistics(np.full((16, 16, 3), 200, np.uint8)), np.log([0.25] * 4))


def test_the_ceiling_is_how_often_real_patches_are_nearest_to_their_own_slide():
    """Slide B's patches are of two kinds, one of which lies with slide A."""
    a, b = np.zeros((8, 1)), np.tile([[10.0], [10.0], [0.0], [0.0]], (2, 1))
    found = shares_of_real_patches({"SA": a, "SB": b, "SC": b[:1]}, {"SA": "A", "SB": "B", "SC": "C"}, ["SA"])
    assert found.loc["SB", "nearer_to_own_slide"] == 0.5  # centre of B at 5: half its patches are nearer to A
    assert found.loc["SA", "nearest_is_own_patient"] == 1
    assert list(found.index) == ["SA", "SB"]  # one patch cannot be evaluated against itself


def test_slides_of_one_patch_each_have_no_ceiling():
    values = np.random.default_rng(0).normal(size=(2, 1, 6))
    found = shares_of_real_patches({"SA": values[0], "SB": values[1]}, {"SA": "A", "SB": "B"}, ["SA"])
    assert found.empty
    assert found.dtypes.to_dict() == {"nearer_to_own_slide": float, "nearest_is_own_patient": float}
    assert found.reindex(["SA", "SB"]).isna().all(axis=None)
