"""Moments of colour and texture, and images recoloured from one slide's to another's."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from stedm.images import to_images
from stedm.style.moments import (
    MOMENTS,
    Moments,
    average,
    band_count,
    bands,
    filtered,
    gains,
    image_moments,
    joined,
    moments_of,
    moments_over,
    recolour,
    spectrum,
    triangles,
)

MIX = torch.tensor([[0.5, 0.1, 0], [0.3, 0.3, 0], [0.1, 0.2, 0.1]])
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tinted(*shape):
    """White noise whose channels go together, as stained tissue's do."""
    return torch.einsum("ij,...jhw->...ihw", MIX, torch.randn(*shape))


def smoothed(images, sigma):
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


def test_weights_of_the_bands_are_triangles_over_half_octaves():
    weights = triangles(torch.tensor([0, 0.25, 2, 5.5, 9, torch.inf]), 7)
    torch.testing.assert_close(weights.sum(0), torch.ones(6))
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.75, 0.25, 0, 0, 0, 0, 0]))
    assert weights[:, 2].argmax() == 2
    assert weights[:, 4].argmax() == weights[:, 5].argmax() == 6  # the last has all lower frequencies
    over_image = bands(32, 16, 7, CPU)
    torch.testing.assert_close(over_image.sum((1, 2)), torch.ones(7))
    assert over_image[:, 0, 0].sum() == 0  # the mean colour is in none
    assert over_image[:, 16, 0].argmax() == 2  # a quarter of a cycle per pixel


@pytest.mark.parametrize(("size", "count"), [(16, 3), (32, 5), (64, 7), (128, 9), (512, 13)])
def test_there_are_more_bands_in_larger_images(size, count):
    assert band_count(size) == count
    assert moments_of(torch.randn(2, 3, size, size)).covariances.shape == (2, count, 3, 3)


def test_moments_are_mean_and_covariances_of_scipys_cosine_coefficients():
    images = tinted(2, 3, 16, 24) + 0.3
    mean, covariances = moments_of(images)
    torch.testing.assert_close(mean, images.mean((2, 3)))
    coefficients = dctn((images - mean[:, :, None, None]).numpy(), axes=(2, 3), norm="ortho")
    for band, weights in enumerate(bands(16, 24, covariances.shape[1], CPU).numpy()):
        expected = np.einsum("yx,biyx,bjyx->bij", weights, coefficients, coefficients)
        np.testing.assert_allclose(covariances[:, band], expected, atol=1e-5)


def test_white_noise_has_the_covariance_of_its_pixels_in_every_band():
    covariances = average(moments_of(tinted(64, 3, 64, 64))).covariances[0]
    torch.testing.assert_close(covariances, (MIX @ MIX.T).expand(7, 3, 3), atol=0.02, rtol=0.05)


def test_image_moments_are_deviations_and_correlations():
    images = tinted(4, 3, 64, 64)
    found = image_moments(images)
    assert found.shape == (4, MOMENTS)
    covariance = moments_of(images).covariances[:, 2]
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(found[:, 3 + 2 * 6 : 6 + 2 * 6], deviation)
    torch.testing.assert_close(found[:, 6 + 2 * 6], covariance[:, 0, 1] / (deviation[:, 0] * deviation[:, 1]))


def test_moments_of_a_slide_are_averages():
    images = tinted(5, 3, 32, 32)
    each = joined([moments_of(one[None]) for one in images])
    for found, expected in zip(average(moments_of(images)), each, strict=True):
        torch.testing.assert_close(found, expected.mean(0, keepdim=True))


def test_glass_is_no_part_of_a_slide_s_moments():
    tissue = np.random.default_rng(0).integers(60, 200, (40, 32, 32, 3), dtype=np.uint8)
    fatty = tissue.copy()
    fatty[::2, 8:24, 8:24] = 240
    torch.testing.assert_close(moments_over(fatty), moments_over(tissue[1::2]))
    fatty[:, 8:24, 8:24] = 240  # nothing else is there: those with least
    fatty[7:17, 8:24, 12:24] = tissue[7:17, 8:24, 12:24]
    torch.testing.assert_close(moments_over(fatty), average(moments_of(to_images(fatty[7:17]))))


def test_the_smooth_spectrum_has_the_covariances_of_the_bands():
    covariances = average(moments_of(smoothed(tinted(8, 3, 64, 64), 1.2) + 0.1 * torch.randn(8, 3, 64, 64))).covariances
    knots = spectrum(covariances, 64, 64)
    white = torch.randn(64, 3, 64, 64)
    values, vectors = torch.linalg.eigh(knots)
    roots = (vectors * values.sqrt()[..., None, :]) @ vectors.mT
    found = average(moments_of(filtered(white, roots))).covariances
    relative = torch.linalg.matrix_norm(found - covariances) / torch.linalg.matrix_norm(covariances)
    assert relative.max() < 0.12, relative  # what chance leaves of 64 images


def test_a_recoloured_image_takes_over_stain_and_blur_in_every_band():
    sharp = 0.3 * tinted(16, 3, 64, 64) + 0.1
    blurred = smoothed(torch.randn(16, 3, 64, 64), 0.7) * 0.5
    own, target = average(moments_of(sharp)), average(moments_of(blurred))
    moved = average(moments_of(recolour(sharp, own, target)))
    torch.testing.assert_close(moved.mean, target.mean, atol=1e-5, rtol=0)
    deviations = [one.covariances.diagonal(dim1=2, dim2=3).sqrt() for one in (moved, target)]
    torch.testing.assert_close(*deviations, atol=0, rtol=0.05)


def test_recolouring_there_and_back_is_the_same_image():
    images = 0.2 * tinted(5, 3, 32, 32)
    own, other = average(moments_of(images)), average(moments_of(smoothed(images, 1)))
    torch.testing.assert_close(recolour(recolour(images, own, other), other, own), images, atol=1e-4, rtol=0)
    torch.testing.assert_close(recolour(images, own, own), images, atol=1e-5, rtol=0)


def test_glass_stays_as_it_is_and_lends_no_light_to_tissue():
    rng = torch.Generator().manual_seed(0)
    tissue = smoothed(0.2 * torch.randn(4, 3, 32, 32, generator=rng), 1)
    own = average(moments_of(tissue))
    target = Moments(torch.tensor([[0.4, -0.3, 0.1]]), 2 * own.covariances)
    fatty = tissue.clone()
    fatty[..., 16:] = 0.9
    moved = recolour(fatty, own, target)
    torch.testing.assert_close(moved[..., 24:], fatty[..., 24:], atol=0.05, rtol=0)
    same = recolour(tissue, own, target)
    torch.testing.assert_close(moved[..., :12].mean((2, 3)), same[..., :12].mean((2, 3)), atol=0.05, rtol=0)
    torch.testing.assert_close(recolour(fatty, own, own), fatty, atol=1e-5, rtol=0)
    torch.testing.assert_close(recolour(moved, target, own), fatty, atol=0.05, rtol=0)


def test_each_image_has_moments_of_its_own():
    images = 0.2 * tinted(3, 3, 32, 32)
    own, target = moments_of(images), moments_of(smoothed(images.flip(0), 1))
    together = recolour(images, own, target)
    rows = torch.tensor([1])
    torch.testing.assert_close(recolour(images[1:2], own.of(rows), target.of(rows)), together[1:2])


def test_a_filter_that_is_the_same_at_all_frequencies_multiplies_colours():
    images = tinted(2, 3, 12, 20)
    matrix = MIX @ MIX.T + torch.eye(3)
    expected = torch.einsum("ij,bjhw->bihw", matrix, images)
    torch.testing.assert_close(filtered(images, matrix.expand(1, 17, 3, 3)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_are_taken_in_full_precision(dtype):
    images = tinted(1, 3, 16, 16).to(dtype)
    assert image_moments(images).dtype == torch.float32
    torch.testing.assert_close(image_moments(images), image_moments(images.float()))


def test_an_even_slide_does_not_blow_up_its_images():
    even, tissue = moments_of(torch.zeros(1, 3, 16, 16)), average(moments_of(0.2 * tinted(4, 3, 16, 16)))
    assert gains(even, tissue, 16, 16).abs().max() <= 100
    assert isinstance(even, Moments)


def test_what_is_kept_for_images_of_a_size_does_not_depend_on_who_asks_first():
    """The cost of a generator is counted with tensors without values, before images are embedded in that process."""
    for size in (24, 40):
        with torch.device("meta"):
            assert image_moments(torch.empty(1, 3, size, size)).is_meta
        assert image_moments(torch.zeros(1, 3, size, size)).isfinite().all()
        with torch.device("meta"):
            assert image_moments(torch.empty(1, 3, size, size)).is_meta
