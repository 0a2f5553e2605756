"""Canonical images: recoloured from their slide's moments to the study's reference, the mean over the training slides.

They look like ordinary tissue, all of one stain, sharpness and noise. First stage, style encoder and generator see
canonical images alone and learn what moments cannot tell; generated images get the moments of the style's slide in the
end. A slide's moments do not depend on the patch or its orientation, so that latents of canonical images can be cached.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stedm.device import device
from stedm.images import to_images
from stedm.store import PatchFile
from stedm.style.moments import Moments, average, gains, joined, recoloured, slide_moments

SAMPLE = 256
"""Images that statistics of the training slides are taken from, about."""


class Canonical:
    """Makes images of training slides canonical, on the device.

    Args:
        files: patch files of all training slides of a split.

    Attributes:
        number: of each slide, by name.
        own: moments of the slides.
        reference: what all are recoloured to.
    """

    def __init__(self, files: Sequence[PatchFile]):
        self.number = {file.slide: number for number, file in enumerate(files)}
        self.own = joined([slide_moments(file) for file in files])
        self.reference = average(self.own)
        self.tables = gains(self.own, self.reference, *[files[0].patch_size] * 2).to(device())
        self.means, self.mean = self.own.mean.to(device()), self.reference.mean.to(device())

    def __call__(self, images: Tensor, slides: Tensor) -> Tensor:
        """Images (B, 3, P, P) in [-1, 1] of slides of these numbers (B,)."""
        return recoloured(images, self.tables[slides], self.means[slides], self.mean)

    def moments(self, slide: str) -> Moments:
        """Moments of one slide (B = 1)."""
        return self.own.of(torch.tensor([self.number[slide]]))


def seen(pixels: Tensor, slides: Tensor, canonical: Canonical | None) -> Tensor:
    """Images as networks see them.

    Args:
        pixels: (B, P, P, 3) uint8, on the device.
        slides: (B,) numbers of their slides, on the device.
        canonical: makes them canonical; None leaves them as they are.

    Returns:
        (B, 3, P, P) in [-1, 1].
    """
    images = to_images(pixels)
    return images if canonical is None else canonical(images, slides)


def prepared(images: np.ndarray | Tensor, file: PatchFile, canonical: Canonical | None) -> Tensor:
    """Images (B, P, P, 3) uint8 of one slide as networks see them: (B, 3, P, P) in [-1, 1], on the device."""
    pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels.to(device(), non_blocking=True)
    number = 0 if canonical is None else canonical.number[file.slide]
    return seen(pixels, torch.full((len(pixels),), number, device=device()), canonical)


def sample_images(files: Sequence[PatchFile], canonical: Canonical | None) -> Tensor:
    """At most some hundred images (N, 3, P, P) on the device, evenly from slides that are evenly spaced; canonical if
    asked for."""
    files = files[:: -(-len(files) // SAMPLE)]
    images = []
    for file in files:
        chosen = np.unique(np.linspace(0, len(file) - 1, max(1, SAMPLE // len(files))).astype(int))
        some = np.stack([file.image(int(index)) for index in chosen])
        images.append(prepared(some, file, canonical))
    return torch.cat(images)


def as_lists(moments: Moments) -> dict[str, list]:
    """Moments of one slide as JSON: mean (3) and covariances (K, 3, 3)."""
    return {name: values[0].tolist() for name, values in moments._asdict().items()}


def from_lists(values: dict[str, list]) -> Moments:
    """Inverse of `as_lists`."""
    return Moments(*(torch.tensor([values[name]]) for name in Moments._fields))
