"""Closest patches and diversity of directions in the plane, whose cosines are known."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from stedm.evaluation.neighbours import closest_patches, diversity, mean_distances
from stedm.store import PatchFile, write_patches


def directions(*degrees):
    angles = np.deg2rad(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)]) * np.arange(1, len(degrees) + 1)[:, None]


def distance(degrees):
    return 1 - np.cos(np.deg2rad(degrees))


@pytest.fixture
def files(tmp_path):
    """Two slides of three patches of 8 px: of S1 the first two share pixels, of S2 none."""
    image = np.zeros((8, 8, 3), np.uint8)
    for slide, places in (("S1", (0, 4, 16)), ("S2", (0, 8, 16))):
        patches = [(image, None, (x, 0), 1.0) for x in places]
        write_patches(tmp_path / f"{slide}.h5", patches, 8, ["a"], {"slide": slide, "downsample": 1.0})
    return [PatchFile(tmp_path / f"{slide}.h5") for slide in ("S1", "S2")]


def test_a_drawn_image_has_the_patch_at_the_smallest_angle(files):
    known = {"S1": directions(0, 1, 20), "S2": directions(90, 120, 125)}
    found = closest_patches(directions(21, 100), ["S1", ""], files, known)
    assert found["closest_slide"].tolist() == ["S1", "S2"]
    assert found["closest_patch"].tolist() == [2, 0]
    np.testing.assert_allclose(found["closest_distance"], distance([1, 10]), atol=1e-12)


def test_real_patches_are_compared_with_patches_that_share_no_pixel_with_them(files):
    """In S1 the patches at 0° and 1° overlap: their closest is that at 20°, in S2 all may be compared."""
    known = {"S1": directions(0, 1, 20), "S2": directions(90, 120, 125)}
    found = closest_patches(directions(0.1, 60), ["S1", "S2"], files, known)
    expected = [distance(np.array(one)).mean() for one in ([20, 19, 19], [30, 5, 5])]
    np.testing.assert_allclose(found["real_closest_distance"], expected)
    assert found["close_to_training"].tolist() == [1, 0]  # 0.1° is closer than any real patch is, 30° is not


def test_an_image_without_style_has_no_real_patches_to_compare_with(files):
    known = {"S1": directions(0, 1, 20), "S2": directions(90, 120, 125)}
    assert np.isnan(closest_patches(directions(5), [""], files, known)["real_closest_distance"][0])


def test_mean_distances_are_scipy_s():
    features = np.random.default_rng(0).normal(size=(7, 5))
    expected = squareform(pdist(features, "cosine")).sum(1) / 6
    np.testing.assert_allclose(mean_distances(features), expected)


def test_diversity_is_within_a_style():
    known = {"S1": directions(0, 60), "S2": directions(0, 90)}
    found = diversity(directions(0, 10, 180, 200, 77), ["S1", "S2", "S1", "S2", "S3"], known)
    np.testing.assert_allclose(found["diversity"][:4], distance(np.array([180, 190, 180, 190])))
    np.testing.assert_allclose(found["real_diversity"][:4], distance(np.array([60, 90, 60, 90])))
    assert found.iloc[4].isna().all()  # alone in a style of which no patch is known
