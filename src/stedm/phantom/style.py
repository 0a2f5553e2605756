"""How the slides of a patient look: stains, nuclei, fibres and optics, sampled once per patient."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
"""Optical densities of the pure stains over red, green, blue (Ruifrok & Johnston 2001, table 1)."""


@dataclass(frozen=True)
class Style:
    """How the slides of one patient look. Concentrations are optical densities (natural logarithm)."""

    haematoxylin: tuple[float, float, float]  # unit optical density over red, green, blue
    eosin: tuple[float, float, float]
    background: tuple[float, float, float]  # light through empty glass, 0 to 1
    nuclear_size: float  # relative to a typical tumour nucleus
    ring: float  # 0: solid chromatin, 1: only a rim and a nucleolus
    density: float  # nuclei per area, relative
    pleomorphism: float  # spread of nuclear size and shape
    chromatin: float  # contrast of the texture inside nuclei
    halo: float  # clearing of the cytoplasm around nuclei
    fibre_scale: float  # µm, thickness of the stroma's fibres
    fibre_contrast: float
    lumina: float  # share of the nests' area that glands may take
    spindle: float  # how far tumour nuclei are drawn out along the fibres; 0: round
    inflammation: float  # share of lymphocytes, small and round, among the stroma's cells
    fat: float  # share of the slide that has fat cells among its stroma
    nuclear_haematoxylin: float
    cytoplasm_haematoxylin: float
    cytoplasm_eosin: float
    stroma_haematoxylin: float
    stroma_eosin: float
    blur: float  # µm, standard deviation of the optics
    noise: float  # grey levels, standard deviation of the camera


RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "nuclear_size": ((0.92, 1.05), (0.7, 1.6)),
    "ring": ((0.0, 0.15), (0.0, 0.9)),
    "density": ((0.95, 1.1), (0.6, 1.5)),
    "pleomorphism": ((0.08, 0.12), (0.05, 0.25)),
    "chromatin": ((0.2, 0.3), (0.1, 0.45)),
    "halo": ((0.0, 0.15), (0.0, 0.75)),
    "fibre_scale": ((1.3, 1.6), (0.8, 3.2)),
    "fibre_contrast": ((0.32, 0.4), (0.15, 0.55)),
    "lumina": ((0.03, 0.05), (0.0, 0.1)),
    "spindle": ((0.0, 0.05), (0.0, 0.7)),
    "inflammation": ((0.05, 0.12), (0.0, 0.8)),
    "fat": ((0.0, 0.02), (0.0, 0.35)),
    "nuclear_haematoxylin": ((1.7, 1.9), (1.3, 2.4)),
    "cytoplasm_haematoxylin": ((0.35, 0.45), (0.1, 0.5)),
    "cytoplasm_eosin": ((0.3, 0.4), (0.2, 0.8)),
    "stroma_haematoxylin": ((0.04, 0.1), (0.02, 0.4)),
    "stroma_eosin": ((0.6, 0.7), (0.35, 0.95)),
    "blur": ((0.25, 0.4), (0.0, 1.2)),
    "noise": ((1.5, 2.0), (0.5, 4.0)),
}
"""By quantity: the range of the annotated patients, and that of all others.

No recolouring, and no other transform of second moments, makes round nuclei spindles or adds lymphocytes and fat: these
have to be learned from images. Spindles make tumour look like stroma, lymphocytes stroma like tumour.
"""


def sample_style(rng: Generator, wide: bool) -> Style:
    """One patient's appearance, from the wide ranges or from the narrow ones of the annotated patients."""
    hue, tint = (0.11, 0.025) if wide else (0.02, 0.006)

    def stain(pure: tuple[float, float, float]) -> tuple[float, float, float]:
        vector = np.maximum(np.array(pure) + rng.uniform(-hue, hue, 3), 0.02)
        red, green, blue = vector / np.linalg.norm(vector)
        return float(red), float(green), float(blue)

    red, green, blue = 0.945 + rng.uniform(-tint, tint, 3)
    return Style(
        haematoxylin=stain(HAEMATOXYLIN),
        eosin=stain((EOSIN[0] + 0.06, EOSIN[1], EOSIN[2] + 0.3)),  # redder, as scanners today see it
        background=(float(red), float(green), float(blue)),
        **{name: float(rng.uniform(*ranges[wide])) for name, ranges in RANGES.items()},
    )
