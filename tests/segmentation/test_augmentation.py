import numpy as np
import pytest
from skimage.color import rgb_from_hed

from stedm.segmentation.augmentation import STRENGTH, draw_stains, perturb_stains

ONE, NOTHING = np.ones(3), np.zeros(3)


def stained(concentrations):
    """RGB by Beer-Lambert, light 256 and offset 1 as in the module, of haematoxylin, eosin, residual."""
    return np.rint(256 * np.exp(-np.asarray(concentrations) @ rgb_from_hed) - 1).astype(np.uint8)


def test_no_strength_changes_no_colour():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    image[0, :, :] = np.arange(64)[:, None] * 4
    assert np.array_equal(perturb_stains(image, *draw_stains(rng, strength=0)), image)


def test_scaling_leaves_white_white():
    white = np.full((2, 2, 3), 255, np.uint8)
    assert np.array_equal(perturb_stains(white, np.array([0.5, 1.7, 1.2]), NOTHING), white)


@pytest.mark.parametrize("stain", [0, 1, 2])
def test_each_stain_changes_as_beer_lambert_says(stain):
    before = np.array([0.6, 0.5, 0.1])
    scale, shift = ONE.copy(), NOTHING.copy()
    scale[stain], shift[stain] = 1.4, 0.05
    after = before * scale + shift
    image = stained(before)[None, None]
    difference = perturb_stains(image, scale, shift)[0, 0].astype(int) - stained(after)
    assert np.abs(difference).max() <= 1  # rounding of the image
    assert np.abs(stained(after).astype(int) - stained(before)).max() > 10


def test_change_of_stain_is_undone_by_its_inverse():
    rng = np.random.default_rng(1)
    image = rng.integers(60, 200, (32, 32, 3)).astype(np.uint8)
    scale, shift = np.array([1.1, 0.9, 1.1]), np.array([0.03, -0.02, 0.01])
    changed = perturb_stains(image, scale, shift)
    again = perturb_stains(changed, 1 / scale, -shift / scale)
    inside = ((changed > 0) & (changed < 255)).all(-1)  # nothing clipped
    assert inside.mean() > 0.9
    assert np.abs(again.astype(int) - image)[inside].max() <= 4
    assert np.abs(changed.astype(int) - image).mean() > 4


def test_draws_fill_their_range():
    rng = np.random.default_rng(2)
    scales, shifts = np.array([draw_stains(rng) for _ in range(2000)]).transpose(1, 0, 2)
    for values, centre in ((scales, 1), (shifts, 0)):
        assert (np.abs(values - centre) <= STRENGTH).all()
        assert np.allclose(values.min(0), centre - STRENGTH, atol=0.01)
        assert np.allclose(values.max(0), centre + STRENGTH, atol=0.01)
        assert np.abs(np.corrcoef(values.T)[np.triu_indices(3, 1)]).max() < 0.1
