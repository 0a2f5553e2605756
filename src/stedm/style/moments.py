"""Moments of images up to second order: the mean colour, and the colour covariance in bands from fine to coarse.

Let x(ω) be the three coefficients of an image's discrete cosine transform at frequency ω, without the mean colour, w_k
the weights of band k, which add up to 1 at each ω, and ⟨·⟩ the average over the patches of a slide. The covariance of
band k is

    C_k = ⟨ Σ_ω w_k(ω) x(ω) x(ω)ᵀ / Σ_ω w_k(ω) ⟩.

Over all bands it describes how strongly a slide is stained and, as light is absorbed along two directions only, with
which stains; its change from band to band describes blur, noise and the size of structures.

An image is recoloured from one slide's moments to another's by y(ω) = S'(ω)^½ S(ω)^-½ x(ω), the whitening and colouring
transform (Li et al. 2017, arXiv 1705.08086) on the frequencies of pixels instead of features. S(ω) is a smooth spectrum
with the slide's covariances: exp Σ_k w_k(ω) log P_k, the P_k being such that its average over band k is C_k. Glass
takes no stain: it stays as it is, and plays no part in the transform of what is beside it.

Bands are weights over the frequencies of the cosine transform, triangles on a logarithmic axis: the first peaks at the
finest detail (half a cycle per pixel), each next one half an octave lower; the last includes all lower frequencies.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor

from stedm.device import device
from stedm.images import to_images
from stedm.store import PatchFile

BANDS_PER_OCTAVE = 2
EMBEDDED_BANDS = 7
MOMENTS = 3 + 6 * EMBEDDED_BANDS
"""Numbers that `image_moments` adds to an embedding."""
MIN_SD = 0.003
"""Lower bound of the standard deviation in any direction of a band, about that of rounding to 8 bits, so that an empty
image does not amplify others."""
PIXELS = 2**21
"""Of a slide, about, that its moments are taken from; at least 32 patches and at most 256."""
GLASS, LITTLE_GLASS, KEPT = 220, 0.02, 0.25
"""A pixel all of whose channels are above the first is glass. Averaged are images with less of it than the second, a
share; or else, of all images, the share with least glass that the third is."""
GLASS_RANGE = 210, 230
"""Of the darkest channel: tissue up to the first, glass from the second on, and a mixture between."""
RIM = 3
"""Pixels beside glass that count as glass."""
KNOTS = 8
"""Points per band at which a spectrum is evaluated."""
ITERATIONS = 30
PAIRS = ((0, 1), (0, 2), (1, 2))


class Moments(NamedTuple):
    """Of several slides (or images) in [-1, 1]."""

    mean: Tensor
    """(B, 3)."""
    covariances: Tensor
    """(B, K, 3, 3), from the finest band to the coarsest."""

    def to(self, device: torch.device) -> "Moments":
        return Moments(self.mean.to(device), self.covariances.to(device))

    def of(self, rows: Tensor) -> "Moments":
        """Those of some of the slides."""
        return Moments(self.mean[rows], self.covariances[rows])


def band_count(size: int) -> int:
    """K for images of so many pixels per side, whose coarsest band peaks at four cycles per image."""
    return max(1, size.bit_length() - 4) * BANDS_PER_OCTAVE + 1


@torch.autocast("cuda", enabled=False)
def moments_of(images: Tensor, count: int | None = None) -> Moments:
    """Moments of each image.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        count: of bands; by default that of the image's size.
    """
    images = images.float()
    mean = images.mean((-2, -1))
    weights = bands(*images.shape[-2:], count or band_count(min(images.shape[-2:])), images.device)
    coefficients = frequencies(images - mean[..., None, None])
    return Moments(mean, torch.einsum("kyx,biyx,bjyx->bkij", weights, coefficients, coefficients))


def image_moments(images: Tensor) -> Tensor:
    """Channel means, and the standard deviations and correlations of the coefficients in each of seven bands.

    Args:
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 45) float32: three means; then, for each band from fine to coarse, three standard deviations and the
        correlations of red and green, red and blue, green and blue.
    """
    mean, covariance = moments_of(images, EMBEDDED_BANDS)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).sqrt()
    correlation = covariance / (deviation[..., None] * deviation[..., None, :])
    pairs = torch.stack([correlation[..., i, j] for i, j in PAIRS], -1)
    return torch.cat([mean, torch.cat([deviation, pairs], -1).flatten(-2)], -1)


def average(moments: Moments) -> Moments:
    """The mean of the moments, as those of one (B = 1)."""
    return Moments(*(values.mean(0, keepdim=True) for values in moments))


def joined(several: Sequence[Moments]) -> Moments:
    """The moments of all, one after the other."""
    return Moments(*(torch.cat(values) for values in zip(*several, strict=True)))


def slide_moments(file: PatchFile) -> Moments:
    """Moments of a slide (B = 1), from patches that are evenly spaced over it."""
    count = min(len(file), 256, max(32, PIXELS // file.patch_size**2))
    chosen = np.unique(np.linspace(0, len(file) - 1, count).round().astype(int))
    return moments_over(np.stack([file.image(int(index)) for index in chosen]))


@torch.no_grad()
def moments_over(images: np.ndarray) -> Moments:
    """Mean moments (B = 1) of a slide's images (N, P, P, 3) uint8, of those with little glass.

    A slide's fat, lumina and background are no part of its stain. With them in its moments, recolouring would lend
    their white to tissue.
    """
    glass = (images.min(-1) > GLASS).mean((1, 2))
    kept = max(int((glass < LITTLE_GLASS).sum()), math.ceil(KEPT * len(images)))
    dense = images[np.sort(np.argsort(glass, kind="stable")[:kept])]
    parts = [moments_of(to_images(some).to(device())) for some in np.array_split(dense, math.ceil(kept / 64))]
    return average(joined(parts)).to(torch.device("cpu"))


def recolour(images: Tensor, own: Moments, target: Moments) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] of slides with moments `own`, given the moments `target`, each of B or 1; float32.

    It is its own inverse with the two exchanged, where no tissue becomes as bright as glass.
    """
    return recoloured(images, gains(own, target, *images.shape[-2:]), own.mean, target.mean)


def recoloured(images: Tensor, tables: Tensor, own: Tensor, target: Tensor) -> Tensor:
    """As `recolour`, by matrices from `gains` (B or 1, T, 3, 3) and mean colours (B or 1, 3)."""
    glass = glass_in(images)
    tissue = (1 - glass) * (images - own[:, :, None, None])
    return filtered(tissue, tables) + (1 - glass) * target[:, :, None, None] + glass * images


def glass_in(images: Tensor) -> Tensor:
    """(B, 1, H, W) how far each pixel of images (B, 3, H, W) in [-1, 1] is glass, from 0 to 1.

    So are the pixels beside it: optics mix its light into theirs, and a sharper image of that mixture would have rings.
    """
    low, high = (value / 127.5 - 1 for value in GLASS_RANGE)
    bright = ((images.amin(1, keepdim=True) - low) / (high - low)).clamp(0, 1)
    near = F.max_pool2d(bright, 2 * RIM + 1, 1, RIM)
    return F.avg_pool2d(near, 3, 1, 1, count_include_pad=False)


@torch.autocast("cuda", enabled=False)
def gains(own: Moments, target: Moments, height: int, width: int) -> Tensor:
    """(B, T, 3, 3) matrices S'^½ S^-½ at the knots, from the finest frequency to the coarsest, for `filtered`."""
    return power(spectrum(target.covariances, height, width), 0.5) @ power(
        spectrum(own.covariances, height, width), -0.5
    )


def spectrum(covariances: Tensor, height: int, width: int) -> Tensor:
    """(B, T, 3, 3) the smooth spectrum whose averages over the bands are the covariances (B, K, 3, 3).

    The P_k are found by iteration: log P_k grows by the difference of the logarithms of C_k and of what band k has.
    """
    count = covariances.shape[1]
    shares, weights = knots(height, width, count, covariances.device)
    wanted = logarithm(covariances.float())
    peaks = wanted
    for _ in range(ITERATIONS):
        found = torch.einsum("kt,btij->bkij", shares, exponential(torch.einsum("kt,bkij->btij", weights, peaks)))
        peaks = peaks + wanted - logarithm(found)
    return exponential(torch.einsum("kt,bkij->btij", weights, peaks))


def power(matrices: Tensor, exponent: float) -> Tensor:
    return spectral(matrices, lambda values: values.clamp(min=MIN_SD**2) ** exponent)


def logarithm(matrices: Tensor) -> Tensor:
    return spectral(matrices, lambda values: values.clamp(min=MIN_SD**2).log())


def exponential(matrices: Tensor) -> Tensor:
    return spectral(matrices, torch.exp)


def spectral(matrices: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of symmetric matrices (…, 3, 3), by their eigenvalues."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * function(values)[..., None, :]) @ vectors.mT


@torch.autocast("cuda", enabled=False)
def filtered(images: Tensor, tables: Tensor) -> Tensor:
    """Images with their colours multiplied by a matrix at each frequency.

    Args:
        images: (B, 3, H, W).
        tables: (B or 1, T, 3, 3), the matrices at the knots.

    Returns:
        (B, 3, H, W) float32.
    """
    height, width = images.shape[-2:]
    place = knot_of(height, width, tables.shape[1], images.device)
    rows, columns = (cosines(size, images.device) for size in (height, width))
    coefficients = frequencies(images.float())
    some = max(1, 2**16 // (height * width))  # a matrix for each frequency takes three times an image's memory
    tables = tables.float().expand(len(images), -1, -1, -1)
    multiplied = [
        torch.einsum("byxij,bjyx->biyx", table[:, place], part)
        for table, part in zip(tables.split(some), coefficients.split(some), strict=True)
    ]
    return rows.T @ torch.cat(multiplied) @ columns


def frequencies(images: Tensor) -> Tensor:
    """Coefficients of the orthonormal cosine transform (DCT-II) of images (…, H, W)."""
    height, width = (cosines(size, images.device) for size in images.shape[-2:])
    return height @ images @ width.T


@cache
def cosines(size: int, device: torch.device) -> Tensor:
    """(size, size) matrix of the orthonormal cosine transform."""
    return torch.from_numpy(dct(np.eye(size), axis=0, norm="ortho")).float().to(device)


@cache
def places(height: int, width: int) -> Tensor:
    """(H, W) how many bands each frequency of the cosine transform is below half a cycle per pixel; the mean's is
    infinite."""
    vertical, horizontal = (torch.arange(size, device="cpu") / (2 * size) for size in (height, width))
    return -torch.log2(2 * torch.hypot(vertical[:, None], horizontal)) * BANDS_PER_OCTAVE


def triangles(place: Tensor, count: int) -> Tensor:
    """(K, …) weights of the bands at places (…); they add up to 1."""
    peaks = torch.arange(count, device=place.device).reshape(-1, *[1] * place.ndim)
    return (1 - (place.clamp(0, count - 1) - peaks).abs()).clamp(min=0)


@cache
def bands(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """(K, H, W) weights of the bands, from fine to coarse, over the frequencies; each band's add up to 1. The mean
    colour is in none."""
    weights = triangles(places(height, width), count)
    weights[:, 0, 0] = 0
    return (weights / weights.sum((1, 2), keepdim=True)).to(device)


@cache
def knot_of(height: int, width: int, total: int, device: torch.device) -> Tensor:
    """(H, W) the knot of each frequency."""
    return (places(height, width) * KNOTS).clamp(0, total - 1).round().long().to(device)


@cache
def knots(height: int, width: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(K, T) each knot's share of a band, and the bands' weights at the knots."""
    total = (count - 1) * KNOTS + 1
    place = knot_of(height, width, total, torch.device("cpu")).flatten()
    weights = bands(height, width, count, torch.device("cpu")).flatten(1)
    shares = torch.zeros(count, total, device="cpu").index_add_(1, place, weights)
    return shares.to(device), triangles(torch.arange(total, device="cpu") / KNOTS, count).to(device)
