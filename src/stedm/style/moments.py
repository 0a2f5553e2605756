"""First-order colour: means and covariances of the channels, of images and of sets of images.

They are the last nine numbers of every style embedding, so that whoever has the embeddings of a style set (a style
bank) has its colour too. Images freed of it leave the network texture and layout to learn. The covariance says how
strongly a slide is stained and, as light is absorbed along two directions only, with which stains.
"""

import torch
from torch import Tensor

MOMENTS = 9
MIN_SD = 0.01
"""Floor under the deviation in any direction, so that an empty style image does not blow up the others."""
PAIRS = ((0, 1), (0, 2), (1, 2))


def image_moments(images: Tensor) -> Tensor:
    """Channel means, standard deviations and correlations.

    Args:
        images: (..., 3, H, W) in [-1, 1].

    Returns:
        (..., 9): three means, three standard deviations, correlations of red and green, red and blue, green and blue.
    """
    pixels = images.flatten(-2)
    mean = pixels.mean(-1)
    centred = pixels - mean[..., None]
    covariance = centred @ centred.mT / pixels.shape[-1]
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).sqrt()
    correlation = covariance / (deviation[..., None] * deviation[..., None, :])
    return torch.cat([mean, deviation, torch.stack([correlation[..., i, j] for i, j in PAIRS], -1)], -1)


def set_colour(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the pixels of a whole style set, from the embeddings of its images.

    Args:
        embeddings: (B, n, D), whose last nine numbers are the moments of each image (all of one size).

    Returns:
        (B, 3) and (B, 3, 3): by the law of total covariance, those of the images side by side.
    """
    means, deviations, pairs = embeddings[..., -9:].float().split(3, -1)
    correlations = torch.eye(3, device=means.device).expand(*means.shape, 3).clone()
    for place, (i, j) in enumerate(PAIRS):
        correlations[..., i, j] = correlations[..., j, i] = pairs[..., place]
    within = correlations * deviations[..., None] * deviations[..., None, :]
    mean = means.mean(1)
    apart = means - mean[:, None]
    return mean, within.mean(1) + apart.mT @ apart / means.shape[1]


def remove_colour(images: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Whiten the colours of images (B, 3, H, W) by a mean (B, 3) and a covariance (B, 3, 3)."""
    return torch.einsum("bij,bjhw->bihw", root(covariance, -1), images - mean[:, :, None, None])


def restore_colour(images: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Inverse of `remove_colour`."""
    colours = root(covariance, 1).to(images.dtype)
    return torch.einsum("bij,bjhw->bihw", colours, images) + mean[:, :, None, None].to(images.dtype)


def root(covariance: Tensor, sign: int) -> Tensor:
    """Symmetric square root of covariances (..., 3, 3), or, with sign -1, its inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    deviations = values.clamp(min=MIN_SD**2).sqrt()
    return (vectors * deviations[..., None, :] ** sign) @ vectors.mT
