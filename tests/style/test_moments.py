"""Moments of colour and texture, and images freed of them."""

import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from stedm.style.moments import (
    BANDS,
    MOMENTS,
    bands,
    filtered,
    image_moments,
    remove_moments,
    restore_moments,
    set_moments,
)

MIX = torch.tensor([[0.5, 0.1, 0], [0.3, 0.3, 0], [0.1, 0.2, 0.1]])
CPU = torch.device("cpu")


def tinted(*shape):
    """White noise whose channels go together, as stained tissue's do."""
    return torch.einsum("ij,...jhw->...ihw", MIX, torch.randn(*shape))


def band_covariances(images):
    return set_moments(image_moments(images)[:, None])[1]


def test_weights_of_the_bands_are_triangles_over_octaves():
    weights = bands(32, 16, CPU)
    torch.testing.assert_close(weights.sum(0), torch.ones(32, 16))
    torch.testing.assert_close(weights[:, 16, 0], torch.tensor([0.0, 1, 0, 0]))  # a quarter of a cycle per pixel
    torch.testing.assert_close(weights[:, 0, 4], torch.tensor([0.0, 0, 1, 0]))  # an eighth, across
    torch.testing.assert_close(weights[:, 0, 0], torch.tensor([0.0, 0, 0, 1]))


def test_moments_are_mean_and_covariances_of_scipys_cosine_coefficients():
    images = tinted(2, 3, 16, 24) + 0.3
    mean, covariances = set_moments(image_moments(images)[:, None])
    torch.testing.assert_close(mean, images.mean((2, 3)))
    coefficients = torch.from_numpy(dctn((images - mean[:, :, None, None]).numpy(), axes=(2, 3), norm="ortho"))
    for band, weights in enumerate(bands(16, 24, CPU)):
        expected = torch.stack(
            [torch.cov(one.flatten(1), correction=0, aweights=weights.flatten()) for one in coefficients]
        )
        centres = (coefficients * weights).sum((2, 3)) / weights.sum()  # torch centres by the band, we by the image
        expected += centres[:, :, None] * centres[:, None]
        torch.testing.assert_close(covariances[:, band], expected, atol=1e-5, rtol=1e-4)


def test_white_noise_has_the_covariance_of_its_pixels_in_every_band():
    covariances = band_covariances(tinted(64, 3, 64, 64)).mean(0)
    torch.testing.assert_close(covariances, (MIX @ MIX.T).expand(BANDS, 3, 3), atol=0.01, rtol=0.05)


def test_moments_of_a_set_are_averages_and_ignore_the_features_before_them():
    moments = image_moments(tinted(4, 7, 3, 8, 8) + torch.randn(4, 7, 3, 1, 1))
    assert moments.shape == (4, 7, MOMENTS)
    mean, covariances = set_moments(torch.cat([torch.randn(4, 7, 10), moments], -1))
    each = [set_moments(moments[:, one : one + 1]) for one in range(7)]
    torch.testing.assert_close(mean, torch.stack([one for one, _ in each]).mean(0))
    torch.testing.assert_close(covariances, torch.stack([some for _, some in each]).mean(0))


def test_what_is_removed_and_put_back_is_the_same():
    images = tinted(5, 3, 16, 16)
    moments = set_moments(image_moments(images)[:, None])
    plain = remove_moments(images, *moments)
    torch.testing.assert_close(plain.mean((2, 3)), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(restore_moments(plain, *moments), images, atol=1e-5, rtol=0)


def test_an_image_in_another_style_takes_over_its_stain_and_its_blur():
    torch.manual_seed(0)
    sharp = tinted(1, 3, 64, 64)
    blurred = torch.from_numpy(gaussian_filter(torch.randn(1, 3, 64, 64).numpy(), (0, 0, 1, 1))) * 0.5
    source, target = (set_moments(image_moments(image)[:, None]) for image in (sharp, blurred))
    moved = band_covariances(restore_moments(remove_moments(sharp, *source), *target))
    before, after = (torch.linalg.matrix_norm(one - target[1])[0] for one in (source[1], moved))
    assert (after < 0.2 * before).all()


def test_a_filter_that_is_the_same_in_all_bands_multiplies_colours():
    images = tinted(2, 3, 12, 20)
    matrix = MIX @ MIX.T + torch.eye(3)
    expected = torch.einsum("ij,bjhw->bihw", matrix, images)
    found = filtered(images, matrix.expand(1, BANDS, 3, 3))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(filtered(found, matrix.expand(1, BANDS, 3, 3), inverse=True), images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_are_taken_in_full_precision(dtype):
    images = tinted(1, 3, 16, 16).to(dtype)
    assert image_moments(images).dtype == torch.float32
    torch.testing.assert_close(image_moments(images), image_moments(images.float()))


def test_an_even_style_image_does_not_blow_up_the_target():
    even = set_moments(image_moments(torch.zeros(1, 1, 3, 8, 8)))
    assert remove_moments(torch.rand(1, 3, 8, 8), *even).abs().max() <= 400
