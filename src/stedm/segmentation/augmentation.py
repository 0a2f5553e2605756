"""Stain augmentation, for the arms that ask for it: changes of the stains' concentrations."""

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb, rgb_from_hed

STRENGTH = 0.2
"""Of the stain augmentation: `HED-strong` of Tellez et al. 2019."""

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density (natural logarithm) of each grey level; 255 is no density at all, and 0 stays finite."""


def draw_stains(rng: np.random.Generator, strength: float = STRENGTH) -> tuple[np.ndarray, np.ndarray]:
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
