"""First-order colour: channel means and standard deviations of images and of sets of images.

They are the last six numbers of every style embedding, so that whoever has the embeddings of a style set (a style
bank) has its colour too. Images freed of it leave the network texture and layout to learn.
"""

import torch
from torch import Tensor

MOMENTS = 6
MIN_SD = 0.02
"""Floor under a channel's deviation, so that an empty style image does not blow up the others."""


def image_moments(images: Tensor) -> Tensor:
    """Channel means and standard deviations.

    Args:
        images: (..., 3, H, W) in [-1, 1].

    Returns:
        (..., 6): three means, three standard deviations.
    """
    return torch.cat([images.mean((-2, -1)), images.std((-2, -1), correction=0)], -1)


def set_moments(embeddings: Tensor) -> Tensor:
    """Moments of the pixels of a whole style set, from the embeddings of its images.

    Args:
        embeddings: (B, n, D), whose last six numbers are the moments of each image (all of one size).

    Returns:
        (B, 6): by the law of total variance, what `image_moments` gives for the images side by side.
    """
    means, deviations = embeddings[..., -6:-3], embeddings[..., -3:]
    mean = means.mean(1)
    variance = (deviations**2 + means**2).mean(1) - mean**2
    return torch.cat([mean, variance.clamp(min=0).sqrt()], -1)


def remove_colour(images: Tensor, moments: Tensor) -> Tensor:
    """Standardise images (B, 3, H, W) by moments (B, 6)."""
    mean, deviation = moments[:, :3, None, None], moments[:, 3:, None, None]
    return (images - mean) / deviation.clamp(min=MIN_SD)


def restore_colour(images: Tensor, moments: Tensor) -> Tensor:
    """Inverse of `remove_colour`."""
    mean, deviation = moments[:, :3, None, None], moments[:, 3:, None, None]
    return images * deviation.clamp(min=MIN_SD) + mean
