"""How an arm's images are changed at each step, and their labels with them.

Every parameter comes from the rng of (seed, step, position), so that a step that is repeated is the same step.
"""

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from stedm.config import IGNORE_INDEX, Augmentation
from stedm.images import dihedral

STAIN_LIGHT = 0.05
STAIN = 0.2
"""Strengths of the stain augmentation: `HED-light` and `HED-strong` of Tellez et al. 2019."""

ROTATION = 0.2, (-180.0, 180.0)
SCALE = 0.2, (0.7, 1.4)
NOISE = 0.1, (0.0, 0.1)
"""Deviation, as a share of the image's own."""
BLUR_KERNEL = 7
"""Pixels: more than three deviations to each side."""
PHOTOMETRIC = (
    (0.2, (0.5, 1.0), lambda image, sigma: functional.gaussian_blur(image, BLUR_KERNEL, sigma)),
    (0.15, (0.75, 1.25), functional.adjust_brightness),
    (0.15, (0.75, 1.25), functional.adjust_contrast),
    (0.3, (0.7, 1.5), functional.adjust_gamma),
)
JPEG = 0.25, (50.0, 95.0)
"""Quality.

Probability and range of each change of `strong`, and for some the transform. They are the defaults of nnU-Net (Isensee
et al. 2021; `nnUNetTrainer.get_training_transforms` of version 2); JPEG stands in for its simulated low resolution."""

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density (natural logarithm) of each grey level; 255 is no density at all, and 0 stays finite."""

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def augment(image: NDArray[np.uint8], labels: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator) -> Pair:
    """Change an image and its labels.

    Args:
        image: (P, P, 3) uint8 RGB.
        labels: (P, P) uint8.
        how: `none`; `flips`, one of the eight orientations; `stain_light` and `stain`, flips and a change of the
            stains; `strong`, in addition rotation by any angle, scale, noise, blur, brightness, contrast, gamma and
            JPEG compression, each with its probability.
        rng: what everything random comes from.

    Returns:
        Image and labels of the same shapes. Where nothing of the patch lies, labels are 255.
    """
    if how == "none":
        return image, labels
    turn = int(rng.integers(8))
    image, labels = dihedral(image, turn), dihedral(labels, turn)
    if how == "strong":
        image, labels = transformed(image, labels, rng)
        image = photometric(image, rng)
    if how != "flips":
        image = perturb_stains(image, *sample_stains(rng, STAIN_LIGHT if how == "stain_light" else STAIN))
    return image, labels


def transformed(image: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator) -> Pair:
    """Rotate and scale about the centre; what lies outside gets the image's mean colour and the label 255."""
    angle, scale = sometimes(rng, *ROTATION), sometimes(rng, *SCALE)
    if angle is None and scale is None:
        return image, labels
    how = {"angle": angle or 0.0, "scale": scale or 1.0, "translate": [0.0, 0.0], "shear": [0.0, 0.0]}
    mean = image.mean((0, 1)).tolist()
    moved = functional.affine(channels_first(image), **how, interpolation=InterpolationMode.BILINEAR, fill=mean)
    moved_labels = functional.affine(torch.from_numpy(labels.copy())[None], **how, fill=[IGNORE_INDEX])
    return moved.movedim(0, -1).numpy(), moved_labels[0].numpy()


def photometric(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add noise, blur, change brightness, contrast and gamma, and compress: each sometimes."""
    if (share := sometimes(rng, *NOISE)) is not None:
        noisy = image + rng.normal(0, share * image.std(), image.shape)
        image = np.rint(noisy).clip(0, 255).astype(np.uint8)
    changed = channels_first(image)
    for probability, bounds, change in PHOTOMETRIC:
        if (value := sometimes(rng, probability, bounds)) is not None:
            changed = change(changed, value)
    image = np.ascontiguousarray(changed.movedim(0, -1).numpy())
    if (quality := sometimes(rng, *JPEG)) is not None:
        image = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, round(quality), "RGB", "420"), "RGB")
    return image


def sometimes(rng: np.random.Generator, probability: float, bounds: tuple[float, float]) -> float | None:
    """A uniform number between the bounds, or, otherwise than with this probability, None."""
    return rng.uniform(*bounds) if rng.random() < probability else None


def channels_first(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def sample_stains(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale in 1 ± strength and shift in ± strength of haematoxylin, eosin and residual, each (3,), uniform."""
    return rng.uniform(1 - strength, 1 + strength, 3), rng.uniform(-strength, strength, 3)


def perturb_stains(image: NDArray[np.uint8], scale: np.ndarray, shift: np.ndarray) -> NDArray[np.uint8]:
    """Scale and shift the stain concentrations of an image (Tellez et al. 2018; 2019, arXiv 1902.06543, section III).

    The concentrations are those of colour deconvolution (Ruifrok & Johnston 2001) with scikit-image's stain matrix.
    `skimage.color.rgb2hed` itself cuts negative concentrations off and so changes colours even at zero strength.

    Args:
        image: (…, 3) uint8 RGB.
        scale: (3,) factors of haematoxylin, eosin, residual; 1 changes nothing.
        shift: (3,) added to the concentrations, in optical density (natural logarithm); 0 changes nothing.

    Returns:
        (…, 3) uint8 RGB; what leaves the range of the camera is clipped.
    """
    matrix = (hed_from_rgb * scale @ rgb_from_hed).astype(np.float32)
    density = DENSITY[image] @ matrix + (shift @ rgb_from_hed).astype(np.float32)
    light = 256 * np.exp(-density) - 1
    return np.rint(light).clip(0, 255).astype(np.uint8)
