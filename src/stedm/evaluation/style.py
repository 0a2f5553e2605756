"""Do generated images look like the patient whose style they were given?

Distances are Mahalanobis distances, by the covariance within slides, between what describes the generated image and the
mean of that over each training slide. Images are described in four ways. Structure: see `stedm.evaluation.structure`.
Colour: means and standard deviations in CIELAB. Spectrum: shares of contrast in bands from fine to coarse, which do not
depend on the colours. Moments: colour and spectrum together. Recolouring in closed form puts these last three back, so
that they tell whether an image has the style's moments, and structure alone whether it has more.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from stedm.store import PatchFile

Described = tuple[np.ndarray, Mapping[str, np.ndarray]]
"""What describes generated images, (N, S), and patches of each training slide, (n, S)."""
PATCHES = 256
"""Maximum number of patches, evenly spaced over a slide, that describe it."""
SCALES = (0.7, 1.4, 2.8, 5.6)
"""Standard deviations, in pixels, of the Gaussians whose differences form the bands of the spectrum."""
MOMENTS = {"moments": slice(10), "colour": slice(6), "spectrum": slice(6, 10)}
"""Which of the statistics of `moment_statistics` each kind is."""


def style_fidelity(
    kinds: Mapping[str, Described],
    styles: Sequence[tuple[str, str]],
    patients: Mapping[str, str],
    annotated: Sequence[str],
) -> pd.DataFrame:
    """Distances of generated images to their style's slide and to other slides.

    Args:
        kinds: what describes the images, by kind.
        styles: style slide and style patient of each image.
        patients: patient by slide.
        annotated: names of the annotated patients' slides.

    Returns:
        The columns of `style_distances` for each kind, with its name as prefix (`colour_`); and those of
        `shares_of_real_patches` for the style's slide, with another, `real_`, before it.
    """
    parts = []
    for kind, (generated, slides) in kinds.items():
        real = shares_of_real_patches(slides, patients, annotated).reindex([slide for slide, _ in styles])
        parts += [
            style_distances(generated, slides, patients, annotated, styles).add_prefix(f"{kind}_"),
            real.reset_index(drop=True).add_prefix(f"real_{kind}_"),
        ]
    return pd.concat(parts, axis=1)


def described_by_moments(images: np.ndarray, files: Sequence[PatchFile]) -> dict[str, Described]:
    """Moments, colour and spectrum of generated images (N, P, P, 3) uint8 and of the training slides' patches."""
    generated = np.stack([moment_statistics(image) for image in images])
    slides = {
        file.slide: np.stack([moment_statistics(file.image(index)) for index in evenly_spaced(file)]) for file in files
    }
    return {
        kind: (generated[:, part], {slide: values[:, part] for slide, values in slides.items()})
        for kind, part in MOMENTS.items()
    }


def evenly_spaced(file: PatchFile) -> list[int]:
    """Numbers of at most 256 of a slide's patches."""
    chosen = np.linspace(0, len(file) - 1, min(len(file), PATCHES)).round().astype(int)
    return [int(index) for index in np.unique(chosen)]


def colour_statistics(image: np.ndarray) -> np.ndarray:
    """(6,) means and standard deviations of the CIELAB channels of an image (P, P, 3) uint8."""
    lab = rgb2lab(image).reshape(-1, 3)
    return np.concatenate([lab.mean(0), lab.std(0)])


def spectrum_statistics(image: np.ndarray) -> np.ndarray:
    """(4,) logarithms of the shares of a patch's contrast in frequency bands from fine to coarse.

    The bands are differences of Gaussians of the optical density, averaged over the channels. The shares do not depend
    on the strength of the stain.
    """
    density = -np.log((image.astype(np.float64) + 1) / 256).mean(2)
    blurred = [density, *(gaussian_filter(density, scale, mode="reflect") for scale in SCALES)]
    energies = np.array([np.var(fine - coarse) for fine, coarse in itertools.pairwise(blurred)])
    energies = energies + 1e-8  # a blank image has no contrast: equal shares
    return np.log(energies / energies.sum())


def moment_statistics(image: np.ndarray) -> np.ndarray:
    """(10,) the six colour statistics, then the four of the spectrum."""
    return np.concatenate([colour_statistics(image), spectrum_statistics(image)])


def whitening(slides: Iterable[np.ndarray]) -> np.ndarray:
    """(S, S) matrix W such that the Euclidean distance of x @ W is the Mahalanobis distance within slides.

    Patches of one slide differ in the tissue that they show. The pooled covariance within slides measures these
    differences, and the distance discounts them. In the phantom study, 82–86% of real patches are then nearest to the
    other half of their own slide, against 55% with plain standardised distances.
    """
    within = np.concatenate([values - values.mean(0) for values in slides])
    covariance = within.T @ within / len(within)
    ridge = 1e-6 * max(np.trace(covariance), 1e-12)
    return np.linalg.cholesky(np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def style_distances(
    generated: np.ndarray,
    slides: Mapping[str, np.ndarray],
    patients: Mapping[str, str],
    annotated: Sequence[str],
    styles: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """How far images are from their style's slide and from the annotated patients, and whose slide is nearest.

    Args:
        generated: (N, S), what describes the generated images.
        slides: (n, S), the same of each training slide's patches.
        patients: patient by slide.
        annotated: names of the annotated patients' slides.
        styles: style slide and style patient of each image; of a real patch its own.

    Returns:
        distance_to_own_slide, distance_to_annotated, nearer_to_own_slide, nearest_patient, nearest_is_own_patient.
    """
    whiten = whitening(slides.values())
    centres = pd.DataFrame({slide: values.mean(0) @ whiten for slide, values in slides.items()}).T
    generated = generated @ whiten
    distances = np.linalg.norm(generated[:, None] - centres.to_numpy()[None], axis=2)
    of_annotated = centres.loc[list(annotated)].groupby([patients[slide] for slide in annotated]).mean().mean()
    to_annotated = np.linalg.norm(generated - of_annotated.to_numpy(), axis=1)
    rows = []
    for image, (slide, patient) in enumerate(styles):
        own = distances[image, centres.index.get_loc(slide)] if slide in centres.index else np.nan
        nearest = patients[str(centres.index[distances[image].argmin()])]
        styled = not np.isnan(own)
        rows.append(
            {
                "distance_to_own_slide": own,
                "distance_to_annotated": to_annotated[image],
                "nearer_to_own_slide": own < to_annotated[image] if styled else None,
                "nearest_patient": nearest,
                "nearest_is_own_patient": nearest == patient if styled else None,
            }
        )
    return pd.DataFrame(rows)


def shares_of_real_patches(
    slides: Mapping[str, np.ndarray], patients: Mapping[str, str], annotated: Sequence[str]
) -> pd.DataFrame:
    """What perfect images would reach: half of each slide's patches, compared with the other half.

    Patches of one slide differ in the tissue that they show, so even real ones are not always nearest to their slide.

    Returns:
        nearer_to_own_slide and nearest_is_own_patient: shares in [0, 1] by slide, for slides with at least two patches.
    """
    known = {slide: values[::2] for slide, values in slides.items()}
    evaluated = [(slide, row) for slide, values in slides.items() for row in values[1::2]]
    if not evaluated:
        return pd.DataFrame({"nearer_to_own_slide": [], "nearest_is_own_patient": []}, dtype=float)
    own = [(slide, patients[slide]) for slide, _ in evaluated]
    table = style_distances(np.array([row for _, row in evaluated]), known, patients, annotated, own)
    shares = table[["nearer_to_own_slide", "nearest_is_own_patient"]].astype(float)
    return shares.groupby([slide for slide, _ in evaluated]).mean()
