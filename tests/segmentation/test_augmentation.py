import numpy as np
import pytest
from skimage.color import rgb_from_hed

from stedm.segmentation import augmentation
from stedm.segmentation.augmentation import STAIN, STAIN_LIGHT, augment, perturb_stains, sample_stains, transformed

ONE, NOTHING = np.ones(3), np.zeros(3)


def stained(concentrations):
    """RGB by Beer-Lambert, light 256 and offset 1 as in the module, of haematoxylin, eosin, residual."""
    return np.rint(256 * np.exp(-np.asarray(concentrations) @ rgb_from_hed) - 1).astype(np.uint8)


def test_no_strength_changes_no_colour():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    image[0, :, :] = np.arange(64)[:, None] * 4
    assert np.array_equal(perturb_stains(image, *sample_stains(rng, 0)), image)


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


@pytest.mark.parametrize("strength", [STAIN_LIGHT, STAIN])
def test_sampled_stains_fill_their_range(strength):
    rng = np.random.default_rng(2)
    scales, shifts = np.array([sample_stains(rng, strength) for _ in range(2000)]).transpose(1, 0, 2)
    for values, centre in ((scales, 1), (shifts, 0)):
        assert (np.abs(values - centre) <= strength).all()
        assert np.allclose(values.min(0), centre - strength, atol=0.05 * strength)
        assert np.allclose(values.max(0), centre + strength, atol=0.05 * strength)
        assert np.abs(np.corrcoef(values.T)[np.triu_indices(3, 1)]).max() < 0.1


def patch():
    """An image that is dark where labels are 0 and bright where they are 1, and its labels."""
    labels = np.zeros((64, 64), np.uint8)
    labels[8:40, 20:50] = 1
    return np.stack([60 + 120 * labels] * 3, -1), labels


class Sampled:
    """An rng whose chance always strikes and whose uniform numbers are known."""

    def __init__(self, *values):
        self.values = list(values)

    def random(self):
        return 0.0

    def uniform(self, low, high):
        assert low <= self.values[0] <= high
        return self.values.pop(0)


def test_none_changes_nothing():
    image, labels = patch()
    rng = np.random.default_rng(0)
    for found, given in zip(augment(image, labels, "none", rng), (image, labels), strict=True):
        assert np.array_equal(found, given)


@pytest.mark.parametrize("how", ["flips", "stain_light", "stain", "strong"])
def test_each_augmentation_turns_an_image_and_its_labels_in_all_ways(how, monkeypatch):
    monkeypatch.setattr(augmentation, "ROTATION", (0.0, (0.0, 0.0)))
    monkeypatch.setattr(augmentation, "SCALE", (0.0, (1.0, 1.0)))
    image, labels = patch()
    turns = set()
    for seed in range(60):
        found, found_labels = augment(image, labels, how, np.random.default_rng(seed))
        turns.add(found_labels.tobytes())
        middle = (int(found.min()) + int(found.max())) / 2
        assert ((found.mean(-1) > middle) == found_labels).mean() > 0.95  # blur moves borders
    assert len(turns) == 8


def test_a_quarter_turn_is_exact_for_image_and_labels():
    image, labels = patch()
    image = image + np.arange(64, dtype=np.uint8)[:, None]
    found, found_labels = transformed(image, labels, Sampled(90.0, 1.0))
    assert np.array_equal(found, np.rot90(image, -1))
    assert np.array_equal(found_labels, np.rot90(labels, -1))


def test_outside_of_the_patch_is_not_annotated_and_has_its_mean_colour():
    image, labels = patch()
    found, found_labels = transformed(image, labels, Sampled(0.0, 0.75))
    inside = np.zeros((64, 64), bool)
    inside[8:56, 8:56] = True
    assert np.array_equal(found_labels == 255, ~inside)
    assert set(np.unique(found_labels[inside])) == {0, 1}
    assert np.abs(found[:6].astype(float) - image.mean()).max() <= 1
    assert labels.mean() == pytest.approx((found_labels == 1).sum() / inside.sum(), abs=0.02)


def test_labels_move_with_the_image():
    image, labels = patch()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found, found_labels = transformed(image, labels, Sampled(rng.uniform(-180, 180), rng.uniform(0.7, 1.4)))
        known = found_labels != 255
        assert ((found[..., 0] > 120) == (found_labels == 1))[known].mean() > 0.97  # but for the borders


def test_strong_changes_come_as_often_as_stated():
    image = np.random.default_rng(0).integers(50, 200, (16, 16, 3), dtype=np.uint8)
    labels = np.zeros((16, 16), np.uint8)
    rng = np.random.default_rng(0)
    moved = [transformed(image, labels, rng)[0] is not image for _ in range(2000)]
    assert np.mean(moved) == pytest.approx(1 - 0.8**2, abs=0.04)
    changed = [(augmentation.photometric(image, rng) != image).any() for _ in range(500)]
    assert np.mean(changed) == pytest.approx(1 - 0.9 * 0.8 * 0.85**2 * 0.7 * 0.75, abs=0.07)
