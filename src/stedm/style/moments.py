"""Moments of images up to second order: the mean colour, and the colour covariance in bands from fine to coarse.

They are the last numbers of every style embedding, so that a style bank also gives a style set's colours and power
spectrum. Let x(ω) be the three coefficients of an image's discrete cosine transform at frequency ω, without the mean
colour, w_k the weights of band k, which add up to 1 at each ω, and ⟨·⟩ the average over a style set. With

    C_k = ⟨ Σ_ω w_k(ω) x(ω) x(ω)ᵀ / Σ_ω w_k(ω) ⟩    and    M(ω) = Σ_k w_k(ω) C_k^(-1/2),

images are whitened by y(ω) = M(ω) x(ω) and coloured by the inverse (the whitening and colouring transform of Li et al.
2017, arXiv 1705.08086, on the frequencies of pixels instead of features). Over all bands, the covariance describes how
strongly a slide is stained and, as light is absorbed along two directions only, with which stains; its change from band
to band describes blur, noise and the size of structures. Whitening thus leaves the network to model structure: the
shapes of nuclei and fibres, and where they lie.

Bands are weights over the frequencies of the cosine transform, triangles on a logarithmic axis: the first peaks at the
finest detail (half a cycle per pixel), each next one at half that frequency; the last includes all lower ones.
"""

from functools import cache

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from stedm.images import to_images
from stedm.store import PatchFile

BANDS = 4
MOMENTS = 3 + 6 * BANDS
MIN_SD = 0.003
"""Lower bound of the standard deviation in any direction of a band, about that of rounding to 8 bits, so that an empty
style image does not amplify the others."""
PATCHES = 256
"""Of a slide, at most, whose moments are averaged."""
PAIRS = ((0, 1), (0, 2), (1, 2))


@torch.autocast("cuda", enabled=False)
def image_moments(images: Tensor) -> Tensor:
    """Channel means, and the standard deviations and correlations of the coefficients in each band.

    Args:
        images: (..., 3, H, W) in [-1, 1].

    Returns:
        (..., 27) float32: three means; then, for each band from fine to coarse, three standard deviations and the
        correlations of red and green, red and blue, green and blue.
    """
    images = images.float()
    mean = images.mean((-2, -1))
    weights = bands(*images.shape[-2:], images.device)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    coefficients = frequencies(images - mean[..., None, None])
    covariance = torch.einsum("kyx,...iyx,...jyx->...kij", weights, coefficients, coefficients)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).sqrt()
    correlation = covariance / (deviation[..., None] * deviation[..., None, :])
    pairs = torch.stack([correlation[..., i, j] for i, j in PAIRS], -1)
    return torch.cat([mean, torch.cat([deviation, pairs], -1).flatten(-2)], -1)


def set_moments(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance per band of a whole style set, from the embeddings of its images.

    Args:
        embeddings: (B, n, D); the last 27 numbers are the moments of each image.

    Returns:
        (B, 3) and (B, 4, 3, 3): averages over the set.
    """
    mean, rest = embeddings[..., -MOMENTS:].float().split([3, 6 * BANDS], -1)
    deviations, pairs = rest.unflatten(-1, (BANDS, 6)).split(3, -1)
    correlations = torch.eye(3, device=mean.device).expand(*deviations.shape, 3).clone()
    for place, (i, j) in enumerate(PAIRS):
        correlations[..., i, j] = correlations[..., j, i] = pairs[..., place]
    return mean.mean(1), (correlations * deviations[..., None] * deviations[..., None, :]).mean(1)


def slide_moments(file: PatchFile) -> tuple[Tensor, Tensor]:
    """Mean and covariance per band of a slide: (1, 3) and (1, 4, 3, 3), averages over up to 256 patches of it, evenly
    spaced."""
    chosen = np.unique(np.linspace(0, len(file) - 1, min(len(file), PATCHES)).round().astype(int))
    return set_moments(torch.stack([image_moments(to_images(file.image(int(index)))) for index in chosen])[None])


def remove_moments(images: Tensor, mean: Tensor, covariances: Tensor) -> Tensor:
    """Whiten images (B, 3, H, W) by means (B, 3) and the covariances (B, 4, 3, 3) of the bands."""
    return filtered(images - mean[:, :, None, None], root(covariances, -1))


def restore_moments(images: Tensor, mean: Tensor, covariances: Tensor) -> Tensor:
    """Inverse of `remove_moments`."""
    return filtered(images, root(covariances, -1), inverse=True) + mean[:, :, None, None]


@torch.autocast("cuda", enabled=False)
def root(covariance: Tensor, sign: int) -> Tensor:
    """Symmetric square root of covariances (..., 3, 3), or, with sign -1, its inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    deviations = values.clamp(min=MIN_SD**2).sqrt()
    return (vectors * deviations[..., None, :] ** sign) @ vectors.mT


@torch.autocast("cuda", enabled=False)
def filtered(images: Tensor, matrices: Tensor, inverse: bool = False) -> Tensor:
    """Images (B, 3, H, W) with their colours multiplied by a matrix at each frequency.

    Args:
        images: (B, 3, H, W).
        matrices: (B or 1, 4, 3, 3), positive definite, at the peaks of the bands; interpolated in between.
        inverse: undo this.

    Returns:
        (B, 3, H, W) float32.
    """
    images = images.float()
    each = torch.einsum("kyx,bkij->byxij", bands(*images.shape[-2:], images.device), matrices.float())
    each = torch.linalg.inv(each) if inverse else each
    height, width = (cosines(size, images.device) for size in images.shape[-2:])
    return height.T @ torch.einsum("byxij,bjyx->biyx", each, frequencies(images)) @ width


def frequencies(images: Tensor) -> Tensor:
    """Coefficients of the orthonormal cosine transform (DCT-II) of images (..., H, W)."""
    height, width = (cosines(size, images.device) for size in images.shape[-2:])
    return height @ images @ width.T


@cache
def cosines(size: int, device: torch.device) -> Tensor:
    """(size, size) matrix of the orthonormal cosine transform."""
    return torch.from_numpy(dct(np.eye(size), axis=0, norm="ortho")).float().to(device)


@cache
def bands(height: int, width: int, device: torch.device) -> Tensor:
    """(4, H, W) weights of the bands, from fine to coarse, over the frequencies; they add up to 1 at each frequency."""
    vertical, horizontal = (torch.arange(size) / (2 * size) for size in (height, width))
    octaves = -torch.log2(2 * torch.hypot(vertical[:, None], horizontal).clamp(min=1e-6))
    place = octaves.clamp(0, BANDS - 1)
    return (1 - (place - torch.arange(BANDS)[:, None, None]).abs()).clamp(min=0).to(device)
