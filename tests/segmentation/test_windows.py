"""Windows put together give back what was predicted, at its place."""

from threading import Event

import numpy as np
import pytest

from stedm.ahead import ahead
from stedm.segmentation.windows import gaussian_weights, stitch, window_positions


def stitched(wanted, weights, overlap, batch_size, read, predict):
    whole = None

    def chosen(corners):
        return np.array([wanted[y:, x:][: len(weights), : len(weights)].any() for x, y in corners])

    for top, band in stitch(wanted.shape, chosen, weights, overlap, batch_size, read, predict):
        if whole is None:
            whole = np.full((len(band), *wanted.shape), np.nan)
        assert np.isnan(whole[:, top : top + band.shape[1]]).all()  # bands are disjoint
        whole[:, top : top + band.shape[1]] = band
    return whole


def blank(x, y, w, h):
    return np.zeros((h, w, 3), np.uint8), np.zeros((h, w), bool)


@pytest.mark.parametrize("shape", [(16, 16), (45, 61), (16, 100), (90, 17)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_a_function_of_the_pixel_is_given_back(shape, overlap, batch_size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    sizes = []

    def predict(images):
        sizes.append(len(images))
        shares = images.astype(np.float32).transpose(0, 3, 1, 2) + 1
        return shares / shares.sum(1, keepdims=True)

    def read(x, y, w, h):
        assert x >= 0 and y >= 0 and x + w <= shape[1] and y + h <= shape[0]
        return image[y : y + h, x : x + w], np.zeros((h, w), bool)

    found = stitched(np.ones(shape, bool), gaussian_weights(16), overlap, batch_size, read, predict)
    expected = (image + 1.0) / (image + 1.0).sum(2, keepdims=True)
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-5)
    assert max(sizes) <= batch_size


def test_overlapping_windows_are_averaged_by_their_weights():
    weights = np.array([[1.0, 3.0]] * 2, np.float32)
    answers = iter([0.0, 1.0])  # the left window says 0 everywhere, the right one 1

    def predict(images):
        return np.stack([np.full((1, 2, 2), next(answers), np.float32) for _ in images])

    found = stitched(np.ones((2, 3), bool), weights, 0.5, 8, blank, predict)
    np.testing.assert_allclose(found[0], [[0, 0.25, 1]] * 2)  # the middle: 3 from the left, 1 from the right


def test_only_windows_with_wanted_pixels_are_read_and_predicted():
    wanted = np.zeros((64, 64), bool)
    wanted[40, 3] = True
    regions, windows = [], []

    def read(x, y, w, h):
        regions.append((x, y, w, h))
        return blank(x, y, w, h)

    def predict(images):
        windows.extend(images)
        return np.ones((len(images), 2, 16, 16), np.float32) / 2

    found = stitched(wanted, gaussian_weights(16), 0.0, 2, read, predict)
    assert regions == [(0, 32, 16, 16)]
    assert len(windows) == 1
    seen = np.zeros((64, 64), bool)
    seen[32:48, :16] = True
    np.testing.assert_array_equal(~np.isnan(found[0]), seen)


def test_windows_with_broken_pixels_are_passed_over():
    def read(x, y, w, h):
        image, broken = blank(x, y, w, h)
        broken[20, 30] = True
        return image, broken

    def predict(images):
        return np.ones((len(images), 2, 16, 16), np.float32) / 2

    found = stitched(np.ones((48, 48), bool), gaussian_weights(16), 0.0, 2, read, predict)
    expected = np.ones((48, 48), bool)
    expected[16:32, 16:32] = False
    np.testing.assert_array_equal(~np.isnan(found[0]), expected)


def test_nothing_wanted_gives_no_band():
    assert stitched(np.zeros((32, 32), bool), gaussian_weights(16), 0.5, 4, None, None) is None


def test_windows_reach_both_borders_and_overlap_as_asked():
    positions = window_positions(100, 32, 0.5)
    assert positions[0] == 0
    assert positions[-1] == 68
    assert max(np.diff(positions)) <= 16
    assert window_positions(32, 32, 0.9) == [0]


def test_weights_are_the_gaussian_of_nnunet():
    from scipy.ndimage import gaussian_filter

    point = np.zeros((33, 33))
    point[16, 16] = 1
    expected = gaussian_filter(point, 33 / 8, truncate=10)
    np.testing.assert_allclose(gaussian_weights(33), np.maximum(expected / expected.max(), 1e-3), atol=1e-3)
    assert gaussian_weights(64).min() > 0


def test_the_next_items_are_made_while_one_is_used():
    made = Event()

    def items():
        yield 1
        made.set()
        yield 2

    for item in ahead(items()):
        assert item == 2 or made.wait(10)


def test_an_error_in_the_other_thread_is_raised_here():
    def items():
        yield 1
        raise ValueError("broken")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)
