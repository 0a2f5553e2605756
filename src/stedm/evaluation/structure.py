"""What is left of style when moments are taken: the structure of the tissue, in features of a network.

Recolouring in closed form gives a patch the moments of another slide (`stedm.style.moments`), so that moments cannot
tell whether a generator has learned anything. Here all images are compared after they were made canonical: recoloured
from the moments of their slide to the mean over the training slides. What still tells one slide from another is the
shape, size and arrangement of nuclei, glands and fibres. A recoloured patch becomes again what it was, a patch of an
annotated slide; a generated image is nearest to its style's slide only if the generator gave it more than moments.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stedm.evaluation.features import Extract, features_of
from stedm.evaluation.style import Described, evenly_spaced
from stedm.images import to_images, to_pixels
from stedm.store import PatchFile
from stedm.style.canonical import Canonical, prepared
from stedm.style.moments import moments_over, recolour

COMPONENTS = 16
"""Principal components of the features: few enough for their covariance within slides to be known."""


def described_by_structure(
    images: np.ndarray,
    styles: Sequence[str],
    styled: bool,
    files: Sequence[PatchFile],
    extract: Extract,
    batch_size: int,
) -> Described:
    """Principal components of the features of canonical images.

    Args:
        images: (N, P, P, 3) uint8, generated.
        styles: style slide of each.
        styled: whether they were given its moments; images of a source without style are made canonical from the mean
            moments of those that have the same style slide.
        files: patch files of the training slides.
        extract: the features, of a network that has no part in the evaluation of layouts.
        batch_size: images at a time.

    Returns:
        The leading 16 principal components, over the real patches, of generated images and of the training slides'
        patches.
    """
    canonical = Canonical(files)
    known = {file.slide: features_of(canonical_patches(file, canonical, batch_size), extract) for file in files}
    axes = principal_axes(np.concatenate(list(known.values())))
    found = np.empty((len(images), len(axes)))
    for slide in set(styles):
        members = np.array(styles) == slide
        own = canonical.moments(slide) if styled and slide in canonical.number else moments_over(images[members])
        some = to_images(images[members]).split(batch_size)
        plain = (to_pixels(recolour(part, own, canonical.reference)) for part in some)
        found[members] = features_of(plain, extract)
    return found @ axes, {slide: values @ axes for slide, values in known.items()}


def canonical_patches(file: PatchFile, canonical: Canonical, batch_size: int) -> Iterator[np.ndarray]:
    """At most 256 patches of a slide, evenly spaced, canonical, as (B, P, P, 3) uint8."""
    chosen = evenly_spaced(file)
    for start in range(0, len(chosen), batch_size):
        some = np.stack([file.image(index) for index in chosen[start : start + batch_size]])
        yield to_pixels(prepared(some, file, canonical))


def principal_axes(features: np.ndarray) -> np.ndarray:
    """(D, K) axes of the largest variance of features (N, D), in descending order; K is 16, or D where that is less."""
    _, axes = np.linalg.eigh(np.cov(features, rowvar=False))  # in ascending order
    return axes[:, ::-1][:, :COMPONENTS]
